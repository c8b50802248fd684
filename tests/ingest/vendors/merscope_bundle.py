"""A MERSCOPE output as the instrument and vpt write it, from simulated tissue of any size.

Written block by block. Traps of real outputs are in it: ids of 18 digits (39 in old ones), rows of
the metadata in another order than those of the counts, an index without a name, blanks among the
genes, pixels of the field of view called x and y, planes called global_z, and ZIndex rows.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
import tifffile
from numpy.typing import NDArray
from pyarrow import csv as text

from .tissue import SimBlock, SimTissue

MICRONS_PER_PIXEL = 0.108
ORIGIN_UM = (-312.5, 1204.75)
"""Where the corner of the tissue lies in the stage's coordinates."""
FIRST_ID = 112_824_700_230_101_249
OLD_FIRST_ID = 110_883_424_764_611_924_400_221_639_916_314_253_469
FOV_UM = 200.0
PLANE_UM = 1.5
_SPOTS = "detected_transcripts.csv"


@dataclass(frozen=True, slots=True)
class MerscopeStyle:
    """What differs between releases."""

    boundaries: Literal["parquet", "hdf5", "both", "none"] = "parquet"
    planes: int = 7
    stains: tuple[str, ...] = ("DAPI", "PolyT")
    image_planes: tuple[int, ...] = (0, 3, 6)
    um_per_px: float = MICRONS_PER_PIXEL
    most_px: int = 12_000
    """Longest side of a mosaic; wider tissue gets larger pixels, so that one fits in memory."""
    transform: bool = True
    manifest: bool = True
    image_compression: str | None = "zlib"
    tile: int | None = 256
    segmentation: str = ""
    """Folder of vpt below the region; "" writes beside the images."""
    boundary_name: str = "cell_boundaries.parquet"
    flat: bool = True
    """Whether a cell has the same outline in all planes, as Cellpose in 2D gives it."""
    cell_ids: bool = False
    """Whether transcripts name their cell, as newer releases and vpt do."""
    proteins: tuple[str, ...] = ()
    old_ids: bool = False
    suffix: str = ""
    """After the names of the tables, such as `_S1R1`."""
    table_format: Literal["csv", "csv.gz", "parquet"] = "csv"
    shuffle: bool = True
    images: bool = True


def cell_ids(rows: NDArray[np.int64], style: MerscopeStyle) -> list[str]:
    first = OLD_FIRST_ID if style.old_ids else FIRST_ID
    # Tasks count in steps, so that ids are not consecutive.
    return [str(first + 7 * row) for row in rows.tolist()]


def write_merscope(
    folder: Path, tissue: SimTissue, style: MerscopeStyle | None = None, **changes: Any
) -> Path:
    """Write a region folder; memory is one block of the tissue and one image."""
    style = replace(style or MerscopeStyle(), **changes)
    home = folder / style.segmentation if style.segmentation else folder
    home.mkdir(parents=True, exist_ok=True)
    tables = _Tables(folder, home, tissue, style)
    for block in tissue.blocks():
        tables.add(block)
    tables.close()
    if style.images:
        _write_images(folder / "images", tissue, style)
    return folder


@dataclass
class _Tables:
    """Open files of a bundle."""

    region: Path
    home: Path
    tissue: SimTissue
    style: MerscopeStyle

    def __post_init__(self) -> None:
        self._writers: dict[str, _TableWriter] = {}
        self._n = 0

    def add(self, block: SimBlock) -> None:
        rows = np.arange(block.start, block.start + block.n)
        ids = cell_ids(rows, self.style)
        fov = fov_of(block.positions_um)
        outline = self.tissue.boundaries(block)
        self._write("cell_by_gene", self.home, self._counts(block, ids))
        order = np.arange(block.n)
        if self.style.shuffle:
            order = np.random.default_rng(block.start).permutation(order)
        metadata = self._metadata(block, ids, fov, outline).take(order)
        self._write("cell_metadata", self.home, metadata)
        self._write("detected_transcripts", self.region, self._molecules(block, ids))
        if self.style.boundaries in {"parquet", "both"}:
            self._write("boundaries", self.home, _geometry(ids, outline, self.style))
        if self.style.boundaries in {"hdf5", "both"}:
            _write_fields(self.home / "cell_boundaries", ids, fov, outline, self.style)

    def _write(self, what: str, folder: Path, table: pa.Table) -> None:
        if what not in self._writers:
            name = (
                self.style.boundary_name
                if what == "boundaries"
                else f"{what}{self.style.suffix}.{self.style.table_format}"
            )
            self._writers[what] = _TableWriter(folder / name, table.schema)
        self._writers[what].write(table)

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _counts(self, block: SimBlock, ids: list[str]) -> pa.Table:
        dense = np.asarray(block.counts.todense())
        names = [*self.tissue.gene_names, *blank_names(self.tissue)]
        columns = [pa.array(dense[:, k]) for k in range(len(names))]
        return pa.table([self._ids(ids), *columns], names=["cell", *names])

    def _ids(self, ids: list[str]) -> pa.Array:
        if self.style.old_ids:
            return pa.array(ids, pa.string())
        return pa.array([int(one) for one in ids], pa.int64())

    def _metadata(
        self,
        block: SimBlock,
        ids: list[str],
        fov: NDArray[np.int64],
        outline: NDArray[np.float64],
    ) -> pa.Table:
        low, high = outline.min(axis=1) + ORIGIN_UM, outline.max(axis=1) + ORIGIN_UM
        center = block.positions_um + ORIGIN_UM
        counted = np.asarray(block.counts.sum(axis=1)).ravel()
        columns = {
            "" if self.style.old_ids else "EntityID": self._ids(ids),
            "fov": fov,
            "volume": np.pi * (self.tissue.radius_share * self.tissue.spacing_um) ** 2 * 10.5
            + np.zeros(block.n),
            "center_x": center[:, 0],
            "center_y": center[:, 1],
            "min_x": low[:, 0],
            "min_y": low[:, 1],
            "max_x": high[:, 0],
            "max_y": high[:, 1],
        }
        if not self.style.old_ids:
            columns |= {
                "anisotropy": np.full(block.n, 1.05),
                "transcript_count": counted.astype(np.int64),
                "perimeter_area_ratio": np.full(block.n, 0.47),
                "solidity": np.full(block.n, 7.0),
            }
        for name in self.style.proteins:
            columns[f"{name}_raw"] = 1000.0 + 10.5 * counted
            columns[f"{name}_high_pass"] = 3.25 * counted
        return pa.table(list(columns.values()), names=list(columns))

    def _molecules(self, block: SimBlock, ids: list[str]) -> pa.Table:
        m = block.feature.size
        names = np.array([*self.tissue.gene_names, *blank_names(self.tissue)])
        xy = block.molecules_um[:, :2] + ORIGIN_UM
        fov = fov_of(block.molecules_um[:, :2])
        local = (block.molecules_um[:, :2] % FOV_UM) / MICRONS_PER_PIXEL
        columns: dict[str, Any] = {
            "": np.arange(self._n, self._n + m),
            "barcode_id": block.feature,
            "global_x": np.round(xy[:, 0], 4).astype(np.float32),
            "global_y": np.round(xy[:, 1], 4).astype(np.float32),
            "global_z": np.floor(block.molecules_um[:, 2] / PLANE_UM).clip(0, 6),
            "x": local[:, 0].astype(np.float32),
            "y": local[:, 1].astype(np.float32),
            "fov": fov,
            "gene": pa.array(names[block.feature]),
            "transcript_id": pa.array(
                np.array([f"ENST{k:011d}" for k in range(len(names))])[block.feature]
            ),
        }
        if self.style.cell_ids:
            numbers = np.array([*map(int, ids), -1])
            columns["cell_id"] = numbers[block.cell]
        self._n += m
        return pa.table(list(columns.values()), names=list(columns))


class _TableWriter:
    """A table that grows; text as pandas writes it, so without quotes."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._sink: Any = None
        self._writer: Any
        if path.suffix == ".parquet":
            self._writer = pq.ParquetWriter(path, schema, compression="zstd")
            return
        kind = "gzip" if path.suffix == ".gz" else None
        self._sink = (
            pa.CompressedOutputStream(str(path), kind) if kind else pa.OSFile(str(path), "wb")
        )
        # Arrow quotes every name of a header; the instrument none.
        self._sink.write((",".join(schema.names) + "\n").encode())
        options = text.WriteOptions(include_header=False, quoting_style="none")
        self._writer = text.CSVWriter(self._sink, schema, write_options=options)

    def write(self, table: pa.Table) -> None:
        if self._sink is None:
            self._writer.write_table(table, row_group_size=1 << 16)
        else:
            self._writer.write(table)

    def close(self) -> None:
        self._writer.close()
        if self._sink is not None:
            self._sink.close()


def blank_names(tissue: SimTissue) -> tuple[str, ...]:
    return tuple(f"Blank-{k + 1}" for k in range(tissue.n_controls))


def fov_of(positions_um: NDArray[np.float64]) -> NDArray[np.int64]:
    at = np.floor(positions_um / FOV_UM).astype(np.int64)
    return np.asarray(at[:, 1] * 1000 + at[:, 0])


def in_plane(outline: NDArray[np.float64], plane: int, style: MerscopeStyle) -> NDArray[np.float64]:
    """(n, v, 2) outlines in one plane, in micrometers of the stage."""
    share = 1.0 if style.flat else 1.0 - 0.1 * abs(plane - style.planes // 2)
    center = outline.mean(axis=1, keepdims=True)
    return np.asarray(center + share * (outline - center) + ORIGIN_UM)


def _geometry(ids: list[str], outline: NDArray[np.float64], style: MerscopeStyle) -> pa.Table:
    """One row a cell and plane, planes of a cell one after the other; multipolygons."""
    n = len(ids)
    planes = [
        shapely.to_wkb(shapely.multipolygons(_parts(in_plane(outline, z, style))))
        for z in range(style.planes)
    ]
    z = np.tile(np.arange(style.planes), n)
    nothing = pa.nulls(z.size, pa.string())
    table = pa.table(
        {
            "ID": np.arange(z.size),
            "EntityID": np.repeat(np.array([int(one) for one in ids], np.int64), style.planes),
            "ZIndex": z.astype(np.int64),
            "Geometry": pa.array(np.stack(planes, axis=1).ravel(), pa.binary()),
            "Type": pa.array(["cell"] * z.size),
            "ZLevel": PLANE_UM * (z + 1.0),
            "Name": nothing,
            "ParentID": pa.nulls(z.size, pa.int64()),
            "ParentType": nothing,
        }
    )
    # The vendor writes it with GeoPandas.
    column = {"encoding": "WKB", "crs": None, "geometry_types": ["MultiPolygon"]}
    geo = {"primary_column": "Geometry", "columns": {"Geometry": column}, "version": "1.0.0"}
    return table.replace_schema_metadata({"geo": json.dumps(geo)})


def _parts(outline: NDArray[np.float64]) -> Any:
    """(n, 1) polygons: multipolygons of one part each."""
    found: Any = shapely.polygons(outline)
    return found[:, None]


def _write_fields(
    folder: Path,
    ids: list[str],
    fov: NDArray[np.int64],
    outline: NDArray[np.float64],
    style: MerscopeStyle,
) -> None:
    """One file a field of view, a group a cell, as MERlin lays features out."""
    folder.mkdir(exist_ok=True)
    planes = [in_plane(outline, z, style) for z in range(style.planes)]
    for field in np.unique(fov).tolist():
        with h5py.File(folder / f"feature_data_{field}.hdf5", "a") as file:
            for row in np.flatnonzero(fov == field).tolist():
                cell = file.create_group(f"featuredata/{ids[row]}")
                cell.attrs["id"], cell.attrs["fov"] = ids[row], field
                cell["z_coordinates"] = PLANE_UM * (np.arange(style.planes) + 1)
                for z, rings in enumerate(planes):
                    ring = np.concatenate([rings[row], rings[row][:1]])
                    cell[f"zIndex_{z}/p_0/coordinates"] = ring[None]


def _write_images(folder: Path, tissue: SimTissue, style: MerscopeStyle) -> None:
    folder.mkdir(exist_ok=True)
    size_um = np.array(tissue.extent_um)
    um_per_px = max(style.um_per_px, float(size_um.max()) / style.most_px)
    width, height = np.ceil(size_um / um_per_px).astype(int).tolist()
    files = []
    pixels = tissue.stain((height, width), um_per_px)
    for k, stain in enumerate(style.stains):
        if k:
            pixels //= 2
        for z in style.image_planes:
            name = f"mosaic_{stain}_z{z}.tif"
            tifffile.imwrite(
                folder / name,
                pixels,
                compression=style.image_compression,
                tile=(style.tile, style.tile) if style.tile else None,
                bigtiff=True,
                photometric="minisblack",
            )
            files.append({"stain": stain, "z": z, "file_name": name})
    scale = 1 / um_per_px
    if style.transform:
        shift = [-scale * one for one in ORIGIN_UM]
        rows: list[list[float]] = [[scale, 0, shift[0]], [0, scale, shift[1]], [0, 0, 1]]
        lines = [" ".join(f"{cell!r}" for cell in row) for row in rows]
        (folder / "micron_to_mosaic_pixel_transform.csv").write_text("\n".join(lines) + "\n")
    if style.manifest:
        end = [o + n * um_per_px for o, n in zip(ORIGIN_UM, (width, height), strict=True)]
        facts = {
            "microns_per_pixel": um_per_px,
            "mosaic_width_pixels": width,
            "mosaic_height_pixels": height,
            "bbox_microns": [*ORIGIN_UM, *end],
            "hor_num_tiles_box": 1,
            "vert_num_tiles_box": 1,
            "mosaic_files": files,
        }
        (folder / "manifest.json").write_text(json.dumps(facts, indent=2))


def _tiny(folder: Path, **changes: Any) -> Path:
    tissue = SimTissue(40, n_genes=40, mean_counts=12, n_controls=3, seed=5)
    style = MerscopeStyle(um_per_px=1.0, image_planes=(3,), planes=2, tile=None)
    return write_merscope(folder, tissue, replace(style, **changes))


def _kinds() -> Sequence[tuple[str, Callable[[Path], Path], str]]:
    def parquet(folder: Path) -> Path:
        return _tiny(folder, cell_ids=True)

    def hdf5(folder: Path) -> Path:
        return _tiny(folder, boundaries="hdf5", images=False)

    def mosaic(folder: Path) -> Path:
        _tiny(folder, boundaries="none", stains=("DAPI",)).joinpath(_SPOTS).unlink()
        return folder

    def signals(folder: Path) -> Path:
        _tiny(folder, boundaries="none", images=False).joinpath(_SPOTS).unlink()
        shutil.copy(folder / "cell_metadata.csv", folder / "sum_signals.csv")
        (folder / "experiment.json").write_text('{"run": "a", "power": 2.5, "stains": ["DAPI"]}')
        return folder

    tissue = SimTissue(40, n_genes=40, mean_counts=12, n_controls=3, seed=5)
    field = int(fov_of(tissue.whole().positions_um)[0])
    return (
        ("counts", parquet, "cell_by_gene.csv"),
        ("metadata", parquet, "cell_metadata.csv"),
        ("signals", signals, "sum_signals.csv"),
        ("experiment", signals, "experiment.json"),
        ("transcripts", parquet, _SPOTS),
        ("boundaries", parquet, "cell_boundaries.parquet"),
        ("old boundaries", hdf5, f"cell_boundaries/feature_data_{field}.hdf5"),
        ("mosaic", mosaic, "images/mosaic_DAPI_z3.tif"),
        ("transform", parquet, "images/micron_to_mosaic_pixel_transform.csv"),
        ("manifest", lambda folder: _tiny(folder, transform=False), "images/manifest.json"),
    )


KINDS = _kinds()
"""Name, writer of a small bundle, file to damage."""
