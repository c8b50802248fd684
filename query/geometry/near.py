"""Within a distance of other cells of the same section.

A cell is near if some cell of the other answer has ``dx * dx + dy * dy <= d * d`` from it, each
operation rounded in float64: as brute force over all pairs says. The other cells are near
themselves (their distance is 0).

How it is found: the boxes of the 256-row blocks tell which other cells may be near at all; these
are read a quarter of a million at a time, put into a tree and asked for the nearest one. Where the
tree's own rounding could decide, all candidates are looked at.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ...atlas.polygons import LARGEST
from ..cells.rows import RunArray, as_runs, coalesce, count, pairs_of
from ..filters.predicate import Compare, conjunction

if TYPE_CHECKING:
    from ...atlas.section import Section
    from ..cells.selection import Selection

type BoolArray = NDArray[np.bool_]
type FloatArray = NDArray[np.float64]

# Other cells held in a tree at once: some 20 MB.
_ROWS_AT_ONCE = 1 << 18
# Points whose box is compared with those of the other cells: consecutive rows lie together.
_POINTS_AT_ONCE = 1 << 10
# Far more than the rounding of a distance, far less than any difference that matters.
_SLACK = 1e-9
# The tree squares its bound, which must stay above 0.
_TINY = 1e-150
# Boxes compared with boxes at once: some 20 MB.
_PAIRS = 1 << 18
_BOXES_AT_ONCE = 256
_FEW = 64


@dataclass(frozen=True)
class NearCells:
    """The cells of one section within a distance of the cells that answer another question."""

    words: str
    """The other question, in words."""
    section: str
    within: float
    """Distance, in the unit of the section's coordinates."""
    question: object
    """The other question, as a value: equal places are of equal questions."""
    others: "Selection" = field(compare=False)
    """The other cells, of this section alone; found on first use."""

    def __post_init__(self) -> None:
        if not (np.isfinite(self.within) and 0 <= self.within <= LARGEST):
            raise InvalidArgument(
                f"a distance of 0 or more is wanted for within_um=, but got {self.within!r}"
            )

    @classmethod
    def of(cls, others: "Selection", section: str, within: float) -> "NearCells":
        """Take the cells of one section out of a selection; nothing is read."""
        return cls(
            str(others.question), section, float(within), others.question, _only(others, section)
        )

    @property
    def _section(self) -> "Section":
        return self.others.store.section(self.section)

    @property
    def _runs(self) -> RunArray:
        return self.others.runs.get(self.section, as_runs([]))

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Box around the tiles of the other cells, widened by the distance."""
        boxes = self._coarse_boxes
        if not len(boxes):
            return np.inf, np.inf, -np.inf, -np.inf
        low, high = boxes[:, :2].min(axis=0) - self.within, boxes[:, 2:].max(axis=0) + self.within
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    @cached_property
    def _coarse_boxes(self) -> FloatArray:
        """Boxes of the tiles that may hold other cells: no cell is read.

        Runs of rows of a plan need not be tiles: one may stand for a whole section.
        """
        if self.others.found:
            runs = self._runs
        else:
            plans = [plan for plan in self.others.plan.sections if plan.section == self.section]
            runs = np.stack([plans[0].start, plans[0].stop], axis=1) if plans else as_runs([])
        if not len(runs):
            return np.zeros((0, 4))
        tiles = self._section.tiles
        return np.asarray(tiles.bounds, np.float64)[_overlapped(np.asarray(tiles.ptr), runs)]

    @cached_property
    def _blocks(self) -> tuple[FloatArray, NDArray[np.int64]]:
        """Boxes of the blocks that hold other cells, (b, 4), and the numbers of these blocks."""
        blocks = self._section.blocks
        runs = self._runs
        step = self._section.block_rows
        touched = np.zeros(len(blocks.bounds) + 1, np.int64)
        if len(runs):
            np.add.at(touched, runs[:, 0] // step, 1)
            np.add.at(touched, (runs[:, 1] - 1) // step + 1, -1)
        numbers = np.flatnonzero(np.cumsum(touched)[:-1])
        return np.asarray(blocks.bounds, np.float64)[numbers], numbers

    def cover(self, boxes: FloatArray) -> tuple[BoolArray, BoolArray]:
        """Tell which of T boxes may hold a near cell; each cell of them is to be tested.

        Before the other cells are known, their tiles stand for them.
        """
        known = self.others.found
        near = _boxes_near(boxes, self._blocks[0] if known else self._coarse_boxes, self.within)
        return near, np.zeros(len(boxes), bool)

    def contains(self, points: FloatArray) -> BoolArray:
        """Whether each of m points (m, 2) is near; memory some 100 bytes a point and 20 MB."""
        near = np.zeros(len(points), bool)
        boxes, numbers = self._blocks
        if not len(points) or not len(numbers):
            return near
        groups = np.arange(0, len(points), _POINTS_AT_ONCE)
        around = np.concatenate(
            [np.minimum.reduceat(points, groups), np.maximum.reduceat(points, groups)], axis=1
        )
        wanted = numbers[_boxes_near(boxes, around, self.within)]
        for others in self._batches(wanted):
            left = np.flatnonzero(~near)
            if not len(left):
                break
            near[left] = near_points(points[left], others, self.within)
        return near

    def _batches(self, blocks: NDArray[np.int64]) -> Iterator[FloatArray]:
        """Positions of the other cells of some blocks, a quarter of a million at a time."""
        section, step = self._section, self._section.block_rows
        at_once = max(1, _ROWS_AT_ONCE // step)
        for low in range(0, len(blocks), at_once):
            some = blocks[low : low + at_once]
            wide = np.stack([some * step, np.minimum((some + 1) * step, section.n_obs)], axis=1)
            runs = _shared(self._runs, coalesce(wide))
            if count(runs):
                yield section.positions(pairs_of(runs))

    def __str__(self) -> str:
        return f"within {self.within:g} of ({self.words})"


def _only(others: "Selection", section: str) -> "Selection":
    """Restrict a selection to one section; what it has found already is kept."""
    from ..cells.selection import Selection

    if others.found:
        return others.only([section])
    parts = [others.question.predicate, Compare("section", "==", section)]
    return Selection(others.store, replace(others.question, predicate=conjunction(parts)))


def _overlapped(ptr: NDArray[np.int64], runs: RunArray) -> BoolArray:
    """Tell which tiles (T,), rows ``ptr[t]:ptr[t + 1]``, share rows with ascending runs (k, 2).

    >>> _overlapped(np.array([0, 4, 8, 12]), np.array([[1, 5], [6, 7]])).tolist()
    [True, True, False]
    """
    begun = np.searchsorted(runs[:, 0], ptr[1:], side="left")
    ended = np.searchsorted(runs[:, 1], ptr[:-1], side="right")
    return np.asarray(begun > ended)


def _shared(runs: RunArray, wide: RunArray) -> RunArray:
    """Rows that lie in both of two lists of runs."""
    first = np.searchsorted(runs[:, 1], wide[:, 0], side="right")
    last = np.searchsorted(runs[:, 0], wide[:, 1], side="left")
    n = np.maximum(last - first, 0)
    owner = np.repeat(np.arange(len(wide)), n)
    at = np.arange(int(n.sum())) - np.repeat(np.cumsum(n) - n, n) + np.repeat(first, n)
    return np.stack(
        [np.maximum(runs[at, 0], wide[owner, 0]), np.minimum(runs[at, 1], wide[owner, 1])], axis=1
    )


def _boxes_near(boxes: FloatArray, others: FloatArray, within: float) -> BoolArray:
    """Whether each of T boxes comes within a distance of any of S others.

    Boxes come in the order of rows, so that those of a batch lie together: most others are ruled
    out for all of them at once, and of the rest a few mostly decide.
    """
    near = np.zeros(len(boxes), bool)
    for low in range(0, len(boxes), _BOXES_AT_ONCE):
        some = boxes[low : low + _BOXES_AT_ONCE]
        hull = np.concatenate([some[:, :2].min(axis=0), some[:, 2:].max(axis=0)])[None]
        left = others[_all_near(others, hull, within)]
        part = np.zeros(len(some), bool)
        for step in (max(1, len(left) // _FEW), 1):
            far = np.flatnonzero(~part)
            if len(far) and len(left):
                part[far] = _all_near(some[far], left[::step], within)
        near[low : low + _BOXES_AT_ONCE] = part
    return near


def _all_near(boxes: FloatArray, others: FloatArray, within: float) -> BoolArray:
    """Compare all pairs of boxes.

    The expressions are those of the test on cells at the nearest points of two boxes; rounding is
    monotone, so no box that holds a near cell is left out.
    """
    near = np.zeros(len(boxes), bool)
    square = within * within
    step = max(1, _PAIRS // max(len(others), 1))
    for low in range(0, len(boxes), step):
        part = slice(low, low + step)
        xmin, ymin, xmax, ymax = (column[:, None] for column in boxes[part].T)
        dx = np.maximum(np.maximum(xmin - others[:, 2], others[:, 0] - xmax), 0.0)
        dy = np.maximum(np.maximum(ymin - others[:, 3], others[:, 1] - ymax), 0.0)
        near[part] = (dx * dx + dy * dy <= square).any(axis=1)
    return near


def near_points(points: FloatArray, others: FloatArray, within: float) -> BoolArray:
    """Whether each of m points (m, 2) lies within a distance of any of k others (k >= 1, 2).

    >>> near_points(np.array([[0.0, 0.0], [9.0, 0.0]]), np.array([[3.0, 4.0]]), 5.0)
    array([ True, False])
    """
    from scipy.spatial import cKDTree

    tree: Any = cKDTree(others)
    bound = within * (1 + _SLACK) + _TINY
    distance, nearest = tree.query(points, distance_upper_bound=bound)
    met = np.isfinite(distance)
    near = np.zeros(len(points), bool)
    near[met] = _close(points[met], others[nearest[met]], within)
    # A tie within rounding: another candidate may pass where the tree's own nearest does not.
    open_ = np.flatnonzero(met & ~near)
    if len(open_):
        lists = tree.query_ball_point(points[open_], bound)
        owner = np.repeat(open_, [len(one) for one in lists])
        candidate = np.concatenate([np.asarray(one, np.int64) for one in lists])
        close = _close(points[owner], others[candidate], within)
        near[owner[close]] = True
    return near


def _close(a: FloatArray, b: FloatArray, within: float) -> BoolArray:
    away = a - b
    dx, dy = away[..., 0], away[..., 1]
    return np.asarray(dx * dx + dy * dy <= within * within)
