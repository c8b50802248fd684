"""`query` and `region` with --what: transcripts, shapes and images as files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from tisseract.atlas.image_sources import ArrayPixels, LazyImage
from tisseract.atlas.points import PointsSource
from tisseract.cli.app import app

from ..sections import make_raw, make_store

N = 400


class _Pixels:
    """Opens a small picture."""

    def __call__(self) -> Any:
        from contextlib import nullcontext

        pixels = np.random.default_rng(0).integers(0, 255, (3, 1000, 1000)).astype(np.uint8)
        return nullcontext(ArrayPixels(pixels, "cyx"))


def points() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    genes = np.array(["Gene0", "Gene1"], dtype=object)[rng.integers(0, 2, N)]
    return pd.DataFrame({"x": rng.random(N) * 1000, "y": rng.random(N) * 1000, "gene": genes})


def batches() -> Iterator[pa.RecordBatch]:
    yield from pa.Table.from_pandas(points(), preserve_index=False).to_batches()


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("beside")
    raw = make_raw(
        points={"tx": PointsSource(batches, "gene")}, images={"he": LazyImage(_Pixels())}
    )
    make_store(folder, {"s1": raw})
    return str(folder / "atlas")


def ask(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def test_transcripts_as_tables(atlas: str, tmp_path: Path) -> None:
    place = ("region", atlas, "--section", "s1", "--bbox", "0,0,500,700", "--what", "transcripts")
    frame = points()
    inside = frame[(frame.x <= 500) & (frame.y <= 700)]
    facts = json.loads(ask(*place, "--json"))
    assert facts["n_bound"] == N
    for name, read in (("a.parquet", pd.read_parquet), ("a.csv", pd.read_csv)):
        facts = json.loads(ask(*place, "-o", str(tmp_path / name), "--json", "-q"))
        assert facts["n_transcripts"] == len(inside)
        found = read(tmp_path / name).sort_values("x")
        assert found["gene"].astype(str).tolist() == inside.sort_values("x")["gene"].tolist()
    one = str(tmp_path / "one.csv")
    ask("query", atlas, "--what", "transcripts", "--genes", "Gene1", "-o", one, "-q")
    assert len(pd.read_csv(one)) == (frame["gene"] == "Gene1").sum()
    assert sorted(p.name for p in tmp_path.iterdir() if "json" not in p.name) == [
        "a.csv",
        "a.parquet",
        "one.csv",
    ]


def test_shapes_and_images(atlas: str, tmp_path: Path) -> None:
    import tifffile
    from PIL import Image

    place = ("region", atlas, "--section", "s1", "--circle", "300,300,100", "-q", "--what")
    geojson = tmp_path / "cells.geojson"
    ask(*place, "shapes", "-o", str(geojson))
    features = json.loads(geojson.read_text(encoding="utf-8"))["features"]
    counted = json.loads(ask(*place, "cells", "--json"))["n_obs"]
    assert len(features) == counted > 0
    ask(*place, "image", "-o", str(tmp_path / "he.tif"))
    assert tifffile.imread(tmp_path / "he.tif").shape == (3, 200, 200)
    ask(*place, "image", "--um-per-px", "2", "-o", str(tmp_path / "he.png"))
    with Image.open(tmp_path / "he.png") as picture:
        assert picture.size == (100, 100)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--what", "image"], "add -o PATH"),
        (["--what", "transcripts", "-o", "a.h5ad"], ".parquet or .csv"),
        (["--what", "shapes", "-o", "a.geojson", "--graph", "k"], "--graph goes with"),
        (["--what", "shapes", "-o", "a.geojson", "--genes", "Gene0"], "--genes goes with"),
        (["--element", "tx"], "--element goes with"),
        (["--what", "transcripts", "-o", "nowhere/a.csv"], "does not exist"),
    ],
)
def test_options_that_do_not_fit(
    atlas: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in ask("query", atlas, *options, code=2)
