"""Graphs of real tissue against squidpy on the whole section."""

import csv
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from tisseract.atlas.graph import grid, knn

from .graph_fakes import FakeStore, morton_order, put_section, quadtree_section

pytestmark = pytest.mark.real

SPLITS = {
    "merfish_hypothalamus/3samples": "samples",
    "chicken_heart/composition": "day",
    "seqfish_embryo/embryo1": "section",
    "seqfish_embryo/embryo2": "section",
}
HEX = ["dlpfc/151510", "dlpfc/151673", "dlpfc/151674"]


@pytest.fixture(scope="module")
def squidpy_builders() -> Any:
    """Builders of squidpy, which warns while it is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("squidpy.gr.neighbors")


def read_column(group: h5py.Group, name: str) -> NDArray[Any]:
    """Read an obs column, categorical or plain."""
    column = group[name]
    if isinstance(column, h5py.Group):
        return np.asarray(column["codes"])
    return np.asarray(column)


def read_sections(path: Path, split: str | None) -> dict[str, NDArray[np.float64]]:
    """Positions of the sections of one h5ad file, in the order of their rows in an atlas."""
    with h5py.File(path) as file:
        xy = np.ascontiguousarray(file["obsm/spatial"][:, :2], dtype=np.float64)
        labels = np.zeros(len(xy)) if split is None else read_column(file["obs"], split)
    found = {}
    for label in np.unique(labels):
        part = xy[labels == label]
        found[f"{path.stem}_{label}"] = part[morton_order(part)]
    return found


def all_sections(root: Path) -> dict[str, NDArray[np.float64]]:
    """Every real section with positions."""
    found: dict[str, NDArray[np.float64]] = {}
    for path in sorted(root.glob("*/*.h5ad")):
        name = path.relative_to(root).with_suffix("").as_posix()
        if name != "cortex_reference/tasic_scrna":  # dissociated cells
            found |= read_sections(path, SPLITS.get(name))
    return found


def open_fake(path: Path, xy: NDArray[np.float64], tile_cells: int = 512) -> FakeStore:
    store = FakeStore.create(path)
    put_section(store, quadtree_section(xy, tile_cells))
    return store


@pytest.mark.slow
def test_knn_equals_squidpy(real_data: Path, tmp_path: Path, squidpy_builders: Any) -> None:
    sections = all_sections(real_data)
    assert len(sections) >= 40
    for name, xy in sections.items():
        for k in (6, 10):
            theirs = squidpy_builders.KNNBuilder(n_neighs=k).build_graph(xy)[0]
            theirs.setdiag(0)
            theirs.eliminate_zeros()
            theirs.sort_indices()
            ours = knn(open_fake(tmp_path / f"{name}{k}", xy), "S1", k).compute()
            compare(name, xy, k, ours.indices.reshape(-1, k), theirs.indices.reshape(-1, k))
            exact = lengths(xy, ours.indices.reshape(-1, k))
            np.testing.assert_allclose(ours.data.reshape(-1, k), exact, rtol=1e-12)


def lengths(xy: NDArray[np.float64], columns: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(xy[columns] - xy[:, None, :], axis=2))


def compare(
    name: str, xy: NDArray[np.float64], k: int, ours: NDArray[Any], theirs: NDArray[Any]
) -> None:
    """Sorted distances agree; a neighbor only one of them names lies at the k-th distance."""
    mine, other = lengths(xy, ours), lengths(xy, theirs)
    scale = mine.max()
    np.testing.assert_allclose(
        np.sort(mine, 1), np.sort(other, 1), rtol=1e-6, atol=1e-9 * scale, err_msg=name
    )
    last = mine.max(axis=1, keepdims=True)
    for here, there, length in ((ours, theirs, mine), (theirs, ours, other)):
        alone = ~(here[:, :, None] == there[:, None, :]).any(axis=2)
        tied = np.isclose(length, last, rtol=1e-6, atol=1e-9 * scale)
        assert (tied | ~alone).all(), f"{name}, k={k}: edges differ below the k-th distance"


def spaceranger_positions(folder: Path) -> NDArray[np.float64]:
    """Positions of the spots under tissue, from Space Ranger's table with a header."""
    with (folder / "spatial" / "tissue_positions.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["in_tissue"] == "1"]
    names = ("pxl_col_in_fullres", "pxl_row_in_fullres")
    xy = np.array([[float(row[name]) for name in names] for row in rows])
    return xy[morton_order(xy)]


@pytest.mark.parametrize("n_rings", [1, 2, 3])
@pytest.mark.parametrize("name", [*HEX, "vendor/visium_mouse", "her2st/A1", "her2st/C3"])
def test_grid_equals_squidpy(
    real_data: Path, tmp_path: Path, squidpy_builders: Any, name: str, n_rings: int
) -> None:
    if name.startswith("vendor"):
        xy = spaceranger_positions(real_data / name)
    else:
        (xy,) = read_sections(real_data / f"{name}.h5ad", None).values()
    n_neighs = 4 if name.startswith("her2st") else 6
    store = open_fake(tmp_path / "atlas", xy)
    for set_diag in (False, True):
        builder = squidpy_builders.GridBuilder(
            n_neighs=n_neighs, n_rings=n_rings, set_diag=set_diag
        )
        adjacency, distances = builder.build(xy)
        form = grid(store, "S1", n_rings=n_rings).to_squidpy(set_diag=set_diag)
        for ours, theirs in ((form.connectivities, adjacency), (form.distances, distances)):
            theirs.sort_indices()
            np.testing.assert_array_equal(ours.indptr, theirs.indptr)
            np.testing.assert_array_equal(ours.indices, theirs.indices)
            np.testing.assert_array_equal(ours.data, theirs.data)
        assert form.uns["params"] == builder.uns_params()


def test_uns_entry_equals_squidpy(real_data: Path, tmp_path: Path, squidpy_builders: Any) -> None:
    (xy,) = read_sections(real_data / "her2st/A1.h5ad", None).values()
    form = knn(open_fake(tmp_path / "atlas", xy), "S1", 7).to_squidpy()
    assert form.uns["params"] == squidpy_builders.KNNBuilder(n_neighs=7).uns_params()


def test_grid_does_not_depend_on_tiles(real_data: Path, tmp_path: Path) -> None:
    (xy,) = read_sections(real_data / "dlpfc/151673.h5ad", None).values()
    found = [
        grid(open_fake(tmp_path / str(cells), xy, cells), "S1", n_rings=2).compute()
        for cells in (16, 300, 4096)
    ]
    for other in found[1:]:
        np.testing.assert_array_equal(found[0].indices, other.indices)
        np.testing.assert_array_equal(found[0].data, other.data)
