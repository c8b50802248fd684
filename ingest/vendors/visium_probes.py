"""Probe-level matrices of Space Ranger, probes summed to genes as in its gene-level matrices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import Fault, InputError
from ..frame import read_text
from ..guard import Hdf5Node, open_hdf5
from ..hdf5 import Hdf5Matrix
from ..hdf5_heaps import check_heaps
from ..reader import faults_of
from ..source import CountsSource, CsrBlock
from ..tenx import FeatureMatrix, h5_attributes, h5_facts, h5_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SummedCounts", "open_probes"]

_LISTS = ("id", "name", "feature_type", "gene_id", "gene_name", "genome")


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
    if mode not in {"genes", "features"}:
        raise InputError(Fault("probes", f"expected genes or features, but got {mode!r}"))
    what = "a probe-barcode matrix"
    check_heaps(path)
    with faults_of(path, what, parsing=True), open_hdf5(path, what) as file:
        if "matrix" not in file or "features" not in file["matrix"]:
            raise InputError(Fault(str(path), "expected the group matrix/features, but got none"))
        group, features = file["matrix"], file["matrix/features"]
        facts = h5_facts(group, path)
        sizes = {features[name].size for name in _LISTS if name in features}
        if sizes != {facts.n_vars} or group["barcodes"].size != facts.n_obs:
            raise _disagree(path)
        words = {name: h5_words(features[name]) for name in _LISTS if name in features}
        passed = _passed(features, facts.n_vars)
        barcodes = read_text(group["barcodes"])
        said = h5_attributes(file)
    probes = words.get("id", [])
    lengths = {len(column) for column in words.values()} | {passed.size, facts.n_vars}
    if len(lengths) > 1 or len(barcodes) != facts.n_obs or not probes:
        raise _disagree(path)
    counts: CountsSource = Hdf5Matrix(Hdf5Node(path, "matrix"), facts)
    kinds = words.get("feature_type") or ["Gene Expression"] * len(probes)
    names = words.get("name") or [""] * len(probes)
    notes = []
    if mode == "genes":
        first, columns = _genes(words.get("gene_id") or [_gene(one) for one in probes], passed)
        counts = SummedCounts(counts, columns, len(first), path)
        genes = words.get("gene_id") or [_gene(one) for one in probes]
        symbols = words.get("gene_name") or [name.partition("|")[0] for name in names]
        probes, names, kinds = ([column[k] for k in first] for column in (genes, symbols, kinds))
        notes.append(
            f"{int(passed.sum())} probes that passed the filter summed to {len(first)} genes; "
            f"{int((~passed).sum())} others left out"
        )
    genomes = frozenset(words.get("genome") or []) - {""}
    software = said.pop("software_version", "")
    return FeatureMatrix(barcodes, probes, names, kinds, genomes, counts, software, said), notes


def _disagree(path: Path) -> InputError:
    return InputError(
        Fault(f"{path}:matrix", "expected lists as long as the shape says, but they disagree")
    )


def _passed(features: Any, n: int) -> NDArray[np.bool_]:
    if "filtered_probes" not in features:
        return np.ones(n, bool)
    return np.asarray(features["filtered_probes"][:]).astype(bool)


def _gene(probe: str) -> str:
    """Gene of a probe called `ENSG...|SYMBOL|hash`."""
    return probe.partition("|")[0]


def _genes(genes: list[str], passed: NDArray[np.bool_]) -> tuple[list[int], NDArray[np.int64]]:
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
        # Beside the block: its keys, their order and the sorted copy.
        for block in self.counts.blocks(max(1, budget_bytes // 4)):
            indices = block.indices.astype(np.int64)
            if indices.size and not 0 <= indices.min() <= indices.max() < self.columns.size:
                raise InputError(
                    Fault(
                        f"{self.path}:matrix/indices",
                        "expected probes inside the matrix, but got one outside; it is damaged",
                    )
                )
            columns = self.columns[indices]
            rows = np.repeat(np.arange(block.n_rows), np.diff(block.indptr))
            kept = columns >= 0
            keys = rows[kept] * self.n_vars + columns[kept]
            order = np.argsort(keys, kind="stable")
            unique, start = np.unique(keys[order], return_index=True)
            data = block.data[kept][order].astype(self.dtype, copy=False)
            summed = np.add.reduceat(data, start) if start.size else data
            where = np.searchsorted(unique, np.arange(block.n_rows + 1) * self.n_vars)
            yield CsrBlock(
                block.start_row,
                where.astype(np.int64),
                (unique % self.n_vars).astype(np.int32) if self.n_vars else unique.astype(np.int32),
                summed,
            )
