"""Which labels are neighbors more often than chance has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InvalidArgument
from ..memory import parse_bytes, refuse_above
from .join_counts import join_count_moments
from .labels import Labels, read_labels
from .restricted import check_mask, restrict
from .row_graph import check_cells, check_whole, count_threads, map_blocks, map_in_order

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
# Tables of pairs of labels, 8 bytes each: three results of a section, three sums and their
# copies while they grow, and what is computed on the way.
_TABLES = 12


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
        With several, counts are added, and labels are shuffled within each section; so their
        variances are added, too.
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
        Decides how many shuffles are held at once: each takes a byte a cell, 2 above 256 labels,
        and 8 bytes a pair of labels and thread. Shuffles that were counted are not kept.

    Returns
    -------
    NeighborhoodEnrichment

    Raises
    ------
    ColumnNotFound, InvalidArgument
        No such column, one of numbers, fewer than two labels, or a graph of other cells.
    BudgetExceeded
        The limit does not hold a single shuffle, or the tables of so many labels.
    """
    graphs, sections, masks = _paired(graph, section, cells)
    n_perms = None if n_perms is None else check_whole("n_perms (None for all)", n_perms, 1)
    seed = check_whole("seed", seed, 0)
    n_threads, limit = count_threads(threads), parse_bytes(memory_limit)
    sums = _Sums()
    for number, (one, where, kept) in enumerate(zip(graphs, sections, masks, strict=True)):
        check_cells(one, where)
        labels = read_labels(where, column, check_mask(kept, where.n_obs))
        labelled = restrict(one, labels.codes >= 0)
        held = sums.nbytes(labels.categories)
        work = _Work(labelled, labels, number, seed, n_threads, limit, held)
        sums.add(labels, work.count(n_perms))
    c = len(sums.categories)
    if c < 2:
        raise InvalidArgument(
            f"a column of two or more labels is wanted, but got {c} in {column!r}; name another"
        )
    categories = tuple(sums.categories)
    std = np.sqrt(sums.variance)
    return NeighborhoodEnrichment(categories, sums.counts, sums.mean, std, n_perms, sums.n_obs)


class _Sums:
    """Counts, means and variances of the sections so far: they add up.

    Variances do because the labels are shuffled within each section, so that what is drawn in one
    says nothing on what is drawn in another.
    """

    def __init__(self) -> None:
        self.categories: dict[str, int] = {}
        self.counts = np.zeros((0, 0), np.int64)
        self.mean, self.variance = np.zeros((0, 0)), np.zeros((0, 0))
        self.n_obs = 0

    def nbytes(self, more: Sequence[str]) -> int:
        """Bytes at most while a section with some labels is added, and at the end."""
        c = len(self.categories) + sum(name not in self.categories for name in more)
        return _TABLES * 8 * c * c

    def add(self, labels: Labels, found: _Counted) -> None:
        """Add a section."""
        places = [self.categories.setdefault(n, len(self.categories)) for n in labels.categories]
        more = (0, len(self.categories) - len(self.counts))
        self.counts = np.pad(self.counts, more)
        self.mean, self.variance = np.pad(self.mean, more), np.pad(self.variance, more)
        pairs = np.ix_(places, places)
        self.counts[pairs] += found.counts
        self.mean[pairs] += found.mean
        self.variance[pairs] += found.variance
        self.n_obs += int((labels.codes >= 0).sum())


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
    mean: NDArray[np.float64]
    """(c, c) over the shuffles drawn, or over all."""
    variance: NDArray[np.float64]
    """(c, c) over the shuffles drawn, or over all."""


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """Counting in one section."""

    graph: RowGraph
    labels: Labels
    number: int
    seed: int
    threads: int
    limit: int
    held: int
    """Bytes of the tables of the sections so far."""

    def count(self, n_perms: int | None) -> _Counted:
        """Count the labels as they are, and shuffled."""
        at_once = self._at_once(n_perms)
        c = len(self.labels.categories)
        kind: type[np.unsignedinteger[Any]] = (
            np.uint8 if c <= 2**8 else np.uint16 if c <= 2**16 else np.uint32
        )
        codes: Codes = np.maximum(self.labels.codes, 0).astype(kind)
        counts = self._count(codes[:, None])[0]
        if n_perms is None:
            return _Counted(counts, *join_count_moments(self.graph, self.labels, self.threads))
        # Less the labels as they are, whose counts are of the same size: sums of the squares of
        # what is left are exact up to 2**53. Taken in the order of the shuffles, so that they do
        # not depend on how many are counted at once.
        total, squares = np.zeros((c, c)), np.zeros((c, c))
        for first in range(0, n_perms, at_once):
            for one in self._count(self._shuffle(codes, first, min(first + at_once, n_perms))):
                apart = (one - counts).astype(np.float64)
                total += apart
                squares += apart * apart
        apart = total / n_perms
        variance = np.maximum(squares / n_perms - apart * apart, 0.0)
        return _Counted(counts, counts + apart, variance)

    def _at_once(self, n_perms: int | None) -> int:
        """How many shuffles are held at once; refuses where one is too many, or the tables are."""
        n, c = self.graph.n_obs, len(self.labels.categories)
        item = 1 if c <= 2**8 else 2 if c <= 2**16 else 4
        drawn = 0 if n_perms is None else self.threads * min(_SHUFFLED, n_perms)
        fixed = self.held + n * _CELL_BYTES + self.threads * _THREAD_BYTES + drawn * n * item
        each = n * item + (self.threads + 3) * 8 * c * c
        many = c * c > n  # then it is the tables that fill the memory
        shuffling = f"shuffling the labels of {n:,} cells"
        refuse_above(
            self.limit,
            fixed + each,
            f"counting the pairs of {c:,} labels" if many or n_perms is None else shuffling,
            "raise memory_limit, or name a column of fewer labels"
            if many or n_perms is None
            else "raise memory_limit, use fewer threads, or ask for exact moments (n_perms=None)",
        )
        return int(min(_MOST_AT_ONCE, (self.limit - fixed) // each))

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
