"""What an ingest tells while it runs: small events to a callback; the engine prints nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

__all__ = ["EventKind", "Progress", "ProgressCallback", "silent"]

EventKind = Literal[
    "check", "note", "plan", "start", "stage", "done", "skip", "fail", "commit", "finish"
]
"""check: one row inspected · note: what may be a mistake · plan: what will be done is known ·
start, stage, done, skip, fail: of one section · commit: a snapshot was created · finish: nothing
more will come."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One event."""

    kind: EventKind
    """What happened."""
    section: str = ""
    """The section it happened to; empty for the whole ingest."""
    message: str = ""
    """For people: the stage, the reason of a failure, what was committed."""
    done: float = 0.0
    """Work finished, in units of `total`: sections, or for `stage` the fraction of one section."""
    total: float = 0.0
    """Work altogether; 0 when unknown."""
    nbytes: int = 0
    """Bytes written (`done`, `commit`)."""


ProgressCallback = Callable[[Progress], None]
"""Called from the driver and from threads that write sections: must be quick and thread-safe."""


def silent(event: Progress) -> None:
    """Take an event and say nothing.

    Examples
    --------
    >>> silent(Progress("finish"))
    """
