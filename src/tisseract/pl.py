"""Plots: `ts.pl.spatial(atlas.query(...), color="Sox2")`.

Every function returns a figure of matplotlib (extra `viz`) that needs no display; its `.source` is
the table of what is drawn, its `.caption` says what was done to it, and `save` writes the figure
with the table beside it as CSV.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from .atlas.store import AtlasStore
    from .query.cells.selection import Selection

__all__ = ["composition", "dotplot", "embedding", "save", "spatial", "thumbnails"]


def __dir__() -> list[str]:
    return __all__


def spatial(
    source: Selection | AtlasStore, color: str | Sequence[str] | None = None, **options: Any
) -> Figure:
    """Draw cells where they lie, a panel a section, all in one scale of colors.

    Parameters
    ----------
    source : Selection or Atlas
        The cells.
    color : str or sequence of str, optional
        A gene, or a column of labels or numbers.
    **options
        `by`, `ncols`, `normalize`, `cmap`, `palette`, `vmin`, `vmax`, `size`, `image`, `graph`,
        `same_scale`, `coordinate_system`, `max_points`; see
        `tisseract.query.plots.spatial.spatial`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ColumnNotFound, InvalidArgument
    """
    from .query.plots.source import selection_of
    from .query.plots.spatial import spatial as draw

    return draw(selection_of(source), color, **options)


def dotplot(
    source: Selection | AtlasStore,
    var_names: Sequence[str] | Mapping[str, Sequence[str]],
    groupby: str,
    **options: Any,
) -> Figure:
    """Draw genes by groups of cells, with scanpy's words and numbers.

    Parameters
    ----------
    source : Selection or Atlas
        The cells.
    var_names : sequence of str, or mapping of str to sequence of str
        Genes, or genes by bracket.
    groupby : str
        A column of labels.
    **options
        `categories_order`, `normalize`, `standard_scale`, `cmap`, `dot_max`, `vmin`, `vmax`,
        `swap_axes`; see `tisseract.query.plots.dotplot.dotplot`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from .query.plots.dotplot import dotplot as draw

    return draw(source, var_names, groupby, **options)


def composition(source: Selection | AtlasStore, groupby: str, **options: Any) -> Figure:
    """Draw how cells divide among labels over time: mean of sections, and every section.

    Parameters
    ----------
    source : Selection or Atlas
        The cells.
    groupby : str
        A column of labels.
    **options
        `by` (default `timepoint`) and `palette`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from .query.plots.composition import composition as draw

    return draw(source, groupby, **options)


def embedding(
    source: Selection | AtlasStore,
    basis: str,
    color: str | Sequence[str] | None = None,
    **options: Any,
) -> Figure:
    """Draw cells by two components of an embedding.

    Parameters
    ----------
    source : Selection or Atlas
        The cells.
    basis : str
        Name of an embedding.
    color : str or sequence of str, optional
        As of `spatial`.
    **options
        `components`, `normalize`, `cmap`, `palette`, `max_points`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from .query.plots.embedding import embedding as draw

    return draw(source, basis, color, **options)


def thumbnails(
    atlas: AtlasStore, hits: pd.DataFrame, color: str | None = None, **options: Any
) -> Figure:
    """Draw the hits of a search, each where it lies.

    Parameters
    ----------
    atlas : Atlas
        Where the hits are.
    hits : DataFrame
        Columns `section`, `xmin`, `ymin`, `xmax`, `ymax`, and `score`, best first.
    color : str, optional
        As of `spatial`.
    **options
        `ncols`, `margin`, `n_hits`, `image`, `palette`, `normalize`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from .query.plots.thumbnails import thumbnails as draw

    return draw(atlas, hits, color, **options)


def save(figure: Figure, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a figure of this module as .png, .pdf or .svg, and its numbers as .csv beside it.

    Raises
    ------
    AlreadyExists, InvalidArgument
    """
    from .query.plots.canvas import save as write

    return write(figure, path, overwrite=overwrite)
