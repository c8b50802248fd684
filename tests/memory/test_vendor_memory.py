"""Boundaries and features set apart are streamed: measured peak <= planned <= limit."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.memory]

MIB = 2**20
CHILD = '''
import json, sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tisseract.atlas.panel import Panel
from tisseract.ingest.partition import write_section
from tisseract.ingest.source import (
    ApartFeatures, ArrayColumn, CsrBlock, RawSection, RingPiece, RingsSource, StringValues,
)

N, GENES, CONTROLS, PER_CELL, VERTICES = int(sys.argv[2]), 300, 200, 60, 20


@dataclass(frozen=True)
class Counts:
    """Sixty entries a cell, a third of them controls, made as they are asked for."""

    n_obs: int = N
    n_vars: int = GENES + CONTROLS
    nnz: int = N * PER_CELL
    dtype: np.dtype = np.dtype(np.int32)

    def blocks(self, budget_bytes: int) -> Iterator[CsrBlock]:
        step = max(1, budget_bytes // (PER_CELL * 16))
        for start in range(0, N, step):
            rows = np.arange(start, min(start + step, N))
            first = (rows * 7) % 8
            columns = first[:, None] + 8 * np.arange(PER_CELL)
            data = 1 + (rows[:, None] + columns) % 9
            indptr = np.arange(rows.size + 1) * PER_CELL
            yield CsrBlock(
                start, indptr, columns.ravel().astype(np.int32), data.ravel().astype(np.int32)
            )


def pieces() -> Iterator[RingPiece]:
    """In an order of their own, one in eleven missing."""
    angles = np.arange(VERTICES) * (2 * np.pi / VERTICES)
    ring = 4 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    order = np.random.default_rng(1).permutation(N)
    for start in range(0, N, 4096):
        rows = order[start : start + 4096]
        rows = rows[rows % 11 != 0]
        vertices = (positions[rows, None] + ring).reshape(-1, 2)
        yield RingPiece(rows, np.full(rows.size, VERTICES), vertices)


def status(key: str) -> int:
    for line in open("/proc/self/status"):
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


positions = np.random.default_rng(0).random((N, 2)) * 10 * N**0.5
places = np.arange(GENES + CONTROLS)
controls = places[places % 5 >= 3]
names = tuple(f"NegControl{k}" for k in range(controls.size))
ids = np.frombuffer(b"".join(b"%08d" % k for k in range(N)), np.uint8)
raw = RawSection(
    positions=positions,
    instance_ids=ArrayColumn.of(StringValues(ids, np.arange(N + 1) * 8)),
    obs={},
    panel=Panel.of([f"Gene{k}" for k in range(GENES)], organism="mouse"),
    counts=Counts(),
    um_per_unit=1.0,
    shapes=RingsSource(pieces, N * VERTICES),
    apart={"controls": ApartFeatures(names, ("control",) * controls.size, controls)},
)
open("/proc/self/clear_refs", "w").write("5")
base = status("VmRSS")
summary = write_section(raw, Path(sys.argv[1]), memory_limit=int(sys.argv[3]))
print(json.dumps({
    "planned": summary.plan.peak_bytes, "peak": status("VmHWM") - base, "nnz": summary.nnz,
    "notes": summary.notes,
}))
'''


def measure(tmp_path: Path, n: int, limit: int) -> dict[str, int]:
    command = [sys.executable, "-c", CHILD, str(tmp_path / f"{n}.zarr"), str(n), str(limit)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, int] = json.loads(answer.stdout.splitlines()[-1])
    return result


def test_rings_and_controls_of_many_cells_stay_within_the_plan(tmp_path: Path) -> None:
    """In memory the rings are 96 MB and the entries 144 MB or more."""
    result = measure(tmp_path, 300_000, 320 * MIB)
    assert result["peak"] <= result["planned"] <= 320 * MIB, result
    assert result["nnz"] == pytest.approx(300_000 * 36, rel=0.02)
    assert "of 300000 cells have no usable boundary" in str(result["notes"])
