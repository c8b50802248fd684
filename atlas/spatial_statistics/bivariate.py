"""Which genes lie where another lies: Lee's L and bivariate Moran's I over a graph, streamed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..errors import InvalidArgument
from ..memory import parse_bytes, refuse_above
from .projections import check_normalize, project_genes, scaled, transform_values
from .restricted import check_mask, restrict
from .row_graph import check_cells, count_threads, map_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from scipy import sparse

    from ..graph.edges import Edges
    from ..section import Section
    from .row_graph import RowGraph

__all__ = ["Colocalization", "PairStatistics", "colocalization", "pair_statistics"]

# Vectors of the gene, its lag, what it is multiplied with, and those of a block in work.
_CELL_BYTES = 8 * 8


@dataclass(frozen=True, slots=True, eq=False)
class Colocalization:
    """One gene x against g others y; NaN where one of them does not vary."""

    lee: NDArray[np.float64]
    """(g,) Lee's L."""
    moran: NDArray[np.float64]
    """(g,) bivariate Moran's I: x of a cell with y of its neighbors."""
    pearson: NDArray[np.float64]
    """(g,) correlation within cells."""
    n_obs: int
    """Cells."""


@dataclass(frozen=True, slots=True, eq=False)
class PairStatistics:
    """All pairs of g genes; NaN where one of them does not vary."""

    lee: NDArray[np.float64]
    """(g, g), symmetric."""
    moran: NDArray[np.float64]
    """(g, g): row x of a cell with column y of its neighbors."""
    pearson: NDArray[np.float64]
    """(g, g)"""
    n_obs: int
    """Cells."""


def colocalization(
    graph: RowGraph,
    section: Section,
    gene: int,
    *,
    genes: NDArray[np.int64] | None = None,
    normalize: Literal["log1p"] | None = "log1p",
    cells: NDArray[np.bool_] | None = None,
    threads: int | None = None,
    memory_limit: str | int | None = None,
) -> Colocalization:
    r"""Compare where one gene lies with where all others do (Lee 2001).

    Weights w are row-standardized: each neighbor of a cell counts one over their number, a cell
    is no neighbor of itself, one without neighbors has weights of zero. With z deviations from the
    mean,

    .. math::
        L = \frac{n}{\sum_i (\sum_j w_{ij})^2}
            \frac{\sum_i (\sum_j w_{ij} z^x_j) (\sum_j w_{ij} z^y_j)}{\|z^x\| \|z^y\|}, \qquad
        I = \frac{n}{\sum_{ij} w_{ij}} \frac{\sum_i z^x_i \sum_j w_{ij} z^y_j}{\|z^x\| \|z^y\|}

    Both are products of y with a vector that x and the graph make (:math:`W^T W z^x`,
    :math:`W^T z^x`): the graph is read once, then the counts once, whatever the number of genes.

    Parameters
    ----------
    graph : RowGraph
        Graph of the section's cells.
    section : Section
    gene : int
        Column of x.
    genes : (g,) int, optional
        Columns of the others; all without.
    normalize : {'log1p', None}
        Log-normalized values, or as stored; of counts as stored, depth makes all genes alike.
    cells : (n_obs,) bool, optional
        Only these cells and the edges between them.
    threads : int, optional
        One a core without; makes no difference to the result.
    memory_limit : str or int, optional
        Refuse above it.

    Returns
    -------
    Colocalization
        Memory: 64 bytes a cell, 16 a cell for each thread, 40 a gene.

    Raises
    ------
    InvalidArgument
        A graph of other cells, or without edges; an unknown normalization.
    BudgetExceeded
    """
    check_cells(graph, section)
    check_normalize(section, normalize)
    n_threads = count_threads(threads)
    refuse_above(
        parse_bytes(memory_limit),
        section.n_obs * (_CELL_BYTES + 16 * n_threads) + section.n_vars * 40,
        f"co-localization over {section.n_obs:,} cells",
        "raise memory_limit, or use fewer threads",
    )
    kept = check_mask(cells, section.n_obs)
    z = _deviations(section, np.array([gene]), normalize, kept)[:, 0]
    back, rows = _products(restrict(graph, kept), z, n_threads)
    if not rows:
        raise _no_edges(section)
    n = section.n_obs if kept is None else int(kept.sum())
    vectors = np.stack([back[0], back[1], z], axis=1)
    found = project_genes(
        section, lambda a, b: vectors[a:b], 3, genes=genes, normalize=normalize, kept=kept
    )
    sums = vectors.sum(axis=0) if kept is None else vectors[kept].sum(axis=0)
    own = found.products - found.total[:, None] * sums / n
    spread = found.squares - found.total**2 / n
    spread = np.where(spread > 1e-12 * found.squares, spread, np.nan)
    size = np.sqrt(spread) * (np.sqrt(z @ z) or np.nan)
    # Every row with neighbors has weights that add up to one: both sums of weights are `rows`.
    return Colocalization(
        n / rows * own[:, 1] / size, n / rows * own[:, 0] / size, own[:, 2] / size, n
    )


def pair_statistics(
    graph: RowGraph,
    section: Section,
    genes: Sequence[int] | NDArray[np.int64],
    *,
    normalize: Literal["log1p"] | None = "log1p",
    cells: NDArray[np.bool_] | None = None,
    threads: int | None = None,
    memory_limit: str | int | None = None,
) -> PairStatistics:
    """Compute Lee's L, bivariate Moran's I and the correlation of all pairs of some genes.

    Definitions and parameters are those of `colocalization`.

    Returns
    -------
    PairStatistics
        Memory: 24 bytes a cell and gene; the graph is read once.
    """
    check_cells(graph, section)
    check_normalize(section, normalize)
    columns = np.asarray(genes, np.int64)
    refuse_above(
        parse_bytes(memory_limit),
        section.n_obs * 24 * columns.size,
        f"pairs of {columns.size} genes over {section.n_obs:,} cells",
        "raise memory_limit, or ask for fewer genes",
    )
    kept = check_mask(cells, section.n_obs)
    z = _deviations(section, columns, normalize, kept)
    n = section.n_obs if kept is None else int(kept.sum())

    def add(first: int, edges: Edges) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
        weights = _standardized(edges, section.n_obs)
        lag = np.asarray(weights @ z)
        own = z[first : first + lag.shape[0]]
        return lag.T @ lag, own.T @ lag, int((np.diff(edges.indptr) > 0).sum())

    parts = list(map_blocks(restrict(graph, kept), add, count_threads(threads)))
    rows = sum(part[2] for part in parts)
    if not rows:
        raise _no_edges(section)
    size = np.sqrt((z * z).sum(axis=0))
    size = np.where(size > 0, size, np.nan)
    scale = np.outer(size, size)
    lee = np.sum([part[0] for part in parts], axis=0)
    moran = np.sum([part[1] for part in parts], axis=0)
    # Every row with neighbors has weights that add up to one: both sums of weights are `rows`.
    return PairStatistics(n / rows * lee / scale, n / rows * moran / scale, z.T @ z / scale, n)


def _deviations(
    section: Section,
    columns: NDArray[np.int64],
    normalize: Literal["log1p"] | None,
    kept: NDArray[np.bool_] | None,
) -> NDArray[np.float64]:
    """Values less their mean (n_obs, g), zero for cells that take no part."""
    matrix = section.gene_columns(columns)
    depth = section.depth() if scaled(section, normalize) else None
    dense = np.zeros((section.n_obs, columns.size))
    for number in range(columns.size):
        own = slice(*matrix.indptr[number : number + 2])
        rows = matrix.indices[own]
        dense[rows, number] = transform_values(section, matrix.data[own], rows, normalize, depth)
    if kept is None:
        return np.asarray(dense - dense.mean(axis=0))
    return np.asarray((dense - dense[kept].mean(axis=0)) * kept[:, None])


def _standardized(edges: Edges, n_obs: int) -> sparse.csr_matrix:
    """Rows of the graph, each weight one over the number of neighbors of its row."""
    from scipy import sparse

    degree = np.diff(edges.indptr)
    weights = np.repeat(1.0 / np.maximum(degree, 1), degree)
    return sparse.csr_matrix(
        (weights, edges.indices, edges.indptr), shape=(degree.size, n_obs), copy=False
    )


def _products(
    graph: RowGraph, z: NDArray[np.float64], threads: int
) -> tuple[NDArray[np.float64], int]:
    """W^T z and W^T W z as (2, n), from one pass over the graph; rows that have neighbors."""
    n = z.size

    def add(first: int, edges: Edges) -> tuple[NDArray[np.float64], int]:
        weights = _standardized(edges, n)
        lag = np.asarray(weights @ z)
        own = np.stack([z[first : first + lag.size], lag], axis=1)
        return np.asarray((weights.T @ own).T), int((np.diff(edges.indptr) > 0).sum())

    back, rows = np.zeros((2, n)), 0
    for more, count in map_blocks(graph, add, threads):
        back += more
        rows += count
    return back, rows


def _no_edges(section: Section) -> InvalidArgument:
    return InvalidArgument(
        f"a graph with edges is wanted, but got one without in section {section.name!r}; build it "
        "with a larger radius or more neighbors"
    )
