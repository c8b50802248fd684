"""Cells in the plane of an embedding's two largest components."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ..cells.rows import RunArray, batches, count, rows_of, runs_of
from ..exports.embeddings import choose_embeddings, read_rows
from .canvas import new_figure, style, with_source
from .coloring import coloring_of
from .drawing import draw_cells
from .layout import Grid
from .paint import Look, paint_of
from .panels import MAX_POINTS, Marks, marks_of
from .source import selection_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ...atlas.section import Section
    from ...atlas.store import AtlasStore
    from ..cells.selection import Selection

__all__ = ["embedding"]

_ROWS_AT_ONCE = 65_536
_WIDTH = 3.2


def embedding(
    source: "Selection | AtlasStore",
    basis: str,
    color: str | Sequence[str] | None = None,
    *,
    components: tuple[int, int] | None = None,
    normalize: str | None = "auto",
    cmap: str = "viridis",
    palette: Mapping[str, str] | None = None,
    max_points: int = MAX_POINTS,
) -> "Figure":
    """Draw the cells of an answer by an embedding, all sections in one panel.

    Parameters
    ----------
    source
        An answer, or an atlas.
    basis
        Name of an embedding, with or without `X_`.
    color
        As of `spatial`; `section` and `timepoint` show whether sections mix.
    components
        Two of its columns, counted from 0; default the first two principal components of the
        cells that are drawn (of an embedding of two columns: these).
    normalize, cmap, palette
        As of `spatial`.
    max_points
        Of more cells, one in so many is drawn, evenly over each section; the caption says so.

    Returns
    -------
    Figure
        Memory: the marks, and one batch of cells.

    Raises
    ------
    DerivedNotFound
        Some section has no such embedding.
    """
    import pandas as pd

    selection = selection_of(source)
    if not selection.runs:
        raise InvalidArgument(f"cells to draw are wanted, but none answers: {selection.question}")
    found = choose_embeddings(selection, list(selection.runs), [basis])
    (key,) = found.dims
    axis, center = _plane(selection, key, found.dims[key], components)

    def locate(section: "Section", runs: RunArray) -> NDArray[np.float64]:
        return (read_rows(selection.store, key, section.name, runs) - center) @ axis

    names = [color] if color is None or isinstance(color, str) else list(color)
    thin = max(1, -(-selection.n_obs // max_points))
    tables = []
    with style():
        grid = Grid([1] * len(names), 1, (_WIDTH, _WIDTH), gap=0.3)
        figure = new_figure(*grid.size)
        for block, name in enumerate(names):
            coloring = coloring_of(selection, name, normalize=normalize)
            parts = []
            for section, runs in selection.parts():
                own = _thinned(runs, thin)
                marks = marks_of(
                    selection, [(section, own)], coloring, locate=locate, max_points=count(own)
                )
                parts.append(marks)
                tables.append(marks.table(coloring, color=coloring.name, section=section.name))
            paint = paint_of(coloring, parts, Look(cmap, dict(palette or {})))
            axes = grid.axes(figure, block, 0, 0)
            _frame(axes, coloring.name, key, components)
            draw_cells(axes, _mixed(parts), paint, size=max(1.0, 40 / np.sqrt(len(parts[0].xy))))
            paint.explain(grid.legend_axes(figure, block), grid.block_height(1))
        n = selection.n_obs
        every = f"one cell in {thin} of " if thin > 1 else ""
        plane = "principal components" if components is None else f"columns {components}"
        caption = f"{every}{n:,} cells; {plane} of {key}."
        grid.write_caption(figure, caption)
    return with_source(figure, pd.concat(tables, ignore_index=True), caption)


def _plane(
    selection: "Selection", key: str, dim: int, components: tuple[int, int] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two directions (d, 2) and what is subtracted before (d,)."""
    if components is None and dim == 2:
        components = (0, 1)
    if components is not None:
        if not all(0 <= c < dim for c in components):
            raise InvalidArgument(
                f"two components below {dim} are wanted for {key!r}, but got {components!r}"
            )
        return np.eye(dim)[:, list(components)], np.zeros(dim)
    n, total, square = 0, np.zeros(dim), np.zeros((dim, dim))
    for section, runs in selection.parts():
        for part in batches(runs, _ROWS_AT_ONCE):
            values = read_rows(selection.store, key, section.name, part).astype(np.float64)
            n += len(values)
            total += values.sum(axis=0)
            square += values.T @ values
    center = total / n
    _, vectors = np.linalg.eigh(square / n - np.outer(center, center))
    axis = vectors[:, ::-1][:, :2]
    # The sign of a component is free: its largest weight is made positive.
    return axis * np.sign(axis[np.abs(axis).argmax(axis=0), [0, 1]]), center


def _thinned(runs: RunArray, step: int) -> RunArray:
    """Every so many rows."""
    return runs if step == 1 else runs_of(rows_of(runs)[::step])


def _mixed(parts: Sequence[Marks]) -> Marks:
    """Put marks of all sections into one order that hides none behind another."""
    xy, value, n = (np.concatenate([getattr(m, f) for m in parts]) for f in ("xy", "value", "n"))
    order = np.random.default_rng(0).permutation(len(value))
    return Marks(xy[order], value[order], n[order], parts[0].bounds)


def _frame(axes: "Axes", title: str, key: str, components: tuple[int, int] | None) -> None:
    first, second = ("PC1", "PC2") if components is None else (f"{c + 1}" for c in components)
    axes.set_title(title, fontsize=8)
    axes.set_xlabel(f"{key} {first}", fontsize=7, labelpad=2)
    axes.set_ylabel(f"{key} {second}", fontsize=7, labelpad=2)
    axes.set_xticks([])
    axes.set_yticks([])
