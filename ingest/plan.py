"""Decide first: what an ingest will write, skip and replace, how many bytes, and what peak memory.

Pure: takes what was found in the files and what the atlas holds, returns a frozen value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..atlas.errors import Fault
from ..atlas.memory import format_bytes, refuse_above
from .samples import SampleRow
from .scalars import Scalar
from .staging import RemoteInput

__all__ = ["IngestPlan", "PlannedSection", "SectionSource", "plan_ingest"]

Action = Literal["write", "replace", "skip"]


@dataclass(frozen=True, slots=True)
class SectionSource:
    """One section that a row of the sheet leads to, as far as inspection knows it."""

    section: str
    """Name in the atlas."""
    row: SampleRow
    """The row it comes from."""
    format: str
    """Reader."""
    fingerprint: str
    """Digest of input files and options: equal means that ingesting again changes nothing."""
    split_value: str | None = None
    """Value of the split column that makes this section."""
    n_obs: int = 0
    """Cells; for a split, of this value."""
    n_vars: int = 0
    """Genes."""
    nnz: int = 0
    """Non-zeros, or an estimate of them."""
    input_bytes: int = 0
    """Size of what will be read."""
    memory_bytes: int = 0
    """Least memory that writing it takes."""
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    """What the catalog will say of it."""
    remote: RemoteInput | None = None
    """What to fetch first, when it lies in a bucket."""

    @property
    def disk_bytes(self) -> int:
        """Estimate of its size in the atlas.

        Both orders of the matrix at two compressed bytes per entry each, 200 bytes per cell for
        obs, positions and circles, and 64 KiB of metadata; images are not counted.
        """
        return 4 * self.nnz + 200 * self.n_obs + (64 << 10)


@dataclass(frozen=True, slots=True)
class PlannedSection:
    """What will be done with one section, and why."""

    source: SectionSource
    """The section."""
    action: Action
    """Write it, replace what is there, or leave it."""
    reason: str
    """For people."""


@dataclass(frozen=True, slots=True)
class IngestPlan:
    """Everything an ingest will do; its projected peak never exceeds its memory limit."""

    sections: tuple[PlannedSection, ...]
    """In the order of the sheet."""
    memory_limit: int
    """Bytes for the whole ingest, beyond what the loaded code takes."""
    n_workers: int
    """Sections written at once."""
    faults: tuple[Fault, ...] = ()
    """What stands in the way."""

    @property
    def writes(self) -> tuple[PlannedSection, ...]:
        """Sections to write or replace, largest first: the last to finish is then a small one."""
        todo = [planned for planned in self.sections if planned.action != "skip"]
        return tuple(sorted(todo, key=lambda p: (-p.source.nnz, p.source.section)))

    @property
    def skips(self) -> tuple[PlannedSection, ...]:
        """Sections already in the atlas."""
        return tuple(planned for planned in self.sections if planned.action == "skip")

    @property
    def section_limit(self) -> int:
        """Bytes that one section may use."""
        return self.memory_limit // max(1, self.n_workers)

    @property
    def read_bytes(self) -> int:
        """Bytes that will be read."""
        return sum(planned.source.input_bytes for planned in self.writes)

    @property
    def write_bytes(self) -> int:
        """Estimate of the bytes that will be written."""
        return sum(planned.source.disk_bytes for planned in self.writes)

    @property
    def peak_bytes(self) -> int:
        """Projected peak memory: every worker at its limit."""
        return self.section_limit * min(self.n_workers, len(self.writes))

    def __str__(self) -> str:
        head = (
            f"{len(self.writes)} sections to write, {len(self.skips)} already there: reads "
            f"{format_bytes(self.read_bytes)}, writes about {format_bytes(self.write_bytes)}, "
            f"{self.n_workers} at once, peak memory at most {format_bytes(self.peak_bytes)}"
        )
        lines = [head]
        for planned in self.sections:
            source = planned.source
            lines.append(
                f"  {planned.action:<8}{source.section:<24} {source.format:<12}"
                f"{source.n_obs:>10,} x {source.n_vars:<7,} {planned.reason}"
            )
        return "\n".join([*lines, *(f"  fault   {fault}" for fault in self.faults)])


def plan_ingest(
    sources: Sequence[SectionSource],
    committed: Mapping[str, str],
    *,
    overwrite: bool,
    memory_limit: int,
    n_workers: int,
    fixed_share: bool = False,
) -> IngestPlan:
    """Decide what to do with each section.

    Parameters
    ----------
    sources : sequence of SectionSource
        What the sheet leads to.
    committed : mapping of str to str
        Fingerprint of every section in the atlas.
    overwrite : bool
        Write every section anew, also one from the same input: what is there may be damaged.
        Otherwise a section whose input changed is a fault.
    memory_limit : int
        Bytes for all sections that are written at once.
    n_workers : int
        Most sections to write at once.
    fixed_share : bool
        The share of a section is `memory_limit / n_workers` whatever it needs: on a cluster nobody
        can say which sections land in one process.

    Returns
    -------
    IngestPlan
        With fewer workers when memory for that many is not there.

    Raises
    ------
    BudgetExceeded
        If not even one section at a time fits.

    Examples
    --------
    >>> from pathlib import Path
    >>> row = SampleRow(2, "a", "a.h5ad", Path("a.h5ad"))
    >>> source = SectionSource("a", row, "h5ad", "sha256:1", memory_bytes=1 << 20)
    >>> options = {"overwrite": False, "memory_limit": 1 << 30, "n_workers": 4}
    >>> plan_ingest([source], {}, **options).sections[0].action
    'write'
    >>> plan_ingest([source], {"a": "sha256:1"}, **options).sections[0].action
    'skip'
    >>> print(plan_ingest([source], {"a": "sha256:2"}, **options).faults[0].message[:44])
    section 'a' is there already, from another i
    """
    planned: list[PlannedSection] = []
    faults: list[Fault] = []
    for source in sources:
        before = committed.get(source.section)
        if before is None:
            planned.append(PlannedSection(source, "write", "new"))
        elif overwrite:
            same = before == source.fingerprint
            why = "written again from the same input" if same else "its input or options changed"
            planned.append(PlannedSection(source, "replace", why))
        elif before == source.fingerprint:
            planned.append(PlannedSection(source, "skip", "already there, from the same input"))
        else:
            faults.append(
                Fault(
                    source.row.location,
                    f"section {source.section!r} is there already, from another input or with "
                    "other options; pass overwrite (--overwrite) to replace it, or rename it",
                )
            )
    needs = [p.source.memory_bytes for p in planned if p.action != "skip"]
    most = max(needs, default=1)
    largest = next((p.source for p in planned if p.source.memory_bytes == most), None)
    named = f", {largest.section!r} of {largest.row.location}," if largest else ""
    threads = ", or use fewer threads in each worker" if fixed_share else ""
    refuse_above(
        memory_limit // n_workers if fixed_share else memory_limit,
        most,
        f"writing the largest section{named}",
        f"raise the memory limit{threads}",
    )
    # Every worker gets the same share, and any section may land on any of them.
    fits = n_workers if fixed_share else min(n_workers, len(needs), memory_limit // max(most, 1))
    workers = max(1, fits)
    return IngestPlan(tuple(planned), memory_limit, workers, tuple(faults))
