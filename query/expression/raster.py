"""One gene as a picture: cells binned into pixels of a given size, streamed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ...atlas.errors import InvalidArgument
from ...atlas.memory import parse_bytes, refuse_above
from ...atlas.spatial_statistics.projections import check_normalize, scaled, transform_values

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from ...atlas.section import Section
    from .taking_part import Cells

__all__ = ["gene_raster"]

HOW = ("mean", "sum", "fraction")
type Normalize = Literal["log1p"] | None

# Cells binned at once, and bytes of a pixel: two sums, one of them in work, the answer.
_ROWS, _PIXEL_BYTES = 2**18, 40


@dataclass(frozen=True, slots=True)
class Picture:
    """What is shown, and how large a pixel is."""

    name: str
    um_per_px: float
    how: str
    normalize: Normalize

    def __post_init__(self) -> None:
        if self.how not in HOW:
            raise InvalidArgument(f"how= one of {', '.join(HOW)} is wanted, but got {self.how!r}")
        if not (math.isfinite(self.um_per_px) and self.um_per_px > 0):
            raise InvalidArgument(f"um_per_px above 0 is wanted, but got {self.um_per_px!r}")


def gene_raster(
    section: Section,
    column: int,
    picture: Picture,
    *,
    cells: Cells,
    scale_factors: Sequence[int] | None,
    memory_limit: str | int | None,
) -> xr.DataArray | xr.DataTree:
    """Build what `GeneView.raster` hands out."""
    check_normalize(section, picture.normalize)
    um_per_px = picture.um_per_px
    factors = _checked_factors(scale_factors)
    xmin, ymin, xmax, ymax = section.bounds
    width = int((xmax - xmin) // um_per_px) + 1
    height = int((ymax - ymin) // um_per_px) + 1
    refuse_above(
        parse_bytes(memory_limit),
        width * height * _PIXEL_BYTES + int(section.totals.nnz[column]) * 16 + _ROWS * 64,
        f"a raster of {width:,} x {height:,} pixels",
        "choose a larger um_per_px, or give a larger memory_limit",
    )
    sums = _binned(section, column, picture, (height, width), cells)
    rasters = [
        _labeled(section, _coarser(sums, factor), replace(picture, um_per_px=um_per_px * factor))
        for factor in (1, *np.cumprod(factors).tolist())
    ]
    if scale_factors is None:
        return rasters[0]
    import xarray as xr

    return xr.DataTree.from_dict(
        {f"scale{k}": one.to_dataset(name="image") for k, one in enumerate(rasters)}
    )


def _checked_factors(factors: Sequence[int] | None) -> list[int]:
    found = [] if factors is None else [int(factor) for factor in factors]
    if found != list(factors or ()) or any(factor < 2 for factor in found):
        raise InvalidArgument(
            "whole scale_factors of 2 or more, each to the level before, are wanted, but got "
            f"{factors!r}"
        )
    return found


def _binned(
    section: Section, column: int, picture: Picture, shape: tuple[int, int], kept: Cells
) -> NDArray[np.float64]:
    """Sum the cells of each pixel that take part and what is shown: (2, height, width)."""
    size, um_per_px, normalize = shape[0] * shape[1], picture.um_per_px, picture.normalize
    found = np.zeros((2, size))
    vector = section.gene_columns([column])
    cells, values = vector.indices, vector.data
    if kept is not None:
        inside = kept[cells]
        cells, values = cells[inside], values[inside]
    for start in range(0, section.n_obs, _ROWS):
        stop = min(start + _ROWS, section.n_obs)
        place = section.positions([(start, stop)])
        pixel = ((place[:, 0] - section.bounds[0]) // um_per_px).astype(np.int64)
        pixel += ((place[:, 1] - section.bounds[1]) // um_per_px).astype(np.int64) * shape[1]
        there = pixel if kept is None else pixel[kept[start:stop]]
        found[0] += np.bincount(there, minlength=size)
        low, high = np.searchsorted(cells, [start, stop])
        own = cells[low:high] - start
        if picture.how == "fraction":
            shown = (values[low:high] != 0).astype(np.float64)
        else:
            depth = section.depth([(start, stop)]) if scaled(section, normalize) else None
            shown = transform_values(section, values[low:high], own, normalize, depth)
        found[1] += np.bincount(pixel[own], shown, size)
    return found.reshape(2, *shape)


def _coarser(sums: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """Add up squares of pixels; sums add up where means would not."""
    if factor == 1:
        return sums
    _, height, width = sums.shape
    rows, columns = -(-height // factor), -(-width // factor)
    padded = np.zeros((2, rows * factor, columns * factor))
    padded[:, :height, :width] = sums
    return np.asarray(padded.reshape(2, rows, factor, columns, factor).sum(axis=(2, 4)))


def _labeled(section: Section, sums: NDArray[np.float64], picture: Picture) -> xr.DataArray:
    import xarray as xr

    n, total = sums
    how, um_per_px = picture.how, picture.um_per_px
    if how != "sum":
        share = np.full(n.shape, np.nan)
        total = np.divide(total, n, out=share, where=n > 0)
    unit = "um" if section.um_per_unit is not None else "source units"
    what = section.values if picture.normalize is None else "log1p(counts per 10,000)"
    coords: dict[Any, Any] = {
        "y": section.bounds[1] + (np.arange(n.shape[0]) + 0.5) * um_per_px,
        "x": section.bounds[0] + (np.arange(n.shape[1]) + 0.5) * um_per_px,
        "n_cells": (("y", "x"), n.astype(np.int64)),
    }
    return xr.DataArray(
        total,
        dims=("y", "x"),
        coords=coords,
        name=picture.name,
        attrs={
            "gene": picture.name,
            "section": section.name,
            "how": how,
            "units": "fraction of cells" if how == "fraction" else f"{how} {what}",
            "pixel_size": um_per_px,
            "pixel_unit": unit,
        },
    )
