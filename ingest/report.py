"""What an ingest did, as a value that prints itself and writes `run.json`."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from ..atlas.memory import format_bytes

__all__ = ["IngestReport", "SectionOutcome", "peak_rss_bytes", "software_versions"]


@dataclass(frozen=True, slots=True)
class SectionOutcome:
    """What became of one section."""

    section: str
    """Its name."""
    outcome: Literal["written", "replaced", "skipped", "failed", "not-started"]
    """`skipped`: committed before, from the same input; `not-started`: an earlier one failed."""
    message: str = ""
    """Why it was skipped or failed."""
    kind: str = ""
    """Stable name of the error, for programs."""
    n_obs: int = 0
    """Cells."""
    n_vars: int = 0
    """Genes."""
    input_bytes: int = 0
    """Size of the source."""
    nbytes: int = 0
    """Size in the atlas."""
    seconds: float = 0.0
    """Time from start to seal."""


@dataclass(frozen=True, slots=True)
class IngestReport:
    """Outcome of every section of a sheet, and the snapshot they are in."""

    url: str
    """The atlas."""
    source: str
    """The sheet."""
    snapshot: int | None
    """Number of the newest snapshot afterwards; None when there is no atlas."""
    outcomes: tuple[SectionOutcome, ...]
    """One per section, in the order of the plan."""
    seconds: float = 0.0
    """Wall time."""
    peak_bytes: int = 0
    """Peak resident memory of the driving process, everything it ever did included."""
    options: Mapping[str, object] = field(default_factory=dict)
    """Arguments of the call."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Software that did the work."""

    def _named(self, *kinds: str) -> tuple[SectionOutcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.outcome in kinds)

    @property
    def written(self) -> tuple[SectionOutcome, ...]:
        """Sections committed by this run, new or replaced."""
        return self._named("written", "replaced")

    @property
    def skipped(self) -> tuple[SectionOutcome, ...]:
        """Sections that were there already."""
        return self._named("skipped")

    @property
    def failed(self) -> tuple[SectionOutcome, ...]:
        """Sections that could not be taken in."""
        return self._named("failed", "not-started")

    @property
    def exit_code(self) -> int:
        """0 all is in the atlas; 3 some sections failed; 1 all failed.

        Examples
        --------
        >>> IngestReport("a", "s", 1, (SectionOutcome("x", "written"),)).exit_code
        0
        >>> mixed = (SectionOutcome("x", "written"), SectionOutcome("y", "failed"))
        >>> IngestReport("a", "s", 1, mixed).exit_code
        3
        """
        if not self.failed:
            return 0
        return 3 if self.written or self.skipped else 1

    def to_json(self) -> dict[str, object]:
        """Return the report as plain values."""
        tree = asdict(self)
        tree["exit_code"] = self.exit_code
        tree["input_bytes"] = sum(outcome.input_bytes for outcome in self.written)
        tree["nbytes"] = sum(outcome.nbytes for outcome in self.written)
        return tree

    def write(self, path: str | Path) -> None:
        """Write `run.json`: inputs, versions, seconds, peak memory, bytes, and every outcome."""
        text = json.dumps(self.to_json(), indent=1, sort_keys=True, default=str)
        Path(path).write_text(text + "\n", encoding="utf-8")

    def __str__(self) -> str:
        written = self.written
        size_in = format_bytes(sum(outcome.input_bytes for outcome in written))
        size_out = format_bytes(sum(outcome.nbytes for outcome in written))
        cells = sum(outcome.n_obs for outcome in written)
        counts = f"{len(written)} written, {len(self.skipped)} already there"
        peak = format_bytes(self.peak_bytes)
        lines = [
            f"{self.url}: {counts}, {len(self.failed)} failed",
            f"  {cells:,} cells, {size_in} -> {size_out}, snapshot {self.snapshot}",
            f"  {self.seconds:.1f} s, peak memory {peak}",
        ]
        lines += [
            f"  failed {outcome.section}: {outcome.message.removeprefix(f'{outcome.section}: ')}"
            for outcome in self.failed
            if outcome.outcome == "failed"
        ]
        return "\n".join(lines)


def peak_rss_bytes() -> int:
    """Peak resident memory of this process in bytes, since it started.

    Examples
    --------
    >>> peak_rss_bytes() > 10_000_000
    True
    """
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def software_versions() -> dict[str, str]:
    """Versions of what does the work, for provenance.

    Examples
    --------
    >>> "zarr" in software_versions()
    True
    """
    found = {"python": platform.python_version()}
    for name in ("tisseract", "numpy", "zarr", "h5py", "pyarrow", "spatialdata"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
