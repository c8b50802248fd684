"""Features that are no genes: `info` lists their tables, `gene` says where they are."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import shapely

from tisseract.atlas.image_sources import ArrayPixels, LazyImage
from tisseract.atlas.labels import LazyLabels
from tisseract.atlas.outlines import OutlinesSource
from tisseract.atlas.points import PointsSource
from tisseract.cli import main
from tisseract.ingest.source import ApartFeatures, MatrixCounts

from ..sections import make_raw, make_store, random_counts


def _pixels(channels: int) -> Any:
    """Opens a small picture."""
    return lambda: nullcontext(ArrayPixels(np.ones((channels, 20, 20), np.uint8), "cyx"))


def _transcripts() -> Iterator[pa.RecordBatch]:
    place = np.arange(5.0)
    yield pa.RecordBatch.from_pydict({"x": place, "y": place, "gene": ["Gene0"] * 5})


def _nuclei() -> Iterator[pa.Table]:
    yield pa.table({"geometry": shapely.to_wkb([shapely.box(0, 0, 1, 1), shapely.box(2, 0, 3, 1)])})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> str:
    matrix = random_counts(60, 5, 0)
    raw = make_raw(n_obs=60, counts=matrix[:, :3])
    blanks = ApartFeatures(("Blank-1", "Blank-2"), ("Blank Codeword",) * 2, np.array([3, 4]))
    raw = replace(
        raw,
        counts=MatrixCounts(matrix),
        apart={"controls": blanks},
        outlines={"nuclei": OutlinesSource(_nuclei)},
        points={"transcripts": PointsSource(_transcripts, "gene")},
        images={"he": LazyImage(_pixels(3))},
        labels={"mask": LazyLabels(_pixels(1))},
        provenance={"notes": ["a part was missing"]},
    )
    folder = tmp_path_factory.mktemp("apart")
    make_store(folder, {"bare": make_raw(n_obs=20, n_vars=3), "s1": raw})
    return str(folder / "atlas")


def test_info_lists_elements_and_tables(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", place, "--section", "s1", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["apart"] == ["controls"]
    assert facts["points"] == {"transcripts": 5}
    kinds = {"shapes": ["nuclei"], "images": ["he"], "labels": ["mask"]}
    assert {kind: facts[kind] for kind in kinds} == kinds
    assert facts["notes"] == ["a part was missing"]
    assert main(["info", place, "--section", "s1"]) == 0
    assert "apart" in capsys.readouterr().out


@pytest.mark.parametrize(
    "asked", [["gene", "Blank-1"], ["query", "--genes", "Blank-1"], ["query", "--obs", "FILTER"]]
)
def test_a_control_is_told(
    place: str, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    verb, *rest = [one.replace("FILTER", "`counts:Blank-1` > 0") for one in asked]
    assert main([verb, place, *rest]) == 1
    told = capsys.readouterr().err
    assert "'Blank-1', which is of the table 'controls' beside the genes of section 's1'" in told
    assert main(["gene", place, "Blank-9"]) == 1
    assert "table" not in capsys.readouterr().err


# pandas 3.1 deprecates what anndata calls.
@pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated")
@pytest.mark.filterwarnings("ignore:(?s).*The inplace keyword in")
def test_export_names_what_it_leaves_out(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = "left out, as they are no genes: controls of s1"
    box = ["--section", "s1", "--bbox", "0,0,1000,1000"]
    for number, asked in enumerate((["export"], ["query"], ["region", *box])):
        verb, *rest = asked
        if verb != "region":
            rest += ["--missing", "zero"]
        target = str(tmp_path / f"{number}.h5ad")
        assert main([verb, place, *rest, "-o", target]) == 0
        assert told in capsys.readouterr().err
    assert main(["query", place, "--section", "s1", "-o", str(tmp_path / "out.zarr")]) == 0
    assert told in capsys.readouterr().err
    assert main(["query", place, "--section", "s1", "-o", str(tmp_path / "out.csv")]) == 0
    assert main(["query", place, "--section", "s1"]) == 0
    assert told not in capsys.readouterr().err
