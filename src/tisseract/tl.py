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
    **options: Any,
) -> pd.DataFrame:
    """Compare the genes of groups of cells; see `tisseract.query.diff`.

    Parameters
    ----------
    data : Atlas or Selection
        All cells, or those of a query: `atlas.query(domain="CA1")`.
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
    **options
        `where`, `all_cells`, `missing`, `min_cells`, `memory_limit`.

    Returns
    -------
    DataFrame
        One row a gene: `gene`, `gene_id`, `log2_fold`, `base_mean`, `stat`, `p`, `p_adj`, ...
    """
    from .query.differences import diff as compare

    return compare(data, groupby, groups, reference, replicate=replicate, method=method, **options)


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
