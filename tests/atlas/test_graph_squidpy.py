"""Squidpy's form of our graphs, and our graphs in squidpy."""

import pickle
import warnings
from typing import Any

import numpy as np
import pytest

from tisseract.atlas.errors import InputError, InvalidArgument
from tisseract.atlas.graph import GraphSpec
from tisseract.atlas.graph.interchange.points import points_graph
from tisseract.atlas.graph.interchange.squidpy_builder import squidpy_builder
from tisseract.atlas.graph.interchange.squidpy_form import to_squidpy, uns_params

from .graph_kinds import lattice_points, spread


@pytest.fixture(scope="module")
def builders() -> Any:
    """Builders of squidpy, which warns while it is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("squidpy.gr.neighbors")


def squidpys(builders: Any, spec: GraphSpec) -> Any:
    common = {"transform": spec.transform, "set_diag": spec.set_diag}
    if spec.kind == "knn":
        return builders.KNNBuilder(spec.n_neighs, **common)
    if spec.kind == "radius":
        return builders.RadiusBuilder(spec.radius, **common)
    if spec.kind == "delaunay":
        return builders.DelaunayBuilder(spec.radius, **common)
    return builders.GridBuilder(4, n_rings=spec.n_rings, **common)


@pytest.mark.parametrize("transform", [None, "spectral", "cosine"])
@pytest.mark.parametrize("set_diag", [False, True])
@pytest.mark.parametrize("kind", ["knn", "radius", "interval", "delaunay", "pruned", "grid"])
def test_squidpys_form_is_squidpys(
    builders: Any, kind: str, set_diag: bool, transform: Any
) -> None:
    options: dict[str, Any] = {"set_diag": set_diag, "transform": transform}
    spec = {
        "knn": lambda: GraphSpec.knn(6, **options),
        "radius": lambda: GraphSpec.within(60, **options),
        "interval": lambda: GraphSpec.within((20.0, 60.0), **options),
        "delaunay": lambda: GraphSpec.delaunay(**options),
        "pruned": lambda: GraphSpec.delaunay(radius=70, **options),
        "grid": lambda: GraphSpec.grid("square", n_rings=2, **options),
    }[kind]()
    points = lattice_points(15) if kind == "grid" else spread(2, 500)
    builder = squidpys(builders, spec)
    with np.errstate(divide="ignore"):  # squidpy divides by a degree of zero
        adjacency, distances = builder.build(points)
    edges, facts = points_graph(points, spec)
    form = to_squidpy(edges, spec, facts, key_added="spatial")
    for ours, theirs in ((form.connectivities, adjacency), (form.distances, distances)):
        theirs.sort_indices()
        np.testing.assert_array_equal(ours.indptr, theirs.indptr)
        np.testing.assert_array_equal(ours.indices, theirs.indices)
        assert ours.dtype == theirs.dtype
        finite = np.isfinite(theirs.data)
        np.testing.assert_allclose(ours.data[finite], theirs.data[finite], rtol=1e-6)
        assert not ours.data[~finite].any()  # cells that are nobody's neighbor
    assert form.uns["params"] == builder.uns_params()


def test_zeros_are_in_the_connectivities_alone(builders: Any) -> None:
    points = spread(4, 60)
    points[:4] = points[10:14]  # cells at one position
    ours = squidpy_builder(GraphSpec.knn(3)).build(points)
    theirs = builders.KNNBuilder(3).build(points)
    assert [matrix.nnz for matrix in ours] == [matrix.nnz for matrix in theirs] == [180, 172]


def test_uns_names_the_lattice_that_was_found() -> None:
    assert uns_params(GraphSpec.grid(), {"lattice_found": "square"})["n_neighbors"] == 4
    assert uns_params(GraphSpec.grid("hex"))["n_neighbors"] == 6


@pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated")
def test_our_builder_works_in_squidpy(builders: Any) -> None:
    import anndata
    import pandas as pd

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import squidpy as sq

    rng = np.random.default_rng(3)
    points = rng.random((400, 2)) * 500
    library = pd.Categorical(rng.choice(["x", "y"], 400))  # libraries interleaved
    for spec in (GraphSpec.knn(7), GraphSpec.within(60), GraphSpec.delaunay()):
        found = []
        for builder in (squidpy_builder(spec), squidpys(builders, spec)):
            obs = pd.DataFrame({"lib": library}, index=[f"c{i}" for i in range(400)])
            obsm: Any = {"spatial": points}
            adata = anndata.AnnData(obs=obs, obsm=obsm)
            sq.gr.spatial_neighbors_from_builder(adata, builder, library_key="lib")
            found.append(adata)
        ours, theirs = found
        for key in ("spatial_connectivities", "spatial_distances"):
            difference = abs(ours.obsp[key] - theirs.obsp[key])
            assert difference.nnz == 0 or difference.max() < 1e-9
            assert ours.obsp[key].nnz == theirs.obsp[key].nnz
        assert ours.uns["spatial_neighbors"] == theirs.uns["spatial_neighbors"]


def test_our_builder_takes_what_squidpy_cannot(builders: Any) -> None:
    del builders
    few = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])  # on a line, fewer than k
    assert squidpy_builder(GraphSpec.knn(6)).build(few)[0].nnz == 6
    assert squidpy_builder(GraphSpec.delaunay()).build(few)[0].nnz == 4
    assert squidpy_builder().build(np.empty((0, 2)))[0].shape == (0, 0)
    with pytest.raises(InvalidArgument, match=r"shape \(3, 3\)"):
        squidpy_builder().build(np.ones((3, 3)))
    with pytest.raises(InputError):
        squidpy_builder().build(np.array([[np.nan, 0.0], [1.0, 1.0]]))
    again = pickle.loads(pickle.dumps(squidpy_builder(GraphSpec.within(5))))
    assert again.spec == GraphSpec.within(5)
