"""`run.json`: what a command that writes did, for programs and for memory."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .output import Output, to_plain

__all__ = ["Run", "record_path"]

_SOFTWARE = ("tisseract", "numpy", "zarr", "dask", "anndata", "spatialdata", "torch")


@dataclass(slots=True)
class Run:
    """One run of a command, timed from its creation.

    Attributes
    ----------
    command : str
        Name of the command.
    inputs : dict
        Arguments as given; never storage options, which may hold secrets.
    """

    command: str
    inputs: Mapping[str, Any]
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    _clock: float = field(default_factory=time.perf_counter)

    def write(
        self, url: str, where: str | None, output: Output, *, results: Mapping[str, Any]
    ) -> None:
        """Write the record; a record that cannot be written is a note, not a failure."""
        path = record_path(url, self.command, where)
        if path is None:
            return
        record = {
            "command": self.command,
            "atlas": url,
            "inputs": to_plain(self.inputs),
            "started": self.started,
            "seconds": round(time.perf_counter() - self._clock, 3),
            "peak_rss_bytes": peak_rss_bytes(),
            "versions": software_versions(),
            **to_plain(results),
        }
        try:
            path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            output.note(f"the record of this run could not be written: {error}")
        else:
            output.detail(f"record of this run: {path}")


def record_path(url: str, command: str, where: str | None) -> Path | None:
    """Where the record of a command goes: as told, or beside a local atlas, or here.

    Examples
    --------
    >>> record_path("s3://bucket/brain.atlas", "ingest", None).name
    'brain.atlas.ingest.run.json'
    >>> record_path("brain.atlas", "ingest", "-") is None
    True
    """
    if where == "-":
        return None
    if where is not None:
        return Path(where)
    scheme, colon, rest = url.partition("://")
    if colon and scheme != "file":
        name = rest.rstrip("/").rsplit("/", 1)[-1] or scheme
        return Path(f"{name}.{command}.run.json")
    place = Path(rest if colon else url).absolute()
    return place.with_name(f"{place.name}.{command}.run.json")


def peak_rss_bytes() -> int:
    """Peak resident memory of this process and of its ended children, in bytes."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return unit * max(resource.getrusage(who).ru_maxrss for who in whose)


def software_versions() -> dict[str, str]:
    """Versions of what did the work."""
    found = {"python": sys.version.split()[0]}
    for name in _SOFTWARE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
