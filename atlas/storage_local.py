"""A root in a folder of this machine: atomic, durable, and never outside the folder.

An object is written to the scratch folder, flushed to the disk, then given its name by one
`rename` or `link`, and the folder that holds the name is flushed too. `link` fails where the
name is taken, which is the put-if-absent that commits stand on.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import uuid
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, override

from .errors import (
    AccessDenied,
    AlreadyExists,
    AtlasError,
    Corrupt,
    InvalidArgument,
    MissingKey,
    StorageFull,
    StorageUnavailable,
    StorageUnsupported,
)
from .keys import SCRATCH, check_key
from .storage import Storage, StoredKey

if TYPE_CHECKING:
    from zarr.abc.store import Store

__all__ = ["LocalStorage", "flush_folder", "name_os_error"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
# A folder may be pruned between its making and the first file in it; then it is made again.
_TRIES = 8
# Opening what is no link at its end, nor waits for a writer; 0 where the system cannot.
_NO_LINK = (
    os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC if hasattr(os, "O_NOFOLLOW") else 0
)
_FOLDERS = 4096  # resolved folders to remember


def flush_folder(path: Path) -> None:
    """Flush a folder's names to the disk, so that a power cut cannot forget them."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks cannot
            raise
    finally:
        os.close(descriptor)


def name_os_error(error: OSError, what: str) -> AtlasError:
    """Turn an operating-system error into the one of the tree that says what to do."""
    detail = error.strerror or str(error)
    if error.errno in _FULL:
        return StorageFull(f"{what}: no space is left ({detail}); free some, then run it again")
    if error.errno in _DENIED:
        return AccessDenied(f"{what}: not permitted ({detail}); check the owner and mode")
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        where = f" {error.filename!r}" if error.filename else ""
        return StorageUnavailable(
            f"{what}: a folder is wanted, but got the file{where}; choose another path, or move "
            "the file away"
        )
    if error.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP):
        return StorageUnavailable(f"{what}: the path cannot be made ({detail}); choose another")
    return StorageUnavailable(f"{what}: the disk failed ({detail})")


@contextlib.contextmanager
def _naming(what: str) -> Iterator[None]:
    try:
        yield
    except AtlasError:
        raise
    except OSError as error:
        raise name_os_error(error, what) from error


class LocalStorage(Storage):
    """A root in a local folder; the folder is made by the first write, never by a read."""

    def __init__(self, root: Path, *, read_only: bool = True) -> None:
        self._root = root
        self._real = os.path.realpath(root)
        self._folders: dict[str, str] = {}
        self.url = str(root)
        self.read_only = read_only

    def __reduce__(self) -> tuple[object, ...]:
        return _reopen, (self.url, self.read_only)

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _file(self, key: str) -> Path:
        """Path of a regular file whose links all stay inside the root."""
        path = self._path(key)
        real = os.path.realpath(path)
        if real != str(path) and not real.startswith(self._real + os.sep):
            raise Corrupt(f"a file inside {self.url} is wanted, but got {key!r} linked outside it")
        if not Path(real).is_file():
            raise MissingKey(f"no object {key!r} in {self.url}")
        return Path(real)

    @override
    def get(self, key: str, *, max_bytes: int | None = None) -> bytes:
        path = self._file(key)
        with _naming(f"reading {key!r} of {self.url}"), path.open("rb") as file:
            if max_bytes is not None and (size := os.fstat(file.fileno()).st_size) > max_bytes:
                raise Corrupt(f"at most {max_bytes} bytes are wanted in {key!r}, but got {size}")
            return file.read()

    @override
    def get_range(self, key: str, start: int, length: int) -> bytes:
        if start < 0 or length < 0:
            raise InvalidArgument(f"a byte range from 0 on is wanted, but got {start}+{length}")
        with _naming(f"reading {key!r} of {self.url}"), self._opened(key) as file:
            file.seek(start)
            return file.read(length)

    @override
    def get_tail(self, key: str, length: int) -> tuple[bytes, int]:
        with _naming(f"reading {key!r} of {self.url}"), self._opened(key) as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - length))
            return file.read(min(length, size)), size

    def _opened(self, key: str) -> IO[bytes]:
        """Open a file as `_file` finds it; the folders of a key are resolved once."""
        folder, _, name = check_key(key).rpartition("/")
        inside = self._folders.get(folder)
        if inside is None or not _NO_LINK:
            path = self._file(key)
            if _NO_LINK and os.path.realpath(self._root / folder) == str(path.parent):
                if len(self._folders) >= _FOLDERS:
                    self._folders.clear()
                self._folders[folder] = str(path.parent)
            return path.open("rb", buffering=0)
        try:
            descriptor = os.open(f"{inside}/{name}", _NO_LINK)
        except OSError:  # a link, or not there: the slow way tells which
            return self._file(key).open("rb", buffering=0)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise MissingKey(f"no object {key!r} in {self.url}")
        return os.fdopen(descriptor, "rb", buffering=0)

    @override
    def size(self, key: str) -> int:
        path = self._file(key)
        with _naming(f"reading {key!r} of {self.url}"):
            return path.stat().st_size

    @override
    def put(self, key: str, data: bytes) -> None:
        self.forbid_writing(f"writing {key!r}")
        path = self._path(key)
        with _naming(f"writing {key!r} of {self.url}"), self._written(data) as scratch:
            self._name(scratch, path, Path.replace)

    @override
    def put_if_absent(self, key: str, data: bytes) -> None:
        self.forbid_writing(f"writing {key!r}")
        path = self._path(key)
        if os.path.lexists(path):  # the common loser of a race, told without a write
            raise AlreadyExists(f"a free key is wanted, but got {key!r}, taken in {self.url}")
        with _naming(f"writing {key!r} of {self.url}"), self._written(data) as scratch:
            try:
                self._name(scratch, path, os.link)
            except FileExistsError as error:
                raise AlreadyExists(
                    f"a free key is wanted, but got {key!r}, taken in {self.url}"
                ) from error
            except OSError as error:
                if error.errno in _NO_LINKS:
                    raise StorageUnsupported(
                        f"a file system with hard links is wanted for commits, but got "
                        f"{self.url}; put the atlas on another disk"
                    ) from error
                raise

    @override
    def upload(self, path: Path, key: str) -> None:
        self.forbid_writing(f"writing {key!r}")
        target = self._path(key)
        with _naming(f"writing {key!r} of {self.url}"), self._written(b"") as scratch:
            shutil.copyfile(path, scratch)
            descriptor = os.open(scratch, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._name(scratch, target, Path.replace)

    @contextlib.contextmanager
    def _written(self, data: bytes) -> Iterator[Path]:
        """Bytes in the scratch folder, flushed; gone afterwards unless renamed away."""
        folder = self._root / SCRATCH
        self.make_folder(folder)
        scratch = folder / uuid.uuid4().hex
        try:
            with scratch.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield scratch
        finally:
            with contextlib.suppress(FileNotFoundError):
                scratch.unlink()

    def _name(self, scratch: Path, path: Path, verb: object) -> None:
        assert callable(verb)
        for attempt in range(_TRIES):
            self.make_folder(path.parent)
            try:
                verb(scratch, path)
                break
            except FileNotFoundError:
                if attempt == _TRIES - 1 or not scratch.exists():
                    raise
        flush_folder(path.parent)

    def make_folder(self, folder: Path) -> None:
        """Make a folder under the root and flush every name on the way that is new."""
        missing: list[Path] = []
        step = folder
        while not step.is_dir():
            missing.append(step)
            step = step.parent
        for step in reversed(missing):
            step.mkdir(exist_ok=True, parents=True)
            flush_folder(step.parent)

    @override
    def entries(self, prefix: str = "") -> Iterator[StoredKey]:
        top = self._path(prefix) if prefix else self._root
        for folder, folders, files in os.walk(top):
            if Path(folder) == self._root and SCRATCH in folders:
                folders.remove(SCRATCH)
            for name in files:
                if (entry := self._entry(Path(folder) / name)) is not None:
                    yield entry

    def _entry(self, path: Path) -> StoredKey | None:
        try:
            found = path.lstat()
        except FileNotFoundError:  # removed while the walk went by
            return None
        size = found.st_size if stat.S_ISREG(found.st_mode) else -1
        return StoredKey(path.relative_to(self._root).as_posix(), size, found.st_mtime)

    @override
    def children(self, prefix: str = "") -> tuple[list[str], list[StoredKey]]:
        top = self._path(prefix) if prefix else self._root
        folders: list[str] = []
        files: list[StoredKey] = []
        try:
            found = sorted(os.scandir(top), key=lambda item: item.name)
        except (FileNotFoundError, NotADirectoryError):
            return [], []
        for item in found:
            if item.is_dir(follow_symlinks=False):
                if prefix or item.name != SCRATCH:
                    folders.append(f"{prefix}/{item.name}" if prefix else item.name)
            elif (entry := self._entry(Path(item.path))) is not None:
                files.append(entry)
        return folders, files

    @override
    def delete(self, keys: Iterable[str]) -> None:
        self.forbid_writing("deleting")
        with _naming(f"deleting in {self.url}"):
            for key in keys:
                path = self._path(key)
                path.unlink(missing_ok=True)
                self._prune(path.parent)

    @override
    def delete_prefix(self, prefix: str) -> None:
        self.forbid_writing(f"deleting {prefix!r}")
        path = self._path(prefix)
        with _naming(f"deleting {prefix!r} of {self.url}"):
            if path.is_symlink():
                path.unlink()
            else:
                self._remove_folder(path)
            self._prune(path.parent)

    def _remove_folder(self, folder: Path) -> None:
        """Remove a folder that others may be emptying or filling at the same time."""
        for _ in range(_TRIES):
            if not folder.is_dir():
                return
            with contextlib.suppress(FileNotFoundError):
                try:
                    shutil.rmtree(folder)
                except OSError as error:
                    if error.errno != errno.ENOTEMPTY:
                        raise
        if folder.is_dir():
            raise StorageUnavailable(
                f"{folder} cannot be removed, since something keeps writing into it; stop the "
                "writer, or give a longer grace period, and run gc again"
            )

    def _prune(self, folder: Path) -> None:
        """Remove folders that became empty, up to the root; a bucket has none to remove."""
        while folder != self._root:
            try:
                folder.rmdir()
            except OSError:  # not empty, or gone already
                return
            folder = folder.parent

    def clear_scratch(self, before: float, keep: Collection[str] = ()) -> list[str]:
        """Remove half-written objects last touched before a time; returns their names."""
        self.forbid_writing("clearing the scratch folder")
        stale = self.scratch(before, keep)
        for path in stale:
            with contextlib.suppress(FileNotFoundError):
                if path.is_dir() and not path.is_symlink():
                    self._remove_folder(path)
                else:
                    path.unlink()
        return [path.name for path in stale]

    def scratch(self, before: float, keep: Collection[str] = ()) -> list[Path]:
        """List half-written objects last touched before a time (seconds since 1970).

        Parts of an attempt lie in a folder named after it; `keep` are the ids of attempts that
        are being written.
        """
        folder = self._root / SCRATCH
        if not folder.is_dir():
            return []
        paths = [path for path in folder.iterdir() if path.name not in keep]
        entries = [(path, self._entry(path)) for path in paths]
        return sorted(path for path, entry in entries if entry and entry.modified < before)

    @property
    def root(self) -> Path:
        """Folder of the root."""
        return self._root

    @override
    def local_path(self, key: str = "") -> Path | None:
        return self._path(key) if key else self._root

    @override
    def zarr_store(self, prefix: str, read_only: bool = True) -> Store:
        from .rooted_store import RootedStore, check_inside

        if not read_only:
            self.forbid_writing(f"writing {prefix!r}")
        path = self._path(prefix) if prefix else self._root
        check_inside(path, self._real)
        return RootedStore(path, read_only=read_only)


def _reopen(url: str, read_only: bool) -> LocalStorage:
    return LocalStorage(Path(url), read_only=read_only)
