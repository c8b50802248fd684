"""Matrices of Xenium outputs: which features are genes, proteins by scale, rows of features."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import Fault, InputError
from ...atlas.panel import GENE_EXPRESSION
from ..guard import open_hdf5
from ..scratch import scratch_bytes_of
from ..sdata_elements import check_chunks
from ..source import CountsSource, CsrBlock
from ..tenx import FeatureMatrix, open_h5
from ..triples import Entries, sorted_blocks, sorting_bytes
from .xenium_zip import MOST_CELLS, cell_names, open_zip, whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FeatureRows", "ScaledCounts", "open_matrix_h5", "open_matrix_zip", "tables_of"]

_ENTRIES = 1 << 20  # of a matrix by features, at a time
_PROTEINS = {"protein expression", "antibody capture"}
# Of the types of controls: probes, codewords (negative, unassigned, deprecated, blank), genomic.
_CONTROL_WORDS = ("control", "codeword", "blank")
_MOST_TABLES = 20
_MOST_LETTERS = 60
# Prefixes of the names of controls, for matrices without types.
_CONTROLS = (
    "negcontrolprobe_",
    "negcontrolcodeword_",
    "unassignedcodeword_",
    "deprecatedcodeword_",
    "genomic_control_",
    "intergenic_region_",
    "antisense_",
    "blank_",
)


def tables_of(names: Sequence[str], kinds: Sequence[str]) -> list[str]:
    """Tell the table of each feature: "" for genes, `proteins`, `controls`, or that of its type.

    >>> kinds = ["Gene Expression", "Negative Control Probe", "Protein Expression", "Peaks"]
    >>> tables_of(["Sox2", "NegControlProbe_00042", "CD3E", "chr1:9-42"], kinds)
    ['', 'controls', 'proteins', 'peaks']
    """
    tables = {kind: _table(kind) for kind in dict.fromkeys(kinds)}
    if len(set(tables.values())) > _MOST_TABLES:  # words of a damaged file
        own = {"", "proteins", "controls"}
        tables = {kind: table if table in own else "others" for kind, table in tables.items()}
    return [
        "controls" if not tables[kind] and name.casefold().startswith(_CONTROLS) else tables[kind]
        for name, kind in zip(names, kinds, strict=True)
    ]


def _table(kind: str) -> str:
    folded = kind.casefold()
    if folded in _PROTEINS:
        return "proteins"
    if folded == GENE_EXPRESSION.casefold():
        return ""
    if any(word in folded for word in _CONTROL_WORDS):
        return "controls"
    name = re.sub("[^a-z0-9]+", "_", folded)[:_MOST_LETTERS].strip("_")
    return "others" if name in {"", "table"} else name


def open_matrix_h5(path: Path) -> FeatureMatrix:
    """Open `cell_feature_matrix.h5`; intensities of proteins are divided by their scale.

    Raises
    ------
    InputError
        It cannot be read, or its scale of proteins is no number.
    """
    matrix = open_h5(path)
    proteins = np.array([kind.casefold() in _PROTEINS for kind in matrix.feature_types])
    if not proteins.any():
        return matrix
    with open_hdf5(path, "a feature-barcode matrix", checked=True) as file:
        scale = np.asarray(file.attrs.get("protein_scaling_factor", 1.0)).ravel()
        if scale.size != 1 or scale.dtype.kind not in "iuf" or not 0 < float(scale[0]) < np.inf:
            raise InputError(
                Fault(
                    f"{path} protein_scaling_factor", f"expected a number, but got {scale.tolist()}"
                )
            )
    factor = float(scale[0])
    if factor == 1.0:
        return matrix
    return replace(matrix, counts=ScaledCounts(matrix.counts, np.where(proteins, factor, 1.0)))


@dataclass(frozen=True, slots=True)
class ScaledCounts:
    """A matrix whose columns are divided by numbers of their own."""

    counts: CountsSource
    """As stored."""
    divisors: NDArray[np.float64]
    """(n_vars,)"""

    @property
    def n_obs(self) -> int:
        """Rows."""
        return self.counts.n_obs

    @property
    def n_vars(self) -> int:
        """Columns."""
        return self.counts.n_vars

    @property
    def nnz(self) -> int | None:
        """Stored entries."""
        return self.counts.nnz

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """float32."""
        return np.dtype(np.float32)

    @property
    def scratch_bytes(self) -> int:
        """Disk that sorting the entries takes."""
        return scratch_bytes_of(self.counts)

    def blocks(self, budget_bytes: int) -> Iterator[CsrBlock]:
        """Yield the blocks of the matrix, divided."""
        for block in self.counts.blocks(budget_bytes // 2):
            columns = np.clip(block.indices, 0, self.divisors.size - 1)
            data = (np.asarray(block.data, np.float64) / self.divisors[columns]).astype(np.float32)
            yield CsrBlock(block.start_row, block.indptr, block.indices, data)


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """A matrix whose rows are features, sorted by cell out of core while it is streamed."""

    path: Path
    """The file."""
    n_obs: int
    """Cells."""
    n_vars: int
    """Features."""
    nnz: int | None
    """Stored entries."""
    dtype: np.dtype[Any]
    """Number type."""

    @property
    def scratch_bytes(self) -> int:
        """Disk that sorting the entries takes."""
        return sorting_bytes(self.nnz, self.dtype)

    def blocks(self, budget_bytes: int) -> Iterator[CsrBlock]:
        """Yield all cells once, in order.

        Raises
        ------
        InputError
            Pointers or cells that lie outside.
        """
        yield from sorted_blocks(
            self._entries(), self.n_obs, self.dtype, nnz=self.nnz, budget_bytes=budget_bytes
        )

    def _entries(self) -> Iterator[Entries]:
        with open_zip(self.path, "a feature matrix as zipped Zarr") as root:
            group = root["cell_features"]
            data, cells = whole(group["data"]), whole(group["indices"])
            pointers = np.asarray(whole(group["indptr"])[:]).astype(np.int64)
            nnz = int(data.shape[0])
            if pointers[0] != 0 or (np.diff(pointers) < 0).any() or pointers[-1] != nnz:
                raise InputError(
                    Fault(f"{self.path}:indptr", "expected ascending pointers, but got others")
                )
            for start in range(0, nnz, _ENTRIES):
                stop = min(start + _ENTRIES, nnz)
                rows = np.asarray(cells[start:stop]).astype(np.int64)
                if rows.size and not 0 <= int(rows.min()) <= int(rows.max()) < self.n_obs:
                    raise InputError(
                        Fault(
                            f"{self.path}:indices",
                            f"expected cells of 0 to {self.n_obs - 1}, but got one outside",
                        )
                    )
                at = np.searchsorted(pointers, np.arange(start, stop), side="right") - 1
                yield Entries(rows, at.astype(np.int32), np.asarray(data[start:stop]))


def open_matrix_zip(path: Path) -> FeatureMatrix:
    """Open `cell_feature_matrix.zarr.zip`; names are read, counts are not.

    Raises
    ------
    InputError
        It cannot be read, or its parts disagree.
    """
    with open_zip(path, "a feature matrix as zipped Zarr") as root:
        if "cell_features" not in root:
            raise InputError(Fault(str(path), "expected a group cell_features, but got none"))
        group = root["cell_features"]
        attrs = group.attrs.asdict()
        names, ids, kinds = (
            [str(word) for word in attrs.get(key) or ()]
            for key in ("feature_keys", "feature_ids", "feature_types")
        )
        cells, data, pointers = group["cell_id"], group["data"], group["indptr"]
        for array in (cells, data, pointers, group["indices"]):
            check_chunks(array, str(path))
        n, nnz, n_vars = int(cells.shape[0]), int(data.shape[0]), len(names)
        sound = (
            n_vars == len(ids) == len(kinds) > 0
            and 0 < n <= MOST_CELLS
            and group["indices"].shape == data.shape
            and pointers.shape == (n_vars + 1,)
            and data.dtype.kind in "iuf"
            and all(group[key].dtype.kind in "iu" for key in ("indices", "indptr", "cell_id"))
        )
        if not sound:
            raise InputError(
                Fault(f"{path}:cell_features", "expected a sparse matrix, but its parts disagree")
            )
        return FeatureMatrix(
            cell_names(np.asarray(whole(cells)[:])),
            ids,
            names,
            kinds,
            frozenset(),
            FeatureRows(path, n, n_vars, nnz, np.dtype(data.dtype)),
            "",
        )
