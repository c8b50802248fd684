"""Places: which points lie in them, which boxes they cover, and what is no place at all."""

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from tisseract.atlas.errors import InvalidArgument
from tisseract.query.geometry.given import place, polygon
from tisseract.query.geometry.places import Box, Circle, Place

GRID = st.integers(-8, 8).map(float)
HOLED = "POLYGON ((-6 -6, 6 -6, 6 6, -6 6, -6 -6), (-2 -2, 2 -2, 2 2, -2 2, -2 -2))"


@st.composite
def places(draw: st.DrawFn) -> Place:
    kind = draw(st.sampled_from(["box", "circle", "polygon", "holed", "multi"]))
    if kind == "box":
        x, y = sorted([draw(GRID), draw(GRID)]), sorted([draw(GRID), draw(GRID)])
        return Box(x[0], y[0], x[1], y[1])
    if kind == "circle":
        return Circle(draw(GRID), draw(GRID), draw(st.integers(0, 6)))
    if kind == "holed":
        return polygon(HOLED)
    if kind == "multi":
        return polygon("MULTIPOLYGON (((0 0, 3 0, 0 3, 0 0)), ((5 5, 8 5, 8 8, 5 5)))")
    points = draw(st.lists(st.tuples(GRID, GRID), min_size=3, max_size=8, unique=True))
    hull = shapely.convex_hull(shapely.MultiPoint(points))
    return polygon(hull) if hull.geom_type == "Polygon" else Box(0, 0, 1, 1)


def oracle(where: Place, points: np.ndarray) -> np.ndarray:
    if isinstance(where, Circle):
        return np.hypot(points[:, 0] - where.x, points[:, 1] - where.y) <= where.radius
    geometry = shapely.box(*where.bounds) if isinstance(where, Box) else where.geometry  # type: ignore[attr-defined]
    return np.array([geometry.intersects(shapely.Point(p)) for p in points], bool)


@given(places(), st.lists(st.tuples(GRID, GRID), min_size=1, max_size=20))
def test_points_on_the_edge_belong(where: Place, points: list[tuple[float, float]]) -> None:
    if isinstance(where, Box) and (where.xmin == where.xmax or where.ymin == where.ymax):
        return
    array = np.array(points)
    np.testing.assert_array_equal(where.contains(array), oracle(where, array))


@given(places(), st.lists(st.tuples(GRID, GRID), min_size=1, max_size=30), st.integers(1, 6))
def test_cover_bounds_the_answer_of_every_tile(
    where: Place, points: list[tuple[float, float]], size: int
) -> None:
    tiles = [np.array(points[i : i + size]) for i in range(0, len(points), size)]
    boxes = np.array([[*tile.min(axis=0), *tile.max(axis=0)] for tile in tiles])
    touched, inside = where.cover(boxes)
    for tile, hit, whole in zip(tiles, touched, inside, strict=True):
        answer = where.contains(tile)
        assert hit or not answer.any()
        assert not whole or answer.all()


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(0, 1e3), st.integers(0, 2**32 - 1))
def test_circle_cover_holds_in_floating_point(x: float, y: float, r: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, 64)
    points = np.stack([x + r * np.cos(angle), y + r * np.sin(angle)], axis=1)
    where = Circle(x, y, r)
    boxes = np.concatenate([points, points], axis=1)
    touched, inside = where.cover(boxes)
    answer = where.contains(points)
    np.testing.assert_array_equal(touched, answer)
    np.testing.assert_array_equal(inside, answer)


def test_holes_are_left_out_but_their_edge_belongs() -> None:
    where = polygon(HOLED)
    points = np.array([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0], [6.0, 0.0], [7.0, 0.0]])
    assert where.contains(points).tolist() == [False, True, True, True, False]


def test_reads_every_form(tmp_path: Path) -> None:
    shape = shapely.Polygon([(0, 0), (4, 0), (4, 3)])
    geojson = shapely.geometry.mapping(shape)
    feature = {"type": "Feature", "properties": {}, "geometry": geojson}
    collection = {"type": "FeatureCollection", "features": [feature]}
    as_json, as_wkt = tmp_path / "a.geojson", tmp_path / "a.wkt"
    as_json.write_text(json.dumps(collection))
    as_wkt.write_text(shape.wkt)
    forms = [shape, geojson, feature, collection, shape.wkt, as_json, str(as_wkt)]
    for form in [*forms, [(0, 0), (4, 0), (4, 3)], json.dumps(geojson)]:
        assert polygon(form).bounds == (0, 0, 4, 3)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)]), "Self-intersection"),
        (shapely.Point(1, 1), "a polygon with an area"),
        ("POLYGON EMPTY", "a polygon with an area"),
        ("POLYGON ((0 0, nan 1, 1 1, 0 0))", "finite"),
        ({"type": "Nonsense"}, "GeoJSON"),
        ({"type": "Feature"}, "GeoJSON"),
        ("no/such/file.geojson", "which is no file"),
        ([(0, 0), (1, 1)], "vertices"),
        (7, "vertices"),
    ],
)
def test_refuses_what_is_no_polygon(value: object, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        polygon(value)


def test_refuses_what_is_no_box_or_circle() -> None:
    with pytest.raises(InvalidArgument, match=r"swapped it is \(1.0, 2.0, 3.0, 4.0\)"):
        place(bbox=(3, 2, 1, 4))
    with pytest.raises(InvalidArgument, match="finite"):
        place(bbox=(0, 0, float("inf"), 1))
    with pytest.raises(InvalidArgument, match="radius >= 0"):
        place(circle=(0, 0, -1))
    with pytest.raises(InvalidArgument, match="xmin, ymin, xmax, ymax"):
        place(bbox=(1, 2, 3))
    with pytest.raises(InvalidArgument, match="exactly one"):
        place(bbox=(0, 0, 1, 1), circle=(0, 0, 1))
    with pytest.raises(InvalidArgument, match="exactly one"):
        place()


def test_polygons_pickle_and_compare() -> None:
    import pickle

    where = polygon(HOLED)
    where.contains(np.zeros((1, 2)))
    assert pickle.loads(pickle.dumps(where)) == where
