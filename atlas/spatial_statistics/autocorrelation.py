"""Moran's I and Geary's C of genes over a graph, from a stream of its blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import InvalidArgument
from ..memory import parse_bytes, refuse_above
from .gene_batches import GeneBatch, GeneReader, Normalize, plan_batches
from .moments import GraphMoments, graph_moments
from .restricted import check_mask, restrict
from .row_graph import check_cells, count_threads, map_blocks

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from ..graph.edges import Edges
    from ..section import Section
    from .row_graph import RowGraph

__all__ = ["Autocorrelation", "spatial_autocorrelation"]

# Bytes a cell, whatever the graph and the genes: row and column sums and their sum, pointers of a
# batch, factors of the depth while they are made.
_CELL_BYTES = 8 + 8 + 8 + 8 + 16
# Bytes of a thread: about two blocks or groups of genes, one in work and one read ahead, each of
# 2**20 edges or entries of 8 to 12 bytes, with compressed and joined copies while it is read.
_THREAD_BYTES = 2**20 * 64


@dataclass(frozen=True, slots=True, eq=False)
class Autocorrelation:
    """Spatial autocorrelation of some genes, in the order asked for."""

    mode: Literal["moran", "geary"]
    """Moran's I or Geary's C."""
    genes: tuple[str, ...]
    """(g,) names as the section has them."""
    statistic: NDArray[np.float64]
    """(g,) I or C; NaN for genes that do not vary."""
    pval_norm: NDArray[np.float64]
    """(g,) p-value under normality."""
    pval_norm_fdr_bh: NDArray[np.float64]
    """(g,) p-value after Benjamini and Hochberg, over the genes that vary."""
    var_norm: float
    """Variance of the statistic under normality, the same for all genes."""
    expected: float
    """Value without autocorrelation."""
    n_obs: int
    """Cells."""

    def to_frame(self) -> pd.DataFrame:
        """Return squidpy's table: I or C, pval_norm, var_norm, pval_norm_fdr_bh by gene.

        Sorted by the strength of autocorrelation: the largest I, or the smallest C, first.
        """
        import pandas as pd

        name = "I" if self.mode == "moran" else "C"
        columns = {
            name: self.statistic,
            "pval_norm": self.pval_norm,
            "var_norm": self.var_norm,
            "pval_norm_fdr_bh": self.pval_norm_fdr_bh,
        }
        frame = pd.DataFrame(columns, index=pd.Index(self.genes))
        return frame.sort_values(name, ascending=self.mode == "geary", kind="stable")

    def __str__(self) -> str:
        name = "Moran's I" if self.mode == "moran" else "Geary's C"
        table = self.to_frame()
        top = ", ".join(f"{gene} {value:.3f}" for gene, value in table.iloc[:5, 0].items())
        return f"{name} of {len(self.genes):,} genes over {self.n_obs:,} cells: {top}"


def spatial_autocorrelation(
    graph: RowGraph,
    section: Section,
    genes: str | Sequence[str] | None = None,
    *,
    mode: Literal["moran", "geary"] = "moran",
    transformation: bool = True,
    two_tailed: bool = False,
    normalize: Normalize = None,
    cells: NDArray[np.bool_] | None = None,
    threads: int | None = None,
    memory_limit: str | int | None = None,
) -> Autocorrelation:
    r"""Compute Moran's I or Geary's C of genes, as `squidpy.gr.spatial_autocorr` defines them.

    Edges weigh one each, or one over the degree of their row, whatever their length; no cell is
    its own neighbor, also where the graph was built with `set_diag`. Neither the graph nor the
    matrix is ever held: genes come in batches from the section's by-gene order, and for every
    batch the graph is read once, block by block. With z = x - mean(x) and S0 the sum of weights,

    .. math:: I = \frac{n \sum_{ij} w_{ij} z_i z_j}{S_0 \sum_i z_i^2}, \qquad
              C = \frac{(n - 1) \sum_{ij} w_{ij} (x_i - x_j)^2}{2 S_0 \sum_i z_i^2}

    both of which need only :math:`\sum w_{ij} x_i x_j`, to which zeros add nothing. Variances under
    normality: Cliff and Ord, Spatial Processes (1981), chapter 2.

    Parameters
    ----------
    graph : RowGraph
        Graph of the section's cells; read once, and once more for each batch of genes.
    section : Section
        Where the values come from.
    genes : str or sequence of str, optional
        Names, symbols or aliases; all genes of the section without.
    mode : {'moran', 'geary'}
        Which statistic.
    transformation : bool
        Divide each row of the graph by its degree.
    two_tailed : bool
        Double the p-values, as squidpy does.
    normalize : {None, 'log1p'}
        Values as stored; or scaled to 10,000 counts a cell where they are counts, and then
        log1p, as `to_anndata` has it.
    cells : (n_obs,) bool, optional
        Only these cells and the edges between them, such as those of a graph built with a mask.
    threads : int, optional
        One a core without; makes no difference to the result.
    memory_limit : str or int, optional
        Decides how many genes make a batch.

    Returns
    -------
    Autocorrelation
        Genes that do not vary are NaN and left out of the correction (squidpy: all NaN then).
        p-values below 1e-16, where squidpy's subtraction from one gives 0, are kept.

    Raises
    ------
    GeneNotFound, GeneAmbiguous
        With near names.
    InvalidArgument
        A graph of other cells, an unknown mode or normalization, no genes, or a graph without
        edges.
    BudgetExceeded
        The limit does not hold 48 bytes a cell, the blocks in work and one gene.
    """
    if mode not in ("moran", "geary"):
        raise InvalidArgument(f"mode 'moran' or 'geary' is wanted, but got {mode!r}")
    check_cells(graph, section)
    columns = _gene_columns(section, genes)
    n_threads = count_threads(threads)
    budget = _entry_budget(section.n_obs, n_threads, parse_bytes(memory_limit))
    nnz = section.totals.nnz[columns].astype(np.int64)
    batches = plan_batches(nnz, budget)
    kept = check_mask(cells, section.n_obs)
    graph, n = restrict(graph, kept), section.n_obs if kept is None else int(kept.sum())
    moments = graph_moments(graph, normalized=transformation, threads=n_threads)
    if moments.s0 == 0.0:
        raise InvalidArgument(
            f"a graph with edges is wanted, but got one without in section {section.name!r}; "
            "build it with a larger radius or more neighbors"
        )
    ends = moments.row_sums + moments.column_sums
    reader = GeneReader.of(section, ends, normalize, kept, n_threads)
    parts = []
    for first, stop in batches:
        batch = reader.read(columns[first:stop], nnz[first:stop])
        products = _products(graph, batch, transformation, n_threads)
        parts.append(_statistic(mode, n, moments.s0, batch, products))
    statistic = np.concatenate(parts)
    expected, variance = -1.0 / (n - 1) if mode == "moran" else 1.0, _variance(mode, n, moments)
    p = _p_values(statistic, expected, variance, two_tailed)
    names = tuple(str(section.panel.name[g]) for g in columns)
    return Autocorrelation(mode, names, statistic, p, _adjust(p), variance, expected, n)


def _gene_columns(section: Section, genes: str | Sequence[str] | None) -> NDArray[np.int64]:
    if genes is None:
        return np.arange(section.n_vars, dtype=np.int64)
    names: list[Any] = [genes] if isinstance(genes, str) else list(genes)
    strange = [name for name in names if not isinstance(name, str)]
    if strange:
        raise InvalidArgument(
            f"names of genes are wanted, but got {strange[0]!r}; give identifiers or symbols as "
            "text"
        )
    if not names:
        raise InvalidArgument("one or more genes are wanted, but got none; leave genes out for all")
    return np.array([section.panel.find(name) for name in names], dtype=np.int64)


def _entry_budget(n_obs: int, threads: int, limit: int) -> int:
    """Bytes that are left for the values of genes."""
    fixed = n_obs * _CELL_BYTES + threads * _THREAD_BYTES
    refuse_above(
        limit,
        fixed + 1,
        f"spatial autocorrelation over {n_obs:,} cells",
        "raise memory_limit, or use fewer threads",
    )
    return limit - fixed


def _products(
    graph: RowGraph, batch: GeneBatch, normalized: bool, threads: int
) -> NDArray[np.float64]:
    """Sum w_ij x_i x_j for each gene of a batch, (g,)."""
    from .gene_kernels import neighbor_products  # brings numba

    n_genes = batch.constant.size

    def add(first_row: int, edges: Edges) -> NDArray[np.float64]:
        found: NDArray[np.float64] = neighbor_products(
            first_row,
            edges.indptr,
            edges.indices,
            normalized,
            batch.ptr,
            batch.gene,
            batch.value,
            n_genes,
        )
        return found

    parts = np.stack(list(map_blocks(graph, add, threads)))
    return np.array([math.fsum(column) for column in parts.T])


def _statistic(
    mode: str, n: int, s0: float, batch: GeneBatch, products: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Put the sums of each gene together."""
    total, _, variation, ends_x, ends_xx = batch.sums.T
    mean = total / n
    with np.errstate(divide="ignore", invalid="ignore"):
        if mode == "moran":
            found = n / s0 * (products - mean * ends_x + mean * mean * s0) / variation
        else:
            found = (n - 1) * (ends_xx - 2.0 * products) / (2.0 * s0 * variation)
    return np.where(batch.constant, np.nan, found)


def _variance(mode: str, n: int, moments: GraphMoments) -> float:
    """Variance of the statistic under normality."""
    s0, s1, s2 = moments.s0, moments.s1, moments.s2
    if mode == "moran":
        return (n * n * s1 - n * s2 + 3 * s0 * s0) / ((n - 1) * (n + 1) * s0 * s0) - 1 / (
            n - 1
        ) ** 2
    return ((2 * s1 + s2) * (n - 1) - 4 * s0 * s0) / (2 * (n + 1) * s0 * s0)


def _p_values(
    statistic: NDArray[np.float64], expected: float, variance: float, two_tailed: bool
) -> NDArray[np.float64]:
    """Chance of a statistic at least this far from what no autocorrelation would give."""
    from scipy.special import ndtr

    # Every cell beside every other: no arrangement differs from another, the variance is zero.
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (statistic - expected) / math.sqrt(max(variance, 0.0))
    return np.asarray(ndtr(-np.abs(z)) * (2.0 if two_tailed else 1.0))


def _adjust(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Benjamini and Hochberg's adjusted p-values; NaN stays NaN and is not counted."""
    adjusted = np.full(p.size, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    share = np.arange(1, order.size + 1) / max(1, order.size)
    rising = np.minimum.accumulate((p[order] / share)[::-1])[::-1]
    adjusted[order] = np.minimum(rising, 1.0)
    return adjusted
