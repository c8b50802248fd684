"""Highly variable genes of more cells than memory: the numbers of scanpy, from streamed sums.

``seurat_v3`` (Stuart et al., Cell 177 (2019) 1888) reads counts: a loess curve of variance on mean
says how much a gene of that mean varies anyway; counts are standardized by it, clipped at the
root of the number of cells, and genes are ranked by the variance that is left.
``seurat`` (Satija et al., Nature Biotechnology 33 (2015) 495) reads normalized values: variance
over mean, standardized among genes of similar mean (`dispersion`).

Each section is judged alone, then the verdicts are merged as scanpy's `batch_key` does. A gene
that a section lacks counts there as one that never varies, as in scanpy on the joined sections.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from .dispersion import Dispersions, merged_dispersions, top_dispersions
from .loess import loess_curve
from .shared import COUNTED, GenePolicy, common_genes, gene_columns, mean_depth

if TYPE_CHECKING:
    from ...atlas.section import Section

__all__ = ["FLAVORS", "Flavor", "VariableGenes", "rank_genes", "variable_genes"]

type Floats = NDArray[np.float64]
type Columns = Mapping[str, NDArray[np.int64]]
type Flavor = Literal["seurat_v3", "seurat"]

FLAVORS: tuple[Flavor, ...] = ("seurat_v3", "seurat")


@dataclass(frozen=True, slots=True)
class VariableGenes:
    """How variable each gene is, over all sections; rows are genes.

    Attributes
    ----------
    chosen : ndarray (g,) bool
        The most variable ones.
    mean : ndarray (g,) float64
        `seurat_v3`: mean count over all cells. `seurat`: log1p of the mean normalized value,
        averaged over sections.
    spread : ndarray (g,) float64
        `seurat_v3`: variance over all cells. `seurat`: log of variance over mean.
    standardized : ndarray (g,) float64
        The spread that the mean does not explain, averaged over sections.
    rank : ndarray (g,) float64
        `seurat_v3`: median over the sections that chose a gene, from 0; NaN where none did.
        `seurat`: NaN.
    n_sections : ndarray (g,) int64
        Sections in which the gene is among the chosen number.
    organism, gene_id, symbol : tuple of str
        Identity, where `variable_genes` made it.
    """

    chosen: NDArray[np.bool_]
    mean: Floats
    spread: Floats
    standardized: Floats
    rank: Floats
    n_sections: NDArray[np.int64]
    organism: tuple[str, ...] = ()
    gene_id: tuple[str, ...] = ()
    symbol: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Moments:
    """Sums over the cells of a section; exact where values are whole numbers."""

    total: Floats
    square: Floats
    n_rows: int

    @property
    def mean(self) -> Floats:
        return self.total / max(self.n_rows, 1)

    @property
    def variance(self) -> Floats:
        around = self.square - self.total**2 / max(self.n_rows, 1)
        return np.maximum(around, 0.0) / max(self.n_rows - 1, 1)


def variable_genes(
    sections: Sequence["Section"],
    *,
    flavor: Flavor = "seurat_v3",
    n_top_genes: int = 2000,
    genes: GenePolicy = "intersection",
    span: float = 0.3,
    target_depth: float | None = None,
    block_rows: int = 4096,
) -> VariableGenes:
    """Find the most variable genes of some sections.

    Parameters
    ----------
    sections : sequence of Section
    flavor : {"seurat_v3", "seurat"}
        `seurat_v3` wants counts; `seurat` normalizes counts and takes normalized values as stored.
    n_top_genes : int
        Genes wanted.
    genes : {"intersection", "union"}
        Judge the genes measured in every section, or in any.
    span : float
        Share of the genes in a neighborhood of the curve (`seurat_v3`).
    target_depth : float, optional
        Row sum after library-size normalization (`seurat`); the mean row sum without.
    block_rows : int
        Rows read at once.

    Returns
    -------
    VariableGenes

    Raises
    ------
    InvalidArgument
        Unknown flavor or policy, values of the wrong kind, too few genes, or a curve that the
        data does not determine.

    Notes
    -----
    `seurat_v3` passes over the counts once, and once more where some count is clipped; its result
    does not depend on `block_rows`. `seurat` passes once; rtol 1e-12 over block sizes.
    Memory: one block, 12 bytes a non-zero, and about 100 bytes a gene and section.
    """
    union, rows = common_genes(sections, genes)
    columns = {s.name: gene_columns(s, union, rows) for s in sections}
    found = rank_genes(
        sections,
        columns,
        flavor=flavor,
        n_top_genes=n_top_genes,
        span=span,
        target_depth=target_depth,
        block_rows=block_rows,
    )
    return VariableGenes(
        found.chosen,
        found.mean,
        found.spread,
        found.standardized,
        found.rank,
        found.n_sections,
        tuple(map(str, union.organism[rows])),
        tuple(map(str, union.gene_id[rows])),
        tuple(map(str, union.symbol[rows])),
    )


def rank_genes(
    sections: Sequence["Section"],
    columns: Columns,
    *,
    flavor: Flavor,
    n_top_genes: int,
    span: float = 0.3,
    target_depth: float | None = None,
    block_rows: int = 4096,
) -> VariableGenes:
    """Do `variable_genes` where each section's (g,) columns are known, -1 for those it lacks."""
    if flavor not in FLAVORS:
        raise InvalidArgument(f"wanted a flavor of {', '.join(FLAVORS)}, but got {flavor!r}")
    if n_top_genes < 1:
        raise InvalidArgument(f"wanted at least one gene, but got n_top_genes={n_top_genes}")
    wanted = COUNTED if flavor == "seurat_v3" else (*COUNTED, "normalized", "log1p")
    for section in sections:
        if section.values not in wanted:
            raise InvalidArgument(
                f"flavor {flavor!r} wants values of {', '.join(wanted)}, but section "
                f"{section.name!r} holds {section.values}; choose genes by another flavor"
            )
    if flavor == "seurat_v3":
        return _by_variance(sections, columns, n_top_genes, span, block_rows)
    depth = mean_depth(sections, columns) if target_depth is None else target_depth
    return _by_dispersion(sections, columns, n_top_genes, depth, block_rows)


def _blocks(
    section: "Section", columns: NDArray[np.int64], block_rows: int
) -> Iterator[tuple[NDArray[np.int64], Any]]:
    """Yield the numbers of the genes in the block's columns, and the block, (m, present) csr."""
    present = np.flatnonzero(columns >= 0)
    present = present[np.argsort(columns[present], kind="stable")]
    for start in range(0, section.n_obs, block_rows):
        stop = min(start + block_rows, section.n_obs)
        yield present, section.counts([(start, stop)], genes=columns[present])


def _moments(
    section: "Section", columns: NDArray[np.int64], depth: float | None, block_rows: int
) -> _Moments:
    """Sum counts, or values of a common depth before the logarithm."""
    total, square = np.zeros(len(columns)), np.zeros(len(columns))
    for present, block in _blocks(section, columns, block_rows):
        values = block.data.astype(np.float64)
        if depth is not None:
            values = _linear(block, values, section.values, depth)
        total[present] += np.bincount(block.indices, weights=values, minlength=len(present))
        square[present] += np.bincount(block.indices, weights=values**2, minlength=len(present))
    return _Moments(total, square, section.n_obs)


def _linear(block: Any, values: Floats, kind: str, depth: float) -> Floats:
    """Values whose log1p is what models see."""
    if kind == "log1p":
        return np.expm1(values)
    if kind not in COUNTED:
        return values
    cell = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
    sums = np.bincount(cell, weights=values, minlength=block.shape[0])
    scale = np.divide(depth, sums, out=np.zeros_like(sums), where=sums > 0)
    return np.asarray(values * scale[cell])


# -- seurat_v3 -------------------------------------------------------------------------------


def _by_variance(
    sections: Sequence["Section"], columns: Columns, n_top: int, span: float, block_rows: int
) -> VariableGenes:
    n_genes = len(columns[sections[0].name])
    standardized = np.zeros((len(sections), n_genes))
    total, square, n_rows = np.zeros(n_genes), np.zeros(n_genes), 0
    for i, section in enumerate(sections):
        where = columns[section.name]
        sums = _moments(section, where, None, block_rows)
        standardized[i] = _standardized(section, where, sums, span, block_rows)
        total, square, n_rows = total + sums.total, square + sums.square, n_rows + sums.n_rows
    pooled = _Moments(total, square, n_rows)
    order = np.argsort(-standardized, axis=1, kind="stable")
    ranks = np.empty((len(sections), n_genes))
    np.put_along_axis(ranks, order, np.arange(n_genes, dtype=np.float64)[None], axis=1)
    ranks[ranks >= n_top] = np.nan
    n_sections = (~np.isnan(ranks)).sum(axis=0)
    rank = _known_median(ranks)
    chosen = np.zeros(n_genes, dtype=bool)
    # the best median first; among equals, what more sections chose
    chosen[np.lexsort((-n_sections, rank))[:n_top]] = True
    return VariableGenes(
        chosen, pooled.mean, pooled.variance, standardized.mean(axis=0), rank, n_sections
    )


def _standardized(
    section: "Section",
    columns: NDArray[np.int64],
    sums: _Moments,
    span: float,
    block_rows: int,
) -> Floats:
    """Variance of counts over the curve's, each count clipped at the root of n deviations."""
    n = sums.n_rows
    mean, variance = sums.mean, sums.variance
    varies = variance > 0.0
    if n < 2 or not varies.any():
        return np.zeros(len(columns))
    curve = np.zeros(len(columns))
    try:
        curve[varies] = loess_curve(np.log10(mean[varies]), np.log10(variance[varies]), span=span)
    except InvalidArgument as error:
        raise InvalidArgument(f"no variance curve for section {section.name!r}: {error}") from error
    deviation = np.sqrt(10.0**curve)
    clip = deviation * np.sqrt(n) + mean
    total, square = _clipped(section, columns, sums, clip, block_rows)
    around = n * mean**2 + square - 2.0 * total * mean
    return np.asarray(around / ((n - 1) * deviation**2))


def _clipped(
    section: "Section",
    columns: NDArray[np.int64],
    sums: _Moments,
    clip: Floats,
    block_rows: int,
) -> tuple[Floats, Floats]:
    """Sum counts and their squares after clipping; reads only genes with a count to clip."""
    largest = np.where(columns >= 0, section.totals.largest[np.maximum(columns, 0)], 0.0)
    tall = np.flatnonzero(largest > clip)
    if len(tall) == 0:
        return sums.total, sums.square
    above = np.zeros((3, len(tall)))  # cells, sum, sum of squares: whole numbers, in any order
    for present, block in _blocks(section, columns[tall], block_rows):
        values = block.data.astype(np.float64)
        over = values > clip[tall][present][block.indices]
        at, values = block.indices[over], values[over]
        for row, weights in zip(above, (np.ones_like(values), values, values**2), strict=True):
            row[present] += np.bincount(at, weights=weights, minlength=len(present))
    total, square = sums.total.copy(), sums.square.copy()
    total[tall] += above[0] * clip[tall] - above[1]
    square[tall] += above[0] * clip[tall] ** 2 - above[2]
    return total, square


def _known_median(ranks: Floats) -> Floats:
    """Median over rows of what is not NaN; NaN where nothing is."""
    rank = np.full(ranks.shape[1], np.nan)
    some = ~np.isnan(ranks).all(axis=0)
    if some.any():
        rank[some] = np.nanmedian(ranks[:, some], axis=0)
    return rank


# -- seurat ----------------------------------------------------------------------------------


def _by_dispersion(
    sections: Sequence["Section"], columns: Columns, n_top: int, depth: float, block_rows: int
) -> VariableGenes:
    found: list[Dispersions] = []
    for section in sections:
        sums = _moments(section, columns[section.name], depth, block_rows)
        make = Dispersions.of if len(sections) == 1 else Dispersions.of_expressed
        found.append(make(sums.mean, sums.variance))
    if len(found) == 1:
        merged = found[0]
        chosen = top_dispersions(merged.standardized, n_top)
        n_sections = chosen.astype(np.int64)
    else:
        merged, n_sections, chosen = merged_dispersions(found, n_top)
    rank = np.full(len(chosen), np.nan)
    return VariableGenes(
        chosen, merged.mean, merged.dispersion, merged.standardized, rank, n_sections
    )
