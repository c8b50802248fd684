"""The question "where is tissue like this?", from its words to its hits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument, near
from ..cells.rows import pairs_of
from ..telling import tell
from . import approximate as graphs
from .arguments import check_search, named, numbers
from .cells import blocks
from .example import describe_example, require_sections
from .hits import Hits, hits_of
from .opened import Index, open_index
from .scope import sections_asked
from .scoring import METRICS, Description, Metric, Scorer, part_weights
from .search import SPARE, Found, Scope, scan, spread_out
from .windows import encode

if TYPE_CHECKING:
    from ...atlas.store import AtlasStore
    from ..cells.selection import Selection


class UnindexedWarning(UserWarning):
    """Sections that the filter leaves are not in the index, so that nothing of them is found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to search."""

    k: int = 20
    where: str | None = None
    key: str = "similar"
    window_um: float | None = None
    window_spacings: float | None = None
    metric: Metric = "cosine"
    weights: Mapping[str, float] | None = None
    having: Mapping[str, Mapping[str, float]] | None = None
    exclude_self: bool = True
    max_overlap: float = 0.0
    approximate: bool | None = None

    def __post_init__(self) -> None:
        check_search(self.k, self.max_overlap)
        if self.metric not in METRICS:
            raise InvalidArgument(
                f"metric 'cosine' or 'euclidean' is wanted, but got {self.metric!r}"
            )


def similar(store: "AtlasStore", like: "Selection", options: Options) -> Hits:
    """Find windows that are like the cells of a selection.

    Parameters
    ----------
    store
        The atlas.
    like
        The tissue that is looked for: a region, or any cells.
    options
        How to search.

    Returns
    -------
    Hits
        At most k windows, the most alike first; of windows that overlap the best alone. Equal
        scores go by section, then by row and column of the grid.

    Raises
    ------
    DerivedNotFound, StaleDerived
        No index of this key; a section whose windows do not hold any more.
    InvalidArgument
        Too few cells; a filter that leaves nothing, or asks for cells; an unknown part or value.

    Notes
    -----
    The formula stands in docs/similar.md and `Scorer.score`. Memory: one block of 65,536
    windows (16 MB at 30 numbers), and one block of 8,192 cells of the selection.
    """
    index = open_index(store, options.key)
    assert index is not None
    size = index.parameters.size(options.window_um, options.window_spacings)
    sections = indexed(store, index, options.where)
    description = describe_example(store, index, like)
    banned = _own(store, index, like, size) if options.exclude_self else {}
    having = _having(index, options.having)
    scope = Scope(sections, size, {n: b for n, b in banned.items() if n in sections}, having)
    found = find_windows(index, scope, description, options)
    kept, grid = spread_out(index, found, size, options.k, options.max_overlap)
    words = f"like {description.n_cells:,} cells: {like.question}"
    return hits_of(store, index, kept, grid, size, words=words, like=like)


def indexed(store: "AtlasStore", index: Index, where: str | None) -> list[str]:
    """Sections of an index that a filter leaves; tells of those that are not indexed.

    Raises
    ------
    StaleDerived
        One of them holds windows of what was replaced since.
    InvalidArgument
        None of them is in the index.
    """
    asked = sections_asked(store, where)
    require_sections(store, index, [name for name in asked if name in index.stale])
    here = [name for name in asked if name in index.rows]
    missing = [name for name in asked if name not in index.rows]
    if not here:
        require_sections(store, index, missing)
    if missing:
        tell(
            f"{len(missing)} of {len(asked)} sections are not in index {index.key!r} "
            f"({', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}), so that nothing is "
            f"found there; `tisseract index {store.url} --key {index.key}` adds them",
            UnindexedWarning,
        )
    return here


def _own(
    store: "AtlasStore", index: Index, like: "Selection", size: int
) -> dict[str, NDArray[np.int64]]:
    """Windows that hold a cell of the example, as rows from the first of their section."""
    found = {}
    for name, runs in like.runs.items():
        at = index.rows[name]
        section, grid = store.section(name), index.grid(name, size)
        read = [np.zeros(0, np.int64)]
        read += [encode(grid.bins(section.positions(pairs_of(part)))) for part in blocks(runs)]
        mine = np.unique(np.concatenate(read))
        segment = index.segments[at.segment]
        rows = [(at.start[size], at.stop[size])]
        windows = segment.read(f"w{size}.grid", rows).astype(np.int64)
        hit = np.zeros(len(windows), bool)
        for shift in ((0, 0), (1, 0), (0, 1), (1, 1)):
            hit |= np.isin(encode(windows + np.array(shift)), mine)
        found[name] = np.flatnonzero(hit)
    return found


def _having(
    index: Index, wanted: Mapping[str, Mapping[str, float]] | None
) -> dict[int, tuple[tuple[int, float], ...]]:
    found = {}
    asked = {} if wanted is None else named(wanted, "having=", "{'cell_type': {'Neuron': 0.3}}")
    for column, given in asked.items():
        least = numbers(given, "having=", "{'cell_type': {'Neuron': 0.3}}")
        columns: Sequence[str] = index.parameters.columns
        if column not in columns:
            raise InvalidArgument(
                f"a column of index {index.key!r} is wanted in having=, but got {column!r}."
                f"{near(column, columns)} It has {', '.join(columns) or 'none'}."
            )
        values = index.values[column]
        for value in least:
            if value not in values:
                raise InvalidArgument(
                    f"a value of column {column!r} is wanted in having=, but got {value!r}."
                    f"{near(value, values)}"
                )
        found[columns.index(column)] = tuple(
            (values.index(value), float(share)) for value, share in least.items()
        )
    return found


def find_windows(index: Index, scope: Scope, like: Description, options: Options) -> Found:
    """Find the windows most like a description, so many that k of them lie apart."""
    columns, size = index.parameters.columns, scope.size
    weights = part_weights(columns, options.weights)
    scale = {part: index.scale(size, part) for part in ("mean", "spread") if weights[part]}
    level = index.level(size) if weights["spread"] else np.zeros(index.width)
    scorer = Scorer(like, options.metric, weights, columns, scale, level)
    n = SPARE * options.k
    if not _by_graph(index, scope, scorer, options):
        return scan(index, scope, scorer, n)
    best = Found.none()
    for number, segment in enumerate(index.segments):
        here = [name for name in scope.sections if index.rows[name].segment == number]
        banned = {n: b + index.rows[n].start[scope.size] for n, b in scope.banned.items()}
        no = np.concatenate([banned[n] for n in here if n in banned] or [np.zeros(0, np.int64)])
        asked = min(n + len(no), 4 * n)
        rows, score = graphs.search_graph(segment, scope.size, scorer.like.mean, asked)
        section = _sections_of(index, here, scope.size, rows)
        keep = (section >= 0) & ~np.isin(rows, no)
        found = Found(
            section[keep], np.full(int(keep.sum()), number), rows[keep], np.round(score[keep], 6)
        )
        best = best.best(found, n)
    return best


def _by_graph(index: Index, scope: Scope, scorer: Scorer, options: Options) -> bool:
    n = sum(index.rows[s].stop[scope.size] - index.rows[s].start[scope.size] for s in index.rows)
    fits = (
        scorer.metric == "cosine"
        and scorer.needs() == ["mean"]
        and not scope.having
        and len(scope.sections) == len(index.rows)
    )
    large = n > graphs.THRESHOLD and graphs.installed()
    if options.approximate is False or (options.approximate is None and not large):
        return False
    there = fits and all(graphs.has_graph(segment, scope.size) for segment in index.segments)
    if options.approximate and not there:
        raise InvalidArgument(
            "approximate=True wants a graph over the windows, the cosine of the mean alone, and "
            "no filter, but got "
            + ("other options; leave approximate out" if not fits else "an index without a graph; ")
            + ("" if not fits else "build it with approximate=True, overwrite=True")
        )
    return there


def _sections_of(
    index: Index, names: Sequence[str], size: int, rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Find the number of the section of each row of a segment; -1 where it holds no more."""
    order = {name: i for i, name in enumerate(index.rows)}
    ordered = sorted(names, key=lambda name: index.rows[name].start[size])
    if not ordered:
        return np.full(len(rows), -1, np.int64)
    start = np.array([index.rows[name].start[size] for name in ordered])
    stop = np.array([index.rows[name].stop[size] for name in ordered])
    number = np.array([order[name] for name in ordered])
    at = np.searchsorted(start, rows, side="right") - 1
    inside = (at >= 0) & (rows < stop[np.maximum(at, 0)])
    return np.where(inside, number[np.maximum(at, 0)], -1)
