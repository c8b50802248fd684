"""Inputs in buckets: listed and recognized by names, staged file by file, removed afterwards.

::

    URL ── survey_remote ──▶ RemoteInput     (a sketch of the folder is looked at: sparse files of
                │                             the right names and sizes, only small ones filled)
                ├── fingerprint: names, sizes, tags
                └── staged(...) in a worker ──▶ local folder of what the reader needs
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..atlas.errors import AtlasError, Fault, InputError, InvalidArgument, MissingKey
from ..atlas.memory import format_bytes
from ..atlas.storage import open_storage
from .reader import reader_for
from .staging_pieces import telling_pieces

if TYPE_CHECKING:
    from ..atlas.storage import Storage
    from .reader import Reader, ReadOptions

__all__ = [
    "RemoteFile",
    "RemoteInput",
    "is_remote",
    "most_at_once",
    "remote_fingerprint",
    "remote_name",
    "require_disk",
    "staged",
    "survey_remote",
]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_MOST_KEYS = 200_000
_SMALL = 2**16  # files up to this are fetched whole to recognize a technology by them
_MOST_FETCHED = 2**24  # of all of them
_HEAD = 2**12
_MOST_HEADS = 64  # of larger files
_PIECE = 2**23  # fetched at a time
_SPARE = 2**28  # disk left free
_FINGERPRINT = "tisseract-remote/1"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One object that a reader needs."""

    key: str
    """From the input; "" where the input is the object."""
    size: int
    tag: str
    """ETag, else the time of its last change."""


@dataclass(frozen=True, slots=True)
class RemoteInput:
    """What an ingest needs of an input in a bucket."""

    url: str
    format: str
    technology: str
    files: tuple[RemoteFile, ...]
    """Those that the reader needs."""
    n_keys: int
    """Objects below the URL."""

    @property
    def nbytes(self) -> int:
        """Bytes that are staged."""
        return sum(file.size for file in self.files)


def is_remote(text: str) -> bool:
    """Whether a path of the sheet is a URL, other than of a local file.

    Examples
    --------
    >>> is_remote("s3://bucket/run1"), is_remote("runs/run1")
    (True, False)
    """
    return bool(_URL.match(text)) and not text.lower().startswith("file://")


def remote_name(url: str) -> str:
    """Last part of a URL, which a staged input is called.

    Examples
    --------
    >>> remote_name("s3://bucket/runs/run1/")
    'run1'
    """
    return url.rstrip("/").rsplit("/", 1)[-1]


def _opened(url: str, *, alone: bool) -> tuple[Storage, str]:
    """Storage of an input and what its keys begin with: the name of an object, or nothing."""
    parent, _, name = url.rstrip("/").rpartition("/")
    return (open_storage(parent), name) if alone else (open_storage(url.rstrip("/")), "")


def _listed(url: str) -> tuple[Storage, str, list[RemoteFile]]:
    """Every object of an input; the input itself where it is one object."""
    if (alone := _alone(url)) is not None:
        return alone
    storage, name = _opened(url, alone=False)
    if not storage.can_list:
        raise InputError(
            Fault(url, "expected one file, since a web server does not list folders, but got none")
        )
    found = []
    for one in storage.entries():
        found.append(RemoteFile(one.key, one.size, one.tag or f"{one.modified:.3f}"))
        if len(found) > _MOST_KEYS:
            raise InputError(
                Fault(url, f"expected at most {_MOST_KEYS:,} objects, but got more; name one run")
            )
    if not found:
        raise InputError(Fault(url, "expected an object or a folder, but got nothing there"))
    return storage, name, sorted(found, key=lambda file: file.key)


def _alone(url: str) -> tuple[Storage, str, list[RemoteFile]] | None:
    """Find the input that is one object; None where there is none of that name."""
    parent, _, last = url.rstrip("/").rpartition("/")
    if parent.endswith(("/", ":")) or not last:  # a whole bucket
        return None
    storage, name = _opened(url, alone=True)
    try:
        size = storage.size(name)
    except MissingKey:
        return None
    tag = ""
    if storage.can_list:
        same = (one for one in storage.children()[1] if one.key == name)
        tag = next((one.tag or f"{one.modified:.3f}" for one in same), "")
    return storage, name, [RemoteFile("", size, tag)]


def survey_remote(url: str, options: ReadOptions, format: str | None = None) -> RemoteInput:  # noqa: A002
    """Find out what an input in a bucket is and which of its objects are needed.

    Parameters
    ----------
    url : str
        Of an object or a folder; credentials come from the environment.
    options : ReadOptions
        How it will be read.
    format : str, optional
        Reader; None recognizes it by names and first bytes.

    Raises
    ------
    InputError
        Nothing is there, it cannot be reached or recognized, or lacks files.

    Notes
    -----
    Reads the listing, files up to 64 KiB (16 MiB of them in all) and of up to 64 others 4 KiB, of
    text two lines, of zips the list of what they hold; 16 MiB of each at most.
    """
    with _reached(url), tempfile.TemporaryDirectory(prefix="tisseract-look-") as folder:
        storage, name, files = _listed(url)
        root = Path(folder) / remote_name(url)
        _sketch(storage, name, files, root)
        try:
            reader = reader_for(root, format)
            needed = _needed(reader, root, options, files)
        except InputError as error:
            faults = [Fault(f.location.replace(str(root), url), f.message) for f in error.faults]
            raise InputError(faults) from error
        technology = str(getattr(reader, "technology", "") or "")
        return RemoteInput(url, reader.format, technology, needed, len(files))


@contextmanager
def _reached(url: str) -> Iterator[None]:
    try:
        yield
    except (AtlasError, InvalidArgument) as error:
        raise InputError(Fault(url, str(error))) from error


def _sketch(storage: Storage, name: str, files: list[RemoteFile], root: Path) -> None:
    """Make sparse files of the right names and sizes; small ones are whole."""
    fetched, heads = 0, 0
    for file in files:
        path = _place(root, file.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        key = _key(name, file)
        with path.open("wb") as sparse:
            sparse.truncate(file.size)
            if file.size <= _SMALL and fetched + file.size <= _MOST_FETCHED:
                fetched += sparse.write(storage.get_range(key, 0, file.size)) if file.size else 0
            elif heads < _MOST_HEADS:
                heads += 1
                read = partial(storage.get_range, key)
                for start, piece in telling_pieces(path.name, file.size, read, _HEAD):
                    sparse.seek(start)
                    fetched += sparse.write(piece)


def _key(name: str, file: RemoteFile) -> str:
    """Key of an object in its storage."""
    return "/".join(part for part in (name, file.key) if part)


def _place(root: Path, key: str) -> Path:
    """Where an object lies locally; keys cannot leave the folder."""
    parts = [part for part in key.split("/") if part]
    if any(part in {".", ".."} or "\0" in part or "\\" in part for part in parts):
        raise InputError(Fault(key[:200], "expected keys of plain names, but got this one"))
    return root.joinpath(*parts)


def _needed(
    reader: Reader, root: Path, options: ReadOptions, files: list[RemoteFile]
) -> tuple[RemoteFile, ...]:
    wanted = {
        path.relative_to(root).as_posix() if path != root else ""
        for path in reader.files(root, options)
        if path == root or root in path.parents
    }
    found = tuple(file for file in files if file.key in wanted)
    if not found:
        raise InputError(
            Fault(str(root), f"expected files of format {reader.format}, but got none")
        )
    return found


def remote_fingerprint(remote: RemoteInput, facts: object) -> str:
    """Digest of names, sizes and tags of the objects, and of how they are read."""
    own = [[file.key, file.size, file.tag] for file in remote.files]
    said = json.dumps([_FINGERPRINT, remote.format, own, facts], sort_keys=True, default=str)
    return hashlib.sha256(said.encode()).hexdigest()


def require_disk(remote: RemoteInput) -> None:
    """Refuse to stage what the scratch disk cannot hold.

    Raises
    ------
    InputError
        With both sizes.
    """
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free - _SPARE
    if remote.nbytes > free:
        raise InputError(
            Fault(
                remote.url,
                f"expected {format_bytes(remote.nbytes)} of scratch disk for its "
                f"{len(remote.files)} files, but got {format_bytes(max(0, free))} in {folder}; "
                "free some, or set TMPDIR to a larger disk",
            )
        )


def most_at_once(remotes: Iterable[RemoteInput]) -> int | None:
    """Tell how many inputs the scratch disk holds at once, the largest of them; None for any."""
    largest = max((remote.nbytes for remote in remotes), default=0)
    if not largest:
        return None
    free = shutil.disk_usage(tempfile.gettempdir()).free - _SPARE
    return max(1, free // largest)


@contextmanager
def staged(remote: RemoteInput) -> Iterator[Path]:
    """Copy an input to the folder of temporary files (TMPDIR), hand out its place, and remove it.

    Parameters
    ----------
    remote : RemoteInput
        What is needed.

    Raises
    ------
    InputError
        The disk cannot hold it, or an object is gone or of another size than when it was listed.

    Notes
    -----
    Memory: 8 MiB at a time.
    """
    require_disk(remote)
    with tempfile.TemporaryDirectory(prefix="tisseract-stage-") as folder:
        root = Path(folder) / remote_name(remote.url)
        with _reached(remote.url):
            storage, name = _opened(remote.url, alone=remote.files[0].key == "")
            for file in remote.files:
                path = _place(root, file.key)
                path.parent.mkdir(parents=True, exist_ok=True)
                _fetch(storage, _key(name, file), file, path)
        yield root


def _fetch(storage: Storage, key: str, file: RemoteFile, path: Path) -> None:
    done = 0
    with path.open("wb") as local:
        while done < file.size:
            piece = storage.get_range(key, done, min(_PIECE, file.size - done))
            if not piece:
                break
            done += local.write(piece)
    if done != file.size or storage.size(key) != file.size:
        raise InputError(
            Fault(
                f"{storage.url}/{key}",
                f"expected {file.size:,} bytes, as listed, but got another size; it was changed "
                "meanwhile: run again",
            )
        )
