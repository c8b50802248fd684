"""Tables of transcripts that are a header alone: a section without points, which is noted."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from tisseract.ingest.partition import write_section
from tisseract.ingest.reader import ReadOptions, reader_for

from . import seqfish_bundle
from .cosmx_bundle import write_cosmx
from .cosmx_truth import FOV_PX, options_of
from .merscope_bundle import MerscopeStyle, write_merscope
from .tables_bundle import small, write_tables
from .tissue import SimTissue

TISSUE = SimTissue(60, n_genes=40, mean_counts=20, n_controls=4, seed=4)
STYLE = MerscopeStyle(um_per_px=1.0, planes=1, image_planes=(0,), tile=None)


def _cosmx(folder: Path) -> ReadOptions:
    write_cosmx(folder, TISSUE, version="atomx", fov_px=FOV_PX)
    return options_of("atomx")


def _merscope(folder: Path) -> ReadOptions:
    write_merscope(folder, TISSUE, STYLE, images=False)
    return ReadOptions()


def _seqfish(folder: Path) -> ReadOptions:
    seqfish_bundle.write_seqfish(folder, TISSUE, images=False)
    return ReadOptions(um_per_unit=1.0)


def _tables(folder: Path) -> ReadOptions:
    write_tables(folder, small(), "dense")
    return ReadOptions()


@pytest.mark.parametrize(
    ("write", "pattern"),
    [
        (_cosmx, "*tx_file.csv*"),
        (_merscope, "detected_transcripts.csv"),
        (_seqfish, "*TranscriptList*.csv"),
        (_tables, "spots.csv"),
    ],
)
def test_a_header_alone(tmp_path: Path, write: Callable[[Path], ReadOptions], pattern: str) -> None:
    folder = tmp_path / "run"
    options = write(folder)
    (file,) = folder.rglob(pattern)
    opener = gzip.open if file.suffix == ".gz" else open
    with opener(file, "rb") as old:
        header = old.readline()
    with opener(file, "wb") as new:
        new.write(header)
    raw = reader_for(folder).open(folder, options)
    assert not raw.points
    assert f"{file.name} has no rows" in str(raw.provenance["notes"])
    write_section(raw, tmp_path / "s.zarr", memory_limit=2**30)
