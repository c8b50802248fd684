"""Ranking the cells of a section by how much their surroundings are like an example."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ..cells.rows import (
    RunArray,
    coalesce,
    count,
    pairs_of,
    rows_of,
    runs_of,
    within,
)
from ..expression.choice import choose_genes
from .cells import blocks, evenly, log_values, taking_part

if TYPE_CHECKING:
    import pandas as pd

    from ...atlas.section import Section
    from ...atlas.store import AtlasStore
    from ..cells.selection import Selection

NEIGHBORS = 18
"""Two rings of a hexagonal lattice."""

GENES = "genes"
_N_GENES = 2000
# Cells of the example, and of the rest of its sections, that the contrast is drawn from.
_SAMPLE = 8192
_ROWS_AT_ONCE = 1024
_FEWEST = 3
_FEWEST_GENES = 10
_GAP = 64


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """What a cell is described by: genes, or the numbers of an embedding."""

    store: "AtlasStore"
    space: str
    columns: dict[str, NDArray[np.int64]]

    def read(self, section: "Section", runs: RunArray) -> Any:
        """Describe some rows, (m, d), sparse for genes."""
        wide = coalesce(runs, _GAP)
        if self.space == GENES:
            values: Any = log_values(section, wide, self.columns[section.name])
        else:
            from ...atlas.derived_read import read_embedding

            values = read_embedding(self.store, self.space, section.name, pairs_of(wide))
        return values if len(wide) == len(runs) else values[within(rows_of(runs), wide)]


@dataclass(slots=True)
class _Moments:
    """Sums over cells of the means of their surroundings."""

    n: int = 0
    total: Any = 0.0
    square: Any = 0.0

    def add(self, values: NDArray[np.float64]) -> None:
        self.n += len(values)
        self.total = self.total + values.sum(axis=0)
        self.square = self.square + (values * values).sum(axis=0)

    @property
    def mean(self) -> NDArray[np.float64]:
        return np.asarray(self.total / self.n)

    @property
    def variance(self) -> NDArray[np.float64]:
        return np.maximum(np.asarray(self.square / self.n) - self.mean**2, 0.0)


def rank_cells(
    store: "AtlasStore",
    like: "Selection",
    section: str,
    *,
    space: str = GENES,
    n_neighs: int = NEIGHBORS,
    where: str | None = None,
    all_cells: bool = False,
) -> "pd.DataFrame":
    """Score the cells of a section by how much their surroundings are like an example.

    A cell is described by the mean over itself and its `n_neighs` nearest cells. What tells the
    example from the other cells of its own sections is one direction: the difference of the two
    means, each number divided by its variance within the two (a diagonal linear discriminant; to
    each deviation the median one is added). The score is the place of a cell along it, minus the
    mean and divided by the deviation over the section: sections of other depth or chemistry are
    ranked by the same direction, whatever their mean is. No label but the example is used.

    Parameters
    ----------
    store
        The atlas.
    like
        The example; its sections must hold other cells too.
    section
        Whose cells are ranked; may be one of the example.
    space
        `genes`: the 2,000 most variable log-normalized genes that all sections concerned
        measured. Or the key of a stored embedding.
    n_neighs
        Neighbors whose mean describes a cell, beside itself.
    where, all_cells
        Which cells take part, of the example's sections as of the other; default those that
        pass QC.

    Returns
    -------
    DataFrame
        Column `score` (float64, higher is more alike); index `{section}:{cell id}`.

    Raises
    ------
    SectionNotFound, DerivedNotFound, StaleDerived
    InvalidArgument
        An example of fewer than three cells, or that leaves fewer than three in its sections;
        sections that share fewer than ten genes.

    Notes
    -----
    Memory: 24 bytes a cell of the section, and 1,024 cells with their neighbors' counts.
    """
    from ...atlas.graph import knn

    target = store.section(section)
    if n_neighs < 1:
        raise InvalidArgument(f"n_neighs of at least 1 is wanted, but got {n_neighs!r}")
    parts = [
        _divided(store, store.section(name), runs, where, all_cells=all_cells)
        for name, runs in like.runs.items()
    ]
    _check_enough(like, parts)
    source = _source(store, space, sorted({section, *like.runs}), parts)
    inside, outside = _Moments(), _Moments()
    for owner, chosen, rest in parts:
        graph = knn(store, owner.name, n_neighs=n_neighs)
        for moments, runs in ((inside, chosen), (outside, rest)):
            for values in _surroundings(owner, graph, source, evenly(runs, _SAMPLE)):
                moments.add(values)
    direction = _direction(inside, outside)
    cells = taking_part(store, target, where, all_cells=all_cells)
    return _scored(store, target, cells, source, direction, n_neighs=n_neighs)


type _Part = tuple["Section", RunArray, RunArray]


def _divided(
    store: "AtlasStore",
    section: "Section",
    runs: RunArray,
    where: str | None,
    *,
    all_cells: bool,
) -> _Part:
    every = rows_of(taking_part(store, section, where, all_cells=all_cells))
    mine = np.isin(every, rows_of(runs), assume_unique=True)
    return section, runs_of(every[mine]), runs_of(every[~mine])


def _check_enough(like: "Selection", parts: Sequence[_Part]) -> None:
    inside = sum(count(chosen) for _, chosen, _ in parts)
    outside = sum(count(rest) for *_, rest in parts)
    if inside < _FEWEST:
        raise InvalidArgument(
            f"at least {_FEWEST} cells are wanted as an example, but the selection has {inside}: "
            f"{like.question}; widen it"
        )
    if outside < _FEWEST:
        raise InvalidArgument(
            f"an example that leaves at least {_FEWEST} other cells in its sections is wanted, "
            f"but it leaves {outside}: there is nothing to tell it from; narrow it"
        )


def _source(
    store: "AtlasStore", space: str, sections: Sequence[str], parts: Sequence[_Part]
) -> _Source:
    if space != GENES:
        from .features import Embedded

        Embedded.of(store, space, sections)
        return _Source(store, space, {})
    choice = choose_genes(store, sections, None)
    shared = np.logical_and.reduce([choice.measured[name] for name in sections])
    if int(shared.sum()) < _FEWEST_GENES:
        raise InvalidArgument(
            f"sections that share genes are wanted, but {', '.join(sections)} share "
            f"{int(shared.sum())}; rank by an embedding with space="
        )
    kept = choice.restricted(sections, shared)
    total, square, n = np.zeros(len(kept)), np.zeros(len(kept)), 0
    for section, chosen, rest in parts:
        every = runs_of(np.sort(np.concatenate([rows_of(chosen), rows_of(rest)])))
        for part in blocks(evenly(every, _SAMPLE)):
            values = log_values(section, part, kept.columns[section.name])
            total += np.asarray(values.sum(axis=0)).ravel()
            square += np.asarray(values.multiply(values).sum(axis=0)).ravel()
            n += values.shape[0]
    variance = square / n - (total / n) ** 2
    genes = np.sort(np.argsort(-variance, kind="stable")[:_N_GENES])
    return _Source(store, space, {name: kept.columns[name][genes] for name in sections})


def _surroundings(
    section: "Section", graph: Any, source: _Source, runs: RunArray
) -> Iterator[NDArray[np.float64]]:
    """Mean over each row and its neighbors, a block of rows at a time."""
    for part in _pieces(runs):
        near, rows = _near(graph, part)
        values = source.read(section, runs_of(rows))
        mean = near @ values
        yield np.asarray(mean.toarray() if hasattr(mean, "toarray") else mean, np.float64)


def _pieces(runs: RunArray) -> Iterator[RunArray]:
    from ..cells.rows import batches

    return batches(runs, _ROWS_AT_ONCE) if count(runs) else iter(())


def _near(graph: Any, runs: RunArray) -> tuple[Any, NDArray[np.int64]]:
    """Weights (m, r) that take the mean over rows and neighbors, and the r rows they name."""
    import scipy.sparse as sp

    edges = sp.csr_array(graph.rows(pairs_of(runs)))
    own = rows_of(runs)
    m = len(own)
    degree = np.diff(edges.indptr)
    row = np.concatenate([np.repeat(np.arange(m), degree), np.arange(m)])
    named = np.concatenate([edges.indices.astype(np.int64), own])
    rows, column = np.unique(named, return_inverse=True)
    weight = 1.0 / (degree[row] + 1.0)
    return sp.csr_array((weight, (row, column)), shape=(m, len(rows))), rows


def _direction(inside: _Moments, outside: _Moments) -> NDArray[np.float64]:
    share = inside.n / (inside.n + outside.n)
    deviation = np.sqrt(inside.variance * share + outside.variance * (1 - share))
    spread = deviation + np.median(deviation[deviation > 0]) if deviation.any() else deviation + 1
    return np.asarray((inside.mean - outside.mean) / spread**2)


def _scored(
    store: "AtlasStore",
    section: "Section",
    cells: RunArray,
    source: _Source,
    direction: NDArray[np.float64],
    *,
    n_neighs: int,
) -> "pd.DataFrame":
    import pandas as pd

    from ...atlas.graph import knn
    from ..tables.obs import cell_ids

    along = np.zeros(section.n_obs)
    for part in blocks(np.array([[0, section.n_obs]], np.int64)):
        along[rows_of(part)] = source.read(section, part) @ direction
    graph = knn(store, section.name, n_neighs=n_neighs)
    found = [np.zeros(0)]
    for part in blocks(cells):
        near, rows = _near(graph, part)
        found.append(np.asarray(near @ along[rows]))
    score = np.concatenate(found)
    deviation = score.std() if len(score) else 1.0
    score = (score - score.mean()) / deviation if len(score) and deviation > 0 else score * 0.0
    return pd.DataFrame({"score": score}, index=cell_ids(section, cells))
