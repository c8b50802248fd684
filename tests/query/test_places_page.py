"""The Python of the page on places runs as printed."""

import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from tisseract.testing import small_atlas

PAGE = Path(__file__).parents[2] / "docs" / "places.md"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_python_of_the_page_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    found: dict[str, Any] = {"atlas": small_atlas(tmp_path, n_cells=800)}
    with warnings.catch_warnings():
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), found)
    assert found["chosen"].n_obs > 0
    assert len(found["box"].sections) > 1
