"""A Space Ranger output of Visium HD as versions 3 and 4 write it, from simulated tissue.

Bins lie on a grid that is rotated in the image. Everything is streamed row by row of the grid, so
that 1.5 million bins of 18,000 genes fit into 1 GiB.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray
from PIL import Image
from scipy import sparse

from .tenx_writer import FeatureList, H5Matrix
from .tissue import SimBlock, SimTissue
from .visium_bundle import Truth, gene_ids

UM_PER_PX = 0.27376126715315274
_ANGLE = 0.02  # of the grid in the image, radians
_MARGIN_UM = 48  # of the array around the bins under tissue
_LOWER = 0.1  # of the downscaled images


@dataclass(frozen=True)
class BinGrid:
    """Bins under tissue: rows of `columns`, the last one perhaps shorter, inside a larger array."""

    n: int
    um: float = 8.0
    columns: int = 0

    @property
    def width(self) -> int:
        return self.columns or max(1, int(np.sqrt(self.n * 1.6)))

    @property
    def margin(self) -> int:
        """Bins of the array above those under tissue; twice as many to the left."""
        return max(1, int(_MARGIN_UM // self.um))

    @property
    def height(self) -> int:
        return -(-self.n // self.width)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the whole array."""
        return self.height + 2 * self.margin, self.width + 3 * self.margin

    def index(self, bins: NDArray[np.int64]) -> NDArray[np.int64]:
        """(k, 2) array_row, array_col."""
        index = np.column_stack(np.divmod(bins, self.width))
        return np.asarray(index + np.array([self.margin, 2 * self.margin]), np.int64)

    def positions(self, index: NDArray[np.int64]) -> NDArray[np.float64]:
        """(k, 2) x, y in pixels of the full-resolution image."""
        y, x = ((index + 0.5) * self.um).T
        c, s = np.cos(_ANGLE), np.sin(_ANGLE)
        shift = s * self.shape[0] * self.um + 30.0
        return np.column_stack([c * x - s * y + shift, s * x + c * y + 20.0]) / UM_PER_PX

    def barcodes(self, index: NDArray[np.int64]) -> NDArray[np.str_]:
        """(k,) such as s_008um_00301_00321-1."""
        size = f"s_{int(self.um):03d}um_"
        return np.array([f"{size}{r:05d}_{c:05d}-1" for r, c in index.tolist()])


def write_visium_hd(
    folder: Path,
    tissue: SimTissue,
    *,
    version: str = "4.0.1",
    bins: Sequence[int] = (8,),
    cells: SimTissue | None = None,
    prefix: str = "",
    image_um: float | None = None,
    level: int = 4,
    columns: int = 0,
) -> BinGrid:
    """Write an output with `tissue.n_cells` bins of the first size under tissue.

    Parameters
    ----------
    tissue : SimTissue
        Its cells stand for the bins of `bins[0]`, row by row; use `molecules=False`.
    bins : sequence of int
        Sizes; those after the first are summed from it in memory, for small outputs.
    cells : SimTissue, optional
        Writes `segmented_outputs` with these cells; version 4.
    prefix : str
        Before the files of the root, as portals do it.
    image_um : float, optional
        Micrometers a pixel of the high-resolution image; about 2,000 pixels without.
    level : int
        Of gzip in the matrix.
    """
    grid = BinGrid(tissue.n_cells, float(bins[0]), columns)
    features = _features(tissue)
    software = f"spaceranger-{version}"
    _write_bins(folder, grid, features, _rows(tissue, grid), software, (grid, image_um), level)
    for size in bins[1:]:
        coarse, rows = _coarser(tissue, grid, size)
        _write_bins(folder, coarse, features, rows, software, (grid, image_um), level)
    if cells is not None:
        _write_cells(folder / "segmented_outputs", cells, grid, software, image_um)
        _write_mappings(folder / f"{prefix}barcode_mappings.parquet")
    _write_root(folder, prefix, grid, software)
    return grid


def bin_truth(tissue: SimTissue, grid: BinGrid) -> Truth:
    """What the bins of the first size hold."""
    bins = np.arange(grid.n)
    index = grid.index(bins)
    counts = np.concatenate([m.toarray() for _, m in _rows(tissue, grid)])
    ids = grid.barcodes(index).tolist()
    return Truth(ids, grid.positions(index), counts.astype(np.int64), gene_ids(tissue.n_genes))


def cell_truth(cells: SimTissue, grid: BinGrid) -> Truth:
    """What the segmented cells hold; every seventh polygon has no cell in the matrix."""
    block = cells.whole()
    numbers = _numbers(block)
    kept = _kept(numbers)
    counts = block.counts[:, : cells.n_genes].toarray()[kept]
    ids = [f"cellid_{k:09d}-1" for k in numbers[kept].tolist()]
    place = shapely.get_coordinates(shapely.centroid(shapely.polygons(_rings(cells, block, grid))))
    return Truth(ids, place[kept], counts.astype(np.int64), gene_ids(cells.n_genes))


def _features(tissue: SimTissue) -> FeatureList:
    ids = gene_ids(tissue.n_genes)
    return FeatureList(ids, tissue.gene_names, ["Gene Expression"] * len(ids))


def _rows(tissue: SimTissue, grid: BinGrid) -> Iterator[tuple[NDArray[np.int64], Any]]:
    for block in tissue.blocks():
        bins = np.arange(block.start, block.start + block.n)
        yield grid.index(bins), block.counts[:, : tissue.n_genes]


def _coarser(tissue: SimTissue, grid: BinGrid, um: int) -> tuple[BinGrid, Any]:
    """Sum bins to larger ones; all are held."""
    step = int(um // grid.um)
    index = grid.index(np.arange(grid.n)) - np.array([grid.margin, 2 * grid.margin])
    width = -(-grid.width // step)
    coarse = BinGrid(width * -(-grid.height // step), float(um), width)
    to = (index[:, 0] // step) * width + index[:, 1] // step
    add = sparse.csr_matrix((np.ones(grid.n, np.int64), (to, np.arange(grid.n))))
    counts = sparse.vstack([m.astype(np.int64) for _, m in _rows(tissue, grid)])
    summed = (add @ counts).tocsr()
    bins = np.arange(summed.shape[0])
    return coarse, iter([(coarse.index(bins), summed)])


def _write_bins(
    folder: Path,
    grid: BinGrid,
    features: FeatureList,
    rows: Iterator[tuple[NDArray[np.int64], Any]],
    software: str,
    frame: tuple[BinGrid, float | None],
    level: int,
) -> None:
    place = folder / "binned_outputs" / f"square_{int(grid.um):03d}um"
    (place / "spatial").mkdir(parents=True, exist_ok=True)
    out = H5Matrix(
        place / "filtered_feature_bc_matrix.h5",
        features,
        {"software_version": software},
        level,
        small=grid.n < 1_000,
    )
    for index, counts in rows:
        out.append(grid.barcodes(index), counts)
    out.close()
    _write_positions(place / "spatial" / "tissue_positions.parquet", grid)
    _write_spatial(place / "spatial", *frame, bin_um=grid.um)


def _write_positions(path: Path, grid: BinGrid) -> None:
    """Write the whole array, some rows of it at a time."""
    height, width = grid.shape
    kind = pa.schema(
        [("barcode", pa.string()), ("in_tissue", pa.int64()), ("array_row", pa.int64()),
         ("array_col", pa.int64()), ("pxl_row_in_fullres", pa.float64()),
         ("pxl_col_in_fullres", pa.float64())]
    )  # fmt: skip
    with pq.ParquetWriter(path, kind, compression="snappy") as writer:
        step = max(1, 100_000 // width)
        for start in range(0, height, step):
            row, col = np.divmod(np.arange(start * width, min(start + step, height) * width), width)
            index = np.column_stack([row, col])
            place = grid.positions(index)
            across, down = col - 2 * grid.margin, row - grid.margin
            inside = (across >= 0) & (across < grid.width) & (down >= 0)
            inside &= down * grid.width + across < grid.n
            columns = [grid.barcodes(index), inside.astype(np.int64), row, col, place[:, 1]]
            writer.write_table(pa.table([*columns, place[:, 0]], schema=kind))


def _write_spatial(
    spatial: Path, grid: BinGrid, image_um: float | None, *, bin_um: float | None
) -> None:
    """Scale factors and images: purple where bins lie under tissue."""
    spatial.mkdir(parents=True, exist_ok=True)
    corners = np.array([[0, 0], [0, grid.shape[1]], [grid.shape[0], 0], list(grid.shape)])
    size = grid.positions(corners).max(axis=0) + 40 / UM_PER_PX
    hires = min(1.0, UM_PER_PX / image_um) if image_um else min(1.0, 2000 / float(size.max()))
    factors: dict[str, float] = {
        "spot_diameter_fullres": (bin_um or grid.um) / UM_PER_PX,
        "microns_per_pixel": UM_PER_PX,
        "regist_target_img_scalef": hires,
        "tissue_lowres_scalef": hires * _LOWER,
        "fiducial_diameter_fullres": 1205.4,
        "tissue_hires_scalef": hires,
    }
    if bin_um is not None:
        factors["bin_size_um"] = bin_um
    (spatial / "scalefactors_json.json").write_text(json.dumps(factors))
    for name, scale in (("hires", hires), ("lowres", hires * _LOWER)):
        width, height = np.maximum(1, np.ceil(size * scale)).astype(int).tolist()
        pixels = np.full((height, width, 3), 240, np.uint8)
        _paint(pixels, grid, scale)
        Image.fromarray(pixels).save(spatial / f"tissue_{name}_image.png", compress_level=1)


def _paint(pixels: NDArray[np.uint8], grid: BinGrid, scale: float) -> None:
    """Color the pixels whose bin lies under tissue, some rows at a time."""
    c, s = np.cos(_ANGLE), np.sin(_ANGLE)
    shift = s * grid.shape[0] * grid.um + 30.0
    x_px = (np.arange(pixels.shape[1]) + 0.5) / scale * UM_PER_PX - shift
    for start in range(0, pixels.shape[0], 512):
        rows = slice(start, min(start + 512, pixels.shape[0]))
        y_px = (np.arange(rows.start, rows.stop) + 0.5) / scale * UM_PER_PX - 20.0
        x, y = np.meshgrid(x_px, y_px)
        across = np.floor((c * x + s * y) / grid.um).astype(np.int64) - 2 * grid.margin
        down = np.floor((c * y - s * x) / grid.um).astype(np.int64) - grid.margin
        inside = (across >= 0) & (across < grid.width) & (down >= 0)
        inside &= down * grid.width + across < grid.n
        pixels[rows][inside] = (150, 80, 160)


def _to_pixels(um: NDArray[np.float64], grid: BinGrid) -> NDArray[np.float64]:
    """Micrometers of the tissue to pixels: beside the grid, since cells need not be bins."""
    return np.asarray((um + np.array([20.0 + grid.um, 15.0])) / UM_PER_PX)


def _rings(
    cells: SimTissue, block: SimBlock, grid: BinGrid, share: float = 1.0
) -> NDArray[np.float64]:
    """(n, 14, 2) outlines in pixels, with two digits."""
    rings = cells.boundaries(block, 14, share)
    return np.round(_to_pixels(rings.reshape(-1, 2), grid).reshape(rings.shape), 2)


def _numbers(block: SimBlock) -> NDArray[np.int64]:
    """Cell numbers with gaps, from 1."""
    cells = np.arange(block.start, block.start + block.n)
    return 1 + cells + cells // 5


def _kept(numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.asarray(numbers % 7 != 0)


def _write_cells(
    folder: Path, cells: SimTissue, grid: BinGrid, software: str, image_um: float | None
) -> None:
    """Matrix and polygons; the file of polygons begins like those of Space Ranger 4."""
    _write_spatial(folder / "spatial", grid, image_um, bin_um=None)
    out = H5Matrix(
        folder / "filtered_feature_cell_matrix.h5",
        _features(cells),
        {"software_version": software},
        small=cells.n_cells < 1_000,
    )
    names = ("cell", "nucleus")
    files = [(folder / f"{name}_segmentations.geojson").open("w") for name in names]
    for file in files:
        file.write('{"type":"FeatureCollection","features":[')
    for block in cells.blocks():
        numbers = _numbers(block)
        kept = _kept(numbers)
        ids = [f"cellid_{k:09d}-1" for k in numbers[kept].tolist()]
        out.append(ids, block.counts[:, : cells.n_genes][np.flatnonzero(kept)])
        for file, share in zip(files, (1.0, 0.5), strict=True):
            pixels = _rings(cells, block, grid, share)
            lines = [
                _feature(number, ring)
                for number, ring in zip(numbers.tolist(), pixels.tolist(), strict=True)
            ]
            file.write(("," if block.start else "") + ",\n".join(lines))
    for file in files:
        file.write("]}")
        file.close()
    out.close()


def _feature(number: int, ring: list[list[float]]) -> str:
    geometry = json.dumps([[*ring, ring[0]]], separators=(",", ":"))
    return (
        f'{{"type":"Feature","geometry":{{"type":"Polygon","coordinates":{geometry}}},'
        f'"properties":{{"cell_id":{number},"classification":{{"name":"Cell, \\"a\\" [1",'
        f'"color":[31,119,180]}}}}}}'
    )


def _write_mappings(path: Path) -> None:
    pq.write_table(pa.table({"square_002um": ["s_002um_00000_00000-1"], "cell_id": [None]}), path)


def _write_root(folder: Path, prefix: str, grid: BinGrid, software: str) -> None:
    spatial = folder / "spatial"
    spatial.mkdir(exist_ok=True)
    height, width = 300, 420
    Image.new("RGB", (width, height), (90, 90, 90)).save(spatial / "cytassist_image.tiff")
    # CytAssist pixels of 20 um, turned by a quarter, to array columns and rows, to pixels.
    to_spot = [0.0, 20.0 / grid.um, -3.0, 20.0 / grid.um, 0.0, 4.0, 0.0, 0.0, 1.0]
    origin = grid.positions(np.array([[0, 0]]))[0]
    right = grid.positions(np.array([[0, 1]]))[0] - origin
    down = grid.positions(np.array([[1, 0]]))[0] - origin
    to_pixels = [right[0], down[0], origin[0], right[1], down[1], origin[1], 0.0, 0.0, 1.0]
    matrices = {
        "cytassist_colrow_to_spot_colrow": to_spot,
        "spot_colrow_to_microscope_colrow": [float(v) for v in to_pixels],
        "spot_colrow_to_cytassist_colrow": np.linalg.inv(np.reshape(to_spot, (3, 3)))
        .ravel()
        .tolist(),
        "microscope_colrow_to_spot_colrow": np.linalg.inv(np.reshape(to_pixels, (3, 3)))
        .ravel()
        .tolist(),
    }
    layout = {"file_format": "1.0", "transform": np.eye(3).ravel().tolist()}
    metadata = {
        "sample_id": "sim",
        "transform_matrices": matrices,
        "hd_layout_json": json.dumps(layout),
    }
    with h5py.File(folder / f"{prefix}feature_slice.h5", "w") as file:
        file.attrs["metadata_json"] = json.dumps(metadata)
        file.attrs["software_version"] = software
        file.create_group("feature_slices")
    (folder / f"{prefix}metrics_summary.csv").write_text("Sample ID,Reads\nsim,12\n")


def write_small(folder: Path) -> Path:
    """Write bins and cells, a few of each, for damage."""
    tissue = SimTissue(60, 40, 6.0, molecules=False)
    write_visium_hd(folder, tissue, cells=SimTissue(40, 40, 6.0), image_um=8.0)
    return folder


_BIN = "binned_outputs/square_008um"
_CELL = "segmented_outputs"
KINDS = [
    ("visium hd matrix", write_small, f"{_BIN}/filtered_feature_bc_matrix.h5"),
    ("visium hd positions", write_small, f"{_BIN}/spatial/tissue_positions.parquet"),
    ("visium hd scale factors", write_small, f"{_BIN}/spatial/scalefactors_json.json"),
    ("visium hd image", write_small, f"{_BIN}/spatial/tissue_hires_image.png"),
    ("visium hd slice", write_small, "feature_slice.h5"),
]
CELL_KINDS = [
    ("visium hd cells", write_small, f"{_CELL}/cell_segmentations.geojson"),
    ("visium hd nuclei", write_small, f"{_CELL}/nucleus_segmentations.geojson"),
    ("visium hd cell matrix", write_small, f"{_CELL}/filtered_feature_cell_matrix.h5"),
]
"""Read with `segmented: true`."""
