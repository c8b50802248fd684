"""Whether what the user names is a sheet, or one input in its place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..atlas.errors import InvalidArgument, near
from .columns import canonical
from .faults import faults_of
from .near_inputs import is_there
from .reader import home_of, recognized
from .section_names import sample_name
from .staging import is_remote, remote_name

__all__ = ["Samples", "sheet_rows"]

Samples = str | Path | Sequence[Mapping[str, object]]
"""A sheet, its rows, or one input."""

_SHEETS = {".csv", ".tsv", ".txt", ".yaml", ".yml", ".xlsx", ".xls", ".ods"}
_HEADER_BYTES = 1 << 16
_ARGUMENTS = (
    "client", "memory_limit", "n_workers", "on_error", "overwrite", "tile_cells", "commit_seconds",
    "storage_options", "progress", "run_json",
)  # fmt: skip


def sheet_rows(samples: Samples, columns: Mapping[str, object]) -> Samples:
    """Make a one-row sheet of a single input; a sheet takes no extra columns."""
    if isinstance(samples, str) and is_remote(samples):
        sample = columns.get("sample") or remote_name(samples).split(".")[0]
        return [{**columns, "sample": sample, "data_path": samples}]
    if isinstance(samples, str | Path):
        path = Path(samples)
        if not _is_sheet(path):
            unknown = [name for name in columns if canonical(name) is None]
            if misspelled := [
                name for name in unknown if near(name, _ARGUMENTS).startswith(" Did")
            ]:
                name = misspelled[0]
                raise InvalidArgument(f"unknown argument {name!r}.{near(name, _ARGUMENTS)}")
            sample = columns.get("sample") or sample_name(path)
            return [{**columns, "sample": sample, "data_path": path}]
    if columns:
        raise InvalidArgument(
            f"{', '.join(columns)}: columns are given in the sheet, or as arguments for a single "
            "input file or folder, not for both"
        )
    return samples


def _is_sheet(path: Path) -> bool:
    """Whether a path is a sheet: by its ending, unless it is a table of a vendor's output."""
    if path.suffix.lower() not in _SHEETS:
        return False
    if not is_there(path):
        return True
    if path.is_dir():
        return False
    if not path.is_file() or _names_inputs(path):
        return True
    return recognized(path) is None and home_of(path) is None


def _names_inputs(path: Path) -> bool:
    """Whether the header has the column that every sheet needs; that of YAML is not looked for."""
    with faults_of(path, "a sample sheet"), path.open("rb") as file:
        head = file.read(_HEADER_BYTES).decode("utf-8", "replace").lstrip("\ufeff \r\n")
    line = head.splitlines()[0] if head else ""
    names = (one.strip(" \"'") for one in re.split(r"[,;\t]", line))
    return any(canonical(name) == "data_path" for name in names)
