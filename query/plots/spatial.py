"""Sections side by side: one scale of colors, one look, the same numbers beside the figure."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import InvalidArgument
from ..cells.fetch import read_positions
from .canvas import new_figure, style, with_source
from .coloring import Coloring, coloring_of
from .drawing import WIDTH, Panel, caption_of, draw_panel
from .layout import Grid, short
from .paint import Look, paint_of
from .panels import MAX_POINTS, Marks, marks_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..cells.selection import Selection

__all__ = ["draw_panels", "spatial"]

_MAX_PANELS = 64
_MAX_LABELS = 256
# Marks of all panels together: what their table and the file can bear.
_MAX_MARKS = 600_000


def spatial(
    selection: "Selection",
    color: str | Sequence[str] | None = None,
    *,
    by: str | None = None,
    ncols: int = 4,
    normalize: str | None = "auto",
    cmap: str = "viridis",
    palette: Mapping[str, str] | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    size: float | None = None,
    image: bool | str = False,
    graph: str | None = None,
    same_scale: bool | None = None,
    max_points: int = MAX_POINTS,
) -> "Figure":
    """Draw the cells of an answer where they lie, a panel a section.

    Parameters
    ----------
    selection
        The cells.
    color
        A gene, or a column of labels or numbers; several make a block of panels each.
    by
        Metadata of sections; each of its values begins a new row. Panels come in order of time
        where the sections have timepoints.
    ncols
        Panels in a row.
    normalize
        Of genes; see `coloring_of`.
    cmap, vmin, vmax
        Of numbers; one scale for all panels. `vmax` defaults to the 99th percentile of what is
        drawn, as the caption says.
    palette
        Colors of labels, by label; others have the ones of a palette for all color visions, the
        same in every figure of the atlas.
    size
        Diameter of a cell in points; default by how densely cells lie.
    image
        Draw the image of the section (True: the first; or its name) behind, where it has one.
    graph
        Name of committed graphs, whose edges are drawn in panels of cells, not of bins.
    same_scale
        Whether a micrometer is as long in every panel; default unless sections differ in size by
        more than fourfold.
    max_points
        Panels of more cells show bins: means of numbers, the most frequent label.

    Returns
    -------
    Figure
        Of matplotlib; `.source` is the table of what is drawn, `.caption` says what was done to
        it. y points down. Memory: the marks of all panels, at most 600,000, and one batch.

    Raises
    ------
    ColumnNotFound, GeneNotFound
        Neither a column nor a gene of this name, or a gene that no section measured.
    InvalidArgument
        No cell, more than 64 sections, more than 256 labels, or matplotlib is not installed.
    """
    panels = _panels(selection, by)
    names = [color] if color is None or isinstance(color, str) else list(color)
    colorings = [coloring_of(selection, name, normalize=normalize) for name in names]
    look = Look(cmap, dict(palette or {}), vmin, vmax, size, image, graph, same_scale)
    return draw_panels(
        selection, panels, colorings, look, ncols=ncols, by=by, max_points=max_points
    )


def _panels(selection: "Selection", by: str | None) -> list[Panel]:
    """One panel a section, in order of `by`, time and name."""
    runs = selection.runs
    if not runs:
        from ..cells.empty import nothing_found

        raise InvalidArgument(f"cells to draw are wanted, but {nothing_found(selection)}")
    if len(runs) > _MAX_PANELS:
        raise InvalidArgument(
            f"at most {_MAX_PANELS} sections are drawn in one figure, but got {len(runs)}; "
            "name sections, or draw a dot plot or a composition"
        )
    order = selection.columns.resolve("timepoint").order if _timed(selection) else None
    if by is not None:
        selection.columns.resolve(f"meta:{by}" if by != "section" else by)
    entries = selection.store.snapshot.sections

    def key(name: str) -> tuple[Any, ...]:
        meta = entries[name].metadata
        time = str(meta.get("timepoint"))
        rank = order.index(time) if order is not None and time in order else len(entries)
        group = meta.get(by) if by not in (None, "section", "timepoint") else ""
        return (str(group), rank, time, name)

    panels = []
    for name in sorted(runs, key=key):
        meta = entries[name].metadata
        time = meta.get("timepoint")
        title = short(name, 30) + (f"\n{time}" if time is not None else "")
        facts: dict[str, Any] = {"section": name} | ({} if time is None else {"timepoint": time})
        if by is not None and by not in facts:
            facts[by] = meta.get(by)
            title = f"{short(name, 30)}\n{', '.join(str(v) for v in (meta.get(by), time) if v)}"
        panels.append(Panel(name, runs[name], title, None, facts))
    return panels


def _timed(selection: "Selection") -> bool:
    return "timepoint" in selection.columns.metadata


def draw_panels(
    selection: "Selection",
    panels: Sequence[Panel],
    colorings: Sequence[Coloring],
    look: Look,
    *,
    ncols: int = 4,
    by: str | None = None,
    max_points: int = MAX_POINTS,
) -> "Figure":
    """Read and draw panels, a block for each coloring; see `spatial`."""
    import pandas as pd

    if ncols < 1 or max_points < 1:
        raise InvalidArgument(
            f"ncols= and max_points= of at least 1 are wanted, but got {ncols} and {max_points}"
        )
    most = max(1_000, min(max_points, _MAX_MARKS // (len(panels) * len(colorings))))
    most = min(most, max_points)
    with style():
        blocks = [[_read(selection, panel, coloring, most) for panel in panels]
                  for coloring in colorings]  # fmt: skip
        known = {selection.store.section(p.section).um_per_unit is not None for p in panels}
        # Micrometers and pixels have no common scale.
        views = _views(panels, blocks[0], look.same_scale if len(known) == 1 else False)
        unit = "µm" if known == {True} else "units"
        cells = _cells(panels, ncols, by)
        columns = 1 + max(column for _, column in cells)
        rows = 1 + max(row for row, _ in cells)
        height = WIDTH * min(1.8, max(0.45, *((v[3] - v[1]) / (v[2] - v[0]) for v in views)))
        grid = Grid([rows] * len(colorings), columns, (WIDTH, height))
        figure = new_figure(*grid.size)
        tables, captions = [], []
        for block, (coloring, marks) in enumerate(zip(colorings, blocks, strict=True)):
            paint = paint_of(coloring, marks, look)
            for place, panel, view, own in zip(cells, panels, views, marks, strict=True):
                axes = grid.axes(figure, block, *place)
                draw_panel(selection, axes, panel, view, marks=own, paint=paint, look=look)
                facts = dict(panel.facts or {"section": panel.section})
                tables.append(own.table(coloring, color=coloring.name, **facts))
            paint.explain(grid.legend_axes(figure, block), grid.block_height(rows))
            captions.append(caption_of(coloring, marks, paint, look, most=most, unit=unit))
        n = sum(int(own.n.sum()) for own in blocks[0])
        said = [f"{n:,} cells, {_panels_named(len(panels))}.", *captions]
        caption = " ".join(dict.fromkeys(text for text in said if text))
        grid.write_caption(figure, caption)
    return with_source(figure, pd.concat(tables, ignore_index=True), caption)


def _panels_named(n: int) -> str:
    return "one panel" if n == 1 else f"{n} panels, one scale of colors"


def _read(selection: "Selection", panel: Panel, coloring: Coloring, most: int) -> Marks:
    section = selection.store.section(panel.section)
    marks = marks_of(
        selection, section, panel.runs, coloring, locate=read_positions, max_points=most
    )
    if len(coloring.labels) > _MAX_LABELS:
        raise InvalidArgument(
            f"a column of at most {_MAX_LABELS} labels is wanted for color=, but got "
            f"{coloring.name!r} with {len(coloring.labels):,}"
        )
    return marks


def _cells(panels: Sequence[Panel], ncols: int, by: str | None) -> list[tuple[int, int]]:
    """Row and column of each panel; each value of `by` begins a row."""
    places: list[tuple[int, int]] = []
    row, column, last = 0, -1, object()
    for panel in panels:
        group = (panel.facts or {}).get(by) if by is not None else None
        column += 1
        if places and (column == ncols or (by is not None and group != last)):
            row, column = row + 1, 0
        last = group
        places.append((row, column))
    return places


def _views(
    panels: Sequence[Panel], marks: Sequence[Marks], same: bool | None
) -> list[tuple[float, float, float, float]]:
    """Choose what each panel shows: its cells, a margin, and room for the scale bar."""
    boxes = np.array([p.box or m.bounds for p, m in zip(panels, marks, strict=True)])
    sizes = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6)
    longer = sizes.max(axis=1)
    if same is None:
        same = bool(longer.max() <= 4 * longer.min())
    aspect = float(np.clip((sizes[:, 1] / sizes[:, 0]).max(), 0.4, 1.6))
    width = np.maximum(sizes[:, 0], sizes[:, 1] / aspect)
    if same:
        width[:] = width.max()
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = width * 0.53
    tall = width * aspect * 0.53
    bar = tall * 0.2
    return [
        (x - w, y - h, x + w, y + h + b)
        for (x, y), w, h, b in zip(center.tolist(), half.tolist(), tall.tolist(), bar, strict=True)
    ]
