"""Tables and matrices of simulated Xenium outputs, written block by block."""

from __future__ import annotations

import gzip
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .tissue import SimBlock
from .xenium_plan import (
    NUCLEUS,
    PROTEIN_SCALE,
    Features,
    Plan,
    cell_ids,
    nuclei_of,
    nucleus_centers,
    rings_of,
)


@dataclass
class _Writer:
    """A table as Parquet or gzipped text."""

    plan: Plan
    name: str
    stack: ExitStack
    binary: tuple[str, ...] = ()
    """Text columns without the mark of text, as releases before 2 write them."""
    _sink: Any = None

    def write(self, columns: dict[str, Any]) -> None:
        arrays = {
            name: pa.array(v) if isinstance(v, (np.ndarray, list)) else v
            for name, v in columns.items()
        }
        if not self.plan.text:
            arrays = {
                name: v.cast(pa.binary())
                if name in self.binary and pa.types.is_string(v.type)
                else v
                for name, v in arrays.items()
            }
        table = pa.table(arrays)
        if self._sink is None:
            self._sink = self._open(table.schema)
        self._sink.write_table(table)

    def _open(self, schema: pa.Schema) -> Any:
        folder = self.plan.folder
        if self.plan.text:
            sink = self.stack.enter_context(
                pa.CompressedOutputStream(str(folder / f"{self.name}.csv.gz"), "gzip")
            )
            return self.stack.enter_context(pacsv.CSVWriter(sink, schema))
        return self.stack.enter_context(
            pq.ParquetWriter(folder / f"{self.name}.parquet", schema, compression="zstd")
        )


@dataclass
class Sinks:
    """Open files of one output."""

    plan: Plan
    cells: _Writer
    cell_boundaries: _Writer | None
    nucleus_boundaries: _Writer | None
    transcripts: _Writer | None
    h5: _H5 | None
    mtx: _Mtx | None
    n_nuclei: int = 0
    n_transcripts: int = 0

    @classmethod
    def open(
        cls,
        plan: Plan,
        stack: ExitStack,
        matrix: tuple[str, ...],
        transcripts: bool,
        boundaries: bool,
    ) -> Sinks:
        text = ("cell_id", "feature_name", "fov_name") if plan.old else ()
        return cls(
            plan,
            _Writer(plan, "cells", stack, text),
            _Writer(plan, "cell_boundaries", stack, text) if boundaries else None,
            _Writer(plan, "nucleus_boundaries", stack, text) if boundaries else None,
            _Writer(plan, "transcripts", stack, text) if transcripts else None,
            _H5.open(plan, stack) if {"h5", "zarr"} & set(matrix) else None,
            _Mtx.open(plan, stack) if "mtx" in matrix else None,
        )

    def add(self, block: SimBlock) -> None:
        plan = self.plan
        cells = np.arange(block.start, block.start + block.n)
        names = cell_ids(cells, plan.version)
        key = cells + 1 if plan.numbered else np.asarray(names)
        ids = pa.array(key.astype(np.int32)) if plan.numbered else pa.array(names, pa.string())
        counts = _with_proteins(block, plan.features)
        of, centers = nucleus_centers(cells, block.positions_um, plan.radius, plan.old)
        self.cells.write(_cell_columns(plan, block, ids, counts, cells))
        if self.cell_boundaries is not None and self.nucleus_boundaries is not None:
            self.cell_boundaries.write(
                _vertices(plan, ids, block.positions_um, plan.radius, cells + 1)
            )
            labels = np.arange(self.n_nuclei, self.n_nuclei + of.size) + 1
            inner = plan.radius * NUCLEUS
            self.nucleus_boundaries.write(
                _vertices(plan, ids.take(pa.array(of)), centers, inner, labels)
            )
        self.n_nuclei += of.size
        if self.transcripts is not None:
            self.transcripts.write(self._molecules(block, ids))
        if self.h5 is not None:
            self.h5.add(names, counts)
        if self.mtx is not None:
            self.mtx.add(names, counts)

    def finish(self) -> None:
        if self.h5 is not None:
            self.h5.finish()
        if self.mtx is not None:
            self.mtx.finish()

    def _molecules(self, block: SimBlock, ids: Any) -> dict[str, Any]:
        plan, m = self.plan, block.cell.size
        rng = np.random.default_rng([plan.tissue.seed, 77, block.start])
        nobody = pa.array([-1], pa.int32()) if plan.numbered else pa.array(["UNASSIGNED"])
        every = pa.concat_arrays([ids, nobody])
        at = np.where(block.cell < 0, block.n, block.cell)
        inside = block.cell >= 0
        place = block.positions_um[np.where(inside, block.cell, 0)]
        away = np.hypot(*(block.molecules_um[:, :2] - place).T) - plan.radius * NUCLEUS
        xyz = block.molecules_um.astype(np.float32)
        names = pa.array(plan.features.names)
        quality = np.minimum(40.0, rng.normal(34, 9, m)).clip(0).astype(np.float32)
        columns: dict[str, Any] = {
            "transcript_id": (np.arange(m) + self.n_transcripts).astype(np.uint64),
            "cell_id": every.take(pa.array(at)),
            "overlaps_nucleus": (inside & (away <= 0)).astype(np.uint8),
            "feature_name": names.take(pa.array(block.feature)),
            "x_location": xyz[:, 0].copy(),
            "y_location": xyz[:, 1].copy(),
            "z_location": xyz[:, 2].copy(),
            "qv": quality,
        }
        self.n_transcripts += m
        if plan.version != "1":
            fov = pa.array([f"A{k}" for k in range(1, 25)])
            columns["fov_name"] = fov.take(pa.array(np.arange(m) // 5000 % 24))
            columns["nucleus_distance"] = np.maximum(away, 0).astype(np.float32)
        if not plan.old:
            columns["codeword_index"] = block.feature.astype(np.int32)
        if plan.version in {"3", "4"}:
            kinds = pa.array([_category(kind) for kind in plan.features.kinds])
            columns["codeword_category"] = kinds.take(pa.array(block.feature))
            columns["is_gene"] = block.feature < plan.tissue.n_genes
        return columns


def _category(kind: str) -> str:
    return "predesigned_gene" if kind == "Gene Expression" else kind.lower().replace(" ", "_")


def _with_proteins(block: SimBlock, features: Features) -> Any:
    """Counts as int32, with intensities of proteins as whole numbers of hundredths."""
    from scipy import sparse

    counts = block.counts.astype(np.int32)
    if not features.proteins:
        return counts
    rng = np.random.default_rng([5, block.start])
    marks = rng.integers(0, 2000, (block.n, features.proteins), dtype=np.int32)
    return sparse.hstack([counts, sparse.csr_matrix(marks)]).tocsr()


def _cell_columns(
    plan: Plan, block: SimBlock, ids: Any, counts: Any, cells: NDArray[np.int64]
) -> dict[str, Any]:
    """Columns of cells.parquet in the order of the release."""
    kinds = np.array(plan.features.kinds)

    def total(kind: str) -> NDArray[np.int32]:
        found: NDArray[np.int32] = np.asarray(counts[:, np.flatnonzero(kinds == kind)].sum(axis=1))
        return found.ravel().astype(np.int32)

    nuclei = nuclei_of(cells, plan.old)
    area = np.pi * plan.radius**2
    columns: dict[str, Any] = {
        "cell_id": ids,
        "x_centroid": block.positions_um[:, 0].copy(),
        "y_centroid": block.positions_um[:, 1].copy(),
        "transcript_counts": total("Gene Expression"),
        "control_probe_counts": total("Negative Control Probe"),
    }
    if plan.version in {"3", "4"}:
        columns["genomic_control_counts"] = total("Genomic Control")
    columns["control_codeword_counts"] = total("Negative Control Codeword")
    if plan.version != "1":
        columns["unassigned_codeword_counts"] = total("Unassigned Codeword")
    if not plan.old:
        columns["deprecated_codeword_counts"] = total("Deprecated Codeword")
    molecules = np.flatnonzero(kinds != "Protein Expression")
    columns["total_counts"] = np.asarray(counts[:, molecules].sum(axis=1)).ravel().astype(np.int32)
    columns["cell_area"] = np.full(block.n, area)
    inner = pa.array(area * NUCLEUS**2 * nuclei, mask=nuclei == 0)
    columns["nucleus_area"] = inner
    if not plan.old:
        columns["nucleus_count"] = nuclei.astype(np.float64)
        method = pa.array(
            ["Segmented by nucleus expansion of 5.0µm", "Segmented by boundary stain"]
        )
        columns["segmentation_method"] = method.take(pa.array(cells % 2))
    return columns


def _vertices(
    plan: Plan, ids: Any, centers: NDArray[np.float64], radius: float, labels: NDArray[np.int64]
) -> dict[str, Any]:
    """A vertex a row; rings end with their first vertex."""
    ring = rings_of(centers, radius)
    n = ring.shape[1]
    columns: dict[str, Any] = {
        "cell_id": ids.take(pa.array(np.repeat(np.arange(len(centers)), n))),
        "vertex_x": ring[:, :, 0].ravel(),
        "vertex_y": ring[:, :, 1].ravel(),
    }
    if not plan.old:
        columns["label_id"] = np.repeat(labels, n).astype(np.int32)
    return columns


@dataclass
class _H5:
    """cell_feature_matrix.h5, grown block by block."""

    file: Any
    features: Features
    barcodes: list[NDArray[np.bytes_]] = field(default_factory=list)
    lengths: list[NDArray[np.int64]] = field(default_factory=list)

    @classmethod
    def open(cls, plan: Plan, stack: ExitStack) -> _H5:
        path = plan.folder / "cell_feature_matrix.h5"
        file = stack.enter_context(h5py.File(path, "w"))
        file.attrs["filetype"] = "matrix"
        file.attrs["library_ids"] = np.array([b"0000000_0000000"])
        file.attrs["original_gem_groups"] = np.array([1])
        file.attrs["version"] = 2
        if plan.features.proteins:
            file.attrs["protein_scaling_factor"] = PROTEIN_SCALE
        group = file.create_group("matrix")
        packed = {"chunks": (80_000,), "maxshape": (None,), "compression": "gzip"}
        group.create_dataset("data", (0,), np.int32, compression_opts=1, **packed)
        group.create_dataset("indices", (0,), np.int64, compression_opts=1, **packed)
        parts = {
            "id": plan.features.ids,
            "name": plan.features.names,
            "feature_type": plan.features.kinds,
            "genome": ["Unknown"] * len(plan.features.names),
        }
        features = group.create_group("features")
        for name, words in parts.items():
            features.create_dataset(name, data=np.char.encode(words), compression="gzip")
        features["_all_tag_keys"] = np.array([b"genome"])
        return cls(file, plan.features)

    def add(self, names: list[str], counts: Any) -> None:
        group = self.file["matrix"]
        for key, values in (("data", counts.data), ("indices", counts.indices)):
            node = group[key]
            start = node.shape[0]
            node.resize((start + values.size,))
            node[start:] = values
        self.barcodes.append(np.asarray(names, dtype="S"))
        self.lengths.append(np.diff(counts.indptr))

    def finish(self) -> None:
        group = self.file["matrix"]
        indptr = np.concatenate([[0], np.cumsum(np.concatenate(self.lengths))]).astype(np.int64)
        group.create_dataset("indptr", data=indptr, compression="gzip", compression_opts=1)
        barcodes = np.concatenate(self.barcodes)
        group.create_dataset("barcodes", data=barcodes, compression="gzip", compression_opts=1)
        group["shape"] = np.array([len(self.features.names), barcodes.size], np.int32)


@dataclass
class _Mtx:
    """Folder cell_feature_matrix; entries wait in a file until their number is known."""

    folder: Path
    features: Features
    body: Any
    names: list[str] = field(default_factory=list)
    n: int = 0

    @classmethod
    def open(cls, plan: Plan, stack: ExitStack) -> _Mtx:
        folder = plan.folder / "cell_feature_matrix"
        folder.mkdir(exist_ok=True)
        return cls(folder, plan.features, stack.enter_context((folder / "body").open("wb")))

    def add(self, names: list[str], counts: Any) -> None:
        rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr)) + len(self.names) + 1
        for gene, cell, number in zip(counts.indices + 1, rows, counts.data, strict=True):
            self.body.write(b"%d %d %d\n" % (gene, cell, number))
        self.n += counts.nnz
        self.names += names

    def finish(self) -> None:
        self.body.flush()
        body = (self.folder / "body").read_bytes()
        (self.folder / "body").unlink()
        head = "%%MatrixMarket matrix coordinate integer general\n"
        head += '%metadata_json: {"software_version": "xenium-sim", "format_version": 2}\n'
        head += f"{len(self.features.names)} {len(self.names)} {self.n}\n"
        rows = zip(self.features.ids, self.features.names, self.features.kinds, strict=True)
        texts = {
            "matrix.mtx.gz": head.encode() + body,
            "barcodes.tsv.gz": "".join(f"{one}\n" for one in self.names).encode(),
            "features.tsv.gz": "".join("\t".join(row) + "\n" for row in rows).encode(),
        }
        for name, content in texts.items():
            (self.folder / name).write_bytes(gzip.compress(content, 1))
