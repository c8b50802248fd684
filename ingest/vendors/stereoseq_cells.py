"""Cells of a Stereo-seq GEF file: places, measures, borders, and the matrix row by row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import Fault, InputError
from ..guard import Hdf5Node, open_hdf5
from ..source import (
    ArrayColumn,
    CategoricalValues,
    CsrBlock,
    NumericValues,
    RingPiece,
    RingsSource,
)
from .stereoseq_gef import dataset, field_names, gene_lists, require_stored, require_whole
from .stereoseq_molecules import decimal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..source import ObsColumn, StringValues
    from .stereoseq_gef import Gef

__all__ = ["CellGef", "CellGefCounts", "open_cells"]

_CELLS = 1 << 14
_PADDING = 32767  # fills the rest of a border's vertices
_WHOLE = ("id", "x", "y", "offset", "geneCount")
_MOST_CELLS = 1 << 28


@dataclass(frozen=True, slots=True)
class CellGef:
    """Cells of a file, with everything but the matrix and the borders read."""

    ids: StringValues
    """(n,) the file's numbers."""
    positions: NDArray[np.float64]
    """(n, 2) centers in spots."""
    obs: dict[str, ObsColumn]
    """Measures under the vendor's names, and `cell_type`."""
    genes: tuple[list[str], list[str] | None]
    """Identifiers and names."""
    counts: CellGefCounts
    """Cells by genes."""
    shapes: RingsSource | None
    """Borders; None where the file has none."""


@dataclass(frozen=True, slots=True)
class CellGefCounts:
    """A `CountsSource` over `cellExp`: the genes of one cell after those of another."""

    open: Hdf5Node
    """Opens the group `cellBin`."""
    n_vars: int
    """Genes."""
    indptr: NDArray[np.int64]
    """(cells + 1,) first entry of each cell."""

    @property
    def n_obs(self) -> int:
        """Cells."""
        return self.indptr.size - 1

    @property
    def nnz(self) -> int | None:
        """Entries."""
        return int(self.indptr[-1])

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Number type of the counts."""
        return np.dtype(np.int64)

    def blocks(self, budget_bytes: int) -> Iterator[CsrBlock]:
        """Yield the cells in order, each block within `budget_bytes`."""
        most = max(1, budget_bytes // 32)
        with self.open() as group:
            entries, start = group["cellExp"], 0
            while start < self.n_obs:
                ends = self.indptr[start] + most
                stop = int(np.searchsorted(self.indptr, ends, side="right")) - 1
                stop = min(max(stop, start + 1), self.n_obs)
                low, high = int(self.indptr[start]), int(self.indptr[stop])
                rows = entries[low:high]
                genes = rows["geneID"].astype(np.int64)
                # What lies outside the genes is refused by the writer, naming the cell.
                columns = np.where(genes < self.n_vars, genes, -1).astype(np.int32)
                indptr = self.indptr[start : stop + 1] - low
                yield CsrBlock(start, indptr, columns, rows["count"].astype(np.int64))
                start = stop


@dataclass(frozen=True, slots=True)
class _FieldColumn:
    """A measure of the cells, read when its turn comes."""

    node: Hdf5Node
    field: str
    kind: Any = "numeric"

    def read(self) -> NumericValues:
        with self.node() as dataset:
            found = dataset.fields(self.field)[:] if self.field else dataset[:]
            return NumericValues(np.ascontiguousarray(found))


def open_cells(gef: Gef) -> CellGef:
    """Open the cells of a file.

    Returns
    -------
    CellGef
        Memory: 60 bytes a cell while the list is read.

    Raises
    ------
    InputError
        A list that a pipeline would not write; names the dataset.
    """
    with open_hdf5(gef.path, "a GEF file", checked=True) as file:
        group = file["cellBin"]
        where = f"{gef.path}:cellBin"
        names = field_names(group["cell"], set(_WHOLE), f"{where}/cell")
        require_whole(group["cell"], _WHOLE, f"{where}/cell")
        field_names(group["cellExp"], {"geneID", "count"}, f"{where}/cellExp")
        require_whole(group["cellExp"], ("geneID", "count"), f"{where}/cellExp")
        if not 0 < group["cell"].shape[0] <= _MOST_CELLS:
            got = group["cell"].shape[0]
            raise InputError(Fault(f"{where}/cell", f"expected cells, but got {got:,}"))
        field_names(group["gene"], set(), f"{where}/gene")
        for part in ("cell", "cellExp", "gene"):
            require_stored(group[part], f"{where}/{part}")
        table = group["cell"].fields(list(_WHOLE))[:]
        genes = group["gene"][:]
        lists = gene_lists(genes, f"{where}/gene")
        indptr = _pointers(table, int(group["cellExp"].shape[0]), f"{where}/cell")
        counts = CellGefCounts(Hdf5Node(gef.path, "cellBin"), len(lists[0]), indptr)
        centers = np.stack([table["x"], table["y"]], axis=1).astype(np.float64)
        obs = _obs(gef.path, group, names)
        shapes = _borders(gef.path, group, centers)
    return CellGef(decimal(table["id"].astype(np.int64)), centers, obs, lists, counts, shapes)


def _pointers(table: NDArray[Any], n_entries: int, where: str) -> NDArray[np.int64]:
    """First entry of each cell; they must take up all entries, one after the other."""
    indptr = np.zeros(table.size + 1, np.int64)
    np.cumsum(table["geneCount"].astype(np.int64), out=indptr[1:])
    apart = np.diff(indptr)
    if indptr[-1] != n_entries or (apart < 0).any() or (table["offset"] != indptr[:-1]).any():
        raise InputError(
            Fault(
                where,
                f"expected cells that take up {n_entries:,} entries of cellExp in their order, but "
                "got offsets and counts of genes that disagree; the file is damaged",
            )
        )
    return indptr


def _obs(path: Path, group: Any, names: tuple[str, ...]) -> dict[str, ObsColumn]:
    """Measures of the cells under the vendor's names."""
    n = int(group["cell"].shape[0])
    place = Hdf5Node(path, "cellBin/cell")
    dtype = group["cell"].dtype
    left = {"id", "x", "y", "offset"}
    obs: dict[str, ObsColumn] = {
        name: _FieldColumn(place, name)
        for name in names
        if name not in left and dtype[name].kind in "iufb" and not dtype[name].shape
    }
    exon, types = dataset(group, "cellExon"), dataset(group, "cellTypeList")
    if exon is not None and exon.shape == (n,) and exon.dtype.kind in "iuf":
        obs["cellExon"] = _FieldColumn(Hdf5Node(path, "cellBin/cellExon"), "")
    if types is not None and types.ndim == 1 and "cellTypeID" in obs:
        words = tuple(_label(one) for one in types[: 1 << 15].tolist())
        codes = group["cell"].fields("cellTypeID")[:].astype(np.int64)
        if len(set(words)) == len(words) and len(words) > 0:
            codes = np.where((codes >= 0) & (codes < len(words)), codes, -1).astype(np.int32)
            obs["cell_type"] = ArrayColumn("categorical", CategoricalValues(codes, words))
    return obs


def _label(word: object) -> str:
    return word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word)


def _borders(path: Path, group: Any, centers: NDArray[np.float64]) -> RingsSource | None:
    """Borders: 32 vertices a cell, or as many as `cellBordercnt` says, relative to the center."""
    border, listed = dataset(group, "cellBorder"), dataset(group, "cellBordercnt")
    if border is None:
        return None
    n, node = len(centers), Hdf5Node(path, "cellBin")
    require_stored(border, f"{path}:cellBin/cellBorder")
    numbers = border.dtype.kind in "iuf"
    if numbers and border.ndim == 3 and border.shape[0] == n and border.shape[2] == 2:
        return RingsSource(partial(_padded_rings, node, centers), n * int(border.shape[1]))
    lengths: Any = None
    if listed is not None and listed.shape == (n,) and listed.dtype.kind in "iu":
        lengths = listed[:].astype(np.int64)
    if not numbers or lengths is None or (lengths < 0).any():
        wrong = f"expected borders of {n} cells with their vertices, but got shape {border.shape}"
        raise InputError(Fault(f"{path}:cellBin/cellBorder", wrong))
    total = int(lengths.sum())
    if border.shape not in {(2 * total,), (total, 2)}:
        got = f"shape {border.shape} for {total} vertices"
        raise InputError(
            Fault(f"{path}:cellBin/cellBorder", f"expected two numbers a vertex, but got {got}")
        )
    return RingsSource(partial(_counted_rings, node, centers, lengths), total)


def _padded_rings(node: Hdf5Node, centers: NDArray[np.float64]) -> Iterator[RingPiece]:
    with node() as group:
        for start in range(0, len(centers), _CELLS):
            offsets = np.asarray(group["cellBorder"][start : start + _CELLS])
            filled = (offsets != _PADDING).all(axis=2)
            vertices = offsets + centers[start : start + len(offsets), None]
            rows = np.arange(start, start + len(offsets))
            yield RingPiece(rows, filled.sum(axis=1), vertices[filled])


def _counted_rings(
    node: Hdf5Node, centers: NDArray[np.float64], lengths: NDArray[np.int64]
) -> Iterator[RingPiece]:
    ends = np.concatenate([[0], np.cumsum(lengths)])
    with node() as group:
        border = group["cellBorder"]
        for start in range(0, lengths.size, _CELLS):
            own = lengths[start : start + _CELLS]
            low, high = int(ends[start]), int(ends[start + own.size])
            flat = border[2 * low : 2 * high] if border.ndim == 1 else border[low:high]
            around = np.asarray(flat, np.float64).reshape(-1, 2)
            middle = np.repeat(centers[start : start + own.size], own, axis=0)
            yield RingPiece(np.arange(start, start + own.size), own, around + middle)
