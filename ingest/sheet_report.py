"""What looking at a sheet found: a line for each row, every fault, and what it will take."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..atlas.errors import Fault, InputError
from ..atlas.memory import format_bytes
from .annotate import attached_of
from .estimates import element_bytes, estimated_seconds, spoken_seconds

if TYPE_CHECKING:
    from .plan import SectionSource
    from .reader import Inspection
    from .samples import SampleRow
    from .time import TimeOrder

__all__ = ["RowReport", "SheetReport"]

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class RowReport:
    """One row: what its input holds, which sections it makes, and what is wrong with it."""

    row: SampleRow
    """The row."""
    inspection: Inspection | None = None
    """What the reader saw; None when there is no reader for it."""
    sources: tuple[SectionSource, ...] = ()
    """The sections it makes; fingerprints are taken later, by who needs them."""
    files: tuple[Path, ...] = ()
    """Files that will be read."""
    input_bytes: int = 0
    """Their size."""
    faults: tuple[Fault, ...] = ()
    """What must be corrected."""
    sizes: tuple[int, ...] = ()
    """Bytes of each of the files."""

    @property
    def seconds(self) -> float:
        """Rough time that taking it in will take; 0 where it has faults."""
        if not self.files:
            return 0.0
        return estimated_seconds(self._named, remote=self.row.url is not None)

    @property
    def _named(self) -> list[tuple[str, int]]:
        return [(file.name, size) for file, size in zip(self.files, self.sizes, strict=True)]

    @property
    def disk_bytes(self) -> int:
        """Estimate of the size of its sections; of what was not opened, that of the input."""
        if self.row.url is not None:
            return self.input_bytes
        return sum(source.disk_bytes for source in self.sources) + element_bytes(self._named)

    @property
    def memory_bytes(self) -> int:
        """Least memory that writing its largest section takes."""
        return max((source.memory_bytes for source in self.sources), default=0)

    def lines(self) -> list[str]:
        """Say what it is, what will be read, and what that takes."""
        facts = self.to_json()
        head = (
            f"  {self.row.sample:<24} {facts['format'] or '?':<12} "
            f"{facts['technology'] or '?':<24} {facts['n_obs'] or 0:>9,} x "
            f"{facts['n_vars'] or 0:<7,} {format_bytes(self.input_bytes):>10} -> about "
            f"{format_bytes(self.disk_bytes)}"
        )
        if not self.files:
            return [head]
        largest = sorted(zip(self.sizes, self.files, strict=True), key=lambda one: -one[0])
        names = ", ".join(f"{file.name} ({format_bytes(size)})" for size, file in largest[:_SHOWN])
        more = f" and {len(largest) - _SHOWN} more" if len(largest) > _SHOWN else ""
        takes = f"roughly {spoken_seconds(self.seconds)}, at least "
        takes += f"{format_bytes(self.memory_bytes)} of memory"
        return [head, f"      reads {names}{more}", f"      takes {takes}"]

    def to_json(self) -> dict[str, object]:
        """Return the report as plain values."""
        seen = self.inspection
        return {
            "row": self.row.row,
            "sample": self.row.sample,
            "data_path": self.row.data_path,
            "format": seen.format if seen else None,
            "technology": self.row.technology or (seen.technology if seen else None),
            "n_obs": seen.n_obs if seen else None,
            "n_vars": seen.n_vars if seen else None,
            "um_per_unit": seen.um_per_unit if seen else None,
            "unit_source": seen.unit_source if seen else None,
            "sections": [source.section for source in self.sources],
            "reads": [file.name for file in self.files],
            "images": list(seen.images) if seen else [],
            "input_bytes": self.input_bytes,
            "disk_bytes": self.disk_bytes,
            "memory_bytes": self.memory_bytes,
            "seconds": round(self.seconds, 1),
            "attached": [Path(one.name).name or "matrix" for one in attached_of(self.row)],
            "notes": list(seen.notes) if seen else [],
            "faults": [str(fault) for fault in self.faults],
        }


@dataclass(frozen=True, slots=True)
class SheetReport:
    """A sheet looked through; `faults` is empty when it can be ingested as it is."""

    source: str
    """The sheet."""
    rows: tuple[RowReport, ...]
    """The rows that could be looked at."""
    time: TimeOrder
    """Order of the timepoints."""
    sheet_faults: tuple[Fault, ...] = ()
    """Faults of the sheet itself."""
    notes: tuple[Fault, ...] = ()
    """What may be a mistake."""
    sections: tuple[SectionSource, ...] = field(default=())
    """The sections of all rows without faults, named, placed in time."""
    n_rows: int = 0
    """Rows of the sheet; `rows` lacks those that could not be looked at."""

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Everything that must be corrected."""
        rows = [fault for row in self.rows for fault in row.faults]
        return (*self.sheet_faults, *rows)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    def raise_faults(self) -> None:
        """Raise InputError with every fault, if there are any."""
        if self.faults:
            raise InputError(self.faults, self.source)

    def to_json(self) -> dict[str, object]:
        """Return the report as plain values."""
        return {
            "source": self.source,
            "ok": self.ok,
            "rows": [row.to_json() for row in self.rows],
            "timepoints": list(self.time.labels),
            "faults": [str(fault) for fault in self.faults],
            "notes": [str(note) for note in self.notes],
        }

    def __str__(self) -> str:
        n_sections = sum(len(row.sources) for row in self.rows)
        lines = [f"{self.source}: {_count(self.n_rows, 'row')}, {_count(n_sections, 'section')}"]
        for report in self.rows:
            lines += report.lines()
            if len(report.sources) > 1:
                names = ", ".join(source.section for source in report.sources)
                lines.append(f"      sections: {names}")
        if len(self.time.labels) > 1:
            lines.append(f"  timepoints: {' < '.join(self.time.labels)}")
        seconds = sum(report.seconds for report in self.rows)
        if seconds:
            disk = sum(report.disk_bytes for report in self.rows)
            lines.append(
                f"  together roughly {spoken_seconds(seconds)} one after the other (a guess from "
                f"sizes), about {format_bytes(disk)} of disk"
            )
        lines += [f"  note   {note}" for note in self.notes]
        lines += [f"  fault  {fault}" for fault in self.faults]
        faults = _count(len(self.faults), "fault")
        lines.append("nothing is wrong" if self.ok else f"{faults} to correct")
        return "\n".join(lines)


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
