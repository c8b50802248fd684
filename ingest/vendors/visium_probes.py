"""Probe-level matrices of Space Ranger, probes summed to genes as in its gene-level matrices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import Fault, InputError
from ..guard import open_hdf5
from ..reader import faults_of
from ..source import CountsSource, CsrBlock
from ..tenx import FeatureMatrix, h5_words, open_h5, sized

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SummedCounts", "open_probes"]


def open_probes(path: Path, mode: object) -> tuple[FeatureMatrix, list[str]]:
    """Open a probe-level matrix.

    Parameters
    ----------
    path : Path
        `raw_probe_bc_matrix.h5`.
    mode : {"genes", "features"}
        Sum the probes of each gene that passed Space Ranger's filter, which gives the numbers of
        its gene-level matrices; or keep every probe as a feature.

    Returns
    -------
    (FeatureMatrix, notes)

    Raises
    ------
    InputError
        If it is truncated, hostile, no such file, or its parts disagree.
    """
    if mode not in ("genes", "features"):
        raise InputError(Fault("probes", f"expected genes or features, but got {mode!r}"))
    probes = open_h5(path)
    if mode == "features":
        return probes, []
    genes, symbols, passed = _genes_of(path, probes)
    first, columns = _grouped(genes, passed)
    matrix = replace(
        probes,
        gene_ids=[genes[k] for k in first],
        names=[symbols[k] for k in first],
        feature_types=[probes.feature_types[k] for k in first],
        counts=SummedCounts(probes.counts, columns, len(first), path),
    )
    note = (
        f"{int(passed.sum())} probes that passed the filter summed to {len(first)} genes; "
        f"{int((~passed).sum())} others left out"
    )
    return matrix, [note]


def _genes_of(path: Path, probes: FeatureMatrix) -> tuple[list[str], list[str], NDArray[np.bool_]]:
    """Gene and symbol of each probe, and whether it passed the filter.

    Files that lack them call a probe `ENSG...|SYMBOL|hash`, `SYMBOL|hash` for short.
    """
    what, n = "a probe-barcode matrix", len(probes.gene_ids)
    genes, symbols = (
        [name.partition("|")[0] for name in names] for names in (probes.gene_ids, probes.names)
    )
    passed = np.ones(n, bool)
    with faults_of(path, what, parsing=True), open_hdf5(path, what, checked=True) as file:
        features = file["matrix/features"]
        if "gene_id" in features:
            genes = h5_words(sized(features, "gene_id", n, path))
        if "gene_name" in features:
            symbols = h5_words(sized(features, "gene_name", n, path))
        if "filtered_probes" in features:
            passed = np.asarray(sized(features, "filtered_probes", n, path)[:]).astype(bool)
    return genes, symbols, passed


def _grouped(genes: list[str], passed: NDArray[np.bool_]) -> tuple[list[int], NDArray[np.int64]]:
    """First probe of each gene, and the gene of each probe, -1 for probes that are left out."""
    place: dict[str, int] = {}
    first: list[int] = []
    columns = np.full(len(genes), -1, np.int64)
    for k in np.flatnonzero(passed).tolist():
        if genes[k] not in place:
            place[genes[k]] = len(first)
            first.append(k)
        columns[k] = place[genes[k]]
    return first, columns


@dataclass(frozen=True, slots=True)
class SummedCounts:
    """Counts whose columns are summed in groups while they stream by."""

    counts: CountsSource
    """The whole matrix."""
    columns: NDArray[np.int64]
    """New column of each old one, -1 to leave it out."""
    n_vars: int
    """New columns."""
    path: Path
    """The file, for messages."""

    @property
    def n_obs(self) -> int:
        """Rows."""
        return self.counts.n_obs

    @property
    def nnz(self) -> int | None:
        """Stored entries: only reading tells."""
        return None

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Number type of the entries: wide, as sums of small numbers are not small."""
        return np.dtype(np.float64 if self.counts.dtype.kind == "f" else np.int64)

    def blocks(self, budget_bytes: int) -> Iterator[CsrBlock]:
        """Yield the rows with their columns summed.

        Raises
        ------
        InputError
            An index outside the matrix.
        """
        from scipy import sparse

        n_old = self.columns.size
        kept = np.flatnonzero(self.columns >= 0)
        ones: Any = np.ones(kept.size, self.dtype)
        group = sparse.csr_array((ones, (kept, self.columns[kept])), shape=(n_old, self.n_vars))
        # Beside the block: its entries in wide numbers, and their sums.
        for block in self.counts.blocks(max(1, budget_bytes // 4)):
            indices = block.indices
            if indices.size and not 0 <= indices.min() <= indices.max() < n_old:
                raise InputError(
                    Fault(
                        f"{self.path}:matrix/indices",
                        "expected probes inside the matrix, but got one outside; it is damaged",
                    )
                )
            parts: Any = (block.data.astype(self.dtype), indices, block.indptr)
            summed = sparse.csr_array(parts, shape=(block.n_rows, n_old)) @ group
            yield CsrBlock(
                block.start_row,
                summed.indptr.astype(np.int64),
                summed.indices.astype(np.int32),
                summed.data,
            )
