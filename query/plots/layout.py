"""Places of panels, legends and captions on a page, in inches; nothing overlaps by design."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from .palette import MISSING, OTHER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Grid", "color_bar", "legend", "scale_bar", "short"]

_LABEL_LETTERS = 26
_LEGEND_ROWS = 24


@dataclass(frozen=True, slots=True)
class Grid:
    """Blocks of equal panels one below the other, each with its legend on the right."""

    rows: Sequence[int]
    """Rows of panels of each block."""
    ncols: int
    panel: tuple[float, float]
    """Width and height of a panel."""
    title: float = 0.34
    """Above each panel."""
    gap: float = 0.12
    legend: float = 1.75
    """Width of the legends."""
    caption: float = 0.5
    """Height below everything."""
    head: float = 0.1

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the page."""
        width = self.ncols * (self.panel[0] + self.gap) + self.gap + self.legend
        return width, sum(map(self.block_height, self.rows)) + self.caption + self.head

    def block_height(self, rows: int) -> float:
        """Height of a block of so many rows."""
        return rows * (self.panel[1] + self.title + self.gap)

    def axes(self, figure: "Figure", block: int, row: int, column: int) -> "Axes":
        """Make the axes of a panel."""
        width, height = self.size
        above = self.head + sum(map(self.block_height, self.rows[:block]))
        top = above + row * self.block_height(1) + self.title
        left = self.gap + column * (self.panel[0] + self.gap)
        bottom = height - top - self.panel[1]
        w, h = self.panel
        return figure.add_axes((left / width, bottom / height, w / width, h / height))

    def legend_axes(self, figure: "Figure", block: int) -> "Axes":
        """Make empty axes beside a block."""
        width, height = self.size
        above = self.head + sum(map(self.block_height, self.rows[:block]))
        h = self.block_height(self.rows[block]) - self.title
        bottom = height - above - self.block_height(self.rows[block])
        left = width - self.legend
        box = (left / width, bottom / height, self.legend / width, h / height)
        axes = figure.add_axes(box)
        axes.set_axis_off()
        return axes

    def write_caption(self, figure: "Figure", text: str) -> None:
        """Say below everything what was done."""
        width, _ = self.size
        lines = wrap(text, max(40, int(width * 19)))
        figure.text(
            self.gap / width,
            0.06 / self.size[1],
            "\n".join(lines),
            fontsize=6.5,
            color="#555555",
            va="bottom",
        )


def short(label: str, letters: int = _LABEL_LETTERS) -> str:
    """Cut a long label in its middle.

    >>> short("a very long name of a cell type", 12)
    'a ver…type'
    """
    half = (letters - 1) // 2
    return label if len(label) <= letters else f"{label[:half].rstrip()}…{label[-half + 1 :]}"


def legend(axes: "Axes", title: str, colors: Mapping[str, str], *, missing: bool) -> None:
    """List labels with their colors; labels that share one gray are one line."""
    from matplotlib.lines import Line2D

    own = {name: color for name, color in colors.items() if color != OTHER}
    others = len(colors) - len(own)
    entries = [(short(name), color) for name, color in own.items()]
    entries += [(f"{others} others", OTHER)] if others else []
    entries += [("no value", MISSING)] if missing else []
    handles = [
        Line2D([], [], marker="o", linestyle="", markersize=5, color=color, label=name)
        for name, color in entries
    ]
    axes.legend(
        handles=handles,
        title=short(title),
        loc="upper left",
        ncols=1 + (len(entries) - 1) // _LEGEND_ROWS if entries else 1,
        frameon=False,
        fontsize=7,
        title_fontsize=8,
        alignment="left",
        borderaxespad=0.2,
        handletextpad=0.3,
        columnspacing=0.8,
    )


def color_bar(
    axes: "Axes", title: str, unit: str, mapping: Any, *, capped: bool, height: float
) -> None:
    """Draw a color bar, pointed where values lie above it."""
    lines = wrap(unit, 22)
    # Inches from the top: title, unit, then the bar.
    top = 0.2 + 0.13 * len(lines)
    span = max(0.3, min(1.4, height - top - 0.4))
    bar = axes.inset_axes((0.06, 1 - (top + 0.08 + span) / height, 0.09, span / height))
    axes.figure.colorbar(mapping, cax=bar, extend="max" if capped else "neither")
    bar.tick_params(labelsize=6.5, length=2)
    axes.text(0.02, 1.0, short(title), fontsize=8, va="top")
    axes.text(0.02, 1 - 0.17 / height, "\n".join(lines), fontsize=6.5, va="top", color="#555555")


def scale_bar(axes: "Axes", view: tuple[float, float, float, float], unit: str) -> float:
    """Draw a bar of a round length below the cells; returns the length."""
    from .panels import nice

    xmin, ymin, xmax, ymax = view
    length = nice((xmax - xmin) * 0.3)
    x, y = xmin + (xmax - xmin) * 0.04, ymax - (ymax - ymin) * 0.045
    axes.plot(
        [x, x + length], [y, y], color="black", linewidth=1.6, solid_capstyle="butt", clip_on=False
    )
    shown = f"{length / 1000:g} mm" if unit == "µm" and length >= 1000 else f"{length:g} {unit}"
    axes.text(x + length + (xmax - xmin) * 0.02, y, shown, fontsize=6.5, va="center")
    return length
