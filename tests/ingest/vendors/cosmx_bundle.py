"""CosMx exports of simulated tissue, in the layouts of the releases, written block by block."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from .tissue import SimBlock, SimTissue

_WHERE = (3188.889, 15521.667)  # global px of the first FOV: never zero on a slide


@dataclass(frozen=True)
class Release:
    """What differs between exports."""

    name: str
    um: float
    """Micrometers a pixel."""
    against: bool
    """Whether local y runs against global y."""
    header: str
    """Of the FOV positions: px, px+mm or mm."""
    named: bool
    """Whether cells have study-wide names."""
    gz: bool
    prefix: str = "Run1_S1"
    folder: str = ""
    control: str = "Negative"
    fov_px: tuple[int, int] = (4256, 4256)


LEGACY = Release(
    "legacy", 0.18, False, "px", False, False, "Lung5_Rep1", "", "NegPrb", (3648, 5472)
)
ATOMX = Release("atomx", 0.12028, True, "px+mm", True, True, "BRST_S2", "flatFiles/BRST_S2")
STAGE = Release("stage", 0.12028, False, "mm", False, False, "", "")
RELEASES = {one.name: one for one in (LEGACY, ATOMX, STAGE)}


@dataclass(frozen=True)
class Layout:
    """Cells of a tissue in FOVs; the tissue's y points down, global y up, as on the slide."""

    tissue: SimTissue
    release: Release
    fov_px: tuple[int, int]
    """Height and width."""

    @cached_property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of FOVs."""
        width, height = (side / self.release.um for side in self.tissue.extent_um)
        return int(height // self.fov_px[0]) + 1, int(width // self.fov_px[1]) + 1

    def places(self, xy_um: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """FOV of each point, and its pixel in the image of the FOV (column, row)."""
        px = np.maximum(xy_um / self.release.um, 0.0)
        at = np.minimum((px // self.fov_px[::-1]).astype(np.int64), np.array(self.grid)[::-1] - 1)
        return 1 + at[:, 1] * self.grid[1] + at[:, 0], px - at * self.fov_px[::-1]

    def local(self, image: NDArray[np.float64]) -> NDArray[np.float64]:
        """Local pixels of pixels of the image of a FOV."""
        if self.release.against:
            return image
        return np.stack([image[:, 0], self.fov_px[0] - image[:, 1]], axis=1)

    def corners(self, fov: Any) -> NDArray[np.float64]:
        """Global pixel of local 0, 0 of each FOV."""
        fov = np.asarray(fov)
        row, column = np.divmod(fov - 1, self.grid[1])
        x = _WHERE[0] + column * self.fov_px[1]
        top = _WHERE[1] + (self.grid[0] - row) * self.fov_px[0]
        y = top if self.release.against else top - self.fov_px[0]
        return np.stack([x, y], axis=-1).astype(np.float64)

    def to_global(self, fov: Any, local: NDArray[np.float64]) -> NDArray[np.float64]:
        """Global pixels."""
        sign = np.array([1.0, -1.0 if self.release.against else 1.0])
        return np.asarray(self.corners(fov) + sign * local)

    @property
    def n_fovs(self) -> int:
        return self.grid[0] * self.grid[1]


@dataclass(frozen=True)
class Cells:
    """Cells of a block with their keys."""

    block: SimBlock
    fov: NDArray[np.int64]
    cell: NDArray[np.int64]
    local: NDArray[np.float64]
    whole: NDArray[np.float64]


def cells_of(layout: Layout) -> Iterator[Cells]:
    """Cells block by block, numbered from 1 in every FOV."""
    seen = np.zeros(layout.n_fovs + 1, np.int64)
    for block in layout.tissue.blocks():
        fov, image = layout.places(block.positions_um)
        order = np.argsort(fov, kind="stable")
        start = np.searchsorted(fov[order], fov[order])
        cell = np.empty(fov.size, np.int64)
        cell[order] = np.arange(fov.size) - start + 1
        cell += seen[fov]
        np.maximum.at(seen, fov, cell)
        local = np.rint(layout.local(image))
        yield Cells(block, fov, cell, local, layout.to_global(fov, local))


def feature_names(tissue: SimTissue, release: Release) -> tuple[str, ...]:
    """Genes, then negative probes and system controls."""
    half = tissue.n_controls // 2
    negative = [f"{release.control}{k + 1}" for k in range(half)]
    return (
        *tissue.gene_names,
        *negative,
        *(f"SystemControl{k + 1}" for k in range(tissue.n_controls - half)),
    )


def write_cosmx(
    folder: Path,
    tissue: SimTissue,
    *,
    version: str = "atomx",
    fov_px: tuple[int, int] | None = None,
    images: bool = True,
    transcripts: bool = True,
    polygons: bool = True,
    positions: bool = True,
    global_px: bool = True,
) -> Layout:
    """Write an export; memory is that of a block of the tissue.

    FOVs are `fov_px` high and wide; None takes those of the instrument, and small ones for small
    tissues, so that there are several.
    """
    release = RELEASES[version]
    usual = (400, 500) if tissue.n_cells < 5000 else release.fov_px
    layout = Layout(tissue, release, fov_px or usual)
    home = folder / release.folder
    home.mkdir(parents=True, exist_ok=True)
    name = f"{release.prefix}_" if release.prefix else ""
    end = ".csv.gz" if release.gz else ".csv"
    with ExitStack() as stack:

        def sink(what: str) -> IO[bytes]:
            path = home / f"{name}{what}{end}"
            return stack.enter_context(
                gzip.open(path, "wb", 1) if release.gz else path.open("wb")  # type: ignore[arg-type]
            )

        writers: dict[str, Any] = {"exprMat_file": _dense(sink("exprMat_file"), layout)}
        writers["metadata_file"] = _flat(sink("metadata_file"), _metadata, layout, global_px)
        if transcripts:
            writers["tx_file"] = _flat(sink("tx_file"), _transcripts, layout, global_px)
        if polygons:
            file = stack.enter_context(_polygon_file(home, release))
            writers["polygons"] = _flat(file, _polygons, layout, global_px)
        for cells in cells_of(layout):
            for write in writers.values():
                write(cells)
        writers["exprMat_file"](None)
    if positions:
        _write_positions(home / f"{name}fov_positions_file{end}", layout)
    if images:
        from .cosmx_pictures import write_images

        write_images(folder, layout)
    return layout


def _polygon_file(home: Path, release: Release) -> Any:
    if release.gz:
        return gzip.open(home / f"{release.prefix}-polygons.csv.gz", "wb", 1)
    return (home / f"{release.prefix or 'sample'}-polygons.csv").open("wb")


def _dense(file: IO[bytes], layout: Layout) -> Any:
    """Counts by cell; at the end one row a FOV with what lies outside cells."""
    names = feature_names(layout.tissue, layout.release)
    outside = np.zeros((layout.n_fovs + 1, len(names)), np.int64)
    quoted = layout.release.named
    file.write((",".join(f'"{n}"' if quoted else n for n in ("fov", "cell_ID", *names))).encode())
    file.write(b"\n")

    def write(cells: Cells | None) -> None:
        if cells is None:
            used = np.flatnonzero(outside.any(axis=1))
            _rows(file, used, np.zeros(used.size, np.int64), outside[used])
            return
        block = cells.block
        free = np.flatnonzero(block.cell < 0)
        fov, _ = layout.places(block.molecules_um[free, :2])
        np.add.at(outside, (fov, block.feature[free]), 1)
        for start in range(0, block.n, 2000):
            stop = start + 2000
            dense = block.counts[start:stop].toarray()
            _rows(file, cells.fov[start:stop], cells.cell[start:stop], dense)

    return write


def _rows(file: IO[bytes], fov: Any, cell: Any, dense: Any) -> None:
    columns = [pa.array(fov), pa.array(cell), *(pa.array(column) for column in dense.T)]
    table = pa.table(columns, names=[str(k) for k in range(len(columns))])
    pacsv.write_csv(table, file, pacsv.WriteOptions(include_header=False))


def _flat(file: IO[bytes], make: Any, layout: Layout, global_px: bool) -> Any:
    first = [True]

    def write(cells: Cells) -> None:
        columns = make(layout, cells)
        if not global_px:
            columns = {k: v for k, v in columns.items() if "global" not in k}
        pacsv.write_csv(pa.table(columns), file, pacsv.WriteOptions(include_header=first[0]))
        first[0] = False

    return write


def _metadata(layout: Layout, cells: Cells) -> dict[str, Any]:
    release = layout.release
    radius = layout.tissue.radius_share * layout.tissue.spacing_um / release.um
    area = np.full(cells.fov.size, round(np.pi * radius**2)) + cells.cell % 7
    columns: dict[str, Any] = {"fov": cells.fov}
    if not release.named:
        columns["cell_ID"] = cells.cell
    columns |= {
        "Area": area,
        "AspectRatio": np.round(1 + 0.01 * (cells.cell % 5), 2),
        "CenterX_local_px": cells.local[:, 0].astype(np.int64),
        "CenterY_local_px": cells.local[:, 1].astype(np.int64),
        "CenterX_global_px": np.round(cells.whole[:, 0], 4),
        "CenterY_global_px": np.round(cells.whole[:, 1], 4),
        "Mean.DAPI": 100 + cells.cell % 50,
    }
    if release.named:
        named = [f"c_1_{f}_{c}" for f, c in zip(cells.fov, cells.cell, strict=True)]
        columns |= {
            "cell_id": named,
            "version": ["v6"] * cells.fov.size,
            "Run_Tissue_name": ["breast"] * cells.fov.size,
            "Panel": ["Human RNA 6k Discovery"] * cells.fov.size,
            "cell_ID": cells.cell,
            "Area.um2": area * release.um**2,
            "cell": named,
        }
    return columns


def _keys(layout: Layout, fov: Any, cell: Any, name: str) -> dict[str, Any]:
    columns: dict[str, Any] = {"fov": fov, name: cell}
    if layout.release.named:
        columns["cell"] = [f"c_1_{f}_{c}" for f, c in zip(fov, cell, strict=True)]
    return columns


def _pixels(local: Any, whole: Any) -> dict[str, Any]:
    return {
        "x_local_px": local[:, 0],
        "y_local_px": local[:, 1],
        "x_global_px": whole[:, 0],
        "y_global_px": whole[:, 1],
    }


def _transcripts(layout: Layout, cells: Cells) -> dict[str, Any]:
    """Transcripts of a cell stand in its FOV, also those past its edge; others where they lie."""
    block = cells.block
    inside = block.cell >= 0
    fov, _ = layout.places(block.molecules_um[:, :2])
    fov = np.where(inside, cells.fov[block.cell], fov)
    row, column = np.divmod(fov - 1, layout.grid[1])
    image = block.molecules_um[:, :2] / layout.release.um
    image = image - np.stack([column, row], axis=1) * layout.fov_px[::-1]
    local = layout.local(image)
    number = np.where(inside, cells.cell[block.cell], 0)
    names = np.array(feature_names(layout.tissue, layout.release))
    parts = np.array(["None", "Nuclear", "Cytoplasm", "Membrane"])
    return {
        **_keys(layout, fov, number, "cell_ID"),
        **_pixels(local, layout.to_global(fov, local)),
        "z": np.floor(block.molecules_um[:, 2]).astype(np.int64),
        "target": names[block.feature],
        "CellComp": parts[np.where(inside, 1 + block.feature % 3, 0)],
    }


def _polygons(layout: Layout, cells: Cells) -> dict[str, Any]:
    n = 12
    rings = layout.tissue.boundaries(cells.block, n).reshape(-1, 2) / layout.release.um
    fov, cell = np.repeat(cells.fov, n), np.repeat(cells.cell, n)
    row, column = np.divmod(fov - 1, layout.grid[1])
    local = np.rint(layout.local(rings - np.stack([column, row], axis=1) * layout.fov_px[::-1]))
    return {
        **_keys(layout, fov, cell, "cellID"),
        **_pixels(local, layout.to_global(fov, local)),
    }


def _write_positions(path: Path, layout: Layout) -> None:
    fov = np.arange(1, layout.n_fovs + 1)
    px = layout.corners(fov)
    mm = px * layout.release.um / 1000
    columns: dict[str, Any]
    if layout.release.header == "px":
        columns = {"fov": fov, "x_global_px": px[:, 0], "y_global_px": px[:, 1]}
    elif layout.release.header == "mm":
        columns = {"Slide": fov * 0 + 1, "X_mm": mm[:, 0], "Y_mm": mm[:, 1], "FOV": fov}
    else:
        columns = {"FOV": fov, "x_global_px": px[:, 0], "y_global_px": px[:, 1]}
        columns |= {"x_global_mm": mm[:, 0], "y_global_mm": mm[:, 1]}
    table = pa.table(columns)
    with gzip.open(path, "wb") if path.suffix == ".gz" else path.open("wb") as file:
        pacsv.write_csv(table, file)


def write_small(folder: Path, *, images: str = "") -> Path:
    """Write an export of a few dozen cells, with one kind of images or none; the folder."""
    tissue = SimTissue(40, 40, 6.0, seed=3, n_controls=4)
    write_cosmx(
        folder, tissue, version="legacy", fov_px=(500, 500), images=bool(images),
        transcripts=not images, polygons=not images,
    )  # fmt: skip
    for kind in folder.iterdir() if images else ():
        if kind.is_dir() and kind.name != images:
            shutil.rmtree(kind)
    return folder


KINDS = [
    ("counts", write_small, "Lung5_Rep1_exprMat_file.csv"),
    ("metadata", write_small, "Lung5_Rep1_metadata_file.csv"),
    ("fov positions", write_small, "Lung5_Rep1_fov_positions_file.csv"),
    ("transcripts", write_small, "Lung5_Rep1_tx_file.csv"),
    ("polygons", write_small, "Lung5_Rep1-polygons.csv"),
    ("labels", partial(write_small, images="CellLabels"), "CellLabels/CellLabels_F001.tif"),
    (
        "composite",
        partial(write_small, images="CellComposite"),
        "CellComposite/CellComposite_F001.jpg",
    ),
    (
        "stains",
        partial(write_small, images="Morphology2D"),
        "Morphology2D/20240101_120000_S1_C902_P99_N99_F00001.TIF",
    ),
]
