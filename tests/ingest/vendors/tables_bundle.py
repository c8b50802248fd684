"""Plain tables of cells, counts and transcripts with a mapping, in every layout, of any size."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .tissue import SimBlock, SimTissue

PIXEL_UM = 0.25


def small() -> SimTissue:
    return SimTissue(60, n_genes=40, mean_counts=20.0, n_controls=2)


def names_of(tissue: SimTissue) -> tuple[str, ...]:
    return (*tissue.gene_names, *tissue.control_names)


def ids_of(block: SimBlock) -> list[str]:
    return [f"c{block.start + k + 1}" for k in range(block.n)]


def write_tables(folder: Path, tissue: SimTissue, layout: str = "long", **more: Any) -> Path:
    """Write a folder; positions are pixels of 0.25 um.

    Layouts: `dense` (genes in cells.csv), `dense-own` (a table of its own, in reverse order),
    `dense-parquet`, `long` (shuffled names), `starmap` (numbers from 1), `mtx` (unsorted, cells x
    genes, gzipped).
    """
    folder.mkdir(parents=True, exist_ok=True)
    writer = {"long": _long, "starmap": _long, "mtx": _mtx}.get(layout, _dense)
    said = writer(folder, tissue, layout)
    _cells(folder, tissue, layout)
    _spots(folder, tissue)
    text = f"""# simulated
technology: STARmap
um_per_unit: {PIXEL_UM}
controls: "Control*"
cells:
  path: cells.csv
  id: cell
  x: cx
  y: cy
{said}
transcripts:
  path: spots.csv
  x: sx
  y: sy
  z: sz
  gene: target
  cell: owner
  outside: ["0"]
boundaries: {{path: edges.csv, cell: cell, x: vx, y: vy}}
"""
    (folder / "tisseract.yaml").write_text(text)
    return folder


def _cells(folder: Path, tissue: SimTissue, layout: str) -> None:
    names = names_of(tissue)
    with (folder / "cells.csv").open("w") as file, (folder / "edges.csv").open("w") as edges:
        dense = layout == "dense"
        head = ["cell", "cx", "cy", "domain", *([f"g:{name}" for name in names] if dense else [])]
        file.write(",".join(head) + "\n")
        edges.write("cell,vx,vy\n")
        for block in tissue.blocks():
            counts = block.counts.toarray() if dense else np.zeros((block.n, 0), int)
            rings = tissue.boundaries(block) / PIXEL_UM
            for k, name in enumerate(ids_of(block)):
                x, y = (block.positions_um[k] / PIXEL_UM).tolist()
                cells = [name, repr(x), repr(y), f"d{block.domains[k]}", *map(str, counts[k])]
                file.write(",".join(cells) + "\n")
                edges.writelines(f"{name},{vx!r},{vy!r}\n" for vx, vy in rings[k].tolist())


def _dense(folder: Path, tissue: SimTissue, layout: str) -> str:
    if layout == "dense":
        return 'counts: {layout: dense, prefix: "g:"}'
    block = tissue.whole()
    ids, counts = ids_of(block)[::-1], block.counts.toarray()[::-1]
    columns: dict[str, Any] = {"name": pa.array(ids)}
    columns |= {name: pa.array(counts[:, k]) for k, name in enumerate(names_of(tissue))}
    if layout == "dense-parquet":
        pq.write_table(pa.table(columns), folder / "counts.parquet", row_group_size=17)
        return "counts: {layout: dense, path: counts.parquet, id: name}"
    lines = ["\t".join(["name", *names_of(tissue)])]
    lines += ["\t".join([i, *map(str, row)]) for i, row in zip(ids, counts.tolist(), strict=True)]
    with gzip.open(folder / "counts.tsv.gz", "wt") as file:
        file.write("\n".join(lines) + "\n")
    return "counts: {layout: dense, path: counts.tsv.gz, id: name}"


def _triples(tissue: SimTissue) -> Any:
    rng = np.random.default_rng(5)
    for block in tissue.blocks():
        found = block.counts.tocoo()
        order = rng.permutation(found.nnz)
        yield block, found.row[order], found.col[order], found.data[order]


def _long(folder: Path, tissue: SimTissue, layout: str) -> str:
    names = names_of(tissue)
    with (folder / "counts.csv").open("w") as file:
        file.write("who,what,n\n")
        for block, rows, columns, values in _triples(tissue):
            ids = ids_of(block)
            for r, c, v in zip(rows.tolist(), columns.tolist(), values.tolist(), strict=True):
                own = (block.start + r + 1, c + 1) if layout == "starmap" else (ids[r], names[c])
                file.write(f"{own[0]},{own[1]},{v}\n")
    (folder / "genes.csv").write_text("\n".join(names) + "\n")
    match = "position1" if layout == "starmap" else "id"
    return f"""genes: {{path: genes.csv, header: false}}
counts: {{layout: long, path: counts.csv, cell: who, gene: what, count: n, match: {match}}}"""


def _mtx(folder: Path, tissue: SimTissue, layout: str) -> str:
    lines = [
        f"{block.start + r + 1} {c + 1} {v}"
        for block, rows, columns, values in _triples(tissue)
        for r, c, v in zip(rows.tolist(), columns.tolist(), values.tolist(), strict=True)
    ]
    head = f"%%MatrixMarket matrix coordinate integer general\n%\n{tissue.n_cells} "
    head += f"{len(names_of(tissue))} {len(lines)}\n"
    with gzip.open(folder / "counts.mtx.gz", "wt") as file:
        file.write(head + "\n".join(lines) + "\n")
    (folder / "genes.csv").write_text("gene\n" + "\n".join(names_of(tissue)) + "\n")
    return "genes: {path: genes.csv, id: gene}\ncounts: {layout: mtx, path: counts.mtx.gz}"


def _spots(folder: Path, tissue: SimTissue) -> None:
    names = names_of(tissue)
    with (folder / "spots.csv").open("w") as file:
        file.write("sx,sy,sz,target,owner,quality\n")
        for block in tissue.blocks():
            ids = ids_of(block)
            rows = zip(
                block.molecules_um.tolist(), block.feature.tolist(), block.cell.tolist(),
                strict=True,
            )  # fmt: skip
            for k, ((x, y, z), feature, cell) in enumerate(rows):
                owner = ids[cell] if cell >= 0 else "0"
                place = f"{x / PIXEL_UM!r},{y / PIXEL_UM!r},{z!r}"
                file.write(f"{place},{names[feature]},{owner},{k % 40}\n")


def _kind(layout: str) -> Any:
    def write(folder: Path) -> Path:
        tissue = SimTissue(30, n_genes=40, mean_counts=6.0, n_controls=1)
        return write_tables(folder / "tables", tissue, layout)

    return write


KINDS = [
    ("table-mapping", _kind("long"), "tisseract.yaml"),
    ("table-cells", _kind("dense"), "cells.csv"),
    ("table-long", _kind("long"), "counts.csv"),
    ("table-numbers", _kind("starmap"), "counts.csv"),
    ("table-dense-gz", _kind("dense-own"), "counts.tsv.gz"),
    ("table-dense-parquet", _kind("dense-parquet"), "counts.parquet"),
    ("table-mtx", _kind("mtx"), "counts.mtx.gz"),
    ("table-spots", _kind("long"), "spots.csv"),
    ("table-edges", _kind("long"), "edges.csv"),
]
"""File kinds for mutants: name, writer of the input, file in it."""
