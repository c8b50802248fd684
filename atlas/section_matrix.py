"""The matrix of a section in both access orders: rows from CSR, genes from the by-gene CSC."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import Corrupt
from .quadtree import Runs

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy import sparse

    from .section_arrays import RowArray

__all__ = ["SparseArrays"]


@dataclass(frozen=True, slots=True)
class SparseArrays:
    """Data, indices and pointers of one access order; what they say is checked on reading."""

    array: Callable[[str], RowArray]
    """Opens an array of the section by its path."""
    path: str
    """Group of the three arrays."""
    shape: tuple[int, int]
    """Major and minor length: (cells, genes) by rows, (genes, cells) by genes."""
    nnz: int
    """Stored entries, as the catalog knows."""
    corrupt: Callable[[str], Corrupt]
    """Makes the error that names the section."""

    def read(self, runs: Runs) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[np.int64]]:
        """Values (float32), minor indices and pointers of some major runs.

        Raises
        ------
        Corrupt
            Pointers that do not ascend, or indices outside the minor axis.
        """
        pointers, spans = self._pointers(runs)
        data = self.array(f"{self.path}/data").read(spans).astype(np.float32, copy=False)
        indices = self.array(f"{self.path}/indices").read(spans)
        if indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < self.shape[1]:
            raise self.corrupt(f"{self.path}/indices points outside 0..{self.shape[1] - 1}")
        return data, indices, pointers

    def _pointers(self, runs: Runs) -> tuple[NDArray[np.int64], list[tuple[int, int]]]:
        """Pointers of the result, and the element spans to read."""
        raw = self.array(f"{self.path}/indptr").read([(a, b + 1) for a, b in runs])
        pointers, spans = [np.zeros(1, np.int64)], []
        at = end = 0
        for start, stop in runs:
            part = raw[at : at + stop - start + 1]
            at += part.size
            if (np.diff(part) < 0).any() or not 0 <= part[0] <= part[-1] <= self.nnz:
                raise self.corrupt(f"{self.path}/indptr does not ascend")
            spans.append((int(part[0]), int(part[-1])))
            pointers.append(part[1:] - part[0] + end)
            end += int(part[-1] - part[0])
        return np.concatenate(pointers), spans

    def rows(self, runs: Runs) -> sparse.csr_matrix:
        """Rows of the CSR order."""
        from scipy import sparse

        data, indices, indptr = self.read(runs)
        matrix = sparse.csr_matrix(
            (data, indices, indptr), shape=(indptr.size - 1, self.shape[1]), copy=False
        )
        matrix.has_canonical_format = True
        return matrix

    def columns(self, genes: NDArray[np.int64]) -> sparse.csc_matrix:
        """Columns, ascending and unique, of the by-gene order."""
        from scipy import sparse

        data, cells, indptr = self.read([(int(g), int(g) + 1) for g in genes])
        matrix = sparse.csc_matrix(
            (data, cells, indptr), shape=(self.shape[1], genes.size), copy=False
        )
        matrix.has_canonical_format = True
        return matrix
