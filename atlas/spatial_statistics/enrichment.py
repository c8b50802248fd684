"""Which labels are neighbors more often than chance has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InvalidArgument
from ..memory import parse_bytes, refuse_above
from .join_counts import join_count_moments
from .labels import Labels, read_labels
from .restricted import check_mask, restrict
from .row_graph import check_cells, count_threads, map_blocks, map_in_order

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from ..graph.edges import Edges
    from ..section import Section
    from .row_graph import RowGraph

__all__ = ["NeighborhoodEnrichment", "neighborhood_enrichment"]

# Labelings counted in one pass: reading the graph then takes a tenth of the time of counting.
_MOST_AT_ONCE = 256
# Labelings shuffled by one task: their columns lie side by side in memory.
_SHUFFLED = 16
# Blocks of a thread, and labels of a cell while they are read.
_THREAD_BYTES, _CELL_BYTES = 2**20 * 24, 24


@dataclass(frozen=True, slots=True, eq=False)
class NeighborhoodEnrichment:
    """Edges between labels, and how far their numbers are from those of shuffled labels."""

    categories: tuple[str, ...]
    """(c,) labels, the order of rows and columns."""
    counts: NDArray[np.int64]
    """(c, c) edges from cells of a label to neighbors of another."""
    mean: NDArray[np.float64]
    """(c, c) mean count of shuffled labels."""
    std: NDArray[np.float64]
    """(c, c) standard deviation of the counts of shuffled labels."""
    n_perms: int | None
    """Shuffles; None where mean and deviation are those of all possible ones."""
    n_obs: int
    """Cells that have a label."""

    @property
    def zscore(self) -> NDArray[np.float64]:
        """(c, c) (counts - mean) / std; NaN for labels that no cell has."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((self.counts - self.mean) / self.std)

    def to_frame(self) -> pd.DataFrame:
        """Return a table of pairs: label, neighbor, count, expected, zscore."""
        import pandas as pd

        c = len(self.categories)
        names = np.array(self.categories, dtype=object)
        return pd.DataFrame(
            {
                "label": np.repeat(names, c),
                "neighbor": np.tile(names, c),
                "count": self.counts.ravel(),
                "expected": self.mean.ravel(),
                "zscore": self.zscore.ravel(),
            }
        )

    def __str__(self) -> str:
        how = "all shuffles" if self.n_perms is None else f"{self.n_perms:,} shuffles"
        head = f"enrichment of {len(self.categories)} labels, {self.n_obs:,} cells, {how}"
        z = self.zscore
        if not np.isfinite(z).any():
            return head
        a, b = divmod(int(np.argmax(np.where(np.isfinite(z), z, -np.inf))), len(self.categories))
        pair = f"{self.categories[a]} - {self.categories[b]}"
        return f"{head}: most {pair}, z = {z[a, b]:.1f}"


def neighborhood_enrichment(
    graph: RowGraph | Sequence[RowGraph],
    section: Section | Sequence[Section],
    column: str,
    *,
    n_perms: int | None = 1000,
    seed: int = 0,
    cells: NDArray[np.bool_] | Sequence[NDArray[np.bool_] | None] | None = None,
    threads: int | None = None,
    memory_limit: str | int | None = None,
) -> NeighborhoodEnrichment:
    """Count edges between labels and compare with those between shuffled labels.

    Counts equal those of `squidpy.gr.nhood_enrichment`; an edge counts once in each direction that
    the graph has. Shuffle p of section s draws from ``numpy.random.default_rng([seed, s, p])``,
    whatever the threads and the memory; squidpy's stream is another, so that z-scores agree within
    the error of a permutation test. That error is avoidable: ``n_perms=None`` computes mean and
    variance over all possible shuffles, in one pass.

    Parameters
    ----------
    graph : RowGraph, or a sequence of them
        One a section; read once for the counts and once more for every 256 shuffles, or for every
        fewer that fit.
    section : Section, or a sequence of them
        With several, counts are added, and labels are shuffled within each section.
    column : str
        Categorical, text or boolean obs column. Cells whose label is missing are left out with
        their edges, as `squidpy.gr.interaction_matrix` does (`nhood_enrichment` raises).
    n_perms : int, optional
        Number of shuffles; None for exact moments.
    seed : int
        Of the shuffles.
    cells : (n_obs,) bool, or a sequence of them, optional
        Only these cells and the edges between them, such as those of a graph built with a mask.
    threads : int, optional
        One a core without; makes no difference to the result.
    memory_limit : str or int, optional
        Decides how many shuffles are held at once: 1 byte a cell each, 2 above 256 labels.

    Returns
    -------
    NeighborhoodEnrichment

    Raises
    ------
    ColumnNotFound, InvalidArgument
        No such column, one of numbers, fewer than two labels, or a graph of other cells.
    BudgetExceeded
        The limit does not hold a single shuffle.
    """
    graphs, sections, masks = _paired(graph, section, cells)
    if n_perms is not None and n_perms < 1:
        raise InvalidArgument(f"n_perms must be at least 1, or None, but got {n_perms}")
    n_threads, limit = count_threads(threads), parse_bytes(memory_limit)
    categories: dict[str, int] = {}
    parts = []
    for number, (one, where, kept) in enumerate(zip(graphs, sections, masks, strict=True)):
        check_cells(one, where)
        labels = read_labels(where, column, check_mask(kept, where.n_obs))
        labelled = restrict(one, labels.codes >= 0)
        work = _Work(labelled, labels, number, seed, n_threads, limit)
        places = [categories.setdefault(name, len(categories)) for name in labels.categories]
        parts.append((places, work.count(n_perms), int((labels.codes >= 0).sum())))
    c = len(categories)
    if c < 2:
        raise InvalidArgument(
            f"a column of two or more labels is wanted, but got {c} in {column!r}; name another"
        )
    counts = np.zeros((c, c), np.int64)
    for places, found, _ in parts:
        counts[np.ix_(places, places)] += found.counts
    shape = (1 if n_perms is None else n_perms, c, c)
    first, second = np.zeros(shape), np.zeros((c, c))
    for places, found, _ in parts:
        first[:, *np.ix_(places, places)] += found.shuffled
        second[np.ix_(places, places)] += found.variance
    std = np.sqrt(second) if n_perms is None else first.std(axis=0)
    n = sum(cells for *_, cells in parts)
    return NeighborhoodEnrichment(tuple(categories), counts, first.mean(axis=0), std, n_perms, n)


def _paired(
    graph: RowGraph | Sequence[RowGraph], section: Section | Sequence[Section], cells: Any
) -> tuple[list[RowGraph], list[Section], list[Any]]:
    graphs = list(graph) if isinstance(graph, Sequence) else [graph]
    sections = list(section) if isinstance(section, Sequence) else [section]
    masks = list(cells) if isinstance(section, Sequence) and cells is not None else [cells]
    masks = masks * len(sections) if cells is None else masks
    if not len(graphs) == len(sections) == len(masks) or not graphs:
        raise InvalidArgument(
            "one graph (and one mask, if any) a section is wanted, but got "
            f"{len(graphs)} graphs, {len(sections)} sections and {len(masks)} masks"
        )
    return graphs, sections, masks


type Codes = NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class _Counted:
    """Counts of one section."""

    counts: NDArray[np.int64]
    """(c, c) of the labels as they are."""
    shuffled: NDArray[np.float64]
    """(p, c, c) of each shuffle, or (1, c, c) the mean of all."""
    variance: NDArray[np.float64]
    """(c, c) over all shuffles; zero where they were drawn."""


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """Counting in one section."""

    graph: RowGraph
    labels: Labels
    number: int
    seed: int
    threads: int
    limit: int

    def count(self, n_perms: int | None) -> _Counted:
        """Count the labels as they are, and shuffled."""
        c = len(self.labels.categories)
        known = np.maximum(self.labels.codes, 0)
        codes = known.astype(np.uint8) if c <= 256 else known.astype(np.uint16)
        counts = self._count(codes[:, None])[0]
        if n_perms is None:
            mean, variance = join_count_moments(self.graph, self.labels, self.threads)
            return _Counted(counts, mean[None], variance)
        shuffled = np.empty((n_perms, c, c))
        for first, stop in self._batches(n_perms, codes.itemsize):
            shuffled[first:stop] = self._count(self._shuffle(codes, first, stop))
        return _Counted(counts, shuffled, np.zeros((c, c)))

    def _batches(self, n_perms: int, item: int) -> Iterator[tuple[int, int]]:
        c = len(self.labels.categories)
        fixed = self.graph.n_obs * _CELL_BYTES + self.threads * _THREAD_BYTES
        each = self.graph.n_obs * item + (self.threads + 2) * 8 * c * c
        held = self.threads * min(_SHUFFLED, n_perms) * self.graph.n_obs * item
        refuse_above(
            self.limit,
            fixed + held + each,
            f"shuffling the labels of {self.graph.n_obs:,} cells",
            "raise memory_limit, use fewer threads, or ask for exact moments (n_perms=None)",
        )
        at_once = min(_MOST_AT_ONCE, (self.limit - fixed - held) // each)
        for first in range(0, n_perms, at_once):
            yield first, min(first + at_once, n_perms)

    def _count(self, labelings: Codes) -> NDArray[np.int64]:
        """Count label pairs of every labeling (a column each), (p, c, c)."""
        from .label_kernels import count_label_pairs  # brings numba

        c = len(self.labels.categories)

        def count(first_row: int, edges: Edges) -> NDArray[np.uint32]:
            found: NDArray[np.uint32] = count_label_pairs(
                first_row, edges.indptr, edges.indices, labelings, c
            )
            return found

        total = np.zeros((labelings.shape[1], c * c), np.int64)
        for part in map_blocks(self.graph, count, self.threads):
            total += part
        return total.reshape(-1, c, c)

    def _shuffle(self, codes: Codes, first: int, stop: int) -> Codes:
        """Shuffle the labels among the cells that have one; (n_obs, stop - first)."""
        from .label_kernels import shuffle

        out = np.zeros((codes.size, stop - first), codes.dtype)
        labelled = self.labels.codes >= 0
        everywhere = bool(labelled.all())
        known = codes if everywhere else codes[labelled]
        rows = slice(None) if everywhere else labelled

        def fill(low: int) -> None:
            high = min(low + _SHUFFLED, stop)
            drawn = np.tile(known, (high - low, 1))
            for line, p in zip(drawn, range(low, high), strict=True):
                shuffle(np.random.default_rng([self.seed, self.number, p]), line)
            out[rows, low - first : high - first] = drawn.T

        for _ in map_in_order(fill, list(range(first, stop, _SHUFFLED)), self.threads):
            pass
        return out
