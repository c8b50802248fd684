"""Places of real tissue, touched by shape or near: as shapely and spatialdata say."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from tisseract.atlas.store import AtlasStore, open_store
from tisseract.query import region, select

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    # spatialdata's and anndata's own calls into pandas.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::tisseract.query.EmptyAnswerWarning"),
]
EACH = 3
# spatialdata draws circles with 64 edges: they lie inside by this share of the radius at most.
SAGITTA = 1 - np.cos(np.pi / 64)


@pytest.fixture(scope="module")
def store(real_atlas: Path) -> AtlasStore:
    return open_store(real_atlas)


def _rows(selection: Any, section: str) -> set[int]:
    runs = selection.runs.get(section, np.zeros((0, 2), int))
    return {row for a, b in runs for row in range(a, b)}


def test_touching_cells_of_all_real_sections_agree_with_spatialdata(store: AtlasStore) -> None:
    import geopandas as gpd
    import spatialdata as sd

    rng = np.random.default_rng(0)
    compared = 0
    for number, name in enumerate(store.section_names):
        section = store.section(name)
        units = "um" if section.um_per_unit is not None else "source"
        system = "microns" if units == "um" else "source_units"
        path = store.storage.local_path(section.entry.prefix)
        assert path is not None
        both = number % 6 == 0
        if both:
            cells = sd.read_zarr(path, selection=("shapes",))["cells"]
        else:
            cells = gpd.read_parquet(path / "shapes/cells/shapes.parquet")
        points = section.positions()
        shapes = np.asarray(cells.geometry.array)
        circles = "radius" in cells
        radius = cells["radius"].to_numpy() if circles else np.zeros(len(cells))
        for _ in range(EACH):
            hull = shapely.convex_hull(
                shapely.MultiPoint(points[rng.integers(len(points), size=5)])
            )
            if hull.geom_type != "Polygon":
                continue
            ours = _rows(
                region(store, name, polygon=hull, predicate="intersects", units=units), name
            )
            away = shapely.distance(shapes, hull)
            assert ours == set(np.flatnonzero(away <= radius).tolist())
            compared += 1
            if not both:
                continue
            found = sd.polygon_query(cells, hull, system)
            theirs = set(np.flatnonzero(cells.index.isin(found.index)).tolist())
            assert theirs <= ours
            extra = np.array(sorted(ours - theirs), int)
            assert (away[extra] > radius[extra] * (1 - SAGITTA - 1e-6)).all()
    assert compared >= 2 * len(store.section_names)


def test_near_cells_of_real_sections_are_those_of_a_tree(store: AtlasStore) -> None:
    from scipy.spatial import cKDTree

    for name in store.section_names[::5]:
        section = store.section(name)
        points = section.positions()
        units = "um" if section.um_per_unit is not None else "source"
        low, high = points.min(axis=0), points.max(axis=0)
        size = float((high - low).max())
        corner = (*low.tolist(), *(low + 0.2 * (high - low)).tolist())
        others = region(store, name, bbox=corner, units=units)
        within = size / 20
        chosen = region(store, name, near=others, within_um=within, units=units)
        chosen_rows = _rows(chosen, name)
        rows = sorted(_rows(others, name))
        if not rows:
            assert not chosen_rows
            continue
        distance = cKDTree(points[rows]).query(points)[0]
        sure = np.abs(distance - within) > 1e-9 * within
        wanted = set(np.flatnonzero((distance <= within) & sure).tolist())
        assert wanted <= chosen_rows
        assert chosen_rows - wanted <= set(np.flatnonzero(~sure).tolist())
        assert chosen.n_obs <= select(store, section=name).n_obs
