"""Batches made in background threads while the step before them runs, in their order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["made_ahead"]


def made_ahead[Item, Made](
    make: Callable[[Item], Made], items: Iterable[Item], workers: int
) -> Generator[Made]:
    """Make something of every item, some of it ahead of its use.

    Parameters
    ----------
    make : callable
        Thread-safe; the same whenever it is called.
    items : iterable
        Taken one by one, at most `workers + 1` ahead.
    workers : int
        Threads; 0 makes everything when it is asked for.

    Yields
    ------
    object
        In the order of the items, whatever the number of workers. An exception of `make` is
        raised where its result would have come.

    Notes
    -----
    Memory: `workers + 1` results beside the one in use. Close the generator to stop early; it
    waits for what is being made.

    Examples
    --------
    >>> list(made_ahead(str, range(4), workers=2))
    ['0', '1', '2', '3']
    """
    if workers < 1:
        for item in items:
            yield make(item)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="tisseract-batch") as pool:
        waiting: deque[Future[Made]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(make, item))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
