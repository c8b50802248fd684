"""Spatial Transcriptomics arrays of simulated tissue, as their authors publish them."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .tissue import SimTissue

PIXEL_UM = 2.0
COLUMNS = 12
"""Spots along a row of the array."""


def steps(n: int) -> NDArray[np.int64]:
    """(n, 2) x, y on the array, from 2, 3."""
    y, x = np.divmod(np.arange(n), COLUMNS)
    return np.stack([x + 2, y + 3], axis=1)


def pixels(n: int) -> NDArray[np.float64]:
    """(n, 2) x, y in the image: the array lies a little askew in it, and prints are not exact."""
    turn = np.deg2rad(1.0)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    jitter = np.random.default_rng(7).normal(0, 1.0, (n, 2))
    found: NDArray[np.float64] = (steps(n) * 200.0) @ rotation.T / PIXEL_UM + 300 + jitter
    return found.round(2)


def counts(tissue: SimTissue) -> Any:
    return tissue.whole().counts[:, : tissue.n_genes].toarray()


def write_st(
    folder: Path,
    tissue: SimTissue,
    *,
    sample: str = "A1",
    gz: bool = True,
    spots: str = "pixels",
    unselected: int = 3,
    image: bool = True,
    corrected: bool = False,
) -> Path:
    """Write one array; a cell of the tissue stands for a spot.

    `spots`: `pixels` (all columns), `array` (without pixels), `none` (no list); the last
    `unselected` spots are not selected; `corrected` names rows by new_x, new_y.
    """
    folder.mkdir(parents=True, exist_ok=True)
    n, place = tissue.n_cells, steps(tissue.n_cells)
    shifted = (place + np.random.default_rng(1).normal(0, 0.02, place.shape)).round(3)
    named = shifted if corrected else place
    opened: Any = gzip.open if gz else open
    with opened(folder / f"{sample}.tsv{'.gz' if gz else ''}", "wt") as file:
        file.write("\t".join(["", *tissue.gene_names]) + "\n")
        for (x, y), row in zip(named.tolist(), counts(tissue).tolist(), strict=True):
            file.write("\t".join([f"{x}x{y}", *map(str, row)]) + "\n")
    if spots != "none":
        full = spots == "pixels"
        with (folder / f"{sample}_selection.tsv").open("w") as file:
            head = ["x", "y", "new_x", "new_y", *(["pixel_x", "pixel_y"] if full else [])]
            file.write("\t".join([*head, "selected"]) + "\n")
            table = [place, shifted, *([pixels(n)] if full else [])]
            for k in range(n):
                row = [str(value) for part in table for value in part[k].tolist()]
                file.write("\t".join([*row, str(int(k < n - unselected))]) + "\n")
            # The list has every spot of the array, the counts those under tissue.
            beside = ["40", "40", "40.0", "40.0", *(["9000", "9000"] if full else []), "0"]
            file.write("\t".join(beside) + "\n")
    if image:
        write_image(folder / f"HE_{sample}.jpg", n)
    return folder


def write_image(path: Path, n: int) -> None:
    """Draw a dark disc for each spot on white, as tissue in a stain."""
    from PIL import Image, ImageDraw

    places = pixels(n)
    width, height = (places.max(axis=0) + 200).astype(int).tolist()
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    reach = 50 / PIXEL_UM
    for x, y in places.tolist():
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=(150, 60, 120))
    picture.save(path, quality=90)


SMALL = SimTissue(60, n_genes=40, mean_counts=12, seed=3)


def _small(folder: Path) -> Path:
    return write_st(folder, SMALL, image=False)


KINDS = [("counts", _small, "A1.tsv.gz"), ("spots", _small, "A1_selection.tsv")]
