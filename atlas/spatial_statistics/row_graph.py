"""A graph that is read a block of rows at a time, and the loop that all statistics share."""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import InvalidArgument

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ..graph.edges import Edges
    from ..quadtree import Runs
    from ..section import Section

__all__ = ["RowGraph", "check_cells", "check_whole", "count_threads", "map_blocks", "map_in_order"]


class RowGraph(Protocol):
    """What a statistic needs of a graph; stored and lazy graphs both have it.

    A lazy graph computes its edges anew in each pass; build it first where several statistics, or
    one of several passes, are wanted.
    """

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        ...

    @property
    def row_ptr(self) -> tuple[int, ...]:
        """Block b is rows row_ptr[b]:row_ptr[b + 1]."""
        ...

    def edges(self, runs: Runs) -> Edges:
        """Return the edges of some rows; columns ascend within a row, none twice."""
        ...


def check_cells(graph: RowGraph, section: Section) -> None:
    """Refuse a graph of other cells than the section's.

    Raises
    ------
    InvalidArgument
        The numbers of cells differ, or the graph says that it is another section's.
    """
    owner = _section_name(graph)
    if graph.n_obs != section.n_obs or owner not in (None, section.name):
        of = f" of section {owner!r}" if owner else ""
        raise InvalidArgument(
            f"a graph of the {section.n_obs:,} cells of section {section.name!r} is wanted, but "
            f"got one of {graph.n_obs:,} cells{of}; open the graph of this section"
        )


def _section_name(graph: RowGraph) -> str | None:
    """Name of the section that a stored or a lazy graph belongs to, where it says so."""
    stored = getattr(getattr(graph, "entry", None), "section", None)
    lazy = getattr(getattr(graph, "section", None), "name", None)
    return stored or lazy


def check_whole(name: str, value: Any, least: int) -> int:
    """Return a whole number, of any type that is one.

    Raises
    ------
    InvalidArgument
        A fraction, a truth value, text, or less than the least.

    Examples
    --------
    >>> check_whole("seed", 7, 0)
    7
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least:
        raise InvalidArgument(f"{name} must be a whole number from {least}, but got {value!r}")
    return number


def count_threads(threads: int | None) -> int:
    """Return how many threads to use: those asked for, else one a core that this process may use.

    Raises
    ------
    InvalidArgument
        Less than one, or no whole number.
    """
    if threads is None:
        from dask.system import CPU_COUNT

        return int(CPU_COUNT)
    return check_whole("threads", threads, 1)


def map_in_order[Task, Result](
    function: Callable[[Task], Result], tasks: Iterator[Task] | list[Task], threads: int
) -> Iterator[Result]:
    """Apply a function in threads and hand out results in the order of the tasks.

    At most ``threads + 1`` results wait or are in the making, so memory does not grow with the
    number of tasks; sums taken in this order do not depend on the number of threads.

    Examples
    --------
    >>> list(map_in_order(abs, [-3, 1, -2], 2))
    [3, 1, 2]
    """
    if threads == 1:
        yield from map(function, tasks)
        return
    from concurrent.futures import ThreadPoolExecutor

    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="tisseract-statistics") as pool:
        try:
            for task in tasks:
                waiting.append(pool.submit(function, task))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def map_blocks[Result](
    graph: RowGraph, function: Callable[[int, Edges], Result], threads: int | None
) -> Iterator[Result]:
    """Read a graph once, block by block, and apply a function to each in threads.

    Parameters
    ----------
    graph : RowGraph
        Read once.
    function : callable
        Given the first row of a block and its edges; called from several threads at once.
    threads : int, optional
        One a core without.

    Yields
    ------
    result
        In the order of the blocks. Memory: ``threads + 1`` blocks and results.
    """

    def apply(rows: tuple[int, int]) -> Result:
        return function(rows[0], graph.edges([rows]))

    yield from map_in_order(apply, pairwise(graph.row_ptr), count_threads(threads))
