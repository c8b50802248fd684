"""What tests of Xenium outputs ask of a section: values, molecules, and what lies under cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from tisseract.ingest.reader import ReadOptions
from tisseract.ingest.source import CategoricalValues, RawSection, StringValues
from tisseract.ingest.vendors.xenium import XeniumReader

READER = XeniumReader()


def opened(folder: Path, **kwargs: object) -> RawSection:
    return READER.open(folder, ReadOptions(reader_kwargs=kwargs))


def notes_of(raw: RawSection) -> str:
    notes = raw.provenance["notes"]
    assert isinstance(notes, list)
    return "\n".join(map(str, notes))


def column(raw: RawSection, name: str) -> NDArray[Any]:
    """Values of an obs column; missing ones are NaN or None."""
    values = raw.obs[name].read()
    if isinstance(values, StringValues):
        return np.array(values.to_list(), dtype=object)
    if isinstance(values, CategoricalValues):
        words = np.array([*values.categories, None], dtype=object)
        found: NDArray[Any] = words[values.codes]
        return found
    if values.mask is None:
        return np.asarray(values.values)
    return np.where(values.mask, np.nan, values.values)


def molecules(raw: RawSection) -> pd.DataFrame:
    batches = [b for b in raw.points["transcripts"].batches() if b.num_rows]
    tables = [pa.Table.from_batches([batch]) for batch in batches]
    found: pd.DataFrame = pd.concat([table.to_pandas() for table in tables], ignore_index=True)
    return found


def rings(raw: RawSection) -> dict[int, NDArray[np.float64]]:
    """Ring of each cell by row."""
    found: dict[int, NDArray[np.float64]] = {}
    shapes: Any = raw.shapes
    for piece in shapes.pieces():
        for row, ring in zip(
            piece.rows, np.split(piece.vertices, np.cumsum(piece.counts)[:-1]), strict=True
        ):
            found[int(row)] = ring
    return found


def outlines(raw: RawSection) -> Any:
    """Nuclei as a frame of shapes."""
    import geopandas

    tables = list(raw.outlines["nucleus_boundaries"].tables())
    table = pa.concat_tables(tables).to_pandas()
    table["geometry"] = geopandas.GeoSeries.from_wkb(table["geometry"])
    return table


def plane_of(image: Any, channel: int = 0) -> NDArray[np.float64]:
    """One channel of an image, whole."""
    with image.open() as pixels:
        whole = np.asarray(pixels.rows(0, pixels.shape[1]))
    return np.asarray(whole[channel], np.float64)


def under(
    image: Any, xy: NDArray[np.float64], plane: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Values of a placed image at positions; NaN outside."""
    plane = plane_of(image) if plane is None else plane
    (a, b, c), (d, e, f) = image.affine
    there = np.linalg.inv([[a, b, c], [d, e, f], [0, 0, 1]])
    at = np.floor(xy @ there[:2, :2].T + there[:2, 2]).astype(np.int64)
    inside = (at >= 0).all(axis=1) & (at < plane.shape[::-1]).all(axis=1)
    out = np.full(len(xy), np.nan)
    out[inside] = plane[at[inside, 1], at[inside, 0]]
    return out


def contrast(image: Any, xy: NDArray[np.float64], plane: NDArray[np.float64]) -> float:
    """How much brighter an image is under cells than elsewhere, in its standard deviations."""
    values = under(image, xy, plane)
    if np.isnan(values).mean() > 0.9:
        return 0.0
    return float((np.nanmean(values) - plane.mean()) / plane.std())


def lies_on_cells(
    image: Any, xy: NDArray[np.float64], channel: int = 0, *, dark: bool = False
) -> None:
    """An image is bright under cells, and is not where axes are swapped or the scale is off."""
    plane = plane_of(image, channel) * (-1 if dark else 1)
    right = contrast(image, xy, plane)
    wrong = {
        "swapped": contrast(image, xy[:, ::-1], plane),
        "5 % larger": contrast(image, xy * 1.05, plane),
        "5 % smaller": contrast(image, xy * 0.95, plane),
    }
    assert right > 0.5, right
    for name, value in wrong.items():
        assert value < right / 2, (name, value, right)
