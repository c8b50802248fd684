"""seqFISH output of simulated tissue: one or more regions, names and units of both releases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .tissue import SimBlock, SimTissue

PIXEL_UM = 0.25
CORNER_UM = (8.0, 20.0)
"""Where the tissue lies in the image."""


def write_seqfish(
    folder: Path,
    tissue: SimTissue,
    *,
    version: int = 2,
    roi: str = "Roi1",
    images: bool = True,
    named: bool = False,
) -> Path:
    """Write one region.

    Version 2 has micrometers, commas, cells of transcripts and the region first in the names;
    version 1 pixels, tabs in the matrix, no cells of transcripts and the region last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scale = 1.0 if version == 2 else PIXEL_UM
    place = Names(folder, roi, version)
    genes = [*tissue.gene_names, *tissue.control_names]
    genes = [name.replace("Control", "Blank") for name in genes]
    split, end = (",", "") if version == 2 else ("\t", "\t")
    with (
        place.path("CellxGene", "csv").open("w") as matrix,
        place.path("CellCoordinates", "csv").open("w") as cells,
        place.path("TranscriptList", "csv").open("w") as points,
        place.path("Boundaries", "geojson").open("w") as borders,
    ):
        matrix.write(split.join(["", *genes]) + end + "\n")
        cells.write("label,area,center_x,center_y\n")
        points.write("name,x,y,z,cell\n" if version == 2 else "name,x,y,z\n")
        borders.write('{"type": "FeatureCollection", "features": [')
        for block in tissue.blocks():
            dense = block.counts.toarray()
            xy = ((block.positions_um + CORNER_UM) / scale).round(3).tolist()
            area = np.pi * (tissue.radius_share * tissue.spacing_um / scale) ** 2
            for k, (row, (x, y)) in enumerate(zip(dense.tolist(), xy, strict=True)):
                label = block.start + k + 1
                matrix.write(split.join([str(label), *map(str, row)]) + end + "\n")
                cells.write(f"{label},{area:.1f},{x},{y}\n")
            points.writelines(_molecules(block, genes, scale, with_cells=version == 2))
            borders.writelines(_borders(block, tissue, named=named))
        borders.write("]}\n")
    if images:
        write_images(place, tissue)
    return folder


def _molecules(
    block: SimBlock, genes: list[str], scale: float, *, with_cells: bool
) -> Iterator[str]:
    spots = ((block.molecules_um[:, :2] + CORNER_UM) / scale).round(3).tolist()
    owner = np.where(block.cell >= 0, block.cell + block.start + 1, 0).tolist()
    heights = block.molecules_um[:, 2].tolist()
    for gene, (x, y), z, cell in zip(block.feature.tolist(), spots, heights, owner, strict=True):
        yield f"{genes[gene]},{x},{y},{int(z)}{f',{cell}' if with_cells else ''}\n"


def _borders(block: SimBlock, tissue: SimTissue, *, named: bool) -> Iterator[str]:
    rings = ((tissue.boundaries(block) + CORNER_UM) / PIXEL_UM).round(2).tolist()
    for number, ring in enumerate(rings, block.start + 1):
        feature = {
            "type": "Feature",
            "properties": {"label": number} if named else {},
            "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
        }
        yield f"{'' if number == 1 else ','}\n{json.dumps(feature)}"


class Names:
    """Names of the files of a region."""

    def __init__(self, folder: Path, roi: str, version: int) -> None:
        self.folder, self.roi, self.version = folder, roi, version

    def path(self, kind: str, end: str) -> Path:
        parts = [self.roi, kind] if self.version == 2 else ["run7", kind, self.roi]
        return self.folder / ("_".join(part for part in parts if part) + f".{end}")


def write_images(place: Names, tissue: SimTissue) -> None:
    """Write bright nuclei as an OME-TIFF and the mask of the cells."""
    import tifffile

    block = tissue.whole()
    centers = (block.positions_um + CORNER_UM) / PIXEL_UM
    width, height = (centers.max(axis=0) + 60).astype(int).tolist()
    reach = tissue.radius_share * tissue.spacing_um / PIXEL_UM
    mask = np.zeros((height, width), np.uint16)
    stain = np.full((height, width), 30, np.uint16)
    y, x = np.mgrid[-60:61, -60:61]
    for label, (cx, cy) in enumerate(centers.tolist(), 1):
        near = (x - (cx - int(cx))) ** 2 + (y - (cy - int(cy))) ** 2
        rows, columns = np.nonzero(near <= reach**2)
        at = rows - 60 + int(cy), columns - 60 + int(cx)
        inside = (at[0] >= 0) & (at[1] >= 0)
        mask[at[0][inside], at[1][inside]] = label
        bright = inside & (near[rows, columns] <= (0.5 * reach) ** 2)
        stain[at[0][bright], at[1][bright]] = 900
    facts: Any = {
        "axes": "YX",
        "PhysicalSizeX": PIXEL_UM,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": PIXEL_UM,
        "PhysicalSizeYUnit": "µm",
    }
    tifffile.imwrite(
        place.path("DAPI", "tiff"), stain, ome=True, metadata=facts, tile=(256, 256),
        compression="zlib",
    )  # fmt: skip
    tifffile.imwrite(place.path("Segmentation", "tiff"), mask, compression="zlib")


SMALL = SimTissue(40, n_genes=40, mean_counts=12, seed=3)


def _small(folder: Path) -> Path:
    return write_seqfish(folder, SMALL)


def _without_images(folder: Path) -> Path:
    return write_seqfish(folder, SMALL, images=False)


KINDS = [
    ("counts", _small, "Roi1_CellxGene.csv"),
    ("cells", _small, "Roi1_CellCoordinates.csv"),
    ("transcripts", _without_images, "Roi1_TranscriptList.csv"),
    ("boundaries", _small, "Roi1_Boundaries.geojson"),
    ("image", _small, "Roi1_DAPI.tiff"),
    ("labels", _small, "Roi1_Segmentation.tiff"),
]
