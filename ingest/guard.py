"""HDF5 files from strangers: opened only after a walk that follows nothing out of the file.

HDF5 can point at other files in three ways (external links, external storage, virtual datasets),
and h5py follows all of them: a matrix could contain any file of the machine. It can also carry
Python objects (opaque or reference types). All are refused before a value is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atlas.errors import Fault, InputError
from ..atlas.memory import format_bytes, parse_bytes
from .hdf5_heaps import check_heaps
from .reader import faults_of

if TYPE_CHECKING:
    import h5py

__all__ = ["Hdf5Node", "check_hdf5", "is_hdf5", "open_hdf5", "step_into"]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MAX_OBJECTS = 100_000
_MAX_CHUNK_BYTES = parse_bytes("1 GiB")


def is_hdf5(path: Path) -> bool:
    """Whether a file begins like HDF5; never raises."""
    try:
        with path.open("rb") as file:
            return file.read(8) == _SIGNATURE
    except OSError:
        return False


def _require_hdf5(path: Path, what: str) -> None:
    """Refuse a folder, or a file of another kind, before HDF5 speaks of signatures."""
    if path.is_dir():
        raise InputError(
            Fault(
                str(path),
                f"expected {what}, but got a folder; name the file, or correct the `format` column",
            )
        )
    with faults_of(path, what), path.open("rb") as file:
        if (head := file.read(512)) and head[:8] != _SIGNATURE and len(head) >= 8:
            raise InputError(
                Fault(
                    str(path),
                    f"expected {what}, but got a file that is not HDF5 (by its first bytes); "
                    "correct `data_path` or the `format` column",
                )
            )


@contextmanager
def open_hdf5(path: Path, what: str, *, checked: bool = False) -> Iterator[h5py.File]:
    """Open and check a file; whatever h5py raises inside the block becomes one InputError.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        What it should be, as "an h5ad file".
    checked : bool
        Whether `check_hdf5` has passed before, so that the walk can be left out.

    Raises
    ------
    InputError
        If the file is missing, truncated, no HDF5, or reaches outside itself.
    """
    import h5py

    _require_hdf5(path, what)
    if not checked:
        check_heaps(path)
    with faults_of(path, what), h5py.File(path, "r", locking=False) as file:
        if not checked:
            check_hdf5(file, path)
        yield file


@dataclass(frozen=True, slots=True)
class Hdf5Node:
    """Opens one object of a file that was checked before; picklable."""

    path: Path
    """The file."""
    key: str
    """The group or dataset."""

    @contextmanager
    def __call__(self) -> Iterator[Any]:
        """Open the file and hand out the object."""
        try:
            with open_hdf5(self.path, f"{self.key!r}", checked=True) as file:
                yield file[self.key]
        except InputError as error:
            place = str(self.path)
            raise InputError(
                [
                    fault
                    if fault.location.startswith(place)
                    else Fault(f"{place}:{self.key} {fault.location}".rstrip(), fault.message)
                    for fault in error.faults
                ]
            ) from error


def check_hdf5(file: h5py.File, path: Path) -> None:
    """Refuse a file that reaches outside itself or cannot be read safely; all faults at once.

    Raises
    ------
    InputError
        Naming every such object. Cost: one look at each object's header.
    """
    import h5py

    faults: list[Fault] = []
    seen: set[int] = set()
    groups = ["/"]
    while groups:
        name = groups.pop()
        group = file[name]
        for child in group:
            place = f"{name.rstrip('/')}/{child}"
            link = group.get(child, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                faults.append(_outside(path, place, f"a link to {link.filename!r}"))
                continue
            if isinstance(link, h5py.SoftLink):
                continue  # its target is met on its own, or is no object of this file
            item = group[child]
            address = int(h5py.h5o.get_info(item.id).addr)
            if address in seen:
                continue
            seen.add(address)
            if len(seen) > _MAX_OBJECTS:
                raise InputError(
                    Fault(str(path), f"expected at most {_MAX_OBJECTS} objects, but got more")
                )
            if isinstance(item, h5py.Group):
                groups.append(place)
            elif isinstance(item, h5py.Dataset):
                faults.extend(_check_dataset(item, path, place))
    if faults:
        raise InputError(faults)


def step_into(group: Any, name: str, path: Path) -> Any:
    """Open a child of a group, checked as by `check_hdf5`: for files that are read in small part.

    A walk costs a look at every object; of files with a group a cell that is most of the reading.

    Parameters
    ----------
    group : h5py.Group
        Of a file opened with `checked=True`.
    name : str
        The child.
    path : Path
        The file, for messages.

    Raises
    ------
    InputError
        There is no such child, it is a link, or it cannot be read safely.
    """
    import h5py

    place = f"{group.name.rstrip('/')}/{name}"
    if name not in group:
        raise InputError(Fault(f"{path}:{place}", "expected data, but got nothing there"))
    kind = group.id.links.get_info(name.encode("utf-8", "surrogateescape")).type
    if kind != h5py.h5l.TYPE_HARD:
        raise InputError(_outside(path, place, "a link"))
    item = group[name]
    faults = _check_dataset(item, path, place) if isinstance(item, h5py.Dataset) else []
    if faults:
        raise InputError(faults)
    return item


def _outside(path: Path, place: str, what: str) -> Fault:
    return Fault(
        f"{path}:{place}",
        f"expected data inside the file, but got {what}; refused, since it could read any file "
        "of this machine: write the data into one file",
    )


def _check_dataset(item: Any, path: Path, place: str) -> list[Fault]:
    """Faults of one dataset's storage."""
    import h5py

    faults = []
    if item.external:
        faults.append(_outside(path, place, f"external storage in {item.external[0][0]!r}"))
    if item.is_virtual:
        faults.append(_outside(path, place, "a virtual dataset"))
    if item.chunks is not None:
        size = item.dtype.itemsize
        for edge in item.chunks:
            size *= int(edge)
        if size > _MAX_CHUNK_BYTES:
            faults.append(
                Fault(
                    f"{path}:{place}",
                    f"expected chunks below {format_bytes(_MAX_CHUNK_BYTES)}, but got "
                    f"{format_bytes(size)}; rewrite the file with smaller chunks",
                )
            )
        plist = item.id.get_create_plist()
        for i in range(plist.get_nfilters()):
            code = int(plist.get_filter(i)[0])
            if not h5py.h5z.filter_avail(code):
                faults.append(
                    Fault(
                        f"{path}:{place}",
                        f"expected gzip, lzf or no compression, but got HDF5 filter {code}, which "
                        "needs a plugin; rewrite the file with gzip",
                    )
                )
    return faults
