"""What lies around a path that is no input: files of near names, outputs around it or in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..atlas.errors import near

if TYPE_CHECKING:
    from .reader import Reader

__all__ = ["enclosing", "is_there", "near_files", "outputs_within", "part_of", "said_path"]

_LEVELS = 2
_MOST_TRIED = 64
_SHOWN = 8
_MOST_COMPARED = 5000

Find = Callable[[Path], "Reader | None"]


def is_there(path: Path) -> bool:
    """Whether a path leads anywhere; one with a name longer than a disk takes does not."""
    try:
        return path.exists()
    except OSError:
        return False


def said_path(base: Path, text: str) -> Path:
    """Path of a file that a sheet names, from its folder; `~` is home, `~nobody` a name."""
    # Path.expanduser raises where there is no such user.
    return Path(os.path.normpath(base / os.path.expanduser(text)))  # noqa: PTH111


def near_files(path: Path) -> str:
    """Ask whether a file beside a path is meant that has a near name; "" if there is none."""
    try:
        names = sorted(one.name for one in path.parent.iterdir())
    except OSError:
        return ""
    return near(path.name, names[:_MOST_COMPARED])


def enclosing(path: Path, find: Find) -> tuple[Path, Reader] | None:
    """Find the output that a file or folder is part of, one or two levels above it.

    Parameters
    ----------
    path : Path
        An existing file or folder.
    find : callable
        Reader of a path, if it is an input.
    """
    from .reader import ReadOptions

    whole = path.absolute()
    for parent in whole.parents[:_LEVELS]:
        if (reader := find(parent)) is None:
            continue
        if parent == whole.parent and path.is_file():
            return parent, reader
        try:
            read = reader.files(parent, ReadOptions())
        except ValueError:  # of several samples, say: no use to guess which
            continue
        if any(one.is_relative_to(whole) for one in read):
            return parent, reader
    return None


def part_of(path: Path, find: Find) -> str | None:
    """Say which output a path is part of."""
    found = enclosing(path, find)
    if found is None:
        return None
    return f"a part of a {_named(found[1])} output: name the folder above, {found[0]}"


def outputs_within(path: Path, find: Find) -> str | None:
    """List the outputs that lie in a folder, one level down, when there are several."""
    if not path.is_dir():
        return None
    try:
        inside = sorted(one for one in path.iterdir() if one.is_dir())[:_MOST_TRIED]
    except OSError:
        return None
    found = [(one.name, reader.format) for one in inside if (reader := find(one)) is not None]
    if not found:
        return None
    listed = ", ".join(f"{name} ({form})" for name, form in found[:_SHOWN])
    more = ", ..." if len(found) > _SHOWN else ""
    if len(found) == 1:
        return f"a folder with an output in it, {listed}: name that folder"
    return f"a folder that holds {len(found)} outputs: {listed}{more}; a row for each"


def _named(reader: Reader) -> str:
    return str(getattr(reader, "technology", reader.format))
