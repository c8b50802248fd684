"""Faults of files: what libraries raise on broken ones, turned into errors that name the file."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from ..atlas.errors import Fault, InputError

__all__ = ["faults_of"]

_ALWAYS_THE_FILE = (OSError, EOFError, UnicodeDecodeError, json.JSONDecodeError)
_GUESTS = frozenset(
    {"csv", "geopandas", "gzip", "h5py", "json", "numcodecs", "pyarrow", "shapely", "zarr", "zlib"}
)


def _guest_errors() -> tuple[type[Exception], ...]:
    """List what libraries raise on broken files; errors of shapely derive from no builtin one."""
    import csv
    import zlib

    errors: list[type[Exception]] = [OSError, EOFError, zlib.error, csv.Error, KeyError, ValueError]
    errors += [RuntimeError, TypeError, OverflowError]
    loaded = sys.modules.get("shapely.errors")
    return (*errors, *([] if loaded is None else [loaded.ShapelyError]))


def _raised_by_guest(error: BaseException) -> bool:
    """Whether a library that reads files was at work below our own code when an error was raised.

    Compiled guests leave no module in a traceback, but their sources' names: `h5py/_objects.pyx`.
    """
    if type(error).__module__.partition(".")[0] in _GUESTS:
        return True
    frames = []
    step = error.__traceback__
    while step is not None:
        frames.append(step.tb_frame)
        step = step.tb_next
    package = __name__.partition(".")[0]
    own = [k for k, frame in enumerate(frames) if _module(frame) == package]
    below = frames[own[-1] + 1 :] if own else frames
    return any(_module(f) in _GUESTS or _source(f) in _GUESTS for f in below)


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _source(frame: FrameType) -> str:
    return frame.f_code.co_filename.partition("/")[0]


@contextmanager
def faults_of(path: Path, what: str, *, parsing: bool = False) -> Iterator[None]:
    """Turn what guests raise on broken files into one InputError that names the file.

    Errors of other kinds than of the disk become one only when a library that reads files raised
    them; those of our own code are mistakes in it, and pass.

    Parameters
    ----------
    path : Path
        The file at fault.
    what : str
        What was being read, as "the gene list".
    parsing : bool
        Whether the block does nothing but parse the file, so that what our own code raises is the
        file's fault as well.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        there = "a folder without one" if path.is_dir() else "no such file"
        raise InputError(
            Fault(str(path), f"expected {what}, but got {there}; check the path")
        ) from error
    except PermissionError as error:
        raise InputError(
            Fault(str(path), f"expected {what}, but got no permission to read it")
        ) from error
    except _guest_errors() as error:
        if getattr(error, "errno", None) == 28:  # no space left is no fault of the input
            raise
        if not (parsing or isinstance(error, _ALWAYS_THE_FILE) or _raised_by_guest(error)):
            raise
        raise InputError(
            Fault(
                str(path),
                f"expected {what}, but got a file that cannot be read "
                f"({type(error).__name__}: {error}); it may be truncated: copy or export it again",
            )
        ) from error
