"""Writing something new: a fresh place for it, and a receipt once it is whole and durable.

An attempt is written under an id that nobody used before, so two writers never meet, a retry
never finds half of its predecessor, and nothing is visible until a commit names it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from .errors import AlreadyExists, AtlasError, Corrupt, InvalidArgument
from .keys import SCRATCH, check_key, manifest_key
from .manifest import Manifest, ManifestKey, digest_bytes, digest_file
from .storage import Storage
from .storage_local import LocalStorage, flush_folder, name_os_error

__all__ = ["Attempt", "Receipt", "new_attempt", "walk"]

# Hashing and flushing leave the interpreter; uploads mostly wait.
_THREADS = 8


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that an attempt is whole; small enough to send from worker to driver.

    Attributes
    ----------
    prefix : str
        Where the attempt lies, relative to the root.
    attempt : str
        Its id.
    manifest : str
        Key of its manifest.
    digest : str
        Digest of the manifest; what the snapshot records.
    nbytes, n_keys : int
        Bytes and objects.
    """

    prefix: str
    attempt: str
    manifest: str
    digest: str
    nbytes: int
    n_keys: int


class Attempt:
    """One place to write into; cannot be sealed twice, and leaves nothing when not sealed.

    Attributes
    ----------
    id : str
        uuid4 as 32 hexadecimal digits.
    prefix : str
        Where the attempt lies, relative to the root.
    path : Path
        An empty local folder: the final place on a disk, a staging folder for a bucket.
    parts : Path
        A folder beside it, of the same file system, for what is renamed into `path` once it is
        complete; not there yet, and removed at the end.
    known : dict of str to ManifestKey
        Files whose size and digest their writers took; `seal` does not read these again.
    """

    def __init__(
        self,
        storage: Storage,
        parent: str,
        suffix: str = "",
        scratch: Path | None = None,
        *,
        adopt: str | None = None,
    ) -> None:
        storage.forbid_writing(f"a new attempt under {parent!r}")
        if suffix not in ("", ".zarr"):
            raise InvalidArgument(f"the suffix '' or '.zarr' is wanted, but got {suffix!r}")
        self.storage = storage
        self.id = uuid.uuid4().hex if adopt is None else adopt
        self.known: dict[str, ManifestKey] = {}
        self.prefix = check_key(f"{parent}/{self.id}{suffix}")
        self.manifest = manifest_key(parent, self.id)
        self._receipt: Receipt | None = None
        self._staging: Path | None = None
        if isinstance(storage, LocalStorage):
            place = storage.local_path(self.prefix)
            assert place is not None
            with _naming_full(f"making {self.prefix!r}"):
                storage.make_folder(place)
            self.path = place
            self.parts = storage.root / SCRATCH / self.id
        else:
            with _naming_full("making a staging folder"):
                self._staging = Path(tempfile.mkdtemp(prefix="tisseract-", dir=scratch))
                self.path = self._staging / f"{self.id}{suffix}"
                self.path.mkdir()
            self.parts = self._staging / "parts"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._receipt is None:
            self._give_up(error)
        elif self._staging is not None:
            shutil.rmtree(self._staging, ignore_errors=True)
        shutil.rmtree(self.parts, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, AtlasError) and error.errno:
            named = name_os_error(error, f"writing {self.prefix!r}")
            if named.kind == "storage-full":
                raise named from error

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("an Attempt stays in the process that writes it; send its Receipt instead")

    def _give_up(self, error: BaseException | None) -> None:
        """Leave without a seal."""
        del error
        self.discard()

    def discard(self) -> None:
        """Remove what was written; a sealed attempt is left to `gc`."""
        if self._receipt is not None:
            return
        shutil.rmtree(self._staging or self.path, ignore_errors=True)
        if self._staging is not None:
            # Best effort: what an upload left behind is garbage that gc finds.
            with contextlib.suppress(AtlasError):
                self.storage.delete_prefix(self.prefix)

    def seal(self) -> Receipt:
        """Make everything durable, then write the manifest, last.

        On a disk each file and folder is flushed; for a bucket each file is uploaded.

        Returns
        -------
        Receipt

        Raises
        ------
        InvalidArgument
            Nothing was written, or something other than regular files.
        Corrupt
            A file of `known` has another size by now.
        StorageFull, StorageUnavailable
            The storage failed; nothing is committed and the attempt is discarded on exit.
        """
        if self._receipt is not None:
            return self._receipt
        files, folders = self._contents()
        if not files:
            raise InvalidArgument(f"an attempt with files is wanted, but got none in {self.path}")
        with _naming_full(f"writing {self.prefix!r}"), ThreadPoolExecutor(_THREADS) as pool:
            keys = tuple(pool.map(self._keep, files))
            if self._staging is None:
                for folder in folders:
                    flush_folder(folder)
        manifest = Manifest(self.id, self.prefix, keys)
        data = manifest.to_bytes()
        try:
            self.storage.put_if_absent(self.manifest, data)
        except AlreadyExists:
            # The id is ours alone: an acknowledgement was lost and the request sent again.
            if self.storage.get(self.manifest) != data:
                raise
        self._receipt = Receipt(
            self.prefix, self.id, self.manifest, digest_bytes(data), manifest.nbytes, len(keys)
        )
        return self._receipt

    def _contents(self) -> tuple[list[str], list[Path]]:
        """Names of the files to seal, and the folders to flush."""
        return walk(self.path)

    def _keep(self, name: str) -> ManifestKey:
        path = self.path / name
        key = self.known.get(name)
        if key is None:
            size, sha256 = digest_file(path, flush=self._staging is None)
            key = ManifestKey(check_key(name), size, sha256)
        elif path.stat().st_size != key.size:
            raise Corrupt(
                f"{key.size} bytes as written are wanted, but got {path.stat().st_size} in "
                f"{self.prefix}/{name}; something else wrote there, run the step again"
            )
        elif self._staging is None:
            flush_file(path)
        if self._staging is not None:
            self.storage.upload(path, f"{self.prefix}/{name}")
        return key


def new_attempt(
    storage: Storage, parent: str, *, suffix: str = "", scratch: Path | None = None
) -> Attempt:
    """Open a fresh place to write a section, derived data or a run into.

    Parameters
    ----------
    storage : Storage
        Opened for writing.
    parent : str
        `sections/<section>`, `derived/<kind>/<key>/<section>` or `models/<run>`.
    suffix : str
        `.zarr` for a section, else empty.
    scratch : Path, optional
        Where to stage what goes to a bucket; the system's temporary folder by default.

    Returns
    -------
    Attempt
        To be used in a `with` statement; removed at its end unless sealed.

    Raises
    ------
    ReadOnly, InvalidArgument

    Examples
    --------
    >>> from tisseract.atlas.storage import open_storage
    >>> storage = open_storage("memory://attempt", read_only=False)
    >>> with new_attempt(storage, "models/first") as attempt:
    ...     _ = (attempt.path / "config.json").write_text("{}")
    ...     receipt = attempt.seal()
    >>> receipt.n_keys, receipt.nbytes
    (1, 2)
    """
    return Attempt(storage, parent, suffix, scratch)


@contextlib.contextmanager
def _naming_full(what: str) -> Iterator[None]:
    try:
        yield
    except AtlasError:
        raise
    except OSError as error:
        raise name_os_error(error, what) from error


def flush_file(path: Path) -> None:
    """Put a file's contents on the disk for good."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def walk(top: Path) -> tuple[list[str], list[Path]]:
    """Names of all files, sorted; all folders, deepest first.

    Raises
    ------
    InvalidArgument
        Something other than regular files and folders.
    """
    files: list[str] = []
    folders: list[Path] = []
    for folder, inner, names in os.walk(top, topdown=False):
        place = Path(folder)
        folders.append(place)
        for name in (*names, *inner):
            path = place / name
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                where = path.relative_to(top)
                raise InvalidArgument(f"a regular file is wanted, but got {str(where)!r}")
        files.extend((place / name).relative_to(top).as_posix() for name in names)
    return sorted(files), folders
