"""The verbs of retrieval: build an index, find similar tissue, rank cells."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ...atlas.errors import InvalidArgument
from .arguments import check_search
from .parameters import PLAIN, IndexParameters, window_sizes
from .ranking import rank_cells
from .scoring import Metric

if TYPE_CHECKING:
    import pandas as pd

    from ...atlas.store import AtlasStore
    from ..cells.selection import Selection
    from .hits import Hits

__all__ = ["build_index", "rank_cells", "similar"]


def build_index(
    store: "AtlasStore",
    key: str = "similar",
    *,
    space: str = PLAIN,
    window_um: Sequence[float] | float | None = None,
    window_spacings: Sequence[float] | float | None = None,
    columns: Sequence[str] | str = (),
    sections: Sequence[str] | None = None,
    where: str | None = None,
    all_cells: bool = False,
    n_genes: int = 2000,
    n_dims: int = 30,
    min_cells: int = 3,
    overwrite: bool = False,
    approximate: bool | None = None,
    memory_limit: str | int | None = None,
    progress: Callable[[str], None] | None = None,
) -> "pd.DataFrame":
    """Describe the windows of sections, so that `similar` finds tissue among them.

    Parameters
    ----------
    store
        The atlas, opened for writing.
    key
        Name of the index.
    space
        What a cell is described by: `plain`, main directions of variable genes, which needs no
        model; or the key of a stored embedding, such as `gnn`.
    window_um
        Sides of the windows; default 100, 200 and 400.
    window_spacings
        Instead, in multiples of the median distance of neighbors of each section: for sections
        whose unit is unknown.
    columns
        Labels of cells (a domain key, a cell type) of which each window keeps the shares.
    sections
        Default all.
    where, all_cells
        Which cells take part; default those whose boolean column `qc_pass` is true, in sections
        that have one.
    n_genes, n_dims
        Of the plain space.
    min_cells
        Cells a window must hold.
    overwrite
        Make the index anew. Without, sections are added to it, and those that were replaced are
        described again by the same features.
    approximate
        Whether to add a graph for approximate search (`tisseract[search]`); default beyond
        2,000,000 windows of a size.
    memory_limit
        Refuse above it.
    progress
        Told the name of each section before it is described.

    Returns
    -------
    DataFrame
        Cells and windows of each section and size that was described now.

    Raises
    ------
    ReadOnly, UnitUnknown, SectionNotFound, ColumnNotFound, DerivedNotFound, StaleDerived,
    InvalidArgument, BudgetExceeded
        See `tisseract.query.retrieval.build.build_index`.
    """
    from .build import build_index as build

    sizes, unit = window_sizes(window_um, window_spacings)
    parameters = IndexParameters(
        space,
        sizes,
        unit,
        (columns,) if isinstance(columns, str) else tuple(columns),
        where,
        all_cells,
        n_genes,
        n_dims,
        min_cells,
    )
    return build(
        store,
        parameters,
        key=key,
        sections=sections,
        overwrite=overwrite,
        approximate=approximate,
        memory_limit=memory_limit,
        progress=progress,
    )


def similar(
    store: "AtlasStore",
    like: "Selection | None" = None,
    *,
    genes: Mapping[str, float] | None = None,
    k: int = 20,
    where: str | None = None,
    key: str = "similar",
    space: str | None = None,
    window_um: float | None = None,
    window_spacings: float | None = None,
    metric: Metric = "cosine",
    weights: Mapping[str, float] | None = None,
    having: Mapping[str, Mapping[str, float]] | None = None,
    exclude_self: bool = True,
    max_overlap: float = 0.0,
    approximate: bool | None = None,
) -> "Hits":
    """Find tissue like a region, or where a gene programme runs.

    Parameters
    ----------
    store
        The atlas.
    like
        A selection, such as `atlas.region("s1", polygon=...)`; needs an index.
    genes
        Instead, weights of genes: `{"Sox2": 1, "Neurod1": -1}`; needs none.
    k
        Windows wanted.
    where
        Filter over sections, such as `"timepoint >= 'E10.5'"`.
    key
        Name of the index.
    space
        What the index must be made of; an error where it is another.
    window_um, window_spacings
        Side of the windows; one of the index, default the middle one (200 um for genes).
    metric
        `cosine`: tissue that differs from its section in the same way. `euclidean`: by as much.
    weights
        Of the parts: `mean` (1), `spread` (0), and each column of the index (0.5).
    having
        Least shares of labels: `{"cell_type": {"Neuron": 0.3}}`.
    exclude_self
        Leave out windows that hold a cell of the selection.
    max_overlap
        Share of a window that two hits may have in common.
    approximate
        True searches the graph of the index, False all windows; default the graph where there
        is one and more than 2,000,000 windows.

    Returns
    -------
    Hits
        `.table` has section, score, n_cells, box; `.thumbnails()`, `.plot()`, `.region(rank)`.

    Raises
    ------
    DerivedNotFound, StaleDerived, UnitUnknown, GeneNotFound, InvalidArgument
        See `tisseract.query.retrieval.similar` and `programme`.
    """
    if (like is None) == (genes is None):
        raise InvalidArgument(
            "a selection or genes= is wanted, but got "
            f"{'neither' if like is None else 'both'}; "
            "ask atlas.similar(atlas.region(...)) or atlas.similar(genes={'Sox2': 1})"
        )
    if genes is not None:
        check_search(k, max_overlap)
        from .programme import programme

        sizes, unit = window_sizes(
            200.0 if window_um is None and window_spacings is None else window_um, window_spacings
        )
        return programme(
            store, genes, k=k, where=where, size=sizes[0], unit=unit, max_overlap=max_overlap
        )
    from .similar import Options
    from .similar import similar as search

    assert like is not None
    _check_space(store, key, space)
    options = Options(
        k=k,
        where=where,
        key=key,
        window_um=window_um,
        window_spacings=window_spacings,
        metric=metric,
        weights=weights,
        having=having,
        exclude_self=exclude_self,
        max_overlap=max_overlap,
        approximate=approximate,
    )
    return search(store, like, options)


def _check_space(store: "AtlasStore", key: str, space: str | None) -> None:
    if space is None:
        return
    for entry in store.snapshot.segments.values():
        parameters = entry.info.get("parameters")
        made = str(parameters.get("space")) if isinstance(parameters, Mapping) else space
        if (entry.kind, entry.key) == ("index", key) and made != space:
            raise InvalidArgument(
                f"an index of space {space!r} is wanted, but index {key!r} is of {made!r}; "
                f"name another with key=, or build one with space={space!r}"
            )
