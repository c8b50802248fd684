"""Features of a Xenium matrix: which are genes, and proteins that are stored as whole numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...atlas.errors import Fault, InputError
from ...atlas.panel import GENE_EXPRESSION
from ..guard import open_hdf5
from ..source import CountsSource, CsrBlock
from ..tenx import FeatureMatrix, open_h5

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ScaledCounts", "open_matrix_h5", "tables_of"]

_PROTEINS = {"protein expression", "antibody capture"}
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
    """Tell the table of each feature: "" for genes, `proteins`, or `controls` for everything else.

    >>> kinds = ["Gene Expression", "Negative Control Probe", "Protein Expression"]
    >>> tables_of(["Sox2", "NegControlProbe_00042", "CD3E"], kinds)
    ['', 'controls', 'proteins']
    """
    return [_table(name, kind) for name, kind in zip(names, kinds, strict=True)]


def _table(name: str, kind: str) -> str:
    folded = kind.casefold()
    if folded in _PROTEINS:
        return "proteins"
    if folded == GENE_EXPRESSION.casefold():
        return "controls" if name.casefold().startswith(_CONTROLS) else ""
    return "controls"


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

    def blocks(self, budget_bytes: int) -> Iterator[CsrBlock]:
        """Yield the blocks of the matrix, divided."""
        for block in self.counts.blocks(budget_bytes // 2):
            columns = np.clip(block.indices, 0, self.divisors.size - 1)
            data = (np.asarray(block.data, np.float64) / self.divisors[columns]).astype(np.float32)
            yield CsrBlock(block.start_row, block.indptr, block.indices, data)
