"""Sections side by side: one scale of colors, one look, the same numbers beside the figure."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import InvalidArgument
from ..cells.fetch import read_positions
from ..tables.positions import AskedFrame, frame_of
from .canvas import new_figure, style, with_source
from .coloring import Coloring, coloring_of
from .drawing import WIDTH, Panel, View, caption_of, draw_panel
from .layout import Grid, short
from .paint import Look, paint_of
from .panels import MAX_POINTS, Marks, marks_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..cells.selection import Selection

__all__ = ["draw_panels", "spatial"]

_MAX_PANELS = 64
_MAX_LABELS = 256
_NAMED = 8
# Sections whose longer sides differ by no more share one scale: fourfold in area.
_ALIKE = 2.0
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
    coordinate_system: str | None = None,
    max_points: int = MAX_POINTS,
) -> "Figure":
    """Draw the cells of an answer where they lie, a panel a section, or all in a common frame.

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
        Whether a micrometer is as long in every panel; default unless sections differ in area
        more than fourfold: then each fills its panel, with a scale bar of its own.
    coordinate_system
        A registered frame: all sections in one panel, in the frame. Default the frame that the
        answer was asked in, if it was, unless `by` is given; `"section"` draws a panel a section.
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
    frame = _frame(selection, coordinate_system, by)
    panels = _panels(selection, by)
    if frame is not None:
        title = f"{len(panels)} sections in frame {short(frame.name, 30)}"
        panels = [Panel(panels[0].section, panels[0].runs, title, frame=frame)]
    names = [color] if color is None or isinstance(color, str) else list(color)
    colorings = [coloring_of(selection, name, normalize=normalize) for name in names]
    look = Look(cmap, dict(palette or {}), vmin, vmax, size, image, graph, same_scale)
    return draw_panels(
        selection, panels, colorings, look, ncols=ncols, by=by, max_points=max_points
    )


def _frame(selection: "Selection", name: str | None, by: str | None) -> AskedFrame | None:
    """Tell the frame to draw in, None for a panel a section."""
    from ..geometry.frames import read_affine

    asked = frame_of(selection.question)
    if name is None:
        return asked if by is None else None
    if asked is not None and asked.name == name:
        return asked
    if name in ("section", "microns", "source_units"):
        return None
    store = selection.store
    return AskedFrame(name, {own: read_affine(store, name, own) for own in selection.runs})


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
        # What did not measure a gene is left out of its block, and named below.
        drawn = [[p for p in panels if p.parts(selection, coloring)] for coloring in colorings]
        blocks = [[_read(selection, panel, coloring, most) for panel in own]
                  for own, coloring in zip(drawn, colorings, strict=True)]  # fmt: skip
        known = {selection.store.section(p.section).um_per_unit is not None for p in panels}
        unit = "µm" if known == {True} and panels[0].frame is None else "units"
        views = _views_of(drawn, blocks, look.same_scale, one_unit=len(known) == 1)
        cells = [_cells(own, ncols, by) for own in drawn]
        columns = 1 + max(column for block in cells for _, column in block)
        rows = [1 + max(row for row, _ in block) for block in cells]
        shapes = ((v[3] - v[1]) / (v[2] - v[0]) for block in views for v in block)
        height = WIDTH * min(1.8, max(0.45, *shapes))
        grid = Grid(rows, columns, (WIDTH, height))
        figure = new_figure(*grid.size)
        tables, captions = [], []
        for block, (coloring, marks) in enumerate(zip(colorings, blocks, strict=True)):
            paint = paint_of(coloring, marks, look)
            every = zip(cells[block], drawn[block], views[block], marks, strict=True)
            for place, panel, view, own in every:
                axes = grid.axes(figure, block, *place)
                draw_panel(selection, axes, panel, view, marks=own, paint=paint, look=look)
                facts = dict(panel.facts or {"section": panel.section})
                tables.append(own.table(coloring, color=coloring.name, **facts))
            paint.explain(grid.legend_axes(figure, block), grid.block_height(rows[block]))
            captions.append(caption_of(coloring, marks, paint, look, most=most, unit=unit))
            captions.append(_left_out(selection, panels, coloring))
        n = max(sum(int(own.n.sum()) for own in marks) for marks in blocks)
        said = [f"{n:,} cells, {_panels_named(sum(map(len, blocks)), len(colorings))}.", *captions]
        caption = " ".join(dict.fromkeys(text for text in said if text))
        grid.write_caption(figure, caption)
    return with_source(figure, pd.concat(tables, ignore_index=True), caption)


def _panels_named(n: int, n_colorings: int) -> str:
    each = "" if n_colorings == 1 else f" for each of {n_colorings}"
    return "one panel" if n == 1 else f"{n} panels, one scale of colors{each}"


def _left_out(selection: "Selection", panels: Sequence[Panel], coloring: Coloring) -> str:
    """Name the sections that are not drawn, as they did not measure a gene."""
    shown = {p.section for p in panels} if panels[0].frame is None else set(selection.runs)
    absent = sorted(name for name in shown if not coloring.measured(name))
    if not absent:
        return ""
    more = f" and {len(absent) - _NAMED} more" if len(absent) > _NAMED else ""
    return f"{coloring.name} was not measured in {', '.join(absent[:_NAMED])}{more}."


def _read(selection: "Selection", panel: Panel, coloring: Coloring, most: int) -> Marks:
    parts = panel.parts(selection, coloring)
    locate = read_positions if panel.frame is None else panel.frame.read
    marks = marks_of(selection, parts, coloring, locate=locate, max_points=most)
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


def _views_of(
    drawn: Sequence[Sequence[Panel]],
    blocks: Sequence[Sequence[Marks]],
    same: bool | None,
    *,
    one_unit: bool,
) -> list[list[View]]:
    """Choose the views of the panels of all blocks, alike in shape."""
    panels = [panel for block in drawn for panel in block]
    marks = [own for block in blocks for own in block]
    # Micrometers and pixels have no common scale.
    views = iter(_views(panels, marks, same if one_unit else False))
    return [[next(views) for _ in block] for block in drawn]


def _views(panels: Sequence[Panel], marks: Sequence[Marks], same: bool | None) -> list[View]:
    """Choose what each panel shows: its cells, a margin, and room for the scale bar."""
    boxes = np.array([p.box or m.bounds for p, m in zip(panels, marks, strict=True)])
    sizes = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6)
    longer = sizes.max(axis=1)
    if same is None:
        same = bool(longer.max() <= _ALIKE * longer.min())
    aspect = float(np.clip((sizes[:, 1] / sizes[:, 0]).max(), 0.4, 1.6))
    # A dot is about as wide as cells lie apart: those on the edge must not be cut.
    n = np.array([max(len(own.xy), 1) for own in marks])
    dot = np.array([0.0 if panel.box else 1.0 for panel in panels])
    sizes += dot[:, None] * np.minimum(np.sqrt(sizes.prod(axis=1) / n), 0.15 * longer)[:, None]
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
