"""Stereo-seq output of simulated tissue: GEM text, GEF files, folders of SAW 6, 7 and 8.

Faithful to what SAW and geftools write: names, headers, dtypes, attributes, gene-major order,
borders padded with 32767. Everything is written block by block, so that any size fits.
"""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from .tissue import SimBlock, SimTissue

CHIP = "SS200000135TL_D1"
PITCH_UM = 0.5
ORIGIN = (300, 700)
"""Where the tissue lies on the chip, spots."""
BORDER = 32
PADDING = 32767
_GROUPS = 16
_CELL = np.dtype(
    [("id", "<u4"), ("x", "<i4"), ("y", "<i4"), ("offset", "<u4")]
    + [(name, "<u2") for name in ("geneCount", "expCount", "dnbCount", "area")]
    + [("cellTypeID", "<u2"), ("clusterID", "<u2")]
)
_ENTRY = np.dtype([("geneID", "<u4"), ("count", "<u2")])


@dataclass(frozen=True)
class Rows:
    """Molecules as a pipeline counts them: one row a spot and gene."""

    gene: NDArray[np.int64]
    x: NDArray[np.int64]
    y: NDArray[np.int64]
    count: NDArray[np.int64]
    exon: NDArray[np.int64]
    cell: NDArray[np.int64]
    """0 outside cells, else number of the cell from 1."""


def gene_ids(tissue: SimTissue) -> list[str]:
    return [f"ENSMUSG{k:011d}" for k in range(tissue.n_genes)]


def spots_of(block: SimBlock) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Spot of each molecule."""
    x, y = np.floor(block.molecules_um[:, :2] / PITCH_UM).astype(np.int64).T
    return x + ORIGIN[0], y + ORIGIN[1]


def rows_of(block: SimBlock, n_genes: int, *, by_cell: bool = False) -> Rows:
    """Rows of a block sorted by gene (or cell), y and x; controls do not exist on a chip."""
    x, y = spots_of(block)
    genes = block.feature < n_genes
    cell = np.where(block.cell >= 0, block.cell + block.start + 1, 0)
    table = np.stack([block.feature, x, y, cell], axis=1)[genes]
    order = [3, 0, 1, 2] if by_cell else [0, 3, 1, 2]
    found, count = np.unique(table[:, order], axis=0, return_counts=True)
    back = np.argsort(order)
    gene, x, y, cell = found[:, back].T
    return Rows(gene, x, y, count, (count * 3) // 4, cell)


def all_rows(tissue: SimTissue) -> Rows:
    """All rows at once, for small tissues."""
    return rows_of(tissue.whole(), tissue.n_genes)


def write_gem(
    path: Path, tissue: SimTissue, *, version: float = 0.2, cells: bool = False, exon: bool = True
) -> Path:
    """Write GEM text: 0.1 has geneID alone, 0.2 names too, 0 no comments (early releases)."""
    names, ids = tissue.gene_names, gene_ids(tissue)
    opened: Any = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt") as file:
        if version:
            file.write(
                f"#FileFormat=GEMv{version}\n#SortedBy=None\n"
                f"#BinType={'CellBin' if cells else 'Bin'}\n"
                f"#BinSize={'Cell' if cells else 1}\n#Omics=Transcriptomics\n"
                f"#Stereo-seqChip={CHIP}\n#OffsetX=0\n#OffsetY=0\n"
            )
        both = version >= 0.2
        head = ["geneID", *(["geneName"] if both else []), "x", "y"]
        head += ["MIDCount" if version else "MIDCounts", *(["ExonCount"] if exon else [])]
        file.write("\t".join([*head, *(["CellID"] if cells else [])]) + "\n")
        for block in tissue.blocks():
            rows = rows_of(block, tissue.n_genes, by_cell=cells)
            columns = [rows.x, rows.y, rows.count, *([rows.exon] if exon else [])]
            columns += [rows.cell] if cells else []
            numbers = np.stack(columns, axis=1).tolist()
            for gene, row in zip(rows.gene.tolist(), numbers, strict=True):
                named = f"{ids[gene]}\t{names[gene]}" if both else names[gene]
                file.write(f"{named}\t" + "\t".join(map(str, row)) + "\n")
    return path


def _by_gene(tissue: SimTissue, size: int, folder: Path) -> Iterator[NDArray[Any]]:
    """(gene, x, y, count, exon) rows of all blocks, gene after gene, a group of genes at a time."""
    kind = np.dtype([(n, "<i4") for n in ("gene", "x", "y", "count", "exon")])
    step = -(-tissue.n_genes // _GROUPS)
    for block in tissue.blocks():
        rows = rows_of(block, tissue.n_genes)
        table = np.empty(rows.gene.size, kind)
        table["gene"], table["count"], table["exon"] = rows.gene, rows.count, rows.exon
        table["x"], table["y"] = rows.x // size * size, rows.y // size * size
        for group in range(_GROUPS):
            with (folder / f"{size}-{group}").open("ab") as file:
                table[table["gene"] // step == group].tofile(file)
    for group in range(_GROUPS):
        table = np.fromfile(folder / f"{size}-{group}", kind)
        keys = np.stack([table["gene"], table["x"], table["y"]], axis=1)
        found, owner = np.unique(keys, axis=0, return_inverse=True)
        merged = np.empty(len(found), kind)
        for k, name in enumerate(("gene", "x", "y")):
            merged[name] = found[:, k]
        for name in ("count", "exon"):
            merged[name] = np.bincount(owner.ravel(), table[name], len(found))
        yield merged


def _narrow(largest: int) -> str:
    return "<u1" if largest < 256 else "<u2" if largest < 65536 else "<u4"


def _gene_dtype(version: int, extra: list[tuple[str, str]], old: str) -> np.dtype[Any]:
    names = [("geneID", "S64"), ("geneName", "S64")] if version >= 4 else [(old, "S64")]
    return np.dtype([*names, *extra])


def _named(table: NDArray[Any], tissue: SimTissue, old: str) -> None:
    words = np.array([name.encode() for name in tissue.gene_names], "S64")
    if "geneID" in (table.dtype.names or ()):
        table["geneID"], table["geneName"] = np.array(gene_ids(tissue), "S64"), words
    else:
        table[old] = words


def _file_attributes(file: h5py.File, version: int, kind: str) -> None:
    file.attrs["version"] = np.array([version], "<u4")
    file.attrs["geftool_ver"] = np.array([0, 7, 11], "<u4")
    file.attrs["omics"] = np.array([b"Transcriptomics"], "S32")
    file.attrs["bin_type"] = np.array([kind.encode()], "S32")
    file.attrs["sn"] = np.array([CHIP.encode()], "S32")


def _growing(group: h5py.Group, name: str, dtype: Any) -> Any:
    return group.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(65536,))


def _append(dataset: Any, values: Any) -> None:
    dataset.resize((dataset.shape[0] + values.size,))
    dataset[dataset.shape[0] - values.size :] = values


def write_gef(
    path: Path, tissue: SimTissue, *, bins: tuple[int, ...] = (1, 50), version: int = 4
) -> Path:
    """Write square bins as geftools does: compound rows gene after gene, exons beside them."""
    with h5py.File(path, "w") as file, tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        _file_attributes(file, version, "Bin")
        for size in bins:
            group = file.create_group(f"geneExp/bin{size}")
            entry = np.dtype([("x", "<i4"), ("y", "<i4"), ("count", _narrow(size * size * 40))])
            rows, exons = (
                _growing(group, "expression", entry),
                _growing(group, "exon", entry["count"]),
            )
            counts = np.zeros(tissue.n_genes, np.int64)
            low, high = np.full(2, np.iinfo(np.int64).max), np.zeros(2, np.int64)
            largest = 0
            for part in _by_gene(tissue, size, Path(scratch)):
                if not part.size:
                    continue
                new = np.empty(part.size, entry)
                for name in ("x", "y", "count"):
                    new[name] = part[name]
                _append(rows, new)
                _append(exons, part["exon"])
                counts += np.bincount(part["gene"], minlength=tissue.n_genes)
                places = np.stack([part["x"], part["y"]], axis=1).astype(np.int64)
                low, high = np.minimum(low, places.min(0)), np.maximum(high, places.max(0))
                largest = max(largest, int(part["count"].max()))
            genes = np.zeros(
                tissue.n_genes, _gene_dtype(version, [("offset", "<u4"), ("count", "<u4")], "gene")
            )
            _named(genes, tissue, "gene")
            genes["count"], genes["offset"][1:] = counts, np.cumsum(counts)[:-1]
            group["gene"] = genes[counts > 0]  # genes that nothing was seen of are not listed
            facts = dict(zip(("minX", "minY", "maxX", "maxY"), [*low, *high], strict=True))
            for name, value in facts.items():
                rows.attrs[name] = np.array([value], "<i4")
            rows.attrs["maxExp"] = np.array([largest], "<u4")
            rows.attrs["resolution"] = np.array([500], "<u4")
    return path


def write_cellbin(
    path: Path, tissue: SimTissue, *, version: int = 4, borders: str = "padded"
) -> Path:
    """Write cells as geftools does; `geneExp` (the matrix once more) only for small tissues."""
    n = tissue.n_cells
    with h5py.File(path, "w") as file:
        _file_attributes(file, version, "CellBin")
        file.attrs["resolution"] = np.array([500], "<u4")
        file.attrs["offsetX"], file.attrs["offsetY"] = np.array([0], "<i4"), np.array([0], "<i4")
        group = file.create_group("cellBin")
        rows, exons = _growing(group, "cellExp", _ENTRY), _growing(group, "cellExpExon", "<u2")
        table = group.create_dataset("cell", (n,), _CELL)
        cell_exon = group.create_dataset("cellExon", (n,), "<u2")
        shape = (n, BORDER, 2) if borders == "padded" else (n * 12 * 2,)
        border = group.create_dataset("cellBorder", shape, "<i2")
        if borders != "padded":
            group["cellBordercnt"] = np.full(n, 12, "<i2")
        held: list[Any] = []
        for block in tissue.blocks():
            counts = block.counts[:, : tissue.n_genes].tocsr()
            counts.sort_indices()
            part = _cells(block, tissue, counts, rows.shape[0])
            new = np.empty(counts.nnz, _ENTRY)
            new["geneID"], new["count"] = counts.indices, counts.data
            _append(rows, new)
            _append(exons, new["count"] * 3 // 4)
            place = slice(block.start, block.start + block.n)
            table[place] = part
            cell_exon[place] = part["expCount"] * 3 // 4
            _write_borders(border, block, tissue, padded=borders == "padded")
            held.append(counts)
        group["cellTypeList"] = np.array([b"default"], "S32")
        group["blockIndex"] = np.zeros(2, "<u4")
        group["blockSize"] = np.array([256, 256, 1, 1], "<u4")
        _gene_side(group, tissue, version, held)
    return path


def _cells(block: SimBlock, tissue: SimTissue, counts: Any, first: int) -> NDArray[Any]:
    """Rows of the list of cells; their entries begin at `first`."""
    part = np.zeros(block.n, _CELL)
    part["id"] = block.start + 1 + np.arange(block.n)
    part["x"], part["y"] = (np.round(block.positions_um / PITCH_UM).astype(np.int64) + ORIGIN).T
    part["offset"] = first + counts.indptr[:-1]
    part["geneCount"], part["expCount"] = np.diff(counts.indptr), counts.sum(axis=1).A1
    part["dnbCount"] = part["expCount"]
    part["area"] = int(np.pi * (tissue.radius_share * tissue.spacing_um / PITCH_UM) ** 2)
    part["clusterID"] = block.domains + 1
    return part


def _write_borders(border: Any, block: SimBlock, tissue: SimTissue, *, padded: bool) -> None:
    """Write vertices relative to the centers."""
    apart = tissue.boundaries(block) - block.positions_um[:, None]
    around = np.round(apart / PITCH_UM).astype("<i2")
    start, stop = block.start, block.start + block.n
    if padded:
        filled = np.full((block.n, BORDER, 2), PADDING, "<i2")
        filled[:, : around.shape[1]] = around
        border[start:stop] = filled
    else:
        border[24 * start : 24 * stop] = around.ravel()


def _gene_side(group: h5py.Group, tissue: SimTissue, version: int, held: list[Any]) -> None:
    """Genes, and what each cell has of them, gene after gene."""
    from scipy import sparse

    whole: Any = sparse.vstack(held).tocsc()
    extra = [("offset", "<u4"), ("cellCount", "<u4"), ("expCount", "<u4"), ("maxMIDcount", "<u2")]
    genes = np.zeros(tissue.n_genes, _gene_dtype(version, extra, "geneName"))
    _named(genes, tissue, "geneName")
    genes["offset"], genes["cellCount"] = whole.indptr[:-1], np.diff(whole.indptr)
    genes["expCount"] = whole.sum(axis=0).A1
    genes["maxMIDcount"] = whole.max(axis=0).toarray().ravel()
    group["gene"] = genes
    rows = np.empty(whole.nnz, np.dtype([("cellID", "<u4"), ("count", "<u2")]))
    rows["cellID"], rows["count"] = whole.indices + 1, whole.data
    group["geneExp"] = rows
    group["geneExpExon"] = (rows["count"] * 3 // 4).astype("<u2")
    group["geneExon"] = (genes["expCount"] * 3 // 4).astype("<u4")


def write_images(folder: Path, tissue: SimTissue) -> None:
    """Write a registered stain with bright nuclei, and masks of cells and tissue."""
    import tifffile

    block = tissue.whole()
    centers = block.positions_um / PITCH_UM + ORIGIN
    width, height = (centers.max(axis=0) + 60).astype(int).tolist()
    y, x = np.mgrid[:height, :width]
    nuclei = np.zeros((height, width), bool)
    reach = 0.5 * tissue.radius_share * tissue.spacing_um / PITCH_UM
    for cx, cy in centers.tolist():
        low_x, low_y = max(0, int(cx - reach - 2)), max(0, int(cy - reach - 2))
        part = (slice(low_y, int(cy + reach + 3)), slice(low_x, int(cx + reach + 3)))
        nuclei[part] |= (x[part] - cx) ** 2 + (y[part] - cy) ** 2 <= reach**2
    stain = (20 + 200 * nuclei).astype(np.uint8)
    tissue_cut = np.zeros((height, width), np.uint8)
    low, high = centers.min(axis=0).astype(int) - 10, centers.max(axis=0).astype(int) + 10
    tissue_cut[low[1] : high[1], low[0] : high[0]] = 255
    for name, pixels in (
        (f"ssDNA_{CHIP}_regist.tif", stain),
        (f"{CHIP}_mask.tif", nuclei.astype(np.uint8)),
        (f"{CHIP}_tissue_cut.tif", tissue_cut),
    ):
        tifffile.imwrite(folder / name, pixels, tile=(256, 256), compression="zlib")


def write_stereoseq(
    folder: Path, tissue: SimTissue, *, version: int = 7, gem: bool = False, images: bool = True
) -> Path:
    """Write the folders of SAW 5 to 8; 5 names its tissue file `.tissuecut.gef`."""
    gef = 4 if version >= 7 else 2
    steps = {
        "all": "outs/feature_expression" if version >= 8 else "02.count",
        "tissue": "outs/feature_expression" if version >= 8 else "04.tissuecut",
        "cells": "outs/feature_expression" if version >= 8 else "041.cellcut",
        "images": "outs/image" if version >= 8 else "03.register",
    }
    for step in steps.values():
        (folder / step).mkdir(parents=True, exist_ok=True)
    bins = (1, 50)
    write_gef(folder / steps["all"] / f"{CHIP}.raw.gef", tissue, bins=(1,), version=gef)
    cut = "tissuecut" if version < 6 else "tissue"
    if gem:
        write_gem(folder / steps["tissue"] / f"{CHIP}.tissue.gem.gz", tissue)
    else:
        write_gef(folder / steps["tissue"] / f"{CHIP}.{cut}.gef", tissue, bins=bins, version=gef)
    write_cellbin(folder / steps["cells"] / f"{CHIP}.cellbin.gef", tissue, version=gef)
    if images:
        write_images(folder / steps["images"], tissue)
    return folder


SMALL = SimTissue(60, n_genes=40, mean_counts=25, seed=3)


def _small_gem(folder: Path) -> Path:
    folder.mkdir(parents=True)
    write_gem(folder / "a.cellbin.gem.gz", SMALL, cells=True)
    return folder


def _small_square(folder: Path) -> Path:
    folder.mkdir(parents=True)
    write_gef(folder / "a.tissue.gef", SMALL, bins=(50,))
    return folder


def _small_cells(folder: Path) -> Path:
    folder.mkdir(parents=True)
    write_cellbin(folder / "a.cellbin.gef", SMALL)
    return folder


KINDS = [
    ("gem", _small_gem, "a.cellbin.gem.gz"),
    ("square", _small_square, "a.tissue.gef"),
    ("cells", _small_cells, "a.cellbin.gef"),
]
