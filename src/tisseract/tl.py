"""Tools under scanpy's names: ``ts.tl.diff(atlas.query(domain="CA1"), groupby="timepoint")``.

Where scanpy works on one table in memory, these stream the sections of an atlas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

    from .atlas.store import AtlasStore
    from .handle import Atlas
    from .query.cells.selection import Selection

__all__ = ["coexpression", "diff", "spatially_variable"]


def __dir__() -> list[str]:
    return __all__


def diff(
    data: Atlas | Selection,
    groupby: str,
    groups: str | Sequence[str] | None = None,
    reference: str | Sequence[str] | None = None,
    *,
    replicate: str = "donor",
    method: Literal["pseudobulk", "wilcoxon"] = "pseudobulk",
    genes: str | Sequence[str] | None = None,
    where: str | None = None,
    all_cells: bool = False,
    missing: Literal["drop", "error"] | None = None,
    min_cells: int = 10,
    memory_limit: str | int | None = None,
) -> pd.DataFrame:
    """Compare the genes of groups of cells; see `tisseract.query.diff`.

    Parameters
    ----------
    data : Atlas or Selection
        All cells, or those of a query: `atlas.query(domain="CA1")`. Sections without a cell of a
        group or reference do not count.
    groupby : str
        Column that divides the cells: a domain key, a label, metadata of sections.
    groups : str or sequence of str, optional
        Its values, each compared with the reference; without, all that are not `reference`.
    reference : str or sequence of str, optional
        Its values to compare with, taken together; without, the rest.
    replicate : str
        Metadata of sections that tells replicates apart: `donor`, `section`.
    method : {'pseudobulk', 'wilcoxon'}
        DESeq2 on sums of counts of replicates, or ranks of cells.
    genes : str or sequence of str, optional
        Genes of the table; without, those of the selection. With `pseudobulk` all genes are
        fitted and adjusted for whatever is named; `wilcoxon` tests the named genes alone.
    where : str, optional
        Filter of the cells that take part; without, those that pass quality control (`qc_pass`).
    all_cells : bool
        Every cell instead.
    missing : {'drop', 'error'}, optional
        Leave out genes that one of the sections has not measured (the default, with a warning),
        or refuse (the default for genes that were named).
    min_cells : int
        A replicate's group of fewer cells is left out (`pseudobulk`).
    memory_limit : str or int, optional
        Refuse above it: `"4GB"`.

    Returns
    -------
    DataFrame
        One row a gene: `gene`, `gene_id`, `log2_fold`, `base_mean`, `stat`, `p`, `p_adj`, ...;
        `attrs` tells the design, what was left out, and why values are empty.
    """
    from .query.differences import diff as compare

    return compare(
        data,
        groupby,
        groups,
        reference,
        replicate=replicate,
        method=method,
        genes=genes,
        where=where,
        all_cells=all_cells,
        missing=missing,
        min_cells=min_cells,
        memory_limit=memory_limit,
    )


def coexpression(selection: Selection, genes: Sequence[str], **options: Any) -> pd.DataFrame:
    """Compare where genes lie, all pairs of them: Lee's L, bivariate Moran's I, correlation.

    Parameters
    ----------
    selection : Selection
        Cells, such as `atlas.query(domain="CA1")`; edges to others are left out.
    genes : sequence of str
        Two names or more.
    **options
        `key` of a stored graph or `radius` in micrometers, `normalize`, `where`, `all_cells` (cells
        that pass quality control take part without), `memory_limit`; see
        `tisseract.query.expression.variability.coexpression`.

    Returns
    -------
    DataFrame
        One row a section and ordered pair: `section`, `gene`, `neighbor`, `L`, `I`, `r`, `n`.
    """
    from .query.expression.variability import coexpression as compare

    return compare(selection, genes, **options)


def spatially_variable(
    atlas: AtlasStore, genes: str | Sequence[str] | None = None, **options: Any
) -> pd.DataFrame:
    """Rank genes by how much they depend on place, section by section.

    Parameters
    ----------
    atlas : Atlas
        The atlas.
    genes : str or sequence of str, optional
        Names; all of a section without.
    **options
        `sections`, `method` (`sparkx` or `moran`), `key` or `radius`, `normalize`, `where`,
        `all_cells` (cells that pass quality control take part without), `memory_limit`; see
        `tisseract.query.expression.variability.spatially_variable`.

    Returns
    -------
    DataFrame
        `section`, `gene`, `gene_id`, statistic, p-values and `rank`.
    """
    from .query.expression.variability import spatially_variable as rank

    return rank(atlas, genes, **options)
