"""What a reader is, which readers there are, and how a path finds its own.

A reader turns one input (a file or a vendor folder) into one `RawSection`, or into several when
told which obs column splits it. `inspect` is cheap and collects every fault it can see; `open`
hands out lazy parts and raises the same faults. Nothing in an input is trusted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from ..atlas.errors import Fault, InputError, InvalidArgument, near
from .faults import faults_of
from .near_inputs import enclosing, outputs_within, part_of
from .read_memory import ReadMemory
from .source import MatrixValues, RawSection

__all__ = [
    "Inspection",
    "ReadOptions",
    "Reader",
    "faults_of",
    "fingerprint",
    "formats",
    "reader_for",
    "register",
]

_WHOLE_FILE = 64 * 2**20  # files below this are hashed whole
_SAMPLES = 64
_SAMPLE_BYTES = 2**20
_FINGERPRINT = "tisseract-input/1"  # raise when readers read the same bytes differently


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What the user says of an input; None leaves it to the file, the assay, or the default."""

    values: MatrixValues | None = None
    """What the matrix holds; None is counts."""
    um_per_unit: float | str | None = None
    """A number, `lattice:PITCH` (spots printed at PITCH micrometres), or `unknown`."""
    y_axis: Literal["down", "up"] | None = None
    """Direction of the source's y axis; None is down."""
    split_by: str | None = None
    """obs column with one section per value; `none` says that the file is one section."""
    split_value: str | None = None
    """The value of `split_by` to open."""
    organism: str | None = None
    """Organism."""
    technology: str | None = None
    """Assay; some imply the unit (see `ingest.units`)."""
    gene_map: Path | None = None
    """Table of given names, identifiers and symbols."""
    image: Path | None = None
    """Image file."""
    layer: str | None = None
    """Where the matrix lies: `X` (default), `raw`, or the name of a layer."""
    spatial_key: str | None = None
    """obsm key of the coordinates; None is `spatial`."""
    reader_kwargs: Mapping[str, object] = field(default_factory=dict)
    """Options of one reader alone; unknown ones are refused."""
    metadata: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    """Section metadata to pass on."""

    @property
    def matrix_values(self) -> MatrixValues:
        """What the matrix holds, counts unless said otherwise."""
        return self.values or "counts"

    def whole(self) -> ReadOptions:
        """Drop the value that picks one section of a split file."""
        return replace(self, split_value=None)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What an input holds and what is wrong with it, found without reading the matrix."""

    format: str
    """Reader."""
    path: Path
    """The input."""
    n_obs: int = 0
    """Cells (of all sections, when it splits)."""
    n_vars: int = 0
    """Genes."""
    nnz: int | None = None
    """Stored entries, None when only reading would tell."""
    technology: str | None = None
    """Assay, if the sheet or the file says it."""
    organism: str | None = None
    """Organism, if the sheet or the genes say it."""
    um_per_unit: float | None = None
    """Micrometres per source unit; None when unknown, or when it differs between the splits."""
    unit_source: str = "unknown"
    """How the unit was found."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Kind of each obs column."""
    splits: Mapping[str, int] = field(default_factory=dict)
    """Cells of each section, by value of `split_by`; empty when the input is one section."""
    images: tuple[str, ...] = ()
    """Images that will be written."""
    reading: ReadMemory = field(default_factory=ReadMemory)
    """What reading it holds in memory."""
    notes: tuple[str, ...] = ()
    """Things worth knowing that are no faults."""
    faults: tuple[Fault, ...] = ()
    """All that must be corrected before the input can be taken in."""

    def raise_faults(self) -> None:
        """Raise InputError with every fault, if there are any."""
        if self.faults:
            raise InputError(self.faults, str(self.path) if len(self.faults) > 1 else "")


@runtime_checkable
class Reader(Protocol):
    """One input format."""

    @property
    def format(self) -> str:
        """Name in the sheet's `format` column."""
        ...

    def recognizes(self, path: Path) -> bool:
        """Whether a path looks like this format, by names and first bytes; never raises."""
        ...

    def inspect(self, path: Path, options: ReadOptions) -> Inspection:
        """Tell what an input holds and everything wrong with it; raises only InputError."""
        ...

    def open(self, path: Path, options: ReadOptions) -> RawSection:
        """Open one section lazily.

        Raises
        ------
        InputError
            With every fault that `inspect` would list.
        """
        ...

    def files(self, path: Path, options: ReadOptions) -> tuple[Path, ...]:
        """Files that `open` would read."""
        ...


_registered: dict[str, Reader] = {}


def register(reader: Reader) -> None:
    """Add a reader; one of the same format name is replaced.

    Examples
    --------
    >>> register(reader_for(Path("brain.h5ad"), "h5ad"))
    """
    _registered[reader.format] = reader


def _readers() -> dict[str, Reader]:
    from .h5ad import H5adReader
    from .spatialdata_zarr import SpatialDataReader
    from .vendors.anndata_zarr import AnnDataZarrReader
    from .vendors.cosmx import CosmxReader
    from .vendors.curio import CurioReader
    from .vendors.generic import TableReader
    from .vendors.merscope import MerscopeReader
    from .vendors.seqfish import SeqFishReader
    from .vendors.slideseq import SlideSeqReader
    from .vendors.st_array import StArrayReader
    from .vendors.stereoseq import StereoSeqReader
    from .vendors.tenx_positions import TenxReader
    from .vendors.visium import VisiumReader
    from .vendors.visium_hd import VisiumHDReader
    from .vendors.xenium import XeniumReader

    builtin: tuple[Reader, ...] = (
        VisiumReader(),
        VisiumHDReader(),
        SpatialDataReader(),
        H5adReader(),
        AnnDataZarrReader(),
        CosmxReader(),
        TableReader(),
        TenxReader(),
        StereoSeqReader(),
        SlideSeqReader(),
        CurioReader(),
        SeqFishReader(),
        StArrayReader(),
        XeniumReader(),
        MerscopeReader(),
    )
    return {reader.format: reader for reader in builtin} | _registered


def formats() -> tuple[str, ...]:
    """Names of all formats.

    Examples
    --------
    >>> {"h5ad", "spatialdata", "visium"} <= set(formats())
    True
    """
    return tuple(sorted(_readers()))


def reader_for(path: Path, format: str | None = None) -> Reader:  # noqa: A002 - the sheet's word
    """Find the reader of an input, by the format given or by what the path looks like.

    Parameters
    ----------
    path : Path
        A file or folder.
    format : str, optional
        Name of a format; None recognizes it.

    Raises
    ------
    InvalidArgument
        If there is no such format.
    InputError
        If the path does not exist, or no reader recognizes it.

    Examples
    --------
    >>> reader_for(Path("brain.h5ad"), "h5ad").format
    'h5ad'
    """
    readers = _readers()
    if format is not None:
        if format not in readers:
            raise InvalidArgument(
                f"expected a format out of {', '.join(sorted(readers))}, but got {format!r}."
                f"{near(format, readers)}"
            )
        return readers[format]
    if not path.exists():
        raise InputError(Fault(str(path), "expected a file or folder, but got nothing there"))
    found = _surest([reader for reader in readers.values() if reader.recognizes(path)])
    if len(found) == 1:
        return found[0]
    what = "a folder" if path.is_dir() else "a file"
    seen = f"one that fits {' and '.join(r.format for r in found)}" if found else "none of them"
    known = f"expected {what} of a known format ({', '.join(sorted(readers))}), but got "
    hint = outputs_within(path, recognized) or (None if found else part_of(path, recognized))
    raise InputError(
        Fault(str(path), f"{known}{hint or f'{seen}; name it in the `format` column'}")
    )


def recognized(path: Path) -> Reader | None:
    """Return the one reader that recognizes a path, None when none or several do."""
    found = _surest([reader for reader in _readers().values() if reader.recognizes(path)])
    return found[0] if len(found) == 1 else None


def home_of(path: Path) -> Path | None:
    """Return the output that a file or folder is part of, None if it is part of none."""
    found = enclosing(path, recognized)
    return None if found is None else found[0]


def _surest(found: list[Reader]) -> list[Reader]:
    """Leave out readers over whose formats another one that fits says it goes (`*` is all)."""
    beaten = {
        other.format
        for reader in found
        for other in found
        if reader is not other and {other.format, "*"} & set(getattr(reader, "goes_over", ()))
    }
    return [reader for reader in found if reader.format not in beaten]


@dataclass(slots=True)
class FaultList:
    """Collects the faults of parts that are read one after the other."""

    faults: list[Fault] = field(default_factory=list)
    """What was found so far."""

    @contextmanager
    def part(self) -> Iterator[None]:
        """Keep the faults of one part and go on with the next."""
        try:
            yield
        except InputError as error:
            self.faults.extend(error.faults)

    def raise_all(self, path: Path) -> None:
        """Raise InputError with every fault, if there are any."""
        if self.faults:
            raise InputError(self.faults, str(path) if len(self.faults) > 1 else "")

    def add(self, location: str, message: str) -> None:
        """Note one fault."""
        self.faults.append(Fault(location, message))


def check_reader_kwargs(options: ReadOptions, known: frozenset[str], where: str) -> None:
    """Refuse reader options that a reader does not know.

    Raises
    ------
    InputError
        Naming each, with near ones.
    """
    unknown = sorted(set(options.reader_kwargs) - known)
    if unknown:
        raise InputError(
            [
                Fault(
                    where, f"expected a known reader_kwargs, but got {name!r}.{near(name, known)}"
                )
                for name in unknown
            ]
        )


def fingerprint(path: Path, options: ReadOptions, format: str | None = None) -> str:  # noqa: A002
    """Tell whether an input has changed: a digest of its bytes and of the options it is read with.

    Files below 64 MiB are hashed whole. Of larger ones the size and 66 pieces of 1 MiB are hashed:
    the first, the last, and 64 at equal distances between. A change inside a larger file that
    keeps its size can therefore be missed; every exporter rewrites head and tail, so in practice
    it is not. Modification times play no part: a copied file is the same input.

    Parameters
    ----------
    path : Path
        The input.
    options : ReadOptions
        How it is read, the section's metadata included.
    format : str, optional
        Reader; None recognizes it.

    Returns
    -------
    str
        SHA-256 in hex. Cost: at most 66 MiB read per file.
    """
    reader = reader_for(path, format)
    total = hashlib.sha256()
    facts = {
        "version": _FINGERPRINT,
        "format": reader.format,
        "values": options.matrix_values,
        "um_per_unit": options.um_per_unit,
        "y_axis": options.y_axis or "down",
        "split_by": options.split_by,
        "split_value": options.split_value,
        "organism": options.organism,
        "technology": options.technology,
        "layer": options.layer,
        "spatial_key": options.spatial_key,
        "reader_kwargs": dict(options.reader_kwargs),
        "metadata": dict(options.metadata),
    }
    total.update(json.dumps(facts, sort_keys=True, default=str).encode())
    root = path if path.is_dir() else path.parent
    for file in sorted(reader.files(path, options)):
        with faults_of(file, "an input file"):
            name = str(file.relative_to(root)) if file.is_relative_to(root) else file.name
            total.update(json.dumps([name, _digest(file)]).encode())
    return total.hexdigest()


def _digest(path: Path) -> str:
    """Digest of one file, whole or by samples."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size < _WHOLE_FILE:
            while piece := file.read(_SAMPLE_BYTES):
                digest.update(piece)
        else:
            last = size - _SAMPLE_BYTES
            for i in range(_SAMPLES + 2):
                file.seek(last * i // (_SAMPLES + 1))
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()
