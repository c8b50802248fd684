"""The Python of the README runs as printed, on a smaller demo atlas."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from tisseract.testing import small_atlas

README = Path(__file__).parents[2] / "README.md"

pytestmark = [
    pytest.mark.slow,
    # anndata's and spatialdata's own calls into pandas.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def test_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    atlas = small_atlas(tmp_path / "demo", n_cells=4000)
    atlas.find_domains(n_domains=6, key_added="domain_plain")
    (tmp_path / "demo" / "small.atlas").rename(tmp_path / "demo" / "demo.atlas")
    monkeypatch.chdir(tmp_path)
    assert Path(os.curdir, "demo", "demo.atlas").is_dir()
    found: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), found)
    assert found["adata"].n_obs == found["sel"].n_obs > 0
    assert found["roi"].tables["table"].n_obs > 0


def test_links_of_the_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (README.parent / link).exists()]
    assert not missing
