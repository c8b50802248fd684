"""Where cells lie, in every form of an answer: micrometers, source units, a common frame."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest

import tisseract
from tisseract.atlas.errors import ColumnNotFound
from tisseract.ingest.source import ArrayColumn
from tisseract.query import export, region, select

from ..sections import make_raw, make_store
from .conftest import Atlas

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option"),
    pytest.mark.filterwarnings("ignore::tisseract.query.UnmeasuredWarning"),
    pytest.mark.filterwarnings("ignore::tisseract.query.MixedValuesWarning"),
]
TURNED = ((0.0, -1.0, 1000.0), (1.0, 0.0, 0.0))
MOVED = ((1.0, 0.0, 100.0), (0.0, 1.0, 50.0))


def test_tables_hold_positions(atlas: Atlas, tmp_path: Path) -> None:
    chosen = select(atlas.store, "volume > 3")
    table = chosen.to_pandas()
    cells = atlas.cells.loc[table.index]
    known = (cells["section"] != "c_e10").to_numpy()
    for axis in "xy":
        place = cells[axis].to_numpy(float)
        np.testing.assert_array_equal(table[f"{axis}_um"], np.where(known, place, np.nan))
        np.testing.assert_array_equal(table[f"{axis}_source"], np.where(known, np.nan, place))
    known_only = select(atlas.store, section=["a_e9", "d_p7"], genes=["Gene1"])
    names = list(known_only.to_pandas())
    assert names[-3:] == ["x_um", "y_um", "Gene1"]
    assert known_only.to_arrow().column_names == ["cell", *names]
    for form in ("csv", "parquet"):
        read = pd.read_csv if form == "csv" else pd.read_parquet
        back: Any = read(export(known_only, tmp_path / f"t.{form}"))
        np.testing.assert_array_equal(back["x_um"], known_only.to_pandas()["x_um"])
    assert list(chosen.to_pandas(["volume"])) == ["section", "volume"]
    assert list(chosen.to_pandas(["y_um", "volume"])) == ["section", "volume", "y_um"]
    with pytest.raises(ColumnNotFound, match="x_ccf"):
        chosen.to_pandas(["x_ccf"])
    empty = select(atlas.store, "volume > 1000", section="a_e9").to_pandas()
    assert empty["x_um"].dtype == float
    assert not len(empty)


def test_a_column_of_the_source_of_that_name_stays(tmp_path: Path) -> None:
    raw = make_raw(n_obs=50)
    theirs = [f"row {k}" for k in range(50)]
    raw = replace(raw, obs=dict(raw.obs) | {"x_um": ArrayColumn.of(theirs)})
    store = make_store(tmp_path, {"s1": raw})
    table = select(store).to_pandas()
    np.testing.assert_array_equal(table["x_um"], store.section("s1").positions()[:, 0])
    assert sorted(table["obs:x_um"]) == sorted(theirs)
    assert "x_um" in select(store).obs


@pytest.fixture(scope="module")
def framed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    raws = {name: make_raw(n_obs=200, seed=k) for k, name in enumerate(("s1", "s2", "s3"))}
    store = make_store(tmp_path_factory.mktemp("framed"), raws)
    handle = tisseract.open(store.url, read_only=False)
    handle.register("patA", {"s1": TURNED, "s2": MOVED})
    return handle


def _expected(handle: Any, chosen: Any) -> Any:
    from tisseract.query.geometry.framed import transform

    adata = chosen.to_anndata(obs_columns=[])
    sections = adata.obs["section"].to_numpy()
    out = np.zeros((adata.n_obs, 2))
    for name, matrix in (("s1", TURNED), ("s2", MOVED)):
        mine = sections == name
        out[mine] = transform(matrix, adata.obsm["spatial"][mine])
    return out


BOX = (200.0, 200.0, 900.0, 900.0)


@pytest.mark.filterwarnings("ignore::tisseract.query.UnregisteredWarning")
@pytest.mark.parametrize("predicate", ["centroid", "intersects"])
def test_an_answer_in_a_frame_holds_its_positions(
    framed: Any, predicate: str, tmp_path: Path
) -> None:
    chosen = region(framed, bbox=BOX, coordinate_system="patA", predicate=predicate)
    wanted = _expected(framed, chosen)
    assert len(wanted) > 50
    adata: Any = chosen.to_anndata()
    assert adata.obsm["spatial_patA"].dtype == np.float64
    np.testing.assert_array_equal(adata.obsm["spatial_patA"], wanted)
    assert adata.uns["tisseract"]["frame"] == "patA"
    streamed = anndata.read_h5ad(export(chosen, tmp_path / "a.h5ad"))
    np.testing.assert_array_equal(np.asarray(streamed.obsm["spatial_patA"]), wanted)
    assert list(streamed.obsm) == list(adata.obsm)
    table = chosen.to_pandas()
    np.testing.assert_array_equal(table[["x_patA", "y_patA"]], wanted)
    np.testing.assert_array_equal(table[["x_um", "y_um"]], adata.obsm["spatial"])
    assert "frame" not in select(framed).to_anndata().uns["tisseract"]


@pytest.mark.filterwarnings("ignore::tisseract.query.UnregisteredWarning")
def test_a_figure_of_a_frame_is_one_panel(framed: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    chosen = region(framed, bbox=BOX, coordinate_system="patA")
    figure: Any = chosen.pl.spatial()
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == [
        "2 sections in frame patA"
    ]
    np.testing.assert_array_equal(figure.source[["x", "y"]], _expected(framed, chosen))
    assert set(figure.source["section"]) == {"s1", "s2"}
    drawn = pd.read_csv(export(chosen, tmp_path / "cut.png").with_suffix(".csv"))
    np.testing.assert_allclose(drawn[["x", "y"]], figure.source[["x", "y"]])
    whole = select(framed, section=["s1", "s2"])
    both: Any = whole.pl.spatial("Gene1", coordinate_system="patA", max_points=50)
    assert both.source["n_cells"].sum() == 400
    apart: Any = chosen.pl.spatial(coordinate_system="section")
    assert len([axes for axes in apart.axes if axes.get_title()]) == 2
