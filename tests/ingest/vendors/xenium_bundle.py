"""Simulated Xenium outputs of any size, block by block, as releases 1 to 4 write them."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from .tissue import SimTissue
from .xenium_pictures import write_he, write_masks, write_stain
from .xenium_plan import (
    NUCLEUS,
    PIXEL_UM,
    PROTEIN_SCALE,
    VERTICES,
    Features,
    Plan,
    cell_ids,
    cell_numbers,
    nuclei_of,
    nucleus_centers,
    rings_of,
)
from .xenium_tables import Sinks

__all__ = ["KINDS", "PROTEIN_SCALE", "Features", "cell_ids", "write_xenium"]

_STAINS = ("DAPI", "ATP1A1/CD45/E-Cadherin", "18S", "AlphaSMA/Vimentin")
_RELEASES = {
    "1": "xenium-1.0.1",
    "1.4": "xenium-1.4.0.6",
    "2": "xenium-2.0.0.10",
    "3": "xenium-3.1.0.4",
    "4": "xenium-4.0.1.0",
}


def write_xenium(
    folder: Path,
    tissue: SimTissue,
    *,
    version: str = "3",
    text: bool = False,
    matrix: tuple[str, ...] = ("h5",),
    transcripts: bool = True,
    boundaries: bool = True,
    cells_zip: bool = True,
    masks: bool = True,
    images: bool = True,
    stains: int = 1,
    he: bool = False,
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
    features = Features.of(tissue, version, proteins)
    plan = Plan(folder, tissue, version, features, text, shape, pixel)
    xy = np.empty((tissue.n_cells, 2))
    with ExitStack() as stack:
        sinks = Sinks.open(plan, stack, matrix, transcripts, boundaries)
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
        write_he(folder, xy, plan.radius * NUCLEUS, plan.shape, pixel)
    _write_json(plan)
    return folder


def _packed(zarr_group: Any, name: str, values: NDArray[Any]) -> Any:
    import numcodecs

    chunks = (min(len(values), 100_000), *values.shape[1:])
    return zarr_group.create_array(
        name, data=values, chunks=chunks, compressors=numcodecs.Blosc("zstd", 1)
    )


def _zip_root(path: Path, stack: ExitStack, attributes: dict[str, Any]) -> Any:
    import zarr
    from zarr.storage import ZipStore

    store = ZipStore(path, mode="w")
    stack.callback(store.close)
    return zarr.create_group(store, zarr_format=2, attributes=attributes)


def _id_numbers(plan: Plan) -> NDArray[np.uint32]:
    cells = np.arange(plan.tissue.n_cells)
    if plan.numbered:
        return (cells + 1).astype(np.uint32)
    return np.stack([cell_numbers(cells), np.ones(cells.size, np.uint32)], axis=1)


def _write_zip(plan: Plan, xy: NDArray[np.float64], masks: bool) -> None:
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
    inner = plan.radius * NUCLEUS
    with ExitStack() as stack:
        root = _zip_root(plan.folder / "cells.zarr.zip", stack, attributes)
        _packed(root, "cell_id", _id_numbers(plan))
        _write_summary(plan, root, xy, cells)
        if plan.old:
            both = np.stack([rings_of(centers, inner), rings_of(xy, plan.radius)])
            flat = both.reshape(2, cells.size, -1)
            chunks = (1, min(cells.size, 50_000), flat.shape[2])
            root.create_array("polygon_vertices", data=flat, chunks=chunks)
            counts = np.full((2, cells.size), VERTICES + 1, np.int32)
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
                _packed(group, "num_vertices", np.full(len(owner), VERTICES + 1, np.int32))
                _write_vertices(group, at, radius)
        if masks:
            write_masks(root, xy, (centers, inner), plan.radius, plan.shape, plan.pixel_um)


def _write_vertices(group: Any, centers: NDArray[np.float64], radius: float) -> None:
    """Polygons chunk by chunk: a million of them would be some hundred megabytes."""
    import numcodecs

    wide = 2 * (VERTICES + 1)
    step = min(len(centers), 100_000)
    array = group.create_array(
        "vertices",
        shape=(len(centers), wide),
        chunks=(step, wide),
        dtype=np.float32,
        compressors=numcodecs.Blosc("zstd", 1),
    )
    for start in range(0, len(centers), step):
        part = rings_of(centers[start : start + step], radius)
        array[start : start + step] = part.reshape(len(part), wide)


def _write_summary(
    plan: Plan, root: Any, xy: NDArray[np.float64], cells: NDArray[np.int64]
) -> None:
    import numcodecs

    names = ["cell_centroid_x", "cell_centroid_y", "cell_area", "nucleus_centroid_x",
             "nucleus_centroid_y", "nucleus_area", "z_level"]  # fmt: skip
    area = np.full(len(xy), np.pi * plan.radius**2)
    columns = [*xy.T, area, *xy.T, area * NUCLEUS**2, np.full(len(xy), 3.0)]
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


def _write_zarr_matrix(plan: Plan) -> None:
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
        _packed(group, "cell_id", _id_numbers(plan))
        for name in ("data", "indices", "indptr"):
            _packed(group, name, getattr(by_feature, name).astype(np.uint32))


def _write_images(plan: Plan, xy: NDArray[np.float64], stains: int, compression: Any) -> None:
    def write(path: Path, bright: int = 4000, **more: Any) -> None:
        write_stain(
            path, xy, plan.radius * NUCLEUS, plan.shape, plan.pixel_um,
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


def _write_json(plan: Plan) -> None:
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


def _clustered(folder: Path) -> Path:
    path: Path = _small()(folder)
    file = path / _CLUSTERS
    file.parent.mkdir(parents=True)
    rows = (f"{name},{k % 7 + 1}" for k, name in enumerate(cell_ids(np.arange(60), "3")))
    file.write_text("\n".join(["Barcode,Cluster", *rows, ""]))
    return path


_CLUSTERS = "analysis/clustering/gene_expression_kmeans_7_clusters/clusters.csv"
_IMAGE = "morphology_focus/morphology_focus_0000.ome.tif"

KINDS = [
    ("cells, Parquet", _small(), "cells.parquet"),
    ("cells, text", _small(text=True, version="1.4"), "cells.csv.gz"),
    ("matrix, HDF5", _small(), "cell_feature_matrix.h5"),
    ("matrix, Zarr", _small(matrix=("zarr",)), "cell_feature_matrix.zarr.zip"),
    ("matrix, text", _small(matrix=("mtx",)), "cell_feature_matrix/matrix.mtx.gz"),
    ("features, text", _small(matrix=("mtx",)), "cell_feature_matrix/features.tsv.gz"),
    ("barcodes, text", _small(matrix=("mtx",)), "cell_feature_matrix/barcodes.tsv.gz"),
    ("clusters", _clustered, _CLUSTERS),
    ("cells, Zarr", _small(cells_zip=True), "cells.zarr.zip"),
    ("cells, Zarr of 1.x", _small(cells_zip=True, version="1.4"), "cells.zarr.zip"),
    ("transcripts, Parquet", _small(transcripts=True), "transcripts.parquet"),
    ("transcripts, text", _small(transcripts=True, text=True), "transcripts.csv.gz"),
    ("boundaries, Parquet", _small(boundaries=True), "cell_boundaries.parquet"),
    ("nuclei, Parquet", _small(boundaries=True), "nucleus_boundaries.parquet"),
    ("boundaries, text", _small(boundaries=True, text=True), "cell_boundaries.csv.gz"),
    ("nuclei, text", _small(boundaries=True, text=True), "nucleus_boundaries.csv.gz"),
    (
        "nuclei, text of 1.x",
        _small(boundaries=True, text=True, version="1.4"),
        "nucleus_boundaries.csv.gz",
    ),
    ("run", _small(), "experiment.xenium"),
    ("panel", _small(), "gene_panel.json"),
    ("metrics", _small(), "metrics_summary.csv"),
    ("alignment", _small(images=True, he=True, compression="zlib"), "sample_he_imagealignment.csv"),
    ("image", _small(images=True, compression="zlib"), _IMAGE),
    ("image, JPEG 2000", _small(images=True, pixel_um=8.0), _IMAGE),
]
"""Kinds of files: name, writer of a small output that holds one, place of the file."""
