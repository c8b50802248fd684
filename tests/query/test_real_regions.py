"""Regions of real tissue: the same cells as spatialdata on the same store, few bytes read."""

import importlib.util
import json
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import shapely

from tisseract.atlas.store import AtlasStore, open_store
from tisseract.query import region

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    # spatialdata's and anndata's own calls into pandas.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
SAMPLES = ("dlpfc_151673", "merfish", "osmfish", "iss", "her2st_A1", "starmap_BZ5")
N_REGIONS = 200


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def store(real_atlas: Path) -> AtlasStore:
    return open_store(real_atlas)


def _regions(points: np.ndarray, n: int, seed: int) -> list[dict[str, Any]]:
    """Boxes and polygons in turn; half of them pass exactly through positions of cells."""
    rng = np.random.default_rng(seed)
    found: list[dict[str, Any]] = []
    while len(found) < n:
        corner = points[rng.integers(len(points), size=2)]
        if rng.random() < 0.5:
            corner = corner + rng.normal(0, 1, (2, 2))
        low, high = corner.min(axis=0), corner.max(axis=0)
        if len(found) % 2 == 0:
            if (high > low).all():
                found.append({"bbox": (*low.tolist(), *high.tolist())})
        else:
            some = points[rng.integers(len(points), size=rng.integers(3, 9))]
            hull = shapely.convex_hull(shapely.MultiPoint(some))
            if hull.geom_type == "Polygon":
                found.append({"polygon": hull})
    return found


def _index_of(found: Any) -> Any:
    return found.index.compute() if hasattr(found.index, "compute") else found.index


def test_same_cells_as_spatialdata(store: AtlasStore) -> None:
    import spatialdata as sd
    from spatialdata.models import PointsModel
    from spatialdata.transformations import Identity

    names = [name for name in store.section_names if name.startswith(SAMPLES)]
    n_each = -(-N_REGIONS // len(names))
    compared = 0
    for seed, name in enumerate(names):
        section = store.section(name)
        units = "um" if section.um_per_unit is not None else "source"
        system = "microns" if units == "um" else "source_units"
        path = store.storage.local_path(section.entry.prefix)
        sdata = sd.read_zarr(path, selection=("shapes",))
        circles = sdata["cells"]
        centers = np.stack([circles.geometry.x, circles.geometry.y], axis=1)
        points = PointsModel.parse(centers, transformations={system: Identity()})
        ids = np.array([f"{name}:{cell}" for cell in section.cell_ids()])
        for place in _regions(section.positions(), n_each, seed):
            if "bbox" in place:
                box = place["bbox"]
                found = sd.bounding_box_query(
                    circles,
                    axes=("x", "y"),
                    min_coordinate=list(box[:2]),
                    max_coordinate=list(box[2:]),
                    target_coordinate_system=system,
                )
            else:
                # Of circles, polygon_query takes what the disc touches; of points, the centers.
                found = sd.polygon_query(points, place["polygon"], system)
            rows = np.zeros(0, int) if found is None else np.asarray(_index_of(found))
            got = region(store, name, units=units, **place).to_obs(["section"]).index
            assert sorted(got) == sorted(ids[rows]), (name, place)
            compared += 1
    assert compared >= N_REGIONS


def test_compact_regions_read_little(store: AtlasStore, tmp_path: Path) -> None:
    bench = _load(Path(__file__).parents[2] / "benchmarks" / "bench_region.py")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        row = bench.measure(store.url, "iss", 40, 0)
    (tmp_path / "row.json").write_text(json.dumps(row))
    assert row["regions"] == 40
    assert row["warm_median"] <= 3
    assert row["warm_p95"] <= 5
    assert row["cold_median"] <= 3
    assert row["cold_p95"] <= 5
