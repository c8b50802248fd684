"""How the chance of meeting a label depends on the distance from cells of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InvalidArgument
from ..memory import parse_bytes, refuse_above
from .labels import Labels, read_labels
from .restricted import check_mask
from .row_graph import count_threads, map_in_order

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from ..section import Section

__all__ = ["CoOccurrence", "co_occurrence"]

# Cells of a task, and of the others that are read at once. Tasks read a ring of tiles around
# their own, so small ones read much twice; large ones leave cores idle at the end.
_OWN_ROWS, _OTHER_ROWS = 2**14, 2**16
# Positions, labels and boxes of a cell while a task holds it.
_ROW_BYTES = 64
# Guesses of an interval by squared distance; more only cost cache.
_GUESSES = 4096
# Cells within the largest distance of a cell, on average, where no distance is asked for.
_CELLS_WITHIN = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class CoOccurrence:
    """Co-occurrence of labels within growing distances."""

    categories: tuple[str, ...]
    """(c,) labels, the order of rows and columns."""
    interval: NDArray[np.float64]
    """(m + 1,) ascending distances; element k of the others is of all pairs up to interval[k+1]."""
    counts: NDArray[np.int64]
    """(c, c, m) ordered pairs of cells of two labels; symmetric."""
    n_obs: int
    """Cells that have a label."""

    @property
    def occurrence(self) -> NDArray[np.float64]:
        """(c, c, m) p(label a | a cell of label b within the distance) / p(label a), [a, b].

        Zero where there is no pair, as in squidpy.
        """
        given = self.counts.sum(axis=0).astype(np.float64)  # (c, m)
        total = given.sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            chance = given / total
            ratio = self.counts.transpose(1, 0, 2) / given[None] / chance[:, None]
        return np.where((given[None] > 0) & (given[:, None] > 0), ratio, 0.0)

    def to_frame(self) -> pd.DataFrame:
        """Return a table: label, given, distance, n_pairs, occurrence."""
        import pandas as pd

        c, m = len(self.categories), self.interval.size - 1
        names = np.array(self.categories, dtype=object)
        return pd.DataFrame(
            {
                "label": np.repeat(names, c * m),
                "given": np.tile(np.repeat(names, m), c),
                "distance": np.tile(self.interval[1:], c * c),
                "n_pairs": self.counts.ravel(),
                "occurrence": self.occurrence.ravel(),
            }
        )

    def __str__(self) -> str:
        return (
            f"co-occurrence of {len(self.categories)} labels, {self.n_obs:,} cells, in "
            f"{self.interval.size - 1} distances up to {self.interval[-1]:g}: "
            f"{int(self.counts[..., -1].sum()) // 2:,} pairs"
        )


def co_occurrence(
    section: Section,
    column: str,
    interval: int | Sequence[float] | NDArray[np.floating] = 50,
    *,
    max_distance: float | None = None,
    cells: NDArray[np.bool_] | None = None,
    threads: int | None = None,
    memory_limit: str | int | None = None,
) -> CoOccurrence:
    """Count the pairs of cells by label and distance, as `squidpy.gr.co_occurrence` does.

    All pairs up to the largest distance are visited, tile by tile; none is stored. squidpy visits
    all pairs of the section, whatever the distances, with the same result for the same interval:
    a count is of *all* pairs up to a distance, and the first element of the interval is not used.
    Distances are compared as float64; squidpy rounds positions and distances to float32, which
    moves pairs within about 1e-7 of a distance to the other side.

    Parameters
    ----------
    section : Section
        Positions and labels; no graph is needed.
    column : str
        Categorical, text or boolean obs column; cells whose label is missing are left out.
    interval : int or sequence of float
        Ascending distances in the units of the positions; or how many, evenly from 0 to
        `max_distance`.
    max_distance : float, optional
        Largest distance, where `interval` is a number. By default a quarter of the diagonal of
        the section, or less where a disc of that radius would hold more than 10,000 cells at the
        section's mean density (squidpy: half of the largest distance, all pairs).
    cells : (n_obs,) bool, optional
        Only these cells.
    threads : int, optional
        One a core without; makes no difference to the result.
    memory_limit : str or int, optional
        Refuses what would need more.

    Returns
    -------
    CoOccurrence
        Labels that no cell has are left out. Counts are exact. Time grows with the number of
        pairs: about the number of cells times those in a circle of the largest distance. Memory:
        4 bytes a cell and, a thread, 80,000 cells and the counts.

    Raises
    ------
    ColumnNotFound
        With near names.
    InvalidArgument
        A column of numbers, or distances that are negative, descend or are fewer than two.
    BudgetExceeded
        Too many labels times distances for the limit.
    """
    if isinstance(interval, int) and max_distance is None:
        max_distance = _default_distance(section)
    ends = _distances(interval, max_distance)
    labels = read_labels(section, column, check_mask(cells, section.n_obs))
    c, m, n_threads = len(labels.categories), ends.size - 1, count_threads(threads)
    refuse_above(
        parse_bytes(memory_limit),
        8 * c * c * m * (2 * n_threads + 3)
        + 8 * section.n_obs
        + n_threads * _ROW_BYTES * (_OWN_ROWS + _OTHER_ROWS),
        f"co-occurrence of {c} labels in {m} distances",
        "raise memory_limit, or ask for fewer distances",
    )
    work = _Work(section, labels, ends[1:] ** 2)
    total = np.zeros((c, c, m), np.int64)
    for part in map_in_order(work.count, work.tasks(), n_threads):
        total += part
    counts = np.cumsum(total + total.transpose(1, 0, 2), axis=2)
    cells_of = np.bincount(labels.codes[labels.codes >= 0], minlength=c)
    there = np.flatnonzero(cells_of)
    names = tuple(labels.categories[label] for label in there)
    return CoOccurrence(names, ends, counts[np.ix_(there, there)], int(cells_of.sum()))


def _default_distance(section: Section) -> float:
    """Largest distance where none is asked for: work grows with the cells within it."""
    bounds = section.tiles.bounds
    if not len(bounds):
        return 1.0
    width, height = bounds[:, 2:].max(axis=0) - bounds[:, :2].min(axis=0)
    quarter = float(np.hypot(width, height)) / 4.0
    area = float(width * height)
    crowded = float(np.sqrt(_CELLS_WITHIN * area / (np.pi * section.n_obs))) if area else quarter
    return min(quarter, crowded) or 1.0


def _distances(
    interval: int | Sequence[float] | NDArray[np.floating], max_distance: float | None
) -> NDArray[np.float64]:
    count: Any = interval
    if isinstance(interval, Real):  # also a number of NumPy
        if max_distance is None or not float(count).is_integer() or count < 2:
            raise InvalidArgument(
                "two or more distances, or their number and max_distance, are wanted, but got "
                f"interval={interval} and max_distance={max_distance}"
            )
        ends = np.linspace(0.0, max_distance, int(count))
    elif max_distance is not None:
        raise InvalidArgument(
            "distances, or their number and max_distance, are wanted, but got distances and "
            f"max_distance={max_distance}; leave one out"
        )
    else:
        ends = np.asarray(interval, np.float64).ravel()
        if (np.diff(ends) < 0.0).any():
            raise InvalidArgument(
                f"ascending distances are wanted, but got {ends[:4].tolist()}"
                f"{' ...' if ends.size > 4 else ''}; sort them"
            )
    # Squares of the largest must neither vanish nor overflow.
    if ends.size < 2 or not (ends[0] >= 0.0 and 1e-100 < ends[-1] < 1e100):
        raise InvalidArgument(
            "two or more finite distances from 0 are wanted, but got "
            f"{ends[:4].tolist()}{' ...' if ends.size > 4 else ''}"
        )
    return ends


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """Counting pairs, each once: a task takes its own cells and all later ones near them."""

    section: Section
    labels: Labels
    squares: NDArray[np.float64]
    """(m,) squared distances, ascending."""

    def tasks(self) -> list[tuple[int, int]]:
        """Tile ranges of about equal numbers of cells."""
        ptr = self.section.tiles.ptr
        first, tasks = 0, []
        while first < ptr.size - 1:
            stop = int(np.searchsorted(ptr, ptr[first] + _OWN_ROWS, side="right")) - 1
            stop = max(stop, first + 1)
            tasks.append((first, stop))
            first = stop
        return tasks

    def count(self, tiles: tuple[int, int]) -> NDArray[np.int64]:
        """Count by the labels of the earlier and the later cell and the interval, (c, c, m)."""
        from .pair_kernels import count_pairs, guess_intervals  # brings numba

        c = len(self.labels.categories)
        counts = np.zeros((c, c, self.squares.size), np.int64)
        guesses, per_square = guess_intervals(self.squares, _GUESSES)
        own = self._cells([tiles])
        count_pairs(own, own, True, self.squares, guesses, per_square, counts)
        for others in self._later(tiles):
            count_pairs(own, self._cells(others), False, self.squares, guesses, per_square, counts)
        return counts

    def _later(self, tiles: tuple[int, int]) -> list[list[tuple[int, int]]]:
        """Later tiles within reach, as ranges, a few at a time."""
        first, stop = tiles
        table = self.section.tiles
        # A little further than the largest distance, so that rounding cannot hide a tile.
        reach = float(np.sqrt(self.squares[-1])) * (1.0 + 1e-9)
        bounds = table.bounds[first:stop]
        low, high = bounds[:, :2].min(axis=0), bounds[:, 2:].max(axis=0)
        slack = reach + 1e-12 * float(np.abs(bounds).max())
        near = table.intersecting(*(low - slack).tolist(), *(high + slack).tolist())
        groups: list[list[tuple[int, int]]] = []
        room = 0
        for tile in near[near >= stop].tolist():
            if room <= 0:
                groups.append([])
                room = _OTHER_ROWS
            groups[-1].append((tile, tile + 1))
            room -= int(table.ptr[tile + 1] - table.ptr[tile])
        return groups

    def _cells(self, tiles: list[tuple[int, int]]) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Positions and labels of the labelled cells of some tile ranges."""
        ptr = self.section.tiles.ptr
        runs = [(int(ptr[first]), int(ptr[stop])) for first, stop in tiles]
        xy = self.section.positions(runs)
        codes = np.concatenate([self.labels.codes[start:stop] for start, stop in runs])
        known = codes >= 0
        return (xy, codes) if known.all() else (xy[known], codes[known])
