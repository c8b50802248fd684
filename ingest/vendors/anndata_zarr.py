"""Reader of AnnData written to Zarr, format 2 or 3, as a folder or one zip; streamed as h5ad is."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, override

import numpy as np

from ...atlas.errors import Fault, InputError
from ...atlas.memory import format_bytes, parse_bytes
from ..frame import index_name, n_rows
from ..h5ad import H5adReader
from ..matrix import StreamedMatrix
from ..reader import ReadOptions, faults_of
from ..sdata_elements import open_store

if TYPE_CHECKING:
    from ..h5ad import H5adSurvey
    from ..source import CountsSource

__all__ = ["AnnDataZarrReader", "ZarrTree", "open_tree"]

_WHAT = "an AnnData store"
_MAX_CHUNK = parse_bytes("1 GiB")
_MAX_NODES = 100_000
_MARKS = ("zarr.json", ".zgroup")
_ELEMENTS = ("tables", "table", "shapes")  # of SpatialData, which has a reader of its own


class AnnDataZarrReader(H5adReader):
    """AnnData in a Zarr store: the parts and the reader_kwargs of an h5ad file.

    Stores in one zip (`.zarr.zip`) are read where they are; chunks of such a store are read one
    after the other, which is slower than a folder.
    """

    format: str = "anndata_zarr"
    _what, _got = _WHAT, "a store"

    @override
    def recognizes(self, path: Path) -> bool:
        """Whether a folder or zip is a Zarr group with obs and var; never raises."""
        try:
            if path.is_dir():
                return (
                    any((path / mark).is_file() for mark in _MARKS)
                    and all((path / part).is_dir() for part in ("obs", "var"))
                    and not any((path / part).is_dir() for part in _ELEMENTS)
                )
            return path.suffix == ".zip" and _root_of(path) is not None
        except (OSError, zipfile.BadZipFile, ValueError):
            return False

    @override
    def files(self, path: Path, options: ReadOptions) -> tuple[Path, ...]:
        """Return every file of the store, the gene map and the image."""
        own = [path]
        if path.is_dir():
            own = sorted(one for one in path.rglob("*") if one.is_file() and not one.is_symlink())
        return (*own, *super().files(path, options)[1:])

    @override
    def _opened(self, path: Path) -> AbstractContextManager[Any]:
        return open_tree(path)

    @override
    def _node(self, path: Path, key: str) -> ZarrTree:
        return ZarrTree(path, key)

    @override
    def _counts(self, path: Path, survey: H5adSurvey) -> CountsSource:
        assert survey.facts is not None
        return StreamedMatrix(ZarrTree(path, survey.key), survey.facts)


@contextmanager
def open_tree(path: Path) -> Iterator[Any]:
    """Open and check the root group; whatever zarr raises inside becomes one InputError.

    Raises
    ------
    InputError
        It is no Zarr group, breaks off, holds links, or chunks that would not fit into memory.
    """
    if path.is_dir():
        with open_store(path, _WHAT) as root:
            _check_tree(root, path)
            yield root
        return
    with _in_zip(path) as root:
        _check_tree(root, path)
        yield root


@contextmanager
def _in_zip(path: Path) -> Iterator[Any]:
    import zarr
    from zarr.storage import ZipStore

    with faults_of(path, f"{_WHAT} in a zip"):
        try:
            inner = _root_of(path)
        except zipfile.BadZipFile as error:
            raise InputError(
                Fault(str(path), f"expected {_WHAT} in a zip, but got no zip ({error})")
            ) from error
        if inner is None:
            raise InputError(
                Fault(str(path), f"expected {_WHAT} in a zip, but got one without obs and var")
            )
        store = ZipStore(path, mode="r", read_only=True)
        try:
            yield zarr.open_group(store, mode="r", path=inner)
        except zipfile.BadZipFile as error:
            raise InputError(
                Fault(str(path), f"expected {_WHAT} in a zip, but got {error}; copy it again")
            ) from error
        finally:
            store.close()


def _root_of(path: Path) -> str | None:
    """Place of the store in a zip: its root, or the only folder there; None without a store."""
    with zipfile.ZipFile(path) as file:
        names = {entry.filename for entry in file.infolist()}
        large = [entry for entry in file.infolist() if entry.file_size > _MAX_CHUNK]
    if large:
        raise InputError(
            Fault(
                f"{path}:{large[0].filename}",
                f"expected chunks below {format_bytes(_MAX_CHUNK)}, but got "
                f"{format_bytes(large[0].file_size)}",
            )
        )
    tops = {PurePosixPath(name).parts[0] for name in names if name.strip("/")}
    for inner in ["", *(f"{top}/" for top in tops if len(tops) == 1)]:
        found = [any(f"{inner}{part}{mark}" in names for mark in _MARKS)
                 for part in ("", "obs/", "var/")]  # fmt: skip
        others = any(
            name.startswith(tuple(f"{inner}{one}/" for one in _ELEMENTS)) for name in names
        )
        if all(found) and not others:
            return inner.rstrip("/")
    return None


def _check_tree(root: Any, path: Path) -> None:
    """Refuse arrays whose chunks would not fit into memory, and columns longer than their frame.

    Cost: the metadata of every node.
    """
    faults = []
    for number, (name, node) in enumerate(root.members(max_depth=None)):
        if number > _MAX_NODES:
            raise InputError(Fault(str(path), f"expected at most {_MAX_NODES} nodes, but got more"))
        if not hasattr(node, "shape"):
            continue
        size = int(np.prod(node.chunks, dtype=np.float64)) * max(1, node.dtype.itemsize)
        if size > _MAX_CHUNK:
            faults.append(
                Fault(
                    f"{path}/{name}",
                    f"expected chunks below {format_bytes(_MAX_CHUNK)}, but got "
                    f"{format_bytes(size)}; write the store again",
                )
            )
    if faults:
        raise InputError(faults)
    for name in ("obs", "var"):
        if name in root and hasattr(root[name], "keys"):
            _check_frame(root[name], f"{path}/{name}")
    _check_embedding(root, path)


def _check_frame(frame: Any, where: str) -> None:
    """Refuse columns of another length than the row names: a longer one would be padded."""
    if index_name(frame) not in frame:
        raise InputError(Fault(where, "expected a data frame with row names, but got none"))
    n = n_rows(frame)
    for name, node in frame.members():
        if name == "__categories":
            continue
        parts = [node] if hasattr(node, "shape") else [
            node[key] for key in ("codes", "values", "mask") if key in node
        ]  # fmt: skip
        for part in parts:
            if not hasattr(part, "shape") or (len(part.shape) == 1 and part.shape[0] != n):
                got = getattr(part, "shape", ("a group",))
                raise InputError(
                    Fault(
                        f"{where}/{name}",
                        f"expected {n} values, one a row, but got {got[0]}; write the store again",
                    )
                )


def _check_embedding(root: Any, path: Path) -> None:
    n = n_rows(root["obs"]) if "obs" in root and hasattr(root["obs"], "keys") else None
    obsm = root["obsm"] if "obsm" in root and hasattr(root["obsm"], "keys") else {}
    for name in obsm:
        shape = getattr(obsm[name], "shape", None)
        if n is not None and shape and shape[0] != n:
            raise InputError(
                Fault(
                    f"{path}/obsm/{name}",
                    f"expected {n} rows, one a cell, but got {shape[0]}; write the store again",
                )
            )


@dataclass(frozen=True, slots=True)
class ZarrTree:
    """Opens one node of a store that was checked before; picklable."""

    path: Path
    """Folder or zip."""
    key: str
    """Group or array."""

    @contextmanager
    def __call__(self) -> Iterator[Any]:
        """Open the node."""
        if self.path.is_dir():
            import zarr
            from zarr.storage import LocalStore

            with faults_of(self.path / self.key, f"part of {_WHAT}"):
                root = zarr.open_group(LocalStore(self.path, read_only=True), mode="r")
                yield root[self.key]
            return
        with _in_zip(self.path) as root:
            yield root[self.key]
