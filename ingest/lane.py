"""Work on a second thread, beside the caller's or after it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from types import TracebackType
from typing import Self

__all__ = ["Lane", "LaneStoppedError"]


class LaneStoppedError(Exception):
    """Raised by work on a lane whose caller has failed: nobody wants its result any more."""


class Lane[T]:
    """One piece of work that does not wait for the caller's, nor the caller for it until the end.

    Parameters
    ----------
    work : callable
        Is given a function that raises `LaneStoppedError` once the caller has failed; long work
        calls it now and then.
    beside : bool
        Whether to work while the caller does; else `result` works.

    Examples
    --------
    >>> with Lane(lambda check: 6 * 7, beside=True) as lane:
    ...     lane.result()
    42
    """

    def __init__(self, work: Callable[[Callable[[], None]], T], *, beside: bool) -> None:
        self._work, self._beside = work, beside
        self._stop = threading.Event()
        self._pool: ThreadPoolExecutor | None = None
        self._done: Future[T] | None = None

    def __enter__(self) -> Self:
        if self._beside:
            self._pool = ThreadPoolExecutor(1, "tisseract-lane")
            # what the caller has set for its own work holds for this one too
            self._done = self._pool.submit(copy_context().run, self._work, self._check)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._stop.set()
        if self._pool is not None:
            # it may still write into folders that the caller is about to remove
            self._pool.shutdown(wait=True)

    def result(self) -> T:
        """Wait for the work, or do it now; raises what it raised."""
        return self._work(self._check) if self._done is None else self._done.result()

    def _check(self) -> None:
        if self._stop.is_set():
            raise LaneStoppedError
