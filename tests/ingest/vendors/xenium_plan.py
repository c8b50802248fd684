"""What a simulated Xenium output holds: features, ids, nuclei, outlines; alike in all its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .tissue import SimTissue

PIXEL_UM = 0.2125
VERTICES = 12
NUCLEUS = 0.55  # of the radius of a cell
CONTROLS = {
    "1": (("BLANK", "Blank Codeword"),),
    "1.4": (("UnassignedCodeword", "Unassigned Codeword"),),
    "2": (
        ("UnassignedCodeword", "Unassigned Codeword"),
        ("DeprecatedCodeword", "Deprecated Codeword"),
    ),
    "3": (("UnassignedCodeword", "Unassigned Codeword"), ("Intergenic_Region", "Genomic Control")),
    "4": (("UnassignedCodeword", "Unassigned Codeword"), ("Intergenic_Region", "Genomic Control")),
}  # fmt: skip
ALWAYS = (
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
            stem, kind = (*ALWAYS, *CONTROLS[version])[k % (2 + len(CONTROLS[version]))]
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
class Plan:
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


def rings_of(centers: NDArray[np.float64], radius: float) -> NDArray[np.float32]:
    angle = np.arange(VERTICES + 1) % VERTICES * 2 * np.pi / VERTICES
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return (centers[:, None, :] + radius * circle).astype(np.float32)
