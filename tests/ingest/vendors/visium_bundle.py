"""A Space Ranger output of Visium as versions 1 to 4 write it, from simulated tissue."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import sparse

from .tenx_writer import FeatureList, H5Matrix, write_mtx
from .tissue import SimTissue

HEADER = "barcode,in_tissue,array_row,array_col,pxl_row_in_fullres,pxl_col_in_fullres\n"
UM_PER_PX = 0.7246
_ANGLE = 0.03  # of the array in the image, radians
_HIRES, _LOWRES = 0.15, 0.045
_MANY = 1_000  # cells

Matrix = Literal["h5", "mtx", "raw", "raw_mtx", "probe"]


@dataclass(frozen=True)
class SpotArray:
    """Spots of a capture area, 6.5 or 11 mm wide; `n_tissue` of them lie under tissue."""

    n_tissue: int
    rows: int = 78
    columns: int = 64

    @property
    def n(self) -> int:
        return self.rows * self.columns

    @cached_property
    def index(self) -> NDArray[np.int64]:
        """(n, 2) array_row, array_col."""
        row, k = np.divmod(np.arange(self.n), self.columns)
        return np.column_stack([row, 2 * k + row % 2])

    @cached_property
    def positions(self) -> NDArray[np.float64]:
        """(n, 2) x, y in pixels of the full-resolution image."""
        x, y = self.index[:, 1] * 50.0, self.index[:, 0] * 50.0 * np.sqrt(3)
        c, s = np.cos(_ANGLE), np.sin(_ANGLE)
        return np.column_stack([c * x - s * y + 700.0, s * x + c * y + 450.0]) / UM_PER_PX

    @cached_property
    def tissue(self) -> NDArray[np.int64]:
        """(n_tissue,) spots under tissue: a wide ellipse off the middle, so that swaps show."""
        row, col = self.index[:, 0] / self.rows, self.index[:, 1] / (2 * self.columns)
        away = ((col - 0.55) / 1.0) ** 2 + ((row - 0.35) / 0.5) ** 2
        return np.sort(np.argsort(away, kind="stable")[: self.n_tissue])

    @cached_property
    def barcodes(self) -> NDArray[np.str_]:
        """(n,) of 16 letters, in no order that the array would tell."""
        number = (np.arange(self.n, dtype=np.int64) * 2_654_435_761) % 2**32
        letters = np.array(list("ACGT"))
        digits = (number[:, None] >> (2 * np.arange(16))) & 3
        return np.array(["".join(row) + "-1" for row in letters[digits]])


@dataclass(frozen=True)
class Truth:
    """What a reader must find, in the order of the matrix."""

    ids: list[str]
    positions: NDArray[np.float64]
    counts: NDArray[np.int64]
    gene_ids: list[str]


def gene_ids(n: int) -> list[str]:
    return [f"ENSMUSG{k:011d}" for k in range(n)]


def write_visium(
    folder: Path,
    tissue: SimTissue,
    *,
    version: str = "3.0.0",
    matrix: Matrix = "h5",
    prefix: str = "",
    array: SpotArray | None = None,
    hires: bool = True,
    n_antibodies: int = 0,
    cytassist: bool = False,
    fluorescence: bool = False,
) -> SpotArray:
    """Write an output of `tissue.n_cells` spots under tissue; one block is held at a time.

    Versions before 2 name the positions `tissue_positions_list.csv`, without a header and in whole
    pixels.
    """
    array = array or SpotArray(tissue.n_cells)
    spatial = folder / "spatial"
    spatial.mkdir(parents=True, exist_ok=True)
    _write_positions(spatial, array, version)
    factors = {
        "tissue_hires_scalef": _HIRES,
        "tissue_lowres_scalef": _LOWRES,
        # A trap: taken as 55 or 65 um this is off by a fifth.
        "spot_diameter_fullres": 65.0 / UM_PER_PX * 1.19,
        "fiducial_diameter_fullres": 144.0,
    }
    (spatial / "scalefactors_json.json").write_text(json.dumps(factors))
    _write_images(spatial, array, hires=hires, cytassist=cytassist)
    attrs = {"software_version": f"spaceranger-{version}", "chemistry_description": "Visium V4"}
    symbols = list(tissue.gene_names)
    names = symbols + [f"CD{k}_TotalC" for k in range(n_antibodies)]
    ids = gene_ids(len(symbols)) + [f"Ab{k}.1" for k in range(n_antibodies)]
    types = ["Gene Expression"] * len(symbols) + ["Antibody Capture"] * n_antibodies
    features = FeatureList(ids, names, types)
    if matrix == "probe":
        _write_probes(folder / f"{prefix}raw_probe_bc_matrix.h5", tissue, array, features, attrs)
    elif matrix.endswith("mtx"):
        name = "raw" if matrix == "raw_mtx" else "filtered"
        blocks = _blocks(tissue, array, n_antibodies, whole=matrix == "raw_mtx")
        place = folder / f"{prefix}{name}_feature_bc_matrix"
        write_mtx(place, features, blocks, software=attrs["software_version"])
    else:
        name = "raw" if matrix == "raw" else "filtered"
        out = H5Matrix(
            folder / f"{prefix}{name}_feature_bc_matrix.h5",
            features,
            attrs,
            small=tissue.n_cells < _MANY,
        )
        for barcodes, counts in _blocks(tissue, array, n_antibodies, whole=matrix == "raw"):
            out.append(barcodes, counts)
        out.close()
    _write_run(folder, version)
    if fluorescence:
        _write_fluorescence(spatial, array)
    return array


def visium_truth(tissue: SimTissue, array: SpotArray, n_antibodies: int = 0) -> Truth:
    """What the spots under tissue hold."""
    parts = list(_blocks(tissue, array, n_antibodies, whole=False))
    return Truth(
        [str(one) for names, _ in parts for one in names],
        array.positions[array.tissue],
        np.concatenate([counts.toarray() for _, counts in parts]).astype(np.int64),
        gene_ids(tissue.n_genes) + [f"Ab{k}.1" for k in range(n_antibodies)],
    )


def _blocks(
    tissue: SimTissue, array: SpotArray, n_antibodies: int, *, whole: bool
) -> Iterator[tuple[Any, sparse.csr_matrix]]:
    """Barcodes and counts; a raw matrix holds the other spots too, almost empty."""
    for block in tissue.blocks():
        spots = array.tissue[block.start : block.start + block.n]
        genes = block.counts[:, : tissue.n_genes].astype(np.int64)
        proteins = sparse.csr_matrix(
            (np.arange(block.n)[:, None] + np.arange(n_antibodies)[None]) % 7
        )
        yield array.barcodes[spots], sparse.hstack([genes, proteins]).tocsr()
    if whole:
        beside = np.setdiff1d(np.arange(array.n), array.tissue)
        n_features = tissue.n_genes + n_antibodies
        noise = sparse.csr_matrix((beside.size, n_features), dtype=np.int64).tolil()
        noise[:, 0] = 1
        yield array.barcodes[beside], noise.tocsr()


def _write_positions(spatial: Path, array: SpotArray, version: str) -> None:
    old = int(version.partition(".")[0]) < 2
    inside = np.zeros(array.n, np.int64)
    inside[array.tissue] = 1
    # Old versions write whole pixels.
    xy = np.round(array.positions) if old else array.positions
    lines = zip(array.barcodes, inside, array.index, xy.tolist(), strict=True)
    text = "".join(
        f"{b},{t},{r},{c},{int(y) if old else y},{int(x) if old else x}\n"
        for b, t, (r, c), (x, y) in lines
    )
    name = "tissue_positions_list.csv" if old else "tissue_positions.csv"
    (spatial / name).write_text(text if old else HEADER + text)


def _write_images(spatial: Path, array: SpotArray, *, hires: bool, cytassist: bool) -> None:
    width, height = np.ceil(array.positions.max(axis=0) + 400).astype(int).tolist()
    at = array.positions[array.tissue]
    for name, scale in (("hires", _HIRES), ("lowres", _LOWRES)):
        pixels = np.full((int(height * scale), int(width * scale), 3), 235, np.uint8)
        radius = max(1, round(60 / UM_PER_PX * scale))
        steps = np.arange(-radius, radius + 1)
        places = np.floor(at * scale).astype(int)
        for dy in steps.tolist():
            for dx in steps.tolist():
                y = np.clip(places[:, 1] + dy, 0, pixels.shape[0] - 1)
                x = np.clip(places[:, 0] + dx, 0, pixels.shape[1] - 1)
                pixels[y, x] = (150, 90, 160)
        if name == "lowres" or hires:
            Image.fromarray(pixels).save(spatial / f"tissue_{name}_image.png")
    Image.new("RGB", (30, 30)).save(spatial / "aligned_fiducials.jpg")
    Image.new("RGB", (30, 30)).save(spatial / "detected_tissue_image.jpg")
    if cytassist:
        Image.new("RGB", (40, 40)).save(spatial / "cytassist_image.tiff")


def _write_probes(
    path: Path, tissue: SimTissue, array: SpotArray, genes: FeatureList, attrs: dict[str, str]
) -> None:
    """Three probes a gene: two share its counts, the third failed the filter and has noise."""
    n = tissue.n_genes
    gene = np.repeat(np.arange(n), 3)
    passed = np.tile([True, True, False], n)
    names = [f"{genes.names[g]}|{k:07x}" for k, g in enumerate(gene.tolist())]
    extra = {
        "gene_id": np.asarray([genes.ids[g] for g in gene.tolist()], dtype="S"),
        "gene_name": np.asarray([genes.names[g] for g in gene.tolist()], dtype="S"),
        "filtered_probes": passed,
        "probe_region": np.asarray(["none"] * gene.size, dtype="S"),
    }
    ids = [f"{genes.ids[g]}|{name}" for g, name in zip(gene.tolist(), names, strict=True)]
    features = FeatureList(ids, names, ["Gene Expression"] * gene.size, extra=extra)
    out = H5Matrix(path, features, attrs, small=tissue.n_cells < _MANY)
    for barcodes, counts in _blocks(tissue, array, 0, whole=True):
        first = counts.copy()
        first.data = first.data // 2
        second = counts - first
        third = sparse.csr_matrix(counts.shape, dtype=np.int64).tolil()
        third[:, 0] = 5
        stacked = sparse.hstack([first, second, third.tocsr()]).tocsc()
        order = np.argsort(np.tile(np.arange(n), 3) * 3 + np.repeat(np.arange(3), n))
        out.append(barcodes, stacked[:, order].tocsr())
    out.close()


def _write_run(folder: Path, version: str) -> None:
    (folder / "metrics_summary.csv").write_text(
        'Sample ID,Number of Spots Under Tissue,Number of Reads\nsim,99,"1,000"\n'
    )
    rows = [["Pipeline Version", f"spaceranger-{version}"], ["Slide Serial Number", "V10-001"]]
    (folder / "web_summary.html").write_text(
        f"<html><script>const data = {json.dumps({'rows': rows})}</script></html>"
    )


def _write_fluorescence(spatial: Path, array: SpotArray) -> None:
    order = np.arange(array.n)[::-1]
    lines = [f"{array.barcodes[k]},1,{k / 4},{k / 8}\n" for k in order.tolist()]
    text = "barcode,in_tissue,channel1_mean,channel1_stdev\n" + "".join(lines)
    (spatial / "barcode_fluorescence_intensity.csv").write_text(text)


def write_small(folder: Path) -> Path:
    """Write an output of a few spots, for damage."""
    write_visium(folder, SimTissue(40, 40, 8.0), array=SpotArray(40, 10, 8), fluorescence=True)
    return folder


def write_small_probes(folder: Path) -> Path:
    """Write an output whose one matrix is that of the probes."""
    write_visium(folder, SimTissue(40, 40, 8.0), array=SpotArray(40, 10, 8), matrix="probe")
    return folder


def write_small_mtx(folder: Path) -> Path:
    """Write an old output with a matrix as text."""
    array = SpotArray(40, 10, 8)
    write_visium(folder, SimTissue(40, 40, 8.0), array=array, matrix="mtx", version="1.3.1")
    return folder


_MTX = "filtered_feature_bc_matrix"
KINDS = [
    ("visium matrix", write_small, "filtered_feature_bc_matrix.h5"),
    ("visium probes", write_small_probes, "raw_probe_bc_matrix.h5"),
    ("visium positions", write_small, "spatial/tissue_positions.csv"),
    ("visium old positions", write_small_mtx, "spatial/tissue_positions_list.csv"),
    ("visium matrix as text", write_small_mtx, f"{_MTX}/matrix.mtx.gz"),
    ("visium features", write_small_mtx, f"{_MTX}/features.tsv.gz"),
    ("visium barcodes", write_small_mtx, f"{_MTX}/barcodes.tsv.gz"),
    ("visium scale factors", write_small, "spatial/scalefactors_json.json"),
    ("visium image", write_small, "spatial/tissue_lowres_image.png"),
    ("visium fluorescence", write_small, "spatial/barcode_fluorescence_intensity.csv"),
    ("visium metrics", write_small, "metrics_summary.csv"),
]
