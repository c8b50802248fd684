"""Work on the next few items while the one at hand is used; results keep their order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

__all__ = ["prefetched", "ready_ahead"]


def ready_ahead(threads: int) -> int:
    """Return how many items threads begin before they are asked for."""
    return threads + 1


def prefetched[A, B](
    work: Callable[[A], B], items: Iterable[A], *, threads: int, depth: int
) -> Generator[B]:
    """Yield `work(item)` for every item, in order.

    Parameters
    ----------
    work : callable
        Thread-safe.
    items : iterable
    threads : int
        0 works in the caller.
    depth : int
        Items begun and not yet handed out, at most; at least 1.

    Raises
    ------
    Exception
        What `work` raised, when its item's turn comes.

    Notes
    -----
    Close the generator to stop early; that waits for what is being worked on.

    Examples
    --------
    >>> list(prefetched(str.upper, "abc", threads=2, depth=2))
    ['A', 'B', 'C']
    """
    if threads < 1:
        yield from map(work, items)
        return
    waiting = iter(items)
    begun: deque[Future[B]] = deque()
    with ThreadPoolExecutor(threads, "tisseract-batch") as pool:
        try:
            begun.extend(pool.submit(work, item) for item in islice(waiting, depth))
            while begun:
                done = begun.popleft()
                result = done.result()
                del done  # the batch must not live longer than its user wants it
                begun.extend(pool.submit(work, item) for item in islice(waiting, 1))
                yield result
                del result
        finally:
            for future in begun:
                future.cancel()
