"""Colors of values, chosen once for all panels of a figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .coloring import Coloring
from .layout import color_bar, legend
from .palette import MISSING, palette_of
from .panels import Marks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PERCENTILE", "Look", "Paint", "paint_of"]

PERCENTILE = 99
"""Of what is drawn: where the scale of colors ends."""


@dataclass(frozen=True, slots=True)
class Look:
    """How panels are drawn; see `spatial`."""

    cmap: str = "viridis"
    palette: Mapping[str, str] | None = None
    vmin: float | None = None
    vmax: float | None = None
    size: float | None = None
    image: bool | str = False
    graph: str | None = None
    same_scale: bool | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Paint:
    """Colors of values, the same in every panel."""

    coloring: Coloring
    colors: Mapping[str, str]
    low: float
    high: float
    cmap: str
    capped: bool
    missing: bool
    shown: frozenset[str] = frozenset()
    """Labels that some panel shows."""

    def of(self, value: NDArray[np.float64]) -> Any:
        """Colors of some values, (m, 4)."""
        from matplotlib.colors import to_rgba_array

        if self.coloring.kind == "none":
            return np.tile(to_rgba_array("#0072B2"), (len(value), 1))
        if self.coloring.kind == "label":
            table = to_rgba_array([*(self.colors[n] for n in self.coloring.labels), MISSING])
            codes = np.where(np.isnan(value), len(self.coloring.labels), value).astype(np.int64)
            return table[codes]
        colors = self._mapping().to_rgba(np.nan_to_num(value, nan=self.low))
        colors[np.isnan(value)] = to_rgba_array(MISSING)
        return colors

    def _mapping(self) -> Any:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        return ScalarMappable(Normalize(self.low, self.high, clip=True), self.cmap)

    def explain(self, axes: "Axes", height: float) -> None:
        """Draw the legend or the color bar."""
        if self.coloring.kind == "label":
            drawn = {n: c for n, c in self.colors.items() if n in self.shown}
            legend(axes, self.coloring.name, drawn, missing=self.missing)
        elif self.coloring.kind != "none":
            color_bar(
                axes,
                self.coloring.name,
                self.coloring.unit if self.coloring.kind == "gene" else "",
                self._mapping(),
                capped=self.capped,
                height=height,
            )


def paint_of(coloring: Coloring, marks: Sequence[Marks], look: Look) -> Paint:
    """Choose the colors of all that is drawn; numbers end at the 99th percentile."""
    value = np.concatenate([own.value for own in marks])
    known = value[~np.isnan(value)]
    missing = len(known) < len(value)
    if coloring.kind == "label":
        counts = np.bincount(known.astype(np.int64), minlength=len(coloring.labels))
        colors = palette_of(coloring.labels, counts.tolist(), look.palette)
        shown = frozenset(n for n, c in zip(coloring.labels, counts, strict=True) if c)
        return Paint(coloring, colors, 0, 1, look.cmap, False, missing, shown)
    low = look.vmin if look.vmin is not None else float(min(known.min(initial=np.inf), 0))
    if coloring.kind == "number" and look.vmin is None and len(known):
        low = float(known.min())
    high = look.vmax
    if high is None and len(known):
        high = float(np.percentile(known, PERCENTILE))
        # A gene of few cells has a percentile of zero: then its largest value.
        high = high if high > low else float(known.max())
    high = high if high is not None and high > low else low + 1
    capped = bool(len(known)) and float(known.max()) > high
    return Paint(coloring, {}, low, high, look.cmap, capped, missing)
