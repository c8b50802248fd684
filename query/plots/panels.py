"""The marks of one panel: cells, or bins where there are too many cells to tell apart."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..cells.rows import RunArray, batches, count

if TYPE_CHECKING:
    import pandas as pd

    from ...atlas.section import Section
    from ..cells.selection import Selection
    from .coloring import Coloring

__all__ = ["MAX_POINTS", "Marks", "marks_of", "nice"]

MAX_POINTS = 50_000
"""Cells of a panel beyond which they are binned."""
_ROWS_AT_ONCE = 131_072
# Bins along the longer side: finer than a panel of 2.4 inches shows, coarse enough to be summed.
_BINS = 240
# A bin narrower than this many mean spacings of cells would leave holes.
_SPACINGS = 1.5

type Locate = Callable[["Section", RunArray], NDArray[np.float64]]
"""Coordinates of some rows, (m, 2)."""


@dataclass(slots=True)
class Marks:
    """What one panel shows; memory is that of `MAX_POINTS` marks."""

    xy: NDArray[np.float64]
    """(m, 2) places of cells, or centers of bins."""
    value: NDArray[np.float64]
    """(m,) value or code of label; NaN where missing."""
    n: NDArray[np.int64]
    """(m,) cells of each mark."""
    bounds: tuple[float, float, float, float]
    """(xmin, ymin, xmax, ymax) of the cells."""
    bin: float | None = None
    """Edge of a bin, None where marks are cells."""
    section: NDArray[np.object_] | None = None
    """(m,) where cells of several sections lie in one panel: theirs."""

    def table(self, coloring: "Coloring", **facts: Any) -> "pd.DataFrame":
        """Tabulate the marks, for the source data: facts, x, y, cells, and value or label."""
        import pandas as pd

        frame = pd.DataFrame({"x": self.xy[:, 0], "y": self.xy[:, 1], "n_cells": self.n})
        if coloring.kind == "label":
            names = pd.Index([*coloring.labels, None], dtype=object)
            codes = np.where(np.isnan(self.value), len(coloring.labels), self.value).astype(int)
            frame["label"] = names[codes]
        elif coloring.kind != "none":
            frame["value"] = self.value
        if self.section is not None:
            facts["section"] = self.section
        for place, (name, value) in enumerate(facts.items()):
            frame.insert(place, name, value)
        return frame


def nice(length: float) -> float:
    """Round down to 1, 2 or 5 times a power of ten.

    >>> nice(340.0), nice(7.3), nice(0.019)
    (200.0, 5.0, 0.01)
    """
    power = 10.0 ** np.floor(np.log10(length))
    step = max(step for step in (1.0, 2.0, 5.0) if step * power <= length * (1 + 1e-9))
    return float(step * power)


def marks_of(
    selection: "Selection",
    parts: "Sequence[tuple[Section, RunArray]]",
    coloring: "Coloring",
    *,
    locate: Locate,
    max_points: int,
) -> Marks:
    """Read the marks of the cells of one panel, in one or two passes over their places.

    Parameters
    ----------
    selection, parts, coloring
        Cells, by section, and what colors them.
    locate
        Where they are drawn.
    max_points
        Of more cells, means (numbers) or majorities (labels) of square bins are drawn.
    """
    n = sum(count(runs) for _, runs in parts)
    if n <= max_points:
        places = [locate(section, runs) for section, runs in parts]
        values = [coloring.read(selection, section, runs) for section, runs in parts]
        own = None
        if len(parts) > 1:
            names = [np.full(count(runs), section.name, object) for section, runs in parts]
            own = np.concatenate(names)
        xy, value = np.concatenate(places), np.concatenate(values)
        return Marks(xy, value, np.ones(n, np.int64), _bounds([xy]), section=own)
    batched = [(s, part) for s, runs in parts for part in batches(runs, _ROWS_AT_ONCE)]
    spans = [_bounds([locate(section, part)]) for section, part in batched]
    corners = np.array(spans)
    low, high = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
    size = np.maximum(high - low, 1e-9)
    edge = max(size.max() / _BINS, _SPACINGS * float(np.sqrt(size.prod() / n)))
    # Up, not down: bins must not become finer than asked for.
    edge = next(step for step in (nice(edge * k) for k in (1, 2, 2.5)) if step >= edge)
    bins = _Bins(low, np.ceil(size / edge).astype(np.int64) + 1, edge, coloring)
    for section, part in batched:
        bins.add(locate(section, part), coloring.read(selection, section, part))
    xy, value, cells = bins.finish()
    return Marks(xy, value, cells, (*low.tolist(), *high.tolist()), edge)


def _bounds(parts: list[NDArray[np.float64]]) -> tuple[float, float, float, float]:
    xy = np.concatenate(parts)
    if not len(xy):
        return (0.0, 0.0, 1.0, 1.0)
    (xmin, ymin), (xmax, ymax) = xy.min(axis=0), xy.max(axis=0)
    return (float(xmin), float(ymin), float(xmax), float(ymax))


class _Bins:
    """Running sums of square bins: of numbers, or of cells of each label."""

    def __init__(
        self, low: NDArray[np.float64], shape: Any, edge: float, coloring: "Coloring"
    ) -> None:
        self._low, self._edge, self._coloring = low, edge, coloring
        self._wide, self._size = int(shape[0]), int(shape[0] * shape[1])
        self._n = np.zeros(self._size, np.int64)
        self._known = np.zeros(self._size, np.int64)
        self._sum = np.zeros(self._size)
        self._labels: list[NDArray[np.int32]] = []

    def add(self, xy: NDArray[np.float64], value: NDArray[np.float64]) -> None:
        """Count cells in their bins."""
        step = ((xy - self._low) / self._edge).astype(np.int64)
        at = step[:, 1] * self._wide + step[:, 0]
        self._n += np.bincount(at, minlength=self._size)
        known = ~np.isnan(value)
        at, value = at[known], value[known]
        self._known += np.bincount(at, minlength=self._size)
        if self._coloring.kind != "label":
            self._sum += np.bincount(at, value, minlength=self._size)
            return
        codes = value.astype(np.int64)
        while len(self._labels) < len(self._coloring.labels):
            self._labels.append(np.zeros(self._size, np.int32))
        for code in np.unique(codes).tolist():
            own = np.bincount(at[codes == code], minlength=self._size)
            self._labels[code] += own.astype(np.int32)

    def finish(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """Centers, values and numbers of cells of the bins that hold any."""
        held = np.flatnonzero(self._n)
        value = np.full(len(held), np.nan)
        known = self._known[held] > 0
        if self._coloring.kind == "label":
            if self._labels:
                counts = np.stack([label[held] for label in self._labels])
                value[known] = counts.argmax(axis=0)[known]
        else:
            value[known] = self._sum[held][known] / self._known[held][known]
        steps = np.stack([held % self._wide, held // self._wide], axis=1)
        return self._low + (steps + 0.5) * self._edge, value, self._n[held]
