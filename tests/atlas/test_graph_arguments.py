"""What is no option, gene, scheduler or row of this section is told apart from what is."""

import time
from typing import Any, ClassVar, cast

import numpy as np
import pytest

from tisseract.atlas.errors import InvalidArgument
from tisseract.atlas.graph import GraphSpec
from tisseract.atlas.graph.building import workers
from tisseract.atlas.graph.planning.plan import plan_graph
from tisseract.atlas.graph.search.halo import Patches, plan_band
from tisseract.atlas.quadtree import TileTable
from tisseract.atlas.section import Section
from tisseract.atlas.spatial_statistics import connected_components, spatial_autocorrelation

from ..sections import make_raw, write_one
from .graph_fakes import cut_section
from .statistics_fakes import MatrixGraph, cut, random_matrix


@pytest.mark.parametrize(
    "wrong",
    [
        {"symmetrize": np.array([1, 2])},
        {"set_diag": "yes"},
        {"transform": np.array(["spectral", "cosine"])},
    ],
)
def test_arrays_are_no_flags(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=f"{next(iter(wrong))} must be"):
        GraphSpec.of("knn", **wrong)
    assert GraphSpec.of("knn", symmetrize=np.True_).symmetrize is True


def test_numbers_are_no_genes(tmp_path: Any) -> None:
    section: Section = write_one(tmp_path, make_raw(n_obs=60, n_vars=3))
    genes = cast("Any", [5])
    with pytest.raises(InvalidArgument, match="names of genes are wanted, but got 5"):
        spatial_autocorrelation(cut(random_matrix(60, 3, 0)), section, genes)


def test_nobody_at_the_address_is_told_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    assert workers._CONNECT_TIMEOUT <= 10
    monkeypatch.setattr(workers, "_CONNECT_TIMEOUT", 0.2)
    before = time.monotonic()
    for address in ("tcp://127.0.0.1:1", "nowhere at all"):
        with (
            pytest.raises(InvalidArgument, match=f"Dask scheduler is wanted, but got '{address}'"),
            workers.open_workers(address, 0, 2**30),
        ):
            pass
    assert time.monotonic() - before < 10


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("grid", {"n_rings": 3, "symmetrize": True}),
        ("grid", {"n_rings": 9, "symmetrize": True}),
        ("grid", {"lattice": "square", "n_rings": 4, "symmetrize": True}),
        ("knn", {"n_neighs": 200, "symmetrize": True, "percentile": 99}),
        ("radius", {"radius": 80, "percentile": 99}),
        ("delaunay", {"percentile": 99}),
    ],
)
def test_fifty_million_cells_are_few_tasks(kind: str, options: dict[str, Any]) -> None:
    n_tiles, side = 14_400, 120
    at = np.arange(n_tiles)
    corners = np.asarray(np.stack([at % side, at // side], 1) * 250.0, np.float64)
    tiles = TileTable(at_ends(n_tiles, 3_500), np.concatenate([corners, corners + 250.0], axis=1))
    plan = plan_graph("S1", tiles, GraphSpec.of(kind, **options))
    assert plan.n_obs > 50_000_000
    assert plan.n_tasks < 50_000
    assert [first for first, _ in plan.blocks] == [0, *(stop for _, stop in plan.blocks)][:-1]
    assert plan.blocks[-1][1] == n_tiles


def at_ends(n_tiles: int, cells: int) -> Any:
    """Borders of tiles of equal numbers of cells."""
    return np.arange(n_tiles + 1) * cells


class Restricted(MatrixGraph):
    """A graph that was built with a mask."""

    parameters: ClassVar[dict[str, str]] = {"mask": "sha256:0"}


def test_components_of_some_cells_tell_of_the_others() -> None:
    graph = cut(random_matrix(30, 3, 0))
    some = Restricted(graph.matrix, graph.row_ptr)
    assert str(connected_components(some)).endswith("give these as cells= to count them")
    kept = np.arange(30) < 20
    assert "cells=" not in str(connected_components(some, cells=kept))
    assert "cells=" not in str(connected_components(graph))


def test_rows_of_another_section_load_no_tile() -> None:
    section = cut_section(np.arange(400.0).reshape(200, 2), [50, 100, 150])
    asking = Patches(np.zeros((1, 2)), np.array([0, 1]), np.array([-7]), np.zeros((1, 4)))
    assert plan_band(section, asking, np.nan).n_rows == 0
    assert plan_band(section, asking, 3.0).n_rows == 50  # the tile beside it, not the last one
