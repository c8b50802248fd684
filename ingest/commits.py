"""Commits in groups: one snapshot for many sections, driven by the driver alone.

Workers seal attempts and send receipts. A snapshot lists all sections, so one per section would
make the catalog grow with the square of their number; one at the end would lose a night's work to
a crash. So: a batch of sections, or whatever is ready after ten seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..atlas.errors import CommitConflict
from ..atlas.snapshot import Change, DerivedEntry, SectionEntry

if TYPE_CHECKING:
    from ..atlas.store import AtlasStore

__all__ = ["GroupedCommits"]


class GroupedCommits:
    """Entries waiting for their snapshot; nothing counts as written before `flush` returned.

    Parameters
    ----------
    store : AtlasStore
        Opened for writing.
    batch : int
        Sections per commit.
    seconds : float
        Longest wait of a section for its commit.
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self,
        store: AtlasStore,
        *,
        batch: int = 50,
        seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store, self.batch, self.seconds, self.clock = store, batch, seconds, clock
        self._waiting: dict[bool, list[SectionEntry]] = {False: [], True: []}
        self._attached: dict[str, tuple[DerivedEntry, ...]] = {}
        self._since: float | None = None

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def add(
        self, entry: SectionEntry, *, replace: bool, attached: tuple[DerivedEntry, ...] = ()
    ) -> None:
        """Take a sealed section and what is attached to it; commits nothing yet."""
        self._attached[entry.attempt] = attached
        if self._since is None:
            self._since = self.clock()
        self._waiting[replace].append(entry)

    @property
    def due(self) -> bool:
        """Whether a batch is full or a section has waited long enough."""
        if self._since is None:
            return False
        return len(self) >= self.batch or self.clock() - self._since >= self.seconds

    def flush(self) -> tuple[list[SectionEntry], list[tuple[SectionEntry, bool]]]:
        """Commit all that waits.

        Returns
        -------
        committed : list of SectionEntry
            Now in the atlas.
        beaten : list of (SectionEntry, bool)
            Another writer committed a section of this name meanwhile; True when from the very
            same input, in which case nothing is lost.

        Raises
        ------
        AtlasError
            If the storage fails; what was waiting still waits.
        """
        committed: list[SectionEntry] = []
        beaten: list[tuple[SectionEntry, bool]] = []
        for replace, waiting in self._waiting.items():
            # A batch taken apart by conflicts shrinks each round, so this ends.
            while waiting:
                try:
                    attached = [one for e in waiting for one in self._attached[e.attempt]]
                    change = Change(
                        add_sections=tuple(waiting), add_derived=attached, replace=replace
                    )
                    self.store.commit(change, _message(waiting))
                except CommitConflict:
                    lost = self._lost(waiting)
                    if not lost:
                        raise
                    beaten += lost
                    names = {entry.section for entry, _ in lost}
                    waiting[:] = [entry for entry in waiting if entry.section not in names]
                else:
                    there = self.store.snapshot.sections
                    for entry in waiting:
                        # The same input under another attempt: another ingest was first.
                        if there[entry.section].attempt == entry.attempt:
                            committed.append(entry)
                        else:
                            beaten.append((entry, True))
                    waiting.clear()
        self._since = None
        return committed, beaten

    def _lost(self, waiting: list[SectionEntry]) -> list[tuple[SectionEntry, bool]]:
        self.store.refresh()
        there = self.store.snapshot.sections
        lost = []
        for entry in waiting:
            other = there.get(entry.section)
            if other is None:
                continue
            same = other.fingerprint == entry.fingerprint
            # From the same input, too, what is attached belongs to the other's attempt.
            if not same or (self._attached[entry.attempt] and other.attempt != entry.attempt):
                lost.append((entry, same))
        return lost

    def attached_to(self, entry: SectionEntry) -> tuple[DerivedEntry, ...]:
        """Tell what was written with a section."""
        return self._attached[entry.attempt]


def _message(entries: list[SectionEntry]) -> str:
    names = ", ".join(entry.section for entry in entries[:3])
    more = f" and {len(entries) - 3} more" if len(entries) > 3 else ""
    return f"ingest {names}{more}"
