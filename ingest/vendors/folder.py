"""The files of a vendor's folder, listed once; nothing outside the folder is ever opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from ...atlas.errors import Fault, InputError
from ..reader import faults_of

__all__ = ["Folder"]

_MOST_FILES = 200_000
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Folder:
    """Names of the files in a folder, some levels deep."""

    root: Path
    """The folder as the user named it."""
    names: tuple[str, ...]
    """Paths of the files from the root, with slashes, sorted."""
    faults: tuple[Fault, ...] = ()
    """Links that lead out of the folder; they are not among the names."""

    @classmethod
    def of(cls, path: Path, depth: int = 4) -> Folder:
        """List a folder.

        Parameters
        ----------
        path : Path
            The folder.
        depth : int
            Levels below it that are looked at.

        Raises
        ------
        InputError
            It is no folder, cannot be read, or holds more than 200,000 files.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     _ = Path(name, "a_cells.csv").write_text("id")
        ...     Folder.of(Path(name)).names
        ('a_cells.csv',)
        """
        if not path.is_dir():
            got = "a file" if path.exists() else "nothing there"
            raise InputError(Fault(str(path), f"expected a folder, but got {got}"))
        names: list[str] = []
        faults: list[Fault] = []
        with faults_of(path, "a readable folder"):
            inside = path.resolve()
            for name in _walk(path, "", depth):
                target = path / name
                if target.is_symlink() or _passes_link(path, name):
                    end = target.resolve()
                    if not end.is_relative_to(inside):
                        faults.append(
                            Fault(
                                str(target),
                                f"expected a file inside {path}, but got a link to {end}; refused, "
                                "copy it in",
                            )
                        )
                        continue
                names.append(name)
                if len(names) > _MOST_FILES:
                    raise InputError(
                        Fault(
                            str(path),
                            f"expected one output, but got more than {_MOST_FILES:,} files; "
                            "name the folder of one sample",
                        )
                    )
        return cls(path, tuple(sorted(names)), tuple(faults))

    def all(self, *patterns: str) -> tuple[Path, ...]:
        """Files that fit any of some patterns, in the order of their names.

        A pattern is matched against the path from the root, letters of either case; one without
        a slash fits files at the top alone.
        """
        return tuple(
            self.root / name for name in self.names if any(_fits(name, one) for one in patterns)
        )

    def find(self, *patterns: str) -> Path | None:
        """Return the file that fits the first pattern that any file fits, None if there is none.

        Raises
        ------
        InputError
            Several files fit that pattern.
        """
        for pattern in patterns:
            found = self.all(pattern)
            if len(found) > 1:
                listed = ", ".join(str(one.relative_to(self.root)) for one in found[:_SHOWN])
                raise InputError(
                    Fault(
                        str(self.root),
                        f"expected one file {pattern!r}, but got {len(found)} ({listed}); put each "
                        "sample into a folder of its own",
                    )
                )
            if found:
                return found[0]
        return None

    def need(self, what: str, *patterns: str) -> Path:
        """Return the file that fits, as `find` does.

        Raises
        ------
        InputError
            None or several fit.
        """
        found = self.find(*patterns)
        if found is None:
            raise InputError(
                Fault(
                    str(self.root),
                    f"expected {what} ({' or '.join(patterns)}), but got no such file; copy the "
                    "whole output folder",
                )
            )
        return found


def _fits(name: str, pattern: str) -> bool:
    # `*` of fnmatch passes slashes; here it must not.
    parts, pieces = name.casefold().split("/"), pattern.casefold().split("/")
    return len(parts) == len(pieces) and all(map(fnmatchcase, parts, pieces))


def _passes_link(root: Path, name: str) -> bool:
    """Whether a folder on the way is a link."""
    return any((root / parent).is_symlink() for parent in PurePosixPath(name).parents[:-1])


def _walk(root: Path, prefix: str, depth: int) -> Iterator[str]:
    with os.scandir(root / prefix) as entries:
        for entry in entries:
            name = f"{prefix}{entry.name}"
            if entry.is_dir():
                if depth > 0 and not entry.name.endswith(".zarr"):
                    yield from _walk(root, f"{name}/", depth - 1)
            elif entry.is_file() and not entry.name.startswith("."):
                yield name
