"""Simulated Xenium outputs of any size, block by block, as releases 1 to 4 write them."""

from __future__ import annotations

import gzip
import json
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

from .tissue import SimBlock, SimTissue
from .xenium_pictures import write_he, write_masks, write_stain

PIXEL_UM = 0.2125
_VERTICES = 12
_NUCLEUS = 0.55  # of the radius of a cell
_STAINS = ("DAPI", "ATP1A1/CD45/E-Cadherin", "18S", "AlphaSMA/Vimentin")
_RELEASES = {
    "1": "xenium-1.0.1",
    "1.4": "xenium-1.4.0.6",
    "2": "xenium-2.0.0.10",
    "3": "xenium-3.1.0.4",
    "4": "xenium-4.0.1.0",
}
_CONTROLS = {
    "1": (("BLANK", "Blank Codeword"),),
    "1.4": (("UnassignedCodeword", "Unassigned Codeword"),),
    "2": (
        ("UnassignedCodeword", "Unassigned Codeword"),
        ("DeprecatedCodeword", "Deprecated Codeword"),
    ),
    "3": (("UnassignedCodeword", "Unassigned Codeword"), ("Intergenic_Region", "Genomic Control")),
    "4": (("UnassignedCodeword", "Unassigned Codeword"), ("Intergenic_Region", "Genomic Control")),
}  # fmt: skip
_ALWAYS = (
    ("NegControlProbe", "Negative Control Probe"),
    ("NegControlCodeword", "Negative Control Codeword"),
)
PROTEIN_SCALE = 100.0


@dataclass(frozen=True)
class Features:
    """Rows of the matrix."""

    names: list[str]
    ids: list[str]
    kinds: list[str]
    proteins: int = 0

    @classmethod
    def of(cls, tissue: SimTissue, version: str, proteins: int) -> Features:
        genes = list(tissue.gene_names)
        controls, kinds = [], []
        for k in range(len(tissue.control_names)):
            stem, kind = (*_ALWAYS, *_CONTROLS[version])[k % (2 + len(_CONTROLS[version]))]
            controls.append(f"{stem}_{k:05d}")
            kinds.append(kind)
        markers = [f"CD{k + 3}" for k in range(proteins)]
        return cls(
            genes + controls + markers,
            [f"ENSMUSG{k + 1:011d}" for k in range(len(genes))] + controls + markers,
            ["Gene Expression"] * len(genes) + kinds + ["Protein Expression"] * proteins,
            proteins,
        )


@dataclass
class _Plan:
    """What is written, and how."""

    folder: Path
    tissue: SimTissue
    version: str
    features: Features
    text: bool
    """Tables as CSV in place of Parquet."""
    shape: tuple[int, int]
    pixel_um: float

    @property
    def old(self) -> bool:
        return self.version.startswith("1")

    @property
    def numbered(self) -> bool:
        """Whether cells are integers."""
        return self.version == "1"

    @property
    def radius(self) -> float:
        return self.tissue.radius_share * self.tissue.spacing_um


def write_xenium(
    folder: Path,
    tissue: SimTissue,
    *,
    version: str | int = "3",
    text: bool = False,
    matrix: tuple[str, ...] = ("h5",),
    transcripts: bool = True,
    boundaries: bool = True,
    cells_zip: bool = True,
    masks: bool = True,
    images: bool = True,
    stains: int = 1,
    he: bool = False,
    experiment: bool = True,
    proteins: int = 0,
    image_px: int | None = None,
    pixel_um: float | None = None,
    compression: str | None = "jpeg2000",
) -> Path:
    """Write an output of one region.

    Parameters
    ----------
    version : {"1", "1.4", "2", "3", "4"}
        Release of the instrument's software.
    text : bool
        Tables as .csv.gz, as all releases write beside Parquet.
    matrix : tuple
        Any of "h5", "mtx", "zarr".
    stains : int
        Channels of `morphology_focus`, 1 or 4 (from release 2 on).
    image_px, pixel_um
        Edge of a square morphology image, and of its pixels: 0.2125 um that cover the tissue, or
        pixels as large as it takes where only the edge is given.
    compression : str, optional
        Of the tiles: the instrument writes "jpeg2000", which takes some 30 s a gigabyte; "zlib" or
        None for large ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    width, height = tissue.extent_um
    pixel = pixel_um or (PIXEL_UM if image_px is None else max(width, height) / image_px)
    fits = (int(np.ceil(height / pixel)), int(np.ceil(width / pixel)))
    shape = fits if image_px is None else (image_px, image_px)
    features = Features.of(tissue, str(version), proteins)
    plan = _Plan(folder, tissue, str(version), features, text, shape, pixel)
    xy = np.empty((tissue.n_cells, 2))
    with ExitStack() as stack:
        sinks = _Sinks.open(plan, stack, matrix, transcripts, boundaries)
        for block in tissue.blocks():
            xy[block.start : block.start + block.n] = block.positions_um
            sinks.add(block)
        sinks.finish()
    if cells_zip:
        _write_zip(plan, xy, masks)
    if "zarr" in matrix:
        _write_zarr_matrix(plan)
    if images:
        _write_images(plan, xy, stains, compression)
    if he:
        write_he(folder, xy, plan.radius * _NUCLEUS, plan.shape, pixel)
    _write_json(plan, experiment)
    return folder


def cell_numbers(cells: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Prefixes of cell ids: scattered, each once."""
    return ((cells.astype(np.uint64) * 2654435761 + 12345) % 2**32).astype(np.uint32)


def cell_ids(cells: NDArray[np.int64], version: str) -> list[str]:
    """Names of cells: letters and a suffix, or numbers from 1 in release 1.0."""
    if version == "1":
        return [str(k + 1) for k in cells.tolist()]
    letters = np.frombuffer(b"abcdefghijklmnop", np.uint8)
    shifts = np.arange(28, -4, -4, dtype=np.uint32)
    codes = letters[(cell_numbers(cells)[:, None] >> shifts) & 15]
    return [f"{word.decode()}-1" for word in codes.view("S8").ravel().tolist()]


def nuclei_of(cells: NDArray[np.int64], old: bool) -> NDArray[np.int64]:
    """Nuclei of each cell: one; from release 2 on some have two, some none."""
    found = np.ones(cells.size, np.int64)
    if not old:
        found[cells % 33 == 32] = 0
        found[cells % 50 == 49] = 2
    return found


def nucleus_centers(
    cells: NDArray[np.int64], xy: NDArray[np.float64], radius: float, old: bool
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Cell of each nucleus (place in `cells`), and its center."""
    n = nuclei_of(cells, old)
    of = np.repeat(np.arange(cells.size), n)
    second = np.arange(of.size) - np.repeat(np.cumsum(n) - n, n)
    shift = np.where(n[of] == 2, (second - 0.5) * radius * 0.9, 0.0)
    return of, xy[of] + np.stack([shift, np.zeros(of.size)], axis=1)


@dataclass
class _Writer:
    """A table as Parquet or gzipped text."""

    plan: _Plan
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
class _Sinks:
    """Open files of one output."""

    plan: _Plan
    cells: _Writer
    cell_boundaries: _Writer | None
    nucleus_boundaries: _Writer | None
    transcripts: _Writer | None
    h5: _H5 | None
    mtx: _Mtx | None
    n_nuclei: int = 0
    n_transcripts: int = 0
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        plan: _Plan,
        stack: ExitStack,
        matrix: tuple[str, ...],
        transcripts: bool,
        boundaries: bool,
    ) -> _Sinks:
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
            inner = plan.radius * _NUCLEUS
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
        away = np.hypot(*(block.molecules_um[:, :2] - place).T) - plan.radius * _NUCLEUS
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
    plan: _Plan, block: SimBlock, ids: Any, counts: Any, cells: NDArray[np.int64]
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
    inner = pa.array(area * _NUCLEUS**2 * nuclei, mask=nuclei == 0)
    columns["nucleus_area"] = inner
    if not plan.old:
        columns["nucleus_count"] = nuclei.astype(np.float64)
        method = pa.array(
            ["Segmented by nucleus expansion of 5.0µm", "Segmented by boundary stain"]
        )
        columns["segmentation_method"] = method.take(pa.array(cells % 2))
    return columns


def _vertices(
    plan: _Plan, ids: Any, centers: NDArray[np.float64], radius: float, labels: NDArray[np.int64]
) -> dict[str, Any]:
    """A vertex a row; rings end with their first vertex."""
    ring = _rings(centers, radius)
    n = ring.shape[1]
    columns: dict[str, Any] = {
        "cell_id": ids.take(pa.array(np.repeat(np.arange(len(centers)), n))),
        "vertex_x": ring[:, :, 0].ravel(),
        "vertex_y": ring[:, :, 1].ravel(),
    }
    if not plan.old:
        columns["label_id"] = np.repeat(labels, n).astype(np.int32)
    return columns


def _rings(centers: NDArray[np.float64], radius: float) -> NDArray[np.float32]:
    angle = np.arange(_VERTICES + 1) % _VERTICES * 2 * np.pi / _VERTICES
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return (centers[:, None, :] + radius * circle).astype(np.float32)


@dataclass
class _H5:
    """cell_feature_matrix.h5, grown block by block."""

    file: Any
    features: Features
    barcodes: list[NDArray[np.bytes_]] = field(default_factory=list)
    lengths: list[NDArray[np.int64]] = field(default_factory=list)

    @classmethod
    def open(cls, plan: _Plan, stack: ExitStack) -> _H5:
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
    def open(cls, plan: _Plan, stack: ExitStack) -> _Mtx:
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


def _packed(zarr_group: Any, name: str, values: NDArray[Any]) -> Any:
    import numcodecs

    chunks = (min(len(values), 100_000), *values.shape[1:])
    return zarr_group.create_array(
        name, data=values, chunks=chunks, compressors=numcodecs.Blosc("zstd", 1)
    )


def _zip_root(path: Path, stack: ExitStack, attributes: dict[str, Any]) -> Any:
    import zarr

    store = zarr.storage.ZipStore(path, mode="w")
    stack.callback(store.close)
    return zarr.create_group(store, zarr_format=2, attributes=attributes)


def _id_numbers(plan: _Plan) -> NDArray[np.uint32]:
    cells = np.arange(plan.tissue.n_cells)
    if plan.numbered:
        return (cells + 1).astype(np.uint32)
    return np.stack([cell_numbers(cells), np.ones(cells.size, np.uint32)], axis=1)


def _write_zip(plan: _Plan, xy: NDArray[np.float64], masks: bool) -> None:
    """cells.zarr.zip: ids, summary, masks, and polygons in the layout of the release."""
    cells = np.arange(plan.tissue.n_cells)
    of, centers = nucleus_centers(cells, xy, plan.radius, plan.old)
    attributes = {
        "number_cells": cells.size,
        "spatial_units": "microns",
        "major_version": 6 if not plan.old else 4,
        "minor_version": 0,
        "name": "CellSegmentationDataset",
        "polygon_set_names": ["nucleus", "cell"],
        "segmentation_methods": ["Segmented by nucleus expansion of 5.0µm"],
    }
    inner = plan.radius * _NUCLEUS
    with ExitStack() as stack:
        root = _zip_root(plan.folder / "cells.zarr.zip", stack, attributes)
        _packed(root, "cell_id", _id_numbers(plan))
        _write_summary(plan, root, xy, cells)
        if plan.old:
            both = np.stack([_rings(centers, inner), _rings(xy, plan.radius)])
            flat = both.reshape(2, cells.size, -1)
            chunks = (1, min(cells.size, 50_000), flat.shape[2])
            root.create_array("polygon_vertices", data=flat, chunks=chunks)
            counts = np.full((2, cells.size), _VERTICES + 1, np.int32)
            root.create_array("polygon_num_vertices", data=counts, chunks=(1, cells.size))
            if plan.version == "1.4":
                _packed(root, "seg_mask_value", (cells + 1).astype(np.uint32))
        else:
            sets = root.create_group("polygon_sets")
            for kind, (owner, at, radius) in enumerate(
                [(of, centers, inner), (cells, xy, plan.radius)]
            ):
                group = sets.create_group(str(kind))
                _packed(group, "cell_index", owner.astype(np.uint32))
                _packed(group, "method", np.zeros(len(owner), np.uint32))
                _packed(group, "num_vertices", np.full(len(owner), _VERTICES + 1, np.int32))
                _write_vertices(group, at, radius)
        if masks:
            write_masks(root, xy, (centers, inner), plan.radius, plan.shape, plan.pixel_um)


def _write_vertices(group: Any, centers: NDArray[np.float64], radius: float) -> None:
    """Polygons chunk by chunk: a million of them would be some hundred megabytes."""
    import numcodecs

    wide = 2 * (_VERTICES + 1)
    step = min(len(centers), 100_000)
    array = group.create_array(
        "vertices",
        shape=(len(centers), wide),
        chunks=(step, wide),
        dtype=np.float32,
        compressors=numcodecs.Blosc("zstd", 1),
    )
    for start in range(0, len(centers), step):
        part = _rings(centers[start : start + step], radius)
        array[start : start + step] = part.reshape(len(part), wide)


def _write_summary(
    plan: _Plan, root: Any, xy: NDArray[np.float64], cells: NDArray[np.int64]
) -> None:
    import numcodecs

    names = ["cell_centroid_x", "cell_centroid_y", "cell_area", "nucleus_centroid_x",
             "nucleus_centroid_y", "nucleus_area", "z_level"]  # fmt: skip
    area = np.full(len(xy), np.pi * plan.radius**2)
    columns = [*xy.T, area, *xy.T, area * _NUCLEUS**2, np.full(len(xy), 3.0)]
    if not plan.old:
        names.append("nucleus_count")
        columns.append(nuclei_of(cells, plan.old).astype(np.float64))
    table = np.stack(columns, axis=1)
    root.create_array(
        "cell_summary",
        data=table,
        chunks=(min(len(xy), 100_000), len(names)),
        compressors=numcodecs.Blosc("zstd", 1),
        attributes={"column_names": names},
    )


def _write_zarr_matrix(plan: _Plan) -> None:
    """cell_feature_matrix.zarr.zip: rows are features. Made of the .h5 file, for small outputs."""
    from scipy import sparse

    with h5py.File(plan.folder / "cell_feature_matrix.h5") as file:
        group = file["matrix"]
        n_vars, n_obs = (int(n) for n in group["shape"][:])
        shape = (n_obs, n_vars)
        parts = (group["data"][:], group["indices"][:], group["indptr"][:])
        by_feature = sparse.csr_matrix(parts, shape=shape).T.tocsr()
    attributes = {
        "major_version": 3,
        "minor_version": 0,
        "number_cells": int(shape[0]),
        "number_features": int(shape[1]),
        "feature_keys": plan.features.names,
        "feature_ids": plan.features.ids,
        "feature_types": plan.features.kinds,
    }
    with ExitStack() as stack:
        root = _zip_root(plan.folder / "cell_feature_matrix.zarr.zip", stack, {})
        group = root.create_group("cell_features", attributes=attributes)
        ids = _id_numbers(plan)
        pairs = ids if ids.ndim == 2 else np.stack([ids, np.zeros_like(ids)], axis=1)
        _packed(group, "cell_id", pairs if not plan.numbered else ids)
        for name in ("data", "indices", "indptr"):
            _packed(group, name, getattr(by_feature, name).astype(np.uint32))


def _write_images(plan: _Plan, xy: NDArray[np.float64], stains: int, compression: Any) -> None:
    def write(path: Path, bright: int = 4000, **more: Any) -> None:
        write_stain(
            path, xy, plan.radius * _NUCLEUS, plan.shape, plan.pixel_um,
            compression=compression, bright=bright, **more,
        )  # fmt: skip

    if plan.old:
        write(plan.folder / "morphology_mip.ome.tif")
        write(plan.folder / "morphology_focus.ome.tif")
        return
    folder = plan.folder / "morphology_focus"
    folder.mkdir(exist_ok=True)
    names = _STAINS[:stains]
    if plan.version == "4":
        short = ("dapi", "atp1a1_cd45_e-cadherin", "18s", "alphasma_vimentin")
        files = tuple(f"ch{k:04d}_{short[k]}.ome.tif" for k in range(stains))
    else:
        files = tuple(f"morphology_focus_{k:04d}.ome.tif" for k in range(stains))
    for k, file in enumerate(files):
        write(folder / file, 4000 - 700 * k, names=names, channel=k, files=files)


def _write_json(plan: _Plan, experiment: bool) -> None:
    """experiment.xenium, gene_panel.json and metrics_summary.csv."""
    tissue = plan.tissue
    said = {
        "major_version": 4 if plan.old else 6,
        "minor_version": 0,
        "run_name": "simulated",
        "run_start_time": "2024-01-01T00:00:00Z",
        "region_name": "Region_1",
        "preservation_method": "Fresh Frozen",
        "num_cells": tissue.n_cells,
        "cassette_name": "slide",
        "slide_id": "0000001",
        "panel_design_id": "simulated",
        "panel_name": "Simulated Panel",
        "panel_organism": "Mouse",
        "panel_num_targets_predesigned": tissue.n_genes,
        "panel_num_targets_custom": 0,
        "pixel_size": plan.pixel_um,
        "z_step_size": 3.0,
        "instrument_sn": "N/A",
        "instrument_sw_version": "N/A",
        "analysis_sw_version": _RELEASES[plan.version],
        "images": {"morphology_filepath": "morphology.ome.tif"},
    }
    if experiment:
        (plan.folder / "experiment.xenium").write_text(json.dumps(said, indent=2))
    targets = [
        {"type": {"data": {"id": gene, "name": name}, "descriptor": "gene"}, "codewords": [k]}
        for k, (gene, name) in enumerate(zip(plan.features.ids, plan.features.names, strict=True))
    ]
    identity = {"name": "Simulated Panel", "design_id": "simulated", "version": "1.0"}
    panel = {"payload": {"panel": {"identity": identity}, "targets": targets}}
    (plan.folder / "gene_panel.json").write_text(json.dumps(panel))
    (plan.folder / "metrics_summary.csv").write_text(
        "run_name,region_name,num_cells_detected,fraction_transcripts_assigned\n"
        f"simulated,Region_1,{tissue.n_cells},0.97\n"
    )


def _small(**more: Any) -> Any:
    """Writer of an output that is as small as the kind of file allows."""

    def write(folder: Path) -> Path:
        tissue = SimTissue(60, n_genes=40, mean_counts=12, seed=4)
        usual: dict[str, Any] = {"images": False, "transcripts": False, "boundaries": False}
        usual |= {"cells_zip": False, "pixel_um": 2.0, **more}
        path = write_xenium(folder / "out", tissue, **usual)
        if more.get("matrix") == ("zarr",):
            (path / "cell_feature_matrix.h5").unlink()
        return path

    return write


_IMAGE = "morphology_focus/morphology_focus_0000.ome.tif"

KINDS = [
    ("cells, Parquet", _small(), "cells.parquet"),
    ("cells, text", _small(text=True, version="1.4"), "cells.csv.gz"),
    ("matrix, HDF5", _small(), "cell_feature_matrix.h5"),
    ("matrix, Zarr", _small(matrix=("zarr",)), "cell_feature_matrix.zarr.zip"),
    ("matrix, text", _small(matrix=("mtx",)), "cell_feature_matrix/matrix.mtx.gz"),
    ("features, text", _small(matrix=("mtx",)), "cell_feature_matrix/features.tsv.gz"),
    ("cells, Zarr", _small(cells_zip=True), "cells.zarr.zip"),
    ("cells, Zarr of 1.x", _small(cells_zip=True, version="1.4"), "cells.zarr.zip"),
    ("transcripts, Parquet", _small(transcripts=True), "transcripts.parquet"),
    ("transcripts, text", _small(transcripts=True, text=True), "transcripts.csv.gz"),
    ("boundaries, Parquet", _small(boundaries=True), "cell_boundaries.parquet"),
    ("nuclei, text", _small(boundaries=True, text=True), "nucleus_boundaries.csv.gz"),
    ("run", _small(), "experiment.xenium"),
    ("panel", _small(), "gene_panel.json"),
    ("alignment", _small(images=True, he=True, compression="zlib"), "sample_he_imagealignment.csv"),
    ("image", _small(images=True, compression="zlib"), _IMAGE),
    ("image, JPEG 2000", _small(images=True, pixel_um=8.0), _IMAGE),
]
"""Kinds of files: name, writer of a small output that holds one, place of the file."""
