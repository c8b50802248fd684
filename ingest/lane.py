"""Work on a second thread, beside the caller's or after it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context

__all__ = ["LaneStoppedError", "lane"]


class LaneStoppedError(Exception):
    """Raised by work on a lane whose caller has failed: nobody wants its result any more."""


@contextmanager
def lane[T](work: Callable[[Callable[[], None]], T], *, beside: bool) -> Iterator[Callable[[], T]]:
    """Begin work that does not wait for the caller's, nor the caller for it until the end.

    Parameters
    ----------
    work : callable
        Is given a function that raises `LaneStoppedError` once the caller has failed; long work
        calls it now and then.
    beside : bool
        Whether to work while the block lasts; else the result is made when it is asked for.

    Yields
    ------
    callable
        Waits for the result, or makes it; raises what the work raised.

    Examples
    --------
    >>> with lane(lambda check: 6 * 7, beside=True) as result:
    ...     result()
    42
    """
    failed = threading.Event()

    def check() -> None:
        if failed.is_set():
            raise LaneStoppedError

    if not beside:
        yield lambda: work(check)
        return
    # Leaving the pool waits: work may still write into folders that the caller is about to remove.
    with ThreadPoolExecutor(1, "tisseract-lane") as pool:
        # what the caller has set for its own work holds for this one too
        done = pool.submit(copy_context().run, work, check)
        try:
            yield done.result
        except BaseException:
            failed.set()
            raise
