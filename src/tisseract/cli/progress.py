"""Progress on stderr: a live bar on a terminal, timestamped lines elsewhere, silence on request."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

from .text import clean

__all__ = ["Reporter", "reporter"]

_HEARTBEAT_SECONDS = 30.0
_MINOR_SECONDS = 2.0  # between two lines about steps; a finished section is always told
_MAJOR = ("note", "done", "skip", "fail", "commit", "plan")


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


@dataclass(frozen=True, slots=True)
class Step:
    """One event, as it is shown.

    Attributes
    ----------
    text : str
        One line.
    done, total : float
        Work finished and altogether; 0 when unknown.
    major : bool
        Worth a line of its own in a log.
    stage : str
        Steps of one stage are told rarely in a log, also where their text changes.
    """

    text: str
    done: float = 0.0
    total: float = 0.0
    major: bool = False
    stage: str = field(default="", repr=False)


def describe(event: tuple[Any, ...]) -> Step:
    """Read one event of an engine.

    Engines call back with a sentence, with (stage, done, total), with a step of a training
    (`StepReport`), or with an object of `kind`, `section`, `message`, `done`, `total`.

    Examples
    --------
    >>> describe(("tiles", 3, 9))
    Step(text='tiles', done=3.0, total=9.0, major=False)
    """
    if len(event) >= 3:
        return Step(str(event[0]), float(event[1]), float(event[2]))
    (value,) = event[:1] or ("",)
    if isinstance(value, str):
        return Step(value, major=True)
    if hasattr(value, "loss"):
        return _training(value)
    kind = str(getattr(value, "kind", ""))
    section = str(getattr(value, "section", ""))
    # a plan prints itself over many lines; the first one says it all
    message = str(getattr(value, "message", "")).partition("\n")[0]
    if section and message.startswith(f"{section}: "):  # a fault that names its row
        section = ""
    words = [kind if kind not in ("stage", "plan") else "", section, message]
    text = " ".join(str(word) for word in words if word)
    done, total = float(getattr(value, "done", 0)), float(getattr(value, "total", 0))
    return Step("" if kind == "finish" else text, done, total, kind in _MAJOR)


def _training(report: Any) -> Step:
    """Show one step of a training: loss, pace, time left."""
    text = f"train: loss {report.loss:.4g}, {report.cells_per_second:,.0f} cells/s"
    if math.isfinite(report.eta_seconds):
        minutes, seconds = divmod(round(report.eta_seconds), 60)
        hours, minutes = divmod(minutes, 60)
        text += f", {hours}:{minutes:02}:{seconds:02} left"
    return Step(text, float(report.done), float(report.total), stage="train")


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
        self._last_text, self._last_stage, self._last_time = "", "", self._started
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
        step, now = describe(event), time.monotonic()
        with self._lock:
            stage = step.stage or step.text
            pause = _HEARTBEAT_SECONDS if stage == self._last_stage else _MINOR_SECONDS
            if not step.text or (not step.major and now - self._last_time < pause):
                return
            self._last_text, self._last_stage, self._last_time = step.text, stage, now
        self._line(step.text + (f"  {step.done:g}/{step.total:g}" if step.total > 1 else ""))

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
        step = describe(event)
        if getattr(event[0] if event else None, "kind", "") == "note":  # must outlive the line
            self._progress.console.print(clean(step.text), markup=False, highlight=False)
            return
        text = f"{self._title}: {clean(step.text)}" if step.text else self._title
        self._progress.update(self._task, description=text)
        if step.total:
            self._progress.update(self._task, completed=step.done, total=step.total)
