"""Near other cells, touching by shape, named regions, frames: each against brute force."""

import json
import pickle
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas.errors import (
    DerivedNotFound,
    InputError,
    InvalidArgument,
    ReadOnly,
    SectionNotFound,
    StaleDerived,
    UnitUnknown,
)
from tisseract.atlas.store import AtlasStore, open_store
from tisseract.ingest.source import Polygons
from tisseract.query import (
    EmptyAnswerWarning,
    UnregisteredWarning,
    annotate_regions,
    place_of,
    polygon,
    region,
    register,
    select,
)
from tisseract.query.geometry.framed import Framed, transform, transform_boxes
from tisseract.query.geometry.frames import frame_table, read_affine
from tisseract.query.geometry.near import near_points
from tisseract.query.geometry.ontology import read_ontology_table
from tisseract.query.geometry.places import Box, Circle, Place
from tisseract.query.geometry.regions import region_table
from tisseract.query.geometry.touching import Touching

from ..sections import add_section, make_raw, make_store

pytestmark = pytest.mark.filterwarnings("ignore::tisseract.query.EmptyAnswerWarning")

N = 700


def _positions(seed: int, n: int = N) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 120, (n, 2)) / 2.0


def _outlines(points: np.ndarray, seed: int) -> Polygons:
    """Triangles to pentagons around cells, of very different size; some do not hold their cell."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(3, 6, len(points))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    owner = np.repeat(np.arange(len(points)), counts)
    turn = np.arange(int(counts.sum())) - offsets[owner]
    angle = 2 * np.pi * turn / counts[owner]
    size = rng.gamma(1.0, 1.5, len(points))[owner] + 0.1
    shift = rng.normal(0, 1, (len(points), 2))[owner]
    vertices = points[owner] + shift + size[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    return Polygons(vertices, offsets)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> AtlasStore:
    radius = np.random.default_rng(5).gamma(2.0, 1.0, N) + 0.01
    outlined = make_raw(positions=_positions(1), seed=1)
    raws = {
        "circles": make_raw(positions=_positions(0), seed=0, radius=radius),
        "outlines": replace(outlined, shapes=_outlines(outlined.positions, 3)),
        "plain": make_raw(positions=_positions(2), seed=2),
        "unknown": make_raw(positions=_positions(3), seed=3, um_per_unit=None),
    }
    return make_store(tmp_path_factory.mktemp("places"), raws, tile_cells=16)


def _rows(selection: Any, section: str) -> np.ndarray:
    runs = selection.runs.get(section, np.zeros((0, 2), int))
    return np.concatenate([np.arange(a, b) for a, b in runs] or [np.zeros(0, int)])


def _shapes(store: AtlasStore, section: str) -> Any:
    import geopandas as gpd

    path = store.storage.local_path(store.section(section).entry.prefix)
    assert path is not None
    return gpd.read_parquet(path / "shapes/cells/shapes.parquet")


PLACES: list[dict[str, Any]] = [
    {"bbox": (10, 10, 25, 30)},
    {"bbox": (20, 5, 20, 40)},
    {"bbox": (20, 20, 20, 20)},
    {"circle": (30, 30, 9.5)},
    {"polygon": "POLYGON ((5 5, 40 8, 30 45, 5 5), (15 12, 25 12, 25 20, 15 12))"},
    {"polygon": "MULTIPOLYGON (((2 2, 9 2, 9 9, 2 2)), ((50 50, 58 50, 50 59, 50 50)))"},
]


@pytest.mark.parametrize("where", PLACES)
def test_touching_cells_are_those_whose_shape_shares_a_point(
    store: AtlasStore, where: dict[str, Any]
) -> None:
    box = where.get("bbox")
    for section in ("circles", "outlines"):
        chosen = region(store, section, predicate="intersects", **where)
        shapes = _shapes(store, section)
        reach = shapes["radius"].to_numpy() if section == "circles" else np.zeros(N)
        if box is not None and box[0] == box[2]:
            place: Any = shapely.LineString([box[:2], box[2:]]) if box[1] != box[3] else None
            place = shapely.Point(box[:2]) if place is None else place
        elif box is not None:
            place = shapely.box(*box)
        elif "circle" in where:
            place, reach = shapely.Point(where["circle"][:2]), reach + where["circle"][2]
        else:
            place = shapely.from_wkt(where["polygon"])
        wanted = np.flatnonzero(shapely.distance(shapes.geometry.array, place) <= reach)
        assert _rows(chosen, section).tolist() == wanted.tolist()
        by_center = region(store, section, **where)
        assert set(_rows(by_center, section)) != set(wanted)
        kept, total = chosen.plan.n_tiles
        assert kept < total
        assert chosen.question == region(store, section, predicate="intersects", **where).question
        assert pickle.loads(pickle.dumps(chosen)).n_obs == chosen.n_obs


@given(st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from(["circles", "outlines"]))
@settings(max_examples=40, deadline=None)
def test_pruning_changes_no_answer(
    store: AtlasStore, seed: int, touching: bool, section: str
) -> None:
    """Boxes and polygons through positions of cells, against the test of every cell."""
    rng = np.random.default_rng(seed)
    points = store.section(section).positions()
    corners = points[rng.integers(N, size=int(rng.integers(2, 7)))]
    hull = shapely.convex_hull(shapely.MultiPoint(corners))
    where: dict[str, Any] = {"polygon": hull}
    if hull.geom_type != "Polygon":
        box = (*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist())
        where = {"bbox": box}
    how = "intersects" if touching else "centroid"
    chosen = region(store, section, predicate=how, **where)
    cells = np.asarray(_shapes(store, section).geometry.array) if touching else None
    reach = np.zeros(N)
    if touching and section == "circles":
        reach = _shapes(store, section)["radius"].to_numpy()
    whole = shapely.points(points) if cells is None else cells
    wanted = np.flatnonzero(shapely.distance(whole, hull) <= reach)
    if "bbox" in where and len(set(map(tuple, corners.tolist()))) > 1:
        low, high = corners.min(axis=0), corners.max(axis=0)
        if (low < high).all():
            wanted = np.flatnonzero(shapely.distance(whole, shapely.box(*low, *high)) <= reach)
    assert _rows(chosen, section).tolist() == wanted.tolist()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.slow
def test_touching_agrees_with_spatialdata(store: AtlasStore) -> None:
    import spatialdata as sd

    for section in ("circles", "outlines"):
        path = store.storage.local_path(store.section(section).entry.prefix)
        cells = sd.read_zarr(path, selection=("shapes",))["cells"]
        radius = cells["radius"].to_numpy() if section == "circles" else np.zeros(N)
        for text in (PLACES[4]["polygon"], PLACES[5]["polygon"]):
            found = sd.polygon_query(cells, shapely.from_wkt(text), "microns")
            ours = set(_rows(region(store, section, polygon=text, predicate="intersects"), section))
            theirs = set(np.flatnonzero(cells.index.isin(found.index)))
            assert theirs <= ours
            away = shapely.distance(cells.geometry.array, shapely.from_wkt(text))
            # spatialdata's circles are polygons of 64 edges within ours.
            assert all(away[row] > radius[row] * 0.998 for row in ours - theirs)


def test_outlines_of_older_sections_are_measured_once(store: AtlasStore) -> None:
    where = place_of(
        region(store, "outlines", bbox=(0, 0, 9, 9), predicate="intersects").question, "outlines"
    )
    assert isinstance(where, Touching)
    shapes = _shapes(store, "outlines")
    at = store.section("outlines").positions()
    away = np.abs(shapes.bounds.to_numpy() - np.concatenate([at, at], axis=1)).max()
    assert where.shapes.reach == pytest.approx(away, abs=1e-12)
    assert where.shapes._measured() == away


@pytest.mark.parametrize("within", [0, 0.5, 2.5, 20])
def test_near_cells_are_those_of_brute_force(store: AtlasStore, within: float) -> None:
    others = select(store, "layer == 'WM' and area > 60")
    chosen = region(store, ["circles", "plain"], near=others, within_um=within)
    by_text = region(store, ["circles", "plain"], near=str(others.question), within_um=within)
    assert chosen.sections == ["circles", "plain"]
    for section in chosen.sections:
        points = store.section(section).positions()
        apart = points[:, None] - points[_rows(others, section)][None]
        square = apart[..., 0] * apart[..., 0] + apart[..., 1] * apart[..., 1]
        wanted = np.flatnonzero((square <= within * within).any(axis=1))
        assert len(wanted) > 0
        assert _rows(chosen, section).tolist() == wanted.tolist()
        assert _rows(by_text, section).tolist() == wanted.tolist()


def test_near_a_region_prunes_and_reads_nothing_before_it_must(store: AtlasStore) -> None:
    others = region(store, "plain", bbox=(0, 0, 5, 5))
    chosen = region(store, near=others, within_um=3)
    kept, total = chosen.plan.n_tiles
    assert kept < total / 2
    assert not others.found
    assert dict(chosen.plan.pruned)["circles"] == "holds none of the other cells"
    again = pickle.loads(pickle.dumps(chosen))
    assert again.n_obs == chosen.n_obs > others.n_obs
    assert again.question == chosen.question
    assert "within 3 um of (section == 'plain'; in box (0, 0, 5, 5)) (1 section)" in str(
        chosen.question
    )
    few = region(store, near=others, within_um=3, obs="layer == 'L1'")
    assert 0 < few.n_obs < chosen.n_obs
    nobody = region(store, "plain", near=region(store, "plain", bbox=(900, 900, 901, 901)),
                    within_um=3)  # fmt: skip
    with pytest.warns(EmptyAnswerWarning):
        assert nobody.n_obs == 0


@given(
    st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=30),
    st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=30),
    st.sampled_from([0.1, 0.3, 1 / 3, 1.0]),
    st.integers(0, 12),
)
@settings(max_examples=100, deadline=None)
def test_near_points_is_exact_on_lattices(
    points: list[tuple[int, int]], others: list[tuple[int, int]], unit: float, steps: int
) -> None:
    a, b, within = np.array(points) * unit, np.array(others) * unit, steps * unit
    apart = a[:, None] - b[None]
    square = apart[..., 0] * apart[..., 0] + apart[..., 1] * apart[..., 1]
    wanted = (square <= within * within).any(axis=1)
    assert near_points(a, b, within).tolist() == wanted.tolist()


def test_what_goes_not_together_is_refused(store: AtlasStore) -> None:
    others = select(store, section="plain")
    with pytest.raises(InvalidArgument, match="together"):
        region(store, near=others)
    with pytest.raises(InvalidArgument, match="together"):
        region(store, "plain", bbox=(0, 0, 1, 1), within_um=4)
    for bad in (-1, np.nan, np.inf, "far", True):
        with pytest.raises(InvalidArgument, match="distance"):
            region(store, near=others, within_um=bad)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="exactly one"):
        region(store, "plain", bbox=(0, 0, 1, 1), name="x")
    with pytest.raises(InvalidArgument, match="exactly one"):
        region(store, "plain")
    with pytest.raises(InvalidArgument, match="one section"):
        region(store, bbox=(0, 0, 1, 1), predicate="intersects")
    with pytest.raises(InvalidArgument, match="centroid"):
        region(store, near=others, within_um=4, predicate="intersects")
    with pytest.raises(UnitUnknown, match="units='source'"):
        region(store, "unknown", near="area > 50", within_um=4)
    assert region(store, "unknown", near="area > 50", within_um=4, units="source").n_obs > 0
    with pytest.raises(InvalidArgument, match="a Selection or a filter"):
        region(store, near=7, within_um=4)  # type: ignore[arg-type]


# -- named regions ---------------------------------------------------------------------------


def _feature(name: object, wkt: str, **more: Any) -> dict[str, Any]:
    shape = shapely.geometry.mapping(shapely.from_wkt(wkt))
    return {"type": "Feature", "geometry": shape, "properties": {"name": name, **more}}


CORTEX = "POLYGON ((0 0, 30 0, 30 30, 0 30, 0 0), (5 5, 10 5, 10 10, 5 5))"
LAYER = "POLYGON ((20 20, 50 20, 50 50, 20 20))"
TRACT = "POLYGON ((40 0, 60 0, 60 15, 40 0))"
TREE = pd.DataFrame({
    "id": [1, 2, 3], "name": ["brain", "cortex", "layer 5"], "parent": [None, 1, 2],
})  # fmt: skip


@pytest.fixture
def annotated(tmp_path: Path) -> AtlasStore:
    raws = {name: make_raw(positions=_positions(k), seed=k) for k, name in enumerate("abc")}
    store = make_store(tmp_path, raws, tile_cells=16)
    collection = {
        "type": "FeatureCollection",
        "features": [_feature("cortex", CORTEX), _feature("layer 5", LAYER)],
    }
    annotate_regions(store, "a", collection, ontology=TREE)
    file = tmp_path / "b.geojson"
    file.write_text(json.dumps([_feature("layer 5", TRACT), _feature("layer 5", LAYER)]))
    annotate_regions(store, "b", file, ontology=TREE)
    return store


def _inside(store: AtlasStore, section: str, *wkts: str) -> list[int]:
    x, y = store.section(section).positions().T
    hits = [shapely.intersects_xy(shapely.from_wkt(wkt), x, y) for wkt in wkts]
    return np.flatnonzero(np.any(hits, axis=0)).tolist()


def test_a_region_is_found_by_name_wherever_it_is(annotated: AtlasStore) -> None:
    store = annotated
    chosen = region(store, name="layer 5")
    assert chosen.sections == ["a", "b"]
    assert _rows(chosen, "a").tolist() == _inside(store, "a", LAYER)
    assert _rows(chosen, "b").tolist() == _inside(store, "b", LAYER, TRACT)
    assert dict(chosen.plan.pruned) == {"c": "has no region 'layer 5' (key 'regions')"}
    whole = region(store, name="brain", descendants=True)
    assert _rows(whole, "a").tolist() == _inside(store, "a", CORTEX, LAYER)
    assert _rows(whole, "b").tolist() == _inside(store, "b", LAYER, TRACT)
    assert region(store, name="2", descendants=True).n_obs == whole.n_obs
    assert region(store, ["a"], name=["cortex", "layer 5"]).n_obs == len(_rows(whole, "a"))
    assert pickle.loads(pickle.dumps(whole)).n_obs == whole.n_obs
    touching = region(store, "a", name="cortex", predicate="intersects")
    assert touching.n_obs > len(_inside(store, "a", CORTEX))


def test_regions_are_listed_with_their_area(annotated: AtlasStore) -> None:
    table = region_table(annotated)
    assert table[["section", "key", "name"]].to_numpy().tolist() == [
        ["a", "regions", "cortex"],
        ["a", "regions", "layer 5"],
        ["b", "regions", "layer 5"],
    ]
    areas = [shapely.from_wkt(w).area for w in (CORTEX, LAYER)]
    both = shapely.union(shapely.from_wkt(LAYER), shapely.from_wkt(TRACT)).area
    np.testing.assert_allclose(table["area_um2"], [*areas, both])


def test_regions_in_pixels_are_scaled_by_what_is_said(annotated: AtlasStore) -> None:
    import geopandas as gpd

    store = annotated
    frame = gpd.GeoDataFrame(
        {"label": ["x"]}, geometry=[shapely.transform(shapely.from_wkt(LAYER), lambda c: c * 4)]
    )
    n = annotate_regions(store, "c", frame, name="label", key="pixels", um_per_unit=0.25)
    assert n == 1
    assert _rows(region(store, name="x"[:1], region_key="pixels"), "c").tolist() == _inside(
        store, "c", LAYER
    )
    path = store.storage.local_path(store.derived("regions", "pixels", "c").prefix)
    assert path is not None
    assert gpd.read_parquet(path / "regions.parquet").area.sum() == pytest.approx(450.0)
    with pytest.raises(InvalidArgument, match="region_key= is wanted"):
        region(store, name="x")
    nested = {"type": "Feature", "properties": {"classification": {"name": "Tumor"}},
              "geometry": shapely.geometry.mapping(shapely.from_wkt(TRACT))}  # fmt: skip
    annotate_regions(store, "c", nested, name="classification.name", key="qupath")
    assert region(store, name="Tumor", region_key="qupath").n_obs > 0


def test_many_names_are_looked_up_in_the_file(annotated: AtlasStore) -> None:
    boxes = {f"r{k}": shapely.box(k, 0, k + 1, 60) for k in range(100)}
    annotate_regions(annotated, "c", boxes, key="many")
    entry = annotated.derived("regions", "many", "c")
    assert "regions" not in entry.info
    assert entry.info["n_regions"] == 100
    x = annotated.section("c").positions()[:, 0]
    chosen = region(annotated, name="r7", region_key="many")
    assert _rows(chosen, "c").tolist() == np.flatnonzero((x >= 7) & (x <= 8)).tolist()


def test_bad_regions_are_refused_whole(annotated: AtlasStore, tmp_path: Path) -> None:
    store, before = annotated, annotated.version
    bow = "POLYGON ((0 0, 2 2, 2 0, 0 2, 0 0))"
    bad = {
        "type": "FeatureCollection",
        "features": [
            _feature("fine", TRACT),
            _feature("bow", bow),
            _feature(None, TRACT),
            {"type": "Feature", "properties": {"name": "none"}, "geometry": None},
            _feature("point", "POINT (1 1)"),
        ],
    }
    with pytest.raises(InputError) as caught:
        annotate_regions(store, "c", bad)
    told = str(caught.value)
    assert all(f"feature {k}:" in told for k in (2, 3, 4, 5))
    assert "feature 1:" not in told
    assert "Self-intersection[1 1]" in told
    with pytest.raises(InputError, match="Did you mean 'cortex'"):
        annotate_regions(store, "c", [_feature("cortx", TRACT)], ontology=TREE)
    with pytest.raises(InvalidArgument, match="overwrite=True"):
        annotate_regions(store, "a", [_feature("x", TRACT)])
    with pytest.raises(InputError, match="none"):
        annotate_regions(store, "c", {"type": "FeatureCollection", "features": []})
    for value in ("{", "[1", 7, {"type": "FeatureCollection"}, "no/such.geojson"):
        with pytest.raises((InvalidArgument, InputError)):
            annotate_regions(store, "c", value)
    with pytest.raises((InvalidArgument, InputError)):
        annotate_regions(store, "c", "[" * 100_000)
    with pytest.raises(SectionNotFound):
        annotate_regions(store, "z", [_feature("x", TRACT)])
    with pytest.raises(ReadOnly):
        annotate_regions(open_store(store.url), "c", [_feature("x", TRACT)])
    assert store.version == before
    with pytest.raises(DerivedNotFound, match="Did you mean 'cortex'"):
        region(store, name="cortx")
    annotate_regions(store, "c", {"x": TRACT}, key="flat")
    with pytest.raises(InvalidArgument, match="without one"):
        region(store, name="x", region_key="flat", descendants=True)


def test_regions_of_a_replaced_section_are_stale(annotated: AtlasStore) -> None:
    add_section(annotated, "a", make_raw(positions=_positions(9), seed=9), replace=True)
    with pytest.raises(StaleDerived):
        region(annotated, name="cortex")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"a": "b", "b": "a"}, "part of itself"),
        ({"a": "a"}, "part of itself"),
        ({"a": "c"}, "a parent in the table"),
        (pd.DataFrame({"name": ["a", "a"], "parent": [None, None]}), "again"),
        (pd.DataFrame({"name": ["a"]}), "parent"),
        (7, "table or mapping"),
    ],
)
def test_bad_ontologies_are_refused(table: object, words: str) -> None:
    with pytest.raises((InputError, InvalidArgument), match=words):
        read_ontology_table(table)


# -- frames ----------------------------------------------------------------------------------

FLOATS = st.floats(-1e4, 1e4, allow_subnormal=False)
MATRICES = st.tuples(st.tuples(FLOATS, FLOATS, FLOATS), st.tuples(FLOATS, FLOATS, FLOATS))


@given(MATRICES, st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_boxes_of_a_frame_bound_every_point(matrix: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    low, high = np.sort(rng.normal(0, 1e3, (2, 5, 2)), axis=0)
    boxes = np.concatenate([low, high], axis=1)
    inside = low + (high - low) * rng.random((40, 5, 2))
    inside = np.minimum(np.maximum(inside, low), high)
    found = transform_boxes(matrix, boxes)
    for k in range(5):
        moved = transform(matrix, np.concatenate([inside[:, k], [low[k], high[k]]]))
        assert (moved >= found[k, :2]).all()
        assert (moved <= found[k, 2:]).all()


@given(st.integers(0, 2**32 - 1), st.sampled_from(["bbox", "circle", "polygon"]))
@settings(max_examples=40, deadline=None)
def test_a_box_of_a_frame_is_the_test_of_transformed_cells(
    framed: AtlasStore, seed: int, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    x, y, w, h = *rng.uniform(900, 1100, 2), *rng.uniform(5, 90, 2)
    forms: dict[str, dict[str, Any]] = {
        "bbox": {"bbox": (x, y, x + w, y + h)},
        "circle": {"circle": (x, y, w)},
        "polygon": {"polygon": [(x, y), (x + w, y), (x, y + h)]},
    }
    where = forms[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnregisteredWarning)
        chosen = region(framed, coordinate_system="ccf", **where)
    oracles: dict[str, Place] = {
        "bbox": Box(x, y, x + w, y + h),
        "circle": Circle(x, y, w),
        "polygon": polygon([(x, y), (x + w, y), (x, y + h)]),
    }
    oracle = oracles[kind]
    for section in ("circles", "outlines", "plain"):
        (a, b, c), (d, e, f) = read_affine(framed, "ccf", section)
        px, py = framed.section(section).positions().T
        moved = np.stack([(a * px + b * py) + c, (d * px + e * py) + f], axis=1)
        wanted = np.flatnonzero(oracle.contains(moved))
        assert _rows(chosen, section).tolist() == wanted.tolist()


@pytest.fixture(scope="module")
def framed(store: AtlasStore) -> AtlasStore:
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    matrices = {
        "circles": np.concatenate([turn, [[1000.0], [980.0]]], axis=1),
        "outlines": np.concatenate([turn.T * 1.7, [[990.0], [1000.0]]], axis=1).T,
        "plain": [[-1, 0, 1040], [0, 1, 960], [0, 0, 1]],
    }
    register(store, "ccf", matrices)
    return store


def test_sections_without_the_frame_are_named(framed: AtlasStore) -> None:
    with pytest.warns(UnregisteredWarning, match=r"frame 'ccf': unknown"):
        chosen = region(framed, bbox=(950, 950, 1050, 1050), coordinate_system="ccf")
    assert dict(chosen.plan.pruned)["unknown"] == "is not in frame 'ccf'"
    # A filter that leaves registered sections alone asks nothing of the others.
    one = region(framed, "plain", bbox=(950, 950, 1050, 1050), coordinate_system="ccf")
    assert one.sections == ["plain"]
    touching = region(
        framed, "circles", bbox=(990, 990, 1010, 1010), coordinate_system="ccf",
        predicate="intersects",
    )  # fmt: skip
    centers = region(framed, "circles", bbox=(990, 990, 1010, 1010), coordinate_system="ccf")
    assert set(_rows(centers, "circles")) < set(_rows(touching, "circles"))
    with pytest.raises(DerivedNotFound, match="'unknown'"):
        region(framed, "unknown", bbox=(0, 0, 1, 1), coordinate_system="ccf")
    with pytest.raises(DerivedNotFound, match="Did you mean 'ccf'"):
        region(framed, bbox=(0, 0, 1, 1), coordinate_system="ccf2")
    with pytest.raises(InvalidArgument, match="needs no frame"):
        region(framed, near="area > 3", within_um=1, coordinate_system="ccf")
    assert list(frame_table(framed).columns) == ["frame", "section", *"abcdef", "stale"]
    assert len(frame_table(framed)) == 3


def test_bounds_of_a_pulled_back_box_hold_it() -> None:
    place = Framed(Box(0, 0, 10, 4), ((0.0, 2.0, 1.0), (1.0, 0.0, -3.0)))
    assert place.bounds == pytest.approx((3, -0.5, 7, 4.5))
    assert place.geometry.area == pytest.approx(20)


def test_bad_transforms_are_refused_at_once(framed: AtlasStore) -> None:
    before = framed.version
    with pytest.raises(InputError) as caught:
        register(
            framed,
            "new",
            {
                "circles": [[1, 0, 0], [0, 1, 0]],
                "outlines": [[1, 2, 0], [2, 4, 0]],
                "plain": [[1, 0], [0, np.nan], [0, 0]],
                "nowhere": [[1, 0, 0], [0, 1, 0]],
                "unknown": "identity",
            },
        )
    told = str(caught.value)
    assert all(n in told for n in ("squeezes", "finite", "'nowhere'", "identity"))
    assert "section 'circles'" not in told
    with pytest.raises(InvalidArgument, match="overwrite=True"):
        register(framed, "ccf", {"plain": [[1, 0, 0], [0, 1, 0]]})
    with pytest.raises(InvalidArgument, match="mapping"):
        register(framed, "ccf", {})
    assert framed.version == before
