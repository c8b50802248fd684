"""Transcripts of a place against brute force, lazily, with genes, cells and limits."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract import Atlas
from tisseract import open as open_atlas
from tisseract.atlas import points_write
from tisseract.atlas.errors import BudgetExceeded, ColumnNotFound, GeneNotFound, InvalidArgument
from tisseract.atlas.points import PointsSource
from tisseract.query import Circle, polygon

from ..sections import make_raw, make_store

GENES = ["Gene0", "Gene1", "Gene2", "BLANK"]
N = 2000


def table(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            # Quarters: many points lie exactly on edges of the places below.
            "x": rng.integers(0, 4001, N) / 4.0,
            "y": rng.integers(0, 4001, N) / 4.0,
            "gene": np.array(GENES, dtype=object)[rng.integers(0, 4, N)],
            "cell_id": [None if i % 7 == 0 else f"cell-{i % 300}" for i in range(N)],
            "qv": rng.random(N).astype(np.float32),
        }
    )


def source(frame: pd.DataFrame, **keys: str) -> PointsSource:
    def batches() -> Iterator[pa.RecordBatch]:
        yield from pa.Table.from_pandas(frame, preserve_index=False).to_batches(max_chunksize=500)

    return PointsSource(batches, **{"feature_key": "gene", "instance_key": "cell_id"} | keys)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def points() -> dict[str, pd.DataFrame]:
    return {"s1": table(1), "s2": table(2).drop(columns="qv")}


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory, points: dict[str, pd.DataFrame]) -> Atlas:
    folder = tmp_path_factory.mktemp("transcripts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(points_write, "_LEAST_GROUP", 32)
        patch.setattr(points_write, "_MOST_GROUP", 64)
        patch.setattr(points_write, "GROUPS_PER_PART", 8)
        raws = {
            name: make_raw(seed=i, points={"tx": source(points[name])}, metadata={"donor": name})
            for i, name in enumerate(("s1", "s2"))
        }
        raws["s3"] = make_raw(seed=3, metadata={"donor": "s3"})
        make_store(folder, raws)
    return open_atlas(folder / "atlas")


def sorted_rows(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    plain = frame.astype(object).where(frame.notna(), None)
    names = [c for c in ("x", "y", "gene", "cell_id", "qv") if c in plain]
    return sorted(map(tuple, plain[names].to_numpy().tolist()), key=repr)


def in_polygon(frame: pd.DataFrame, shape: Any) -> pd.DataFrame:
    found: pd.DataFrame = frame[
        shapely.intersects_xy(shape, frame.x.to_numpy(), frame.y.to_numpy())
    ]
    return found


corner = st.integers(-40, 1040).map(float)


@given(corner, corner, corner, corner)
@settings(max_examples=25, deadline=None)
def test_box(
    atlas: Atlas, points: dict[str, Any], x0: float, x1: float, y0: float, y1: float
) -> None:
    box = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
    found = atlas.region("s1", bbox=box).transcripts()
    p = points["s1"]
    wanted = p[(p.x >= box[0]) & (p.x <= box[2]) & (p.y >= box[1]) & (p.y <= box[3])]
    assert sorted_rows(found.to_pandas()) == sorted_rows(wanted)
    assert found.count() == len(wanted) <= found.n_bound


@given(st.lists(st.tuples(corner, corner), min_size=3, max_size=7, unique=True))
@settings(max_examples=20, deadline=None)
def test_polygon(atlas: Atlas, points: dict[str, Any], corners: list[tuple[float, float]]) -> None:
    hull = shapely.convex_hull(shapely.MultiPoint(corners))
    if hull.geom_type != "Polygon":
        return
    found = atlas.region("s1", polygon=hull).transcripts()
    assert sorted_rows(found.to_pandas()) == sorted_rows(in_polygon(points["s1"], hull))


def test_circle_and_hole(atlas: Atlas, points: dict[str, Any]) -> None:
    p = points["s1"]
    circle = atlas.region("s1", circle=(500, 500, 250)).transcripts()
    assert sorted_rows(circle.to_pandas()) == sorted_rows(
        p[(p.x - 500) ** 2 + (p.y - 500) ** 2 <= 250**2]
    )
    assert Circle(500, 500, 250).radius == 250
    ring = shapely.Point(400, 400).buffer(300).difference(shapely.box(300, 300, 500, 500))
    found = atlas.region("s1", polygon=ring).transcripts()
    assert sorted_rows(found.to_pandas()) == sorted_rows(in_polygon(p, polygon(ring).geometry))


def test_all_sections_and_what_is_missing(atlas: Atlas, points: dict[str, Any]) -> None:
    found = atlas.query().transcripts()
    frame = found.to_pandas()
    assert frame.columns[0] == "section"
    assert frame["section"].tolist() == ["s1"] * N + ["s2"] * N
    for name, wanted in points.items():
        own = frame[frame["section"] == name]
        assert sorted_rows(own[wanted.columns]) == sorted_rows(wanted)
    assert frame.loc[frame["section"] == "s2", "qv"].isna().all()
    assert "s3: left out, has no transcripts" in str(found.explain())
    assert found.count() == 2 * N
    only = atlas.query(donor="s2").transcripts()
    assert only.to_pandas()["section"].unique().tolist() == ["s2"]
    assert len(atlas.query().only(["s1"]).transcripts().to_pandas()) == N


def test_genes_by_any_name(atlas: Atlas, points: dict[str, Any]) -> None:
    p = points["s1"]
    box = atlas.region("s1", bbox=(0, 0, 600, 600))
    inside = p[(p.x <= 600) & (p.y <= 600)]
    for genes, wanted in (("gene1", ["Gene1"]), (["BLANK", "Gene0"], ["BLANK", "Gene0"])):
        found = box.transcripts(genes)
        assert sorted_rows(found.to_pandas()) == sorted_rows(inside[inside.gene.isin(wanted)])
        assert found.n_bound <= p.gene.isin(wanted).sum()
        assert found.count() == inside.gene.isin(wanted).sum()
    # Measured by the section, but no transcript of it: none, and no error.
    assert len(box.transcripts("Gene7").to_pandas()) == 0
    with pytest.raises(GeneNotFound, match="Gene1"):
        box.transcripts("Gene_1x").to_pandas()


def test_columns_in_the_order_asked(atlas: Atlas) -> None:
    box = atlas.region("s1", bbox=(0, 0, 500, 500))
    assert box.transcripts(columns=["qv", "gene"]).to_pandas().columns.tolist() == [
        "section",
        "qv",
        "gene",
    ]
    assert len(box.transcripts(columns=[]).to_pandas()) == box.transcripts().count()
    with pytest.raises(ColumnNotFound, match="'qv'"):
        box.transcripts(columns=["qvv"]).to_pandas()


def test_a_filter_on_cells_keeps_their_transcripts(atlas: Atlas, points: dict[str, Any]) -> None:
    chosen = atlas.region("s1", bbox=(0, 0, 700, 1000), obs="layer == 'L1'")
    names = {one.split(":", 1)[1] for one in chosen.to_obs([]).index}
    assert 5 < len(names) < 200
    p = points["s1"]
    wanted = p[(p.x <= 700) & p.cell_id.isin(names)]
    found = chosen.transcripts()
    assert sorted_rows(found.to_pandas()) == sorted_rows(wanted)
    assert found.count() == len(wanted)
    nobody = atlas.region("s1", bbox=(0, 0, 700, 1000), obs="layer == 'L1' and area > 1e6")
    assert nobody.transcripts().count() == 0


def test_lazy_forms_agree(atlas: Atlas) -> None:
    found = atlas.region("s1", circle=(400, 600, 300)).transcripts(["Gene0", "Gene2"])
    frame = found.to_pandas()
    batches = list(found.batches())
    assert max(map(len, batches)) <= 64
    assert sum(map(len, batches)) == len(frame)
    assert found.to_arrow().num_rows == len(frame)
    lazy = found.to_dask()
    assert lazy.npartitions == len(found.plan.sections[0].groups)
    computed = lazy.compute(scheduler="synchronous").reset_index(drop=True)
    assert computed[["x", "y", "qv"]].equals(frame[["x", "y", "qv"]])
    assert computed["gene"].astype(str).tolist() == frame["gene"].astype(str).tolist()
    again = pickle.loads(pickle.dumps(found))
    assert again.to_pandas().equals(frame)


@pytest.mark.filterwarnings("ignore::tisseract.query.EmptyAnswerWarning")
def test_empty_place_and_limits(atlas: Atlas) -> None:
    nothing = atlas.region("s1", bbox=(5000, 5000, 6000, 6000)).transcripts()
    assert nothing.to_pandas().empty
    assert nothing.count() == 0
    assert nothing.to_dask().compute(scheduler="synchronous").empty
    assert "s1: left out, lies outside the place" in str(nothing.explain())
    with pytest.raises(BudgetExceeded, match=r"\.batches\(\)"):
        atlas.query().transcripts().to_pandas(memory_limit="1 MB")
    assert sum(len(b) for b in atlas.query().transcripts().batches()) == 2 * N


def test_only_touching_groups_are_read(atlas: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    from tisseract.atlas.points_read import StoredPoints

    seen: list[tuple[int, tuple[str, ...]]] = []
    read = StoredPoints.read

    def spy(self: StoredPoints, requests: Any) -> Any:
        seen.extend(requests)
        return read(self, requests)

    monkeypatch.setattr(StoredPoints, "read", spy)
    found = atlas.region("s1", bbox=(100, 100, 400, 400)).transcripts(columns="gene")
    found.to_pandas()
    element = atlas.section("s1").points["tx"]
    boxes = shapely.box(*element.bounds.T)
    assert {g for g, _ in seen} == set(
        np.flatnonzero(shapely.intersects(boxes, shapely.box(100, 100, 400, 400))).tolist()
    )
    inside = shapely.covers(shapely.box(100, 100, 400, 400), boxes)
    for group, columns in seen:
        assert ("x" in columns) is not inside[group]


def test_what_transcripts_cannot_answer(tmp_path: Path, atlas: Atlas) -> None:
    with pytest.raises(InvalidArgument, match="sections with transcripts"):
        atlas.query(section="s3").transcripts().to_pandas()
    with pytest.raises(InvalidArgument, match="got 'txx'"):
        atlas.query(section="s1").transcripts(name="txx").to_pandas()
    frame = table(5)
    raw = make_raw(points={"a": source(frame, feature_key="", instance_key=""), "b": source(frame)})
    store = make_store(tmp_path, {"s1": raw})
    other = open_atlas(store.url)
    with pytest.raises(InvalidArgument, match="several points elements: a, b"):
        other.query().transcripts().to_pandas()
    with pytest.raises(InvalidArgument, match="name none; leave genes= out"):
        other.query().transcripts("Gene0", name="a").to_pandas()
    with pytest.raises(InvalidArgument, match="ask by place alone"):
        other.query(obs="area > 1").transcripts(name="a").to_pandas()
    assert other.query().transcripts("Gene0", name="b").count() == (frame.gene == "Gene0").sum()
