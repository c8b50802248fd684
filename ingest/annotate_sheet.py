"""Cells of the columns `annotation`, `transform` and `labels`: files and how they are read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from ..atlas.errors import Fault, InputError, InvalidArgument, near
from ..atlas.keys import check_name
from .columns import SPLIT_PLACEHOLDER
from .near_inputs import is_there, near_files, said_path

__all__ = ["ATTACHED", "AttachedFile", "attached_files"]

ATTACHED: dict[str, tuple[str, ...]] = {
    "annotation": ("path", "key", "name", "um_per_unit", "y_axis"),
    "transform": ("path", "frame", "matrix", "model", "units"),
    "labels": ("path", "columns", "missing", "on", "prefix", "unknown"),
}
"""Columns of the sheet that attach something to a section, and what each may say."""


@dataclass(frozen=True, slots=True)
class AttachedFile:
    """One file that belongs to a section, or to each section of a split."""

    column: str
    """Column of the sheet."""
    name: str
    """Path as the sheet gives it, perhaps with `{split}`; "" where there is no file."""
    base: Path
    """Folder that it starts from."""
    options: Mapping[str, object] = field(default_factory=dict)
    """What else the cell says."""

    def path(self, split_value: str | None = None) -> Path:
        """Path of the file of one section.

        Raises
        ------
        InputError
            There is none.
        """
        name = self.name.replace(SPLIT_PLACEHOLDER, split_value or "")
        path = said_path(self.base, name)
        if not (is_there(path) and path.is_file()):
            got = "a folder" if is_there(path) else f"none in {path.parent}"
            raise InputError(
                Fault(
                    self.column,
                    f"expected the file {name!r}, but got {got}.{near_files(path)}",
                )
            )
        return path


def attached_files(
    cell: object, column: str, base: Path, splits: bool, fault: Callable[[str], None]
) -> tuple[AttachedFile, ...]:
    """Read a cell: a path, a mapping with a path and options, or a list of these.

    Parameters
    ----------
    cell : object
        As the sheet has it; text that begins with a brace or bracket is JSON.
    column : str
        One of `ATTACHED`.
    base : Path
        Folder that relative paths start from.
    splits : bool
        Whether the row makes several sections; each then needs files of its own.
    fault : callable
        Takes what is wrong.
    """
    if isinstance(cell, str) and cell.strip()[:1] in {"{", "["}:
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError) as error:
            fault(f"{column}: not readable as JSON ({error})")
            return ()
    found = []
    for said in _entries(cell, column):
        options = {"path": str(said).strip()} if isinstance(said, str | Path) else said
        if not isinstance(options, Mapping):
            fault(f"{column}: expected a file, or an object with `path`, but got {said!r:.80}")
            continue
        one = _one(cast("Mapping[str, object]", options), column, base, splits, fault)
        if one is not None:
            found.append(one)
    return tuple(found)


def _entries(cell: object, column: str) -> Iterator[object]:
    if column == "transform" and isinstance(cell, list) and all(isinstance(r, list) for r in cell):
        yield {"matrix": cell}
    elif isinstance(cell, list | tuple):
        yield from cell
    elif cell is not None:
        yield cell


def _one(
    options: Mapping[str, object],
    column: str,
    base: Path,
    splits: bool,
    fault: Callable[[str], None],
) -> AttachedFile | None:
    known = ATTACHED[column]
    wrong = [key for key in options if key not in known]
    for key in wrong:
        fault(
            f"{column}: expected keys out of {', '.join(known)}, but got {key!r}.{near(key, known)}"
        )
    name = str(options.get("path") or "")
    rest = {key: value for key, value in options.items() if key != "path"}
    inline = column == "transform" and "matrix" in options
    if wrong:
        return None
    if bool(name) == inline:
        wanted = "`path` or `matrix`" if column == "transform" else "`path`"
        fault(f"{column}: expected {wanted}, but got {', '.join(options) or 'nothing'}")
        return None
    if not _named(rest, column, fault):
        return None
    one = AttachedFile(column, name, base, rest)
    if splits and SPLIT_PLACEHOLDER not in name:
        fault(
            f"{column}: expected a file for each section that the split makes, such as "
            f"'regions_{SPLIT_PLACEHOLDER}.csv', but got {name or 'a matrix'!r}"
        )
        return None
    if name and not splits:
        try:
            one.path()
        except InputError as error:
            fault(f"{column}: {error.faults[0].message}")
            return None
    return one


def _named(options: Mapping[str, object], column: str, fault: Callable[[str], None]) -> bool:
    """Whether what is to be found under a name can be."""
    key = "frame" if column == "transform" else "key"
    try:
        check_name(str(options.get(key) or key), key)
    except InvalidArgument as error:
        fault(f"{column}: {error}")
        return False
    return True
