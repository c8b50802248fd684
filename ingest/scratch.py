"""The folder in which a source sorts its entries while its section is written.

A source is opened before anyone knows where its section will be written, and may lie inside other
sources. What is written sets the folder for its own thread and those that it starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Protocol, runtime_checkable

__all__ = ["SortsOnDisk", "scratch_bytes_of", "scratch_folder", "scratch_in"]

_folder: ContextVar[Path | None] = ContextVar("tisseract_scratch", default=None)


@runtime_checkable
class SortsOnDisk(Protocol):
    """A `CountsSource` that sorts its entries through temporary files."""

    @property
    def scratch_bytes(self) -> int:
        """Bytes of these files at most; 0 where nothing is sorted or nobody knows."""
        ...


def scratch_bytes_of(counts: object) -> int:
    """Disk that streaming a matrix takes, 0 where it does not say so.

    Examples
    --------
    >>> scratch_bytes_of(object())
    0
    """
    return counts.scratch_bytes if isinstance(counts, SortsOnDisk) else 0


def scratch_folder() -> Path | None:
    """Folder for temporary files; None, the system's own, where no section is being written."""
    return _folder.get()


@contextmanager
def scratch_in(folder: Path) -> Iterator[None]:
    """Have sources put their temporary files into a folder.

    Examples
    --------
    >>> with scratch_in(Path("here")):
    ...     scratch_folder()
    PosixPath('here')
    """
    before = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(before)
