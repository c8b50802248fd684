"""Write what a plan says: tasks out, receipts in, commits in groups, an outcome per section."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ..atlas.errors import Fault, InputError, TisseractError
from ..atlas.store import AtlasStore
from .commits import GroupedCommits
from .plan import IngestPlan
from .progress import Progress, ProgressCallback
from .report import SectionOutcome
from .section_task import SectionReceipt, SectionTask, write_one
from .workers import open_workers, submit_all

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["IngestRun", "OnError"]

OnError = Literal["raise", "skip"]
"""What a failing section means: the end, or one section less."""


@dataclass
class IngestRun:
    """Writes what a plan says; knows the outcome of every section at any time."""

    store: AtlasStore | None
    """Opened for writing; None when there is nothing to write."""
    on_error: OnError
    """What a failing section means."""
    tell: ProgressCallback
    """Receives events."""
    commit_seconds: float = 5.0
    """Longest wait of a sealed section for its commit."""
    outcomes: dict[str, SectionOutcome] = field(default_factory=dict)
    """By section."""
    first_error: BaseException | None = None
    """What ended the run."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Set when no further section shall be written."""

    def failures(self, failed: Sequence[SectionOutcome]) -> None:
        """Take note of rows that failed before the run."""
        for outcome in failed:
            self.outcomes[outcome.section] = outcome
            self.tell(Progress("fail", outcome.section, outcome.message))

    def skipped(self, planned: IngestPlan) -> None:
        """Take note of sections that are there already."""
        for item in planned.skips:
            source = item.source
            self.outcomes[source.section] = SectionOutcome(
                source.section, "skipped", item.reason, n_obs=source.n_obs, n_vars=source.n_vars
            )
            self.tell(Progress("skip", source.section, item.reason))

    def write(self, planned: IngestPlan, place: Client | str | None, tile_cells: int) -> None:
        """Write all sections of the plan; always commits what is sealed before it returns."""
        assert self.store is not None
        commits = GroupedCommits(self.store, seconds=self.commit_seconds)
        tasks = [
            SectionTask(
                self.store.storage,
                item.source,
                planned.section_limit,
                tile_cells,
                item.action == "replace",
                self.store.version,
            )
            for item in planned.writes
        ]
        by_name = {task.source.section: task for task in tasks}

        def tick() -> None:
            if commits.due:
                self._commit(commits, by_name)

        with open_workers(place, planned.n_workers) as workers:
            if workers.dashboard:
                self.tell(Progress("plan", message=f"dashboard {workers.dashboard}"))
            work = self._watched if workers.in_process else write_one
            try:
                for task, future in submit_all(
                    workers,
                    work,
                    tasks,
                    stopped=self.stop.is_set,
                    tick=tick,
                    tick_seconds=min(0.5, self.commit_seconds),
                ):
                    self._settle(task, future, commits)
            except BaseException:
                self.stop.set()
                raise
            finally:
                self._commit(commits, by_name)
        for task in tasks:
            name = task.source.section
            self.outcomes.setdefault(
                name, SectionOutcome(name, "not-started", "an earlier section failed")
            )

    def _watched(self, task: SectionTask) -> SectionReceipt:
        """Write a section in a thread of this process, telling stages and heeding a stop."""
        name = task.source.section
        self.tell(Progress("start", name))

        def stage(what: str, fraction: float) -> None:
            if self.stop.is_set():
                raise CancelledError(f"stopped while writing {name!r}")
            self.tell(Progress("stage", name, what, done=fraction, total=1.0))

        return write_one(task, stage)

    def _settle(
        self, task: SectionTask, future: Future[SectionReceipt], commits: GroupedCommits
    ) -> None:
        error = None if future.cancelled() else future.exception()
        if error is None and not future.cancelled():
            receipt = future.result()
            self.outcomes[task.source.section] = _written(task, receipt)
            commits.add(receipt.entry, replace=receipt.replace, attached=receipt.derived)
            return
        if future.cancelled() or isinstance(error, CancelledError):
            return
        assert error is not None
        self._failed(task.source.section, error)

    def _failed(self, section: str, error: BaseException) -> None:
        kind = error.kind if isinstance(error, TisseractError) else type(error).__name__
        self.outcomes[section] = SectionOutcome(section, "failed", str(error), kind)
        self.tell(Progress("fail", section, str(error)))
        if self.on_error == "raise":
            self.first_error = self.first_error or error
            self.stop.set()

    def _commit(self, commits: GroupedCommits, tasks: Mapping[str, SectionTask]) -> None:
        if not len(commits):
            return
        committed, beaten = commits.flush()
        for entry in committed:
            self.tell(Progress("done", entry.section, nbytes=entry.nbytes))
        for entry, same in beaten:
            for one in (entry, *commits.attached_to(entry)):
                self._discard(one.prefix, one.manifest)
            if same:
                self.outcomes[entry.section] = SectionOutcome(
                    entry.section, "skipped", "another writer committed it from the same input"
                )
                self.tell(Progress("skip", entry.section, "committed by another writer"))
            else:
                fault = Fault(
                    tasks[entry.section].source.row.location,
                    f"another writer committed section {entry.section!r} from another input "
                    "meanwhile; rename it, or run again with overwrite",
                )
                self._failed(entry.section, InputError(fault))
        assert self.store is not None
        done = sum(outcome.outcome in ("written", "replaced") for outcome in self.outcomes.values())
        message = f"snapshot {self.store.version}"
        nbytes = sum(entry.nbytes for entry in committed)
        self.tell(Progress("commit", "", message, done=done, total=len(tasks), nbytes=nbytes))

    def _discard(self, prefix: str, manifest: str) -> None:
        """Remove our copy of a section that another writer committed first."""
        assert self.store is not None
        self.store.storage.delete([manifest])
        self.store.storage.delete_prefix(prefix)

    def in_order(self, planned: IngestPlan) -> tuple[SectionOutcome, ...]:
        """Return the outcomes in the order of the sheet; failures of rows last."""
        order = {item.source.section: i for i, item in enumerate(planned.sections)}
        return tuple(sorted(self.outcomes.values(), key=lambda o: order.get(o.section, len(order))))

    def raise_first(self) -> None:
        """Raise what stopped the run, telling what is safe."""
        if self.first_error is None:
            return
        kept = sum(outcome.outcome in ("written", "replaced") for outcome in self.outcomes.values())
        self.first_error.add_note(
            f"{kept} sections were committed before this one failed; correct it and run the same "
            "command again to finish the rest"
        )
        raise self.first_error


def _written(task: SectionTask, receipt: SectionReceipt) -> SectionOutcome:
    entry = receipt.entry
    return SectionOutcome(
        entry.section,
        "replaced" if task.replace else "written",
        n_obs=entry.n_obs,
        n_vars=entry.n_vars,
        input_bytes=task.source.input_bytes,
        nbytes=entry.nbytes,
        seconds=receipt.seconds,
    )
