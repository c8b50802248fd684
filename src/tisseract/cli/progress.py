"""Progress on stderr: a live bar on a terminal, timestamped lines elsewhere, silence on request."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

from .text import clean

__all__ = ["Reporter", "reporter"]

_HEARTBEAT_SECONDS = 30.0


class Reporter(Protocol):
    """A context manager that takes events; also the callback given to the engine."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...

    def __call__(self, *event: Any) -> None:
        """Take one event; see `describe`."""
        ...


def reporter(title: str, *, quiet: bool) -> Reporter:
    """Choose how to report: silent, live (stderr is a terminal), or plain lines."""
    if quiet:
        return _Silent()
    if sys.stderr.isatty():
        return _Live(title)
    return _Lines(title, sys.stderr.write)


def describe(event: tuple[Any, ...]) -> tuple[str, float, float]:
    """Read one event: (line, done, total).

    Engines call back with a sentence, with an object of `section`, `message`, `done`, `total`, or
    with (message, done, total).

    Examples
    --------
    >>> describe(("reading",)), describe(("tiles", 3, 9))
    (('reading', 0.0, 0.0), ('tiles', 3.0, 9.0))
    """
    if len(event) >= 3:
        return str(event[0]), float(event[1]), float(event[2])
    (value,) = event[:1] or ("",)
    if isinstance(value, str):
        return value, 0.0, 0.0
    kind = str(getattr(value, "kind", ""))
    parts = [kind if kind not in ("stage", "plan") else "", getattr(value, "section", "")]
    parts.append(getattr(value, "message", ""))
    done, total = getattr(value, "done", 0), getattr(value, "total", 0)
    return " ".join(str(part) for part in parts if part), float(done), float(total)


class _Silent:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __call__(self, *event: Any) -> None:
        return None


class _Lines:
    """Plain lines: every new message at once, repeated ones rarely, and a heartbeat."""

    def __init__(self, title: str, write: Callable[[str], Any]) -> None:
        self._title, self._write = title, write
        self._started = time.monotonic()
        self._last_text, self._last_time = "", 0.0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self._line(self._title)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def __call__(self, *event: Any) -> None:
        text, done, total = describe(event)
        now = time.monotonic()
        with self._lock:
            repeated = text == self._last_text
            if repeated and now - self._last_time < _HEARTBEAT_SECONDS:
                return
            self._last_text, self._last_time = text, now
        self._line(text + (f"  {done:g}/{total:g}" if total > 1 else ""))

    def _line(self, text: str) -> None:
        seconds = time.monotonic() - self._started
        stamp = time.strftime("%H:%M:%S")
        self._write(f"{stamp} {seconds:6.1f}s  {clean(text)}\n")
        sys.stderr.flush()

    def _beat(self) -> None:
        while not self._stop.wait(_HEARTBEAT_SECONDS):
            with self._lock:
                recent = time.monotonic() - self._last_time < _HEARTBEAT_SECONDS
                text = self._last_text or self._title
            if not recent:
                self._line(f"still at: {text}")


class _Live:
    """One live line with a spinner, a bar when the total is known, and the time."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._title = clean(title)

    def __enter__(self) -> Self:
        self._progress.start()
        self._task = self._progress.add_task(self._title, total=None)
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, *event: Any) -> None:
        text, done, total = describe(event)
        description = f"{self._title}: {clean(text)}" if text else self._title
        self._progress.update(
            self._task, description=description, completed=done, total=total or None
        )
