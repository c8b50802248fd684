"""Points are ingested and asked for within a limit that does not grow with their number."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.memory]

BENCH = Path(__file__).parents[2] / "benchmarks" / "query" / "transcripts.py"


def child(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(BENCH), "--child", *arguments]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return result


def test_neither_ingest_nor_query_grows_with_the_number(tmp_path: Path) -> None:
    written, asked = {}, {}
    for n in (1_000_000, 4_000_000):
        atlas = str(tmp_path / str(n))
        written[n], asked[n] = child("simulate", atlas, str(n)), child("ours", atlas)
    # In memory, four million transcripts are some 600 MB.
    assert written[4_000_000]["mb"] < min(1.15 * written[1_000_000]["mb"] + 30, 420)
    assert asked[4_000_000]["mb"] < min(1.15 * asked[1_000_000]["mb"] + 10, 100)
    assert asked[4_000_000]["n"] == pytest.approx(24_400, rel=0.05)
