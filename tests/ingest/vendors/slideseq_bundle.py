"""Slide-seq and Curio Seeker output of simulated tissue: a bead where the tissue has a cell."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .tissue import SimBlock, SimTissue

PIXEL_UM = 0.65


def barcodes(start: int, n: int) -> list[str]:
    """Barcodes of 14 letters, one a bead."""
    numbers = (np.arange(start, start + n, dtype=np.int64) * 2_654_435_761) % 4**14
    letters = np.frombuffer(b"ACGT", np.uint8)
    digits = (numbers[:, None] >> (2 * np.arange(14))) & 3
    return [word.decode() for word in letters[digits].view("S14").ravel().tolist()]


def genes_of(block: SimBlock, tissue: SimTissue) -> Any:
    """Counts without controls: a puck has none."""
    found = block.counts[:, : tissue.n_genes].tocsr()
    found.sort_indices()
    return found


def write_slideseq(
    folder: Path,
    tissue: SimTissue,
    *,
    header: str = "barcodes,xcoord,ycoord",
    layout: str = "dge",
    pixel_um: float = PIXEL_UM,
    extra: int = 5,
) -> Path:
    """Write a puck; `header` "" leaves it out, one that begins with a comma adds row numbers.

    Layouts: `dge` (digital_expression.txt.gz), `csv` (MappedDGEForR.csv), `mtx`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dense = {"dge": "Puck_1.digital_expression.txt.gz", "csv": "MappedDGEForR.csv"}
    with (folder / "Puck_1_bead_locations.csv").open("w") as file:
        file.write(header + "\n" if header else "")
        for block in tissue.blocks():
            names = barcodes(block.start, block.n)
            for k, (name, (x, y)) in enumerate(
                zip(names, (block.positions_um / pixel_um).round(4).tolist(), strict=True)
            ):
                number = f"{block.start + k}," if header.startswith(",") else ""
                file.write(f"{number}{name},{x},{y}\n")
        for k in range(extra):  # beads that nothing was seen of lie beside the tissue
            number = f"{tissue.n_cells + k}," if header.startswith(",") else ""
            x, y = -100.0 - 15.4 * k, -100.0
            file.write(f"{number}{barcodes(10**7 + k, 1)[0]},{x},{y}\n")
    if layout == "mtx":
        _write_mtx(folder, tissue, "matrix.mtx.gz", "barcodes.tsv.gz", "genes.tsv.gz")
    else:
        _write_dense(folder / dense[layout], tissue, "\t" if layout == "dge" else ",")
    return folder


def _write_dense(path: Path, tissue: SimTissue, separator: str) -> None:
    from scipy import sparse

    whole: Any = sparse.vstack([genes_of(block, tissue) for block in tissue.blocks()]).tocsc()
    opened: Any = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt") as file:
        file.write(separator.join(["GENE", *barcodes(0, tissue.n_cells)]) + "\n")
        for gene, name in enumerate(tissue.gene_names):
            column = np.zeros(tissue.n_cells, int)
            own = slice(whole.indptr[gene], whole.indptr[gene + 1])
            column[whole.indices[own]] = whole.data[own]
            file.write(separator.join([name, *map(str, column.tolist())]) + "\n")


def _write_mtx(folder: Path, tissue: SimTissue, matrix: str, cells: str, genes: str) -> None:
    """Write genes by beads, bead after bead as R does."""
    blocks = [genes_of(block, tissue) for block in tissue.blocks()]
    total = sum(block.nnz for block in blocks)

    def opened(name: str) -> Any:
        kind: Any = gzip.open if name.endswith(".gz") else open
        return kind(folder / name, "wt")

    with opened(matrix) as file:
        file.write("%%MatrixMarket matrix coordinate integer general\n")
        file.write(f"{tissue.n_genes} {tissue.n_cells} {total}\n")
        start = 1
        for block in blocks:
            cell = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr)) + start
            rows = np.stack([block.indices + 1, cell, block.data], axis=1)
            file.writelines(f"{a} {b} {c}\n" for a, b, c in rows.tolist())
            start += block.shape[0]
    with opened(cells) as file:
        file.writelines(f"{name}\n" for name in barcodes(0, tissue.n_cells))
    with opened(genes) as file:
        file.writelines(f"{name}\n" for name in tissue.gene_names)


def write_curio(folder: Path, tissue: SimTissue, *, sample: str = "S1", h5ad: bool = True) -> Path:
    """Write what the Curio Seeker pipeline leaves in `OUTPUT/<sample>`."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_mtx(
        folder, tissue, f"{sample}_MoleculesPerMatchedBead.mtx", f"{sample}_barcodes.tsv",
        f"{sample}_genes.tsv",
    )  # fmt: skip
    with (
        (folder / f"{sample}_MatchedBeadLocation.csv").open("w") as places,
        (folder / f"{sample}_cluster_assignment.txt").open("w") as clusters,
    ):
        places.write(",xcoord,ycoord\n")
        for name, (x, y), domain in _beads(tissue):
            places.write(f"{name},{x},{y}\n")
            clusters.write(f"{name}\t{domain}\n")
    (folder / f"{sample}_Metrics.csv").write_text(
        "Metric,Value,Category\nTotal reads,1234567,Sequencing\nBeads,60,Beads\n"
        "Pipeline version,v3.0.0,Pipeline\n"
    )
    (folder / f"{sample}_variable_features_clusters.txt").write_text("gene\tcluster\nSox2\t0\n")
    (folder / f"{sample}_variable_features_spatial_moransi.txt").write_text(
        f"observed\n{tissue.gene_names[0]}\t0.5\n"
    )
    if h5ad:
        _write_h5ad(folder / f"{sample}_anndata.h5ad", tissue)
    return folder


def _beads(tissue: SimTissue) -> Iterator[tuple[str, NDArray[Any], int]]:
    for block in tissue.blocks():
        yield from zip(
            barcodes(block.start, block.n),
            block.positions_um.round(3).tolist(),
            block.domains.tolist(),
            strict=True,
        )


def _write_h5ad(path: Path, tissue: SimTissue) -> None:
    import anndata as ad
    import pandas as pd

    block = tissue.whole()
    matrix = genes_of(block, tissue).astype(np.float32)
    names = barcodes(0, tissue.n_cells)
    obs = pd.DataFrame({"nCount_RNA": matrix.sum(axis=1).A1, "pct_mt": 0.5}, index=names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = ad.AnnData(matrix, obs=obs, var=pd.DataFrame(index=list(tissue.gene_names)))
        table.obsm["spatial"] = table.obsm["X_spatial"] = block.positions_um.round(3)
        table.write_h5ad(path)


SMALL = SimTissue(60, n_genes=40, mean_counts=25, seed=3)


def _small_slideseq(folder: Path) -> Path:
    return write_slideseq(folder, SMALL)


def _small_mtx(folder: Path) -> Path:
    return write_slideseq(folder, SMALL, layout="mtx")


def _small_curio(folder: Path) -> Path:
    return write_curio(folder, SMALL, h5ad=False)


def _small_h5ad(folder: Path) -> Path:
    write_curio(folder, SMALL)
    for name in ("MoleculesPerMatchedBead.mtx", "MatchedBeadLocation.csv"):
        (folder / f"S1_{name}").unlink()
    return folder


KINDS = [
    ("positions", _small_slideseq, "Puck_1_bead_locations.csv"),
    ("dge", _small_slideseq, "Puck_1.digital_expression.txt.gz"),
    ("mtx.gz", _small_mtx, "matrix.mtx.gz"),
    ("genes", _small_mtx, "genes.tsv.gz"),
]
CURIO_KINDS = [
    ("mtx", _small_curio, "S1_MoleculesPerMatchedBead.mtx"),
    ("places", _small_curio, "S1_MatchedBeadLocation.csv"),
    ("clusters", _small_curio, "S1_cluster_assignment.txt"),
    ("metrics", _small_curio, "S1_Metrics.csv"),
    ("h5ad", _small_h5ad, "S1_anndata.h5ad"),
]
