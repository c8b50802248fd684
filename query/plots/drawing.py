"""One panel: image, edges, cells or bins, title and scale bar."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cells.rows import RunArray
from .coloring import Coloring
from .layout import scale_bar
from .paint import PERCENTILE, Look, Paint
from .panels import Marks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ...atlas.section import Section
    from ..cells.selection import Selection
    from ..tables.positions import AskedFrame

__all__ = ["WIDTH", "Panel", "View", "caption_of", "draw_cells", "draw_panel"]

WIDTH = 2.4
"""Of a panel, in inches."""


type View = tuple[float, float, float, float]
"""(xmin, ymin, xmax, ymax) of what a panel shows."""


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One place to be drawn."""

    section: str
    runs: RunArray
    title: str
    box: tuple[float, float, float, float] | None = None
    """(xmin, ymin, xmax, ymax) to be shown; None is where the cells are."""
    facts: Mapping[str, Any] | None = None
    """Columns of the source data."""
    frame: "AskedFrame | None" = None
    """A common frame that all cells of the selection are drawn in, `section` among them."""
    discs: bool = False
    """Whether cells that have a radius are drawn as discs of it."""
    outline: View | None = None
    """Box that is outlined."""

    def parts(self, selection: "Selection", coloring: Coloring) -> "list[tuple[Section, RunArray]]":
        """Cells that the panel shows, by section: of those that have any value."""
        held = {self.section: self.runs} if self.frame is None else selection.runs
        return [
            (selection.store.section(name), runs)
            for name, runs in held.items()
            if coloring.measured(name)
        ]


def draw_panel(
    selection: "Selection",
    axes: "Axes",
    panel: Panel,
    view: View,
    *,
    marks: Marks,
    paint: Paint,
    look: Look,
) -> None:
    """Draw the cells of one panel within what it shows."""
    section = selection.store.section(panel.section)
    xmin, ymin, xmax, ymax = view
    axes.set_xlim(xmin, xmax)
    # Down, as in images.
    axes.set_ylim(ymax, ymin)
    axes.set_aspect("equal", adjustable="box")
    axes.set_axis_off()
    axes.set_title(panel.title, fontsize=8, pad=5, linespacing=1.1)
    unit = "µm" if section.um_per_unit is not None else "source units"
    if panel.frame is not None:
        unit = "units of the frame"
    behind = False
    if look.image and panel.frame is None:
        from .histology import draw_image

        behind = draw_image(axes, selection.store, section, view, look.image)
    if look.graph is not None and marks.bin is None and panel.frame is None:
        _draw_edges(selection, axes, panel, marks, look.graph)
    if marks.bin is None:
        # Smaller over what is to be seen between the cells.
        shrunk = 0.6 if look.graph is not None else 0.75 if behind else 1.0
        size: Any = look.size or _size(marks, view) * shrunk
        if panel.discs and look.size is None:
            size = _disc_sizes(selection, panel, axes, view, usual=size)
        draw_cells(axes, marks, paint, size=size, clear=behind)
    else:
        _draw_bins(axes, marks, paint, clear=behind)
    scale_bar(axes, view, unit)
    if panel.outline is not None:
        from matplotlib.patches import Rectangle

        low, high = panel.outline[:2], panel.outline[2:]
        size = (high[0] - low[0], high[1] - low[1])
        axes.add_patch(Rectangle(low, *size, fill=False, color="black", lw=1.0))


def _size(marks: Marks, view: View) -> float:
    """Diameter in points at which cells nearly touch."""
    xmin, ymin, xmax, ymax = marks.bounds
    points = WIDTH * 72 / (view[2] - view[0])
    area = (xmax - xmin) * (ymax - ymin)
    return float(np.clip(np.sqrt(area / max(len(marks.xy), 1)) * points * 0.95, 0.5, 9.0))


def _disc_sizes(
    selection: "Selection", panel: Panel, axes: "Axes", view: View, *, usual: float
) -> Any:
    """Diameters in points of the discs of cells, `usual` where they have no radius."""
    from ..geometry.cell_shapes import CellShapes

    section = selection.store.section(panel.section)
    shapes = CellShapes(section, selection.store.storage)
    if not shapes.circles or not len(panel.runs):
        return usual
    figure: Any = axes.figure
    wide = axes.get_position().width * figure.get_size_inches()[0] * 72 / (view[2] - view[0])
    tall = axes.get_position().height * figure.get_size_inches()[1] * 72 / (view[3] - view[1])
    radii = shapes.radii([(a, b) for a, b in panel.runs.tolist()])
    return np.maximum(2 * radii * min(wide, tall), 0.5)


def draw_cells(axes: "Axes", marks: Marks, paint: Paint, *, size: Any, clear: bool = False) -> None:
    """Draw a dot a cell, `size` points wide (or (m,)); half transparent over an image."""
    if not len(marks.xy):
        return
    # Cells with much to say lie above those with little.
    number = paint.coloring.kind in ("gene", "number")
    order = np.argsort(np.nan_to_num(marks.value, nan=-np.inf), kind="stable") if number else ...
    x, y = marks.xy[order].T
    axes.scatter(
        x,
        y,
        s=(size if np.ndim(size) == 0 else size[order]) ** 2,
        c=paint.of(marks.value[order]),
        linewidths=0,
        clip_on=False,
        alpha=0.6 if clear else None,
        rasterized=len(marks.xy) > 2_000,
    )


def _draw_bins(axes: "Axes", marks: Marks, paint: Paint, *, clear: bool) -> None:
    assert marks.bin is not None
    low = marks.xy.min(axis=0) - marks.bin / 2
    step = np.floor((marks.xy - low) / marks.bin).astype(np.int64)
    wide, tall = (step.max(axis=0) + 1).tolist()
    pixels = np.zeros((tall, wide, 4))
    pixels[step[:, 1], step[:, 0]] = paint.of(marks.value)
    if clear:
        pixels[..., 3] *= 0.6
    extent = (low[0], low[0] + wide * marks.bin, low[1] + tall * marks.bin, low[1])
    limits = axes.get_xlim(), axes.get_ylim()
    axes.imshow(pixels, extent=extent, interpolation="nearest", origin="upper")
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])


def _draw_edges(selection: "Selection", axes: "Axes", panel: Panel, marks: Marks, key: str) -> None:
    from matplotlib.collections import LineCollection

    from ..exports.graphs import selected_graph

    one = selection.holding({panel.section: panel.runs})
    pairs = selected_graph(one, key).connectivities.tocoo()
    ends = np.stack([marks.xy[pairs.row], marks.xy[pairs.col]], axis=1)
    lines: Any = ends[pairs.row != pairs.col]
    axes.add_collection(
        LineCollection(lines, colors="#888888", linewidths=0.25, rasterized=True, zorder=0.5),
        autolim=False,
    )


def caption_of(
    coloring: Coloring, marks: Sequence[Marks], paint: Paint, look: Look, *, most: int, unit: str
) -> str:
    """Say what was done to what is drawn."""
    said = []
    binned = sorted({own.bin for own in marks if own.bin is not None})
    if binned:
        what = "most frequent label" if coloring.kind == "label" else "mean"
        what = "cells" if coloring.kind == "none" else what
        edges = ", ".join(f"{edge:g}" for edge in binned)
        said.append(
            f"Panels of more than {most:,} cells show the {what} of square bins, "
            f"{edges} {unit} wide."
        )
    if paint.capped:
        how = "" if look.vmax is not None else f"the {PERCENTILE}th percentile of what is drawn, "
        said.append(f"{coloring.name}: colors end at {how}{paint.high:.3g}.")
    return " ".join(said)
