"""A lock that the kernel lets go of when its holder dies: who writes here, if anybody at all.

`flock` on a file. It holds between processes and between threads of one process; on network
disks as far as they pass it on (NFS does, Lustre when mounted with `flock`). Where a system has
no such lock, nothing is ever locked, and callers must do without.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

__all__ = ["FileLock", "is_locked", "try_lock"]

_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO}
_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}


class FileLock:
    """A lock that is held until `release`, or until the process ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Let go; twice does no harm."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def try_lock(path: Path, *, create: bool = False) -> FileLock | None:
    """Lock a file without waiting.

    Parameters
    ----------
    path : Path
        The file.
    create : bool
        Make it when it is not there.

    Returns
    -------
    FileLock or None
        None where another holds it, where there is no such file (any more), and where the system
        or the file system has no locks.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "lock")
    ...     held = try_lock(path, create=True)
    ...     print(is_locked(path), try_lock(path))
    ...     held.release()
    ...     print(is_locked(path))
    True None
    False
    """
    found = _lock(path, create)
    return found if isinstance(found, FileLock) else None


def is_locked(path: Path) -> bool:
    """Tell whether a living process holds the lock; False where that cannot be asked."""
    found = _lock(path, create=False)
    if isinstance(found, FileLock):
        found.release()
    return found == "held"


def _lock(path: Path, create: bool) -> FileLock | Literal["held", "none"]:
    try:
        import fcntl
    except ImportError:  # not on this system
        return "none"
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags | (os.O_CREAT if create else 0), 0o666)
    except OSError as error:
        if error.errno in _GONE:
            return "none"
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and not create:
            return "none"  # somebody else's file: it cannot be asked
        raise
    lock = FileLock(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A file that was removed, or replaced, before it was locked guards nothing.
        if os.path.samestat(os.fstat(descriptor), path.lstat()):
            return lock
    except OSError as error:
        lock.release()
        return "held" if error.errno in _HELD else "none"
    lock.release()
    return "none"
