"""10x feature-barcode matrices, HDF5 or Matrix Market, as cells x genes streamed by rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ..atlas.errors import Fault, InputError
from .frame import read_text
from .guard import Hdf5Node, open_hdf5
from .hdf5 import Hdf5Matrix
from .matrix import MatrixFacts
from .mtx_text import mtx_pieces
from .packed import open_bytes
from .reader import faults_of
from .source import CountsSource, CsrBlock, StringValues
from .spaceranger_files import read_lines, read_names

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "FeatureMatrix",
    "MtxCounts",
    "h5_words",
    "open_h5",
    "open_mtx",
    "sized",
]

_ENTRIES = 2**17  # parsed from text at a time
_BYTES_PER_ENTRY = 40  # of text and parsed columns, while they are in flight
_MOST_WORDS, _MOST_LETTERS = 20, 500  # of an attribute
_MOST_FEATURES, _MOST_BARCODES = 10_000_000, 100_000_000
_LISTS = ("id", "name", "feature_type", "genome")
_SOFTWARE = re.compile(r'"software_version"\s*:\s*"([^"]{0,200})"')


if TYPE_CHECKING:
    # Cells, genes (both from 0), numbers.
    _Entries = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class FeatureMatrix:
    """A matrix with the names of its rows and columns."""

    barcodes: StringValues
    """(n_obs,)"""
    gene_ids: list[str]
    """(n_vars,)"""
    names: list[str]
    """(n_vars,) symbols."""
    feature_types: list[str]
    """(n_vars,)"""
    genomes: frozenset[str]
    """Reference genomes, where said."""
    counts: CountsSource
    """Cells x genes."""
    software: str
    """Program that wrote it, "" when not said."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Other attributes of the file, as the chemistry."""


def open_h5(path: Path) -> FeatureMatrix:
    """Open a feature-barcode HDF5 file (Cell Ranger 3 and later); reads names, no counts.

    Raises
    ------
    InputError
        If it is truncated, hostile, or no such file.
    """
    what = "a feature-barcode matrix"
    with faults_of(path, what, parsing=True), open_hdf5(path, what) as file:
        if "matrix" not in file or "features" not in file["matrix"]:
            raise InputError(
                Fault(
                    str(path),
                    f"expected the group matrix/features, but got {', '.join(file) or 'nothing'}; "
                    "matrices of Cell Ranger 2 are not read",
                )
            )
        group, features = file["matrix"], file["matrix/features"]
        facts = _facts(group, path)
        words = {
            name: h5_words(sized(features, name, facts.n_vars, path))
            for name in _LISTS
            if name == "id" or name in features
        }
        barcodes = read_text(sized(group, "barcodes", facts.n_obs, path))
        said = _attributes(file)
        return FeatureMatrix(
            barcodes,
            words["id"],
            words.get("name", [""] * facts.n_vars),
            words.get("feature_type", ["Gene Expression"] * facts.n_vars),
            frozenset(words.get("genome", [])) - {""},
            Hdf5Matrix(Hdf5Node(path, "matrix"), facts),
            said.pop("software_version", ""),
            said,
        )


def _facts(group: Any, path: Path) -> MatrixFacts:
    """Shape of the compressed matrix; its parts must agree."""
    for name in ("shape", "data", "indices", "indptr"):
        _require_data(group[name])
    shape, data, indices, indptr = (group[n] for n in ("shape", "data", "indices", "indptr"))
    sound = shape.shape == (2,) and data.ndim == 1 and indices.shape == data.shape
    n_vars, n_obs = (int(n) for n in shape[:]) if sound else (0, 0)
    # Lists that were never written cost no bytes in the file, but many in memory.
    sound = 0 < n_vars <= _MOST_FEATURES and 0 < n_obs <= _MOST_BARCODES
    sound = sound and indptr.shape == (n_obs + 1,) and int(indptr[-1]) == data.size
    whole = indptr.dtype.kind in "iu" and indices.dtype.kind in "iu"
    if not (sound and whole) or data.dtype.kind not in "iuf":
        raise InputError(
            Fault(
                f"{path}:matrix",
                "expected a compressed matrix of barcodes and features, but its parts disagree",
            )
        )
    return MatrixFacts(n_obs, n_vars, int(data.size), np.dtype(data.dtype), "csr")


def sized(group: Any, name: str, n: int, path: Path) -> Any:
    """Open a list of a group that must have `n` elements; one that was never written has any.

    Raises
    ------
    InputError
        If it is no such list.
    """
    node = group[name]
    _require_data(node)
    if node.shape != (n,):
        raise InputError(
            Fault(
                f"{path}:{node.name}",
                f"expected a list of {n} as the shape of the matrix says, but got one of "
                f"{' x '.join(map(str, node.shape))}; the file is damaged",
            )
        )
    return node


def _attributes(file: Any) -> dict[str, str]:
    """Short attributes of a 10x file as text; lists joined by commas."""
    said = {}
    for name in ("software_version", "chemistry_description", "library_ids", "probe_set_name"):
        value = file.attrs.get(name)
        if value is not None:
            words = np.atleast_1d(np.asarray(value)).ravel()[:_MOST_WORDS].tolist()
            text = [w.decode("utf-8", "replace") if isinstance(w, bytes) else str(w) for w in words]
            said[name] = ", ".join(text)[:_MOST_LETTERS]
    return said


def _require_data(node: Any) -> None:
    """Refuse groups and named types where damage put them in place of data."""
    import h5py

    if not isinstance(node, h5py.Dataset):
        got = type(node).__name__.casefold()
        where = f"{node.file.filename}:{node.name}"
        raise InputError(Fault(where, f"expected data, but got a {got}; the file is damaged"))


def h5_words(node: Any) -> list[str]:
    """Read a short list of text; missing words are empty."""
    return [word or "" for word in read_text(node).to_list()]


def open_mtx(matrix: Path, barcodes: Path, features: Path) -> FeatureMatrix:
    """Open a Matrix Market folder; reads names and the header of the matrix.

    Raises
    ------
    InputError
        If a file cannot be read or they disagree.
    """
    rows = [line.split("\t") for line in read_lines(features)]
    cells = read_names(barcodes)
    with faults_of(matrix, "a Matrix Market file", parsing=True), open_bytes(matrix) as file:
        n_vars, n_obs, nnz, integer, software = _header(file, matrix)
    if (n_vars, n_obs) != (len(rows), len(cells)):
        raise InputError(
            Fault(
                str(matrix),
                f"expected {len(rows)} features x {len(cells)} barcodes as in the lists beside it, "
                f"but got {n_vars} x {n_obs}",
            )
        )
    return FeatureMatrix(
        cells,
        [row[0] for row in rows],
        [row[1] if len(row) > 1 else "" for row in rows],
        [row[2] if len(row) > 2 else "Gene Expression" for row in rows],
        frozenset(),
        MtxCounts(matrix, n_obs, n_vars, nnz, np.dtype(np.int64 if integer else np.float64)),
        software,
    )


def _header(file: IO[bytes], path: Path) -> tuple[int, int, int, bool, str]:
    """Rows, columns, entries, whether integers, and the program, leaving the file at the data."""
    first = file.readline(1024).decode("ascii", "replace").casefold().split()
    form = ["%%matrixmarket", "matrix", "coordinate"]
    if first[:3] != form or first[4:5] != ["general"]:
        raise InputError(
            Fault(
                str(path), f"expected a Matrix Market coordinate file, but got {' '.join(first)!r}"
            )
        )
    software = ""
    line = file.readline(65_536)
    while line.startswith(b"%"):
        if found := _SOFTWARE.search(line.decode("ascii", "replace")):
            software = found[1]
        line = file.readline(65_536)
    n_vars, n_obs, nnz = (int(word) for word in line.split())
    if min(n_vars, n_obs) < 1 or nnz < 0 or first[3] not in {"integer", "real"}:
        raise InputError(Fault(str(path), f"expected sizes and numbers, but got {line[:80]!r}"))
    return n_vars, n_obs, nnz, first[3] == "integer", software


@dataclass(frozen=True, slots=True)
class MtxCounts:
    """A Matrix Market file of features x barcodes, sorted by barcode as 10x writes it."""

    path: Path
    """matrix.mtx or matrix.mtx.gz."""
    n_obs: int
    """Barcodes."""
    n_vars: int
    """Features."""
    nnz: int | None
    """Entries, by the header."""
    dtype: np.dtype[Any]
    """int64 or float64."""

    def blocks(self, budget_bytes: int) -> Iterator[CsrBlock]:
        """Parse the text piece by piece and yield the rows that are complete.

        Raises
        ------
        InputError
            If the entries are not sorted by barcode, lie outside the matrix, or break off.
        """
        held: list[_Entries] = []
        size, start = 0, 0
        limit = max(_ENTRIES, budget_bytes // _BYTES_PER_ENTRY)
        for piece in self._pieces():
            held.append(piece)
            size += piece[0].size
            if size >= limit:
                cells, genes, numbers = (np.concatenate(part) for part in zip(*held, strict=True))
                # The last barcode may go on in the next piece.
                done = int(np.searchsorted(cells, cells[-1]))
                if done:
                    yield _block(start, int(cells[-1]), cells[:done], genes[:done], numbers[:done])
                    start = int(cells[-1])
                rest = (cells[done:], genes[done:], numbers[done:])
                held, size = [rest], cells.size - done
                self._check_row(size)
        empty = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, self.dtype))
        parts = zip(*(held or [empty]), strict=True)
        cells, genes, numbers = (np.concatenate(part) for part in parts)
        yield _block(start, self.n_obs, cells, genes, numbers)

    def _check_row(self, n_entries: int) -> None:
        """Refuse a barcode that has more entries than there are features: they would pile up."""
        if n_entries > self.n_vars:
            raise InputError(
                Fault(
                    str(self.path),
                    f"expected at most {self.n_vars} entries of a barcode, one a feature, but got "
                    f"{n_entries}; the file is damaged: copy it again",
                )
            )

    def _pieces(self) -> Iterator[_Entries]:
        """Cells, genes (both from 0) and numbers of some entries at a time."""
        total, last = 0, 0
        with (
            faults_of(self.path, "a Matrix Market file", parsing=True),
            open_bytes(self.path) as file,
        ):
            _header(file, self.path)
            for genes, cells, numbers in mtx_pieces(file, self.dtype):
                piece = self._checked(genes, cells, numbers, last)
                total, last = total + cells.size, int(piece[0][-1])
                yield piece
        if total != self.nnz:
            raise InputError(
                Fault(
                    str(self.path),
                    f"expected {self.nnz} entries as the header says, but got {total}; "
                    "the file is truncated: copy it again",
                )
            )

    def _checked(
        self, genes: NDArray[Any], cells: NDArray[Any], numbers: NDArray[Any], last: int
    ) -> _Entries:
        genes, cells = genes - 1, cells - 1
        if genes.min() < 0 or genes.max() >= self.n_vars or cells.max() >= self.n_obs:
            raise InputError(
                Fault(str(self.path), "expected entries inside the matrix, but got one outside")
            )
        if cells[0] < last or (np.diff(cells) < 0).any():
            raise InputError(
                Fault(
                    str(self.path),
                    "expected entries sorted by barcode, as Space Ranger writes them, but got "
                    "another order; write the matrix again",
                )
            )
        return cells, genes, numbers


def _block(
    start: int, stop: int, cells: NDArray[Any], genes: NDArray[Any], numbers: NDArray[Any]
) -> CsrBlock:
    """Rows `start:stop` from entries sorted by cell."""
    indptr = np.searchsorted(cells, np.arange(start, stop + 1)).astype(np.int64)
    return CsrBlock(start, indptr, genes.astype(np.int32), numbers)
