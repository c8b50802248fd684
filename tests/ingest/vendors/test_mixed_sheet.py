"""One sheet, forty sections, eight technologies, two of them broken on purpose."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tisseract.atlas.store import open_store
from tisseract.atlas.verify import verify
from tisseract.cli.app import app

from .cosmx_bundle import write_cosmx
from .merscope_bundle import write_merscope
from .slideseq_bundle import write_slideseq
from .stereoseq_bundle import write_gem
from .tables_bundle import write_tables
from .tissue import SimTissue
from .visium_bundle import write_visium
from .visium_hd_bundle import write_visium_hd
from .xenium_bundle import write_xenium

pytestmark = pytest.mark.slow

TECHNOLOGIES = (
    "xenium", "merscope", "cosmx", "visium", "visium_hd", "stereoseq", "slideseq", "table",
)  # fmt: skip
EACH = 5


def write_section(kind: str, path: Path, tissue: SimTissue) -> dict[str, str]:
    """Write one bundle; further columns of its row."""
    if kind == "xenium":
        write_xenium(path, tissue, version="2", image_px=64)
    elif kind == "merscope":
        write_merscope(path, tissue)
    elif kind == "cosmx":
        write_cosmx(path, tissue, images=False)
    elif kind == "visium":
        write_visium(path, tissue)
    elif kind == "visium_hd":
        write_visium_hd(path, tissue)
    elif kind == "stereoseq":
        path.mkdir()
        write_gem(path / "B1.tissue.gem.gz", tissue)
    elif kind == "slideseq":
        write_slideseq(path, tissue)
        return {"um_per_unit": "0.65"}
    else:
        write_tables(path, tissue)
    return {}


@pytest.fixture(scope="module")
def sheet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    lines = ["sample,data_path,um_per_unit,donor"]
    for k in range(EACH * len(TECHNOLOGIES)):
        kind = TECHNOLOGIES[k % len(TECHNOLOGIES)]
        name = f"{kind}_{k // len(TECHNOLOGIES)}"
        more = write_section(kind, folder / name, SimTissue(120, 24, 40.0, seed=k))
        lines.append(f"{name},{name},{more.get('um_per_unit', '')},d{k % 3}")
    (folder / "samples.csv").write_text("\n".join(lines) + "\n")
    return folder / "samples.csv"


def damage(sheet: Path) -> dict[Path, bytes]:
    """Break two sections: one as the check sees it, one as only reading it does."""
    matrix = sheet.parent / "xenium_3/cell_feature_matrix.h5"
    (counts,) = (sheet.parent / "cosmx_2").rglob("*exprMat_file.csv*")
    whole = {matrix: matrix.read_bytes(), counts: counts.read_bytes()}
    matrix.write_bytes(whole[matrix][: len(whole[matrix]) // 2])
    packed = counts.suffix == ".gz"
    lines = (gzip.decompress(whole[counts]) if packed else whole[counts]).decode().splitlines()
    cells = lines[-3].split(",")
    cells[10] = "many"
    lines[-3] = ",".join(cells)
    text = ("\n".join(lines) + "\n").encode()
    counts.write_bytes(gzip.compress(text) if packed else text)
    return whole


def test_what_is_whole_is_committed_and_the_rest_follows(sheet: Path, tmp_path: Path) -> None:
    whole = damage(sheet)
    url = tmp_path / "mixed.atlas"
    command = ["ingest", str(sheet), str(url), "--on-error", "skip"]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 3, first.output
    assert "cell_feature_matrix.h5" in first.output
    assert "exprMat" in first.output
    assert "many" in first.output
    store = open_store(str(url))
    assert len(store.section_names) == 38
    assert not {"xenium_3", "cosmx_2"} & set(store.section_names)
    named = {entry.metadata["technology"] for entry in store.snapshot.sections.values()}
    assert len(named) == len(TECHNOLOGIES)
    # Nothing of the broken sections lies about where a reader could find it.
    for name in ("xenium_3", "cosmx_2"):
        assert not list(url.glob(f"sections/{name}/*.manifest.json"))
    attempts = {name: store.snapshot.sections[name].attempt for name in store.section_names}
    for path, data in whole.items():
        path.write_bytes(data)
    again = CliRunner().invoke(app, [*command, "--resume"])
    assert again.exit_code == 0, again.output
    store.refresh()
    assert len(store.section_names) == 40
    kept = {name: store.snapshot.sections[name].attempt for name in attempts}
    assert kept == attempts
    assert verify(store, full=False).ok
    for name in store.section_names:
        section = store.section(name)
        assert section.um_per_unit is not None
        assert np.isfinite(section.positions()).all()
    shutil.rmtree(url)
