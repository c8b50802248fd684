"""Crops of images and label images, lazy, with the way back to micrometers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import Corrupt, InvalidArgument, near
from ..geometry.by_section import Nowhere, place_of
from ..geometry.places import Place

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from ...atlas.section import Section
    from ..cells.selection import Selection

_BYTES_AT_ONCE = 16 * 2**20  # of a dask chunk: whole stored chunks, some of them together


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a pyramid."""

    array: Any
    """Zarr array, (c, y, x) or (y, x)."""
    matrix: "NDArray[np.float64]"
    """(3, 3), corners of pixels (column, row, 1) to coordinates of the section."""

    @property
    def um_per_px(self) -> float:
        """Edge of a pixel: the root of its area."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:2, :2]))))


def crops(
    selection: "Selection",
    kind: str,
    name: str | None,
    *,
    level: int | None,
    um_per_px: float | None,
) -> "dict[str, xr.DataArray]":
    """Crop the images or labels of each section of a selection to the box of its place.

    Raises
    ------
    InvalidArgument
        No section has such an image, both level and size are given, or no such level.
    """
    if level is not None and um_per_px is not None:
        raise InvalidArgument(
            f"level= or um_per_px= is wanted, but got both ({level}, {um_per_px})"
        )
    if um_per_px is not None and not um_per_px > 0:
        raise InvalidArgument(f"um_per_px above 0 is wanted, but got {um_per_px}")
    sections = [selection.store.section(n) for n in selection.possible]
    found: dict[str, xr.DataArray] = {}
    several = len(sections) > 1
    for section in sections:
        place = place_of(selection.question, section.name)
        if isinstance(place, Nowhere):
            continue
        for one in section.elements.get(kind, ()):
            if name is not None and one != name:
                continue
            chosen = _choose(levels_of(section, kind, one), level, um_per_px, f"{kind} {one!r}")
            crop = _crop(chosen, place)
            if crop is not None:
                found[f"{section.name}_{one}" if several else one] = crop
    _told(sections, kind, name)
    return found


def _told(sections: "list[Section]", kind: str, name: str | None) -> None:
    known = sorted({one for section in sections for one in section.elements.get(kind, ())})
    if name is not None and sections and name not in known:
        raise InvalidArgument(
            f"one of the {kind} is wanted, but got {name!r}.{near(name, known)} "
            f"There are: {', '.join(known) or 'none'}"
        )


def levels_of(section: "Section", kind: str, name: str) -> list[Level]:
    """Levels of a pyramid with their places, the finest first; reads metadata only."""
    group: Any = section.group[f"{kind}/{name}"]
    try:
        scales = group.attrs["ome"]["multiscales"][0]
        axes = [str(axis["name"]) for axis in scales["axes"]]
        whole = _matrix(scales["coordinateTransformations"][0], axes)
        levels = []
        for one in scales["datasets"]:
            matrix = np.eye(3)
            for step in one["coordinateTransformations"]:
                if step["type"] == "scale":
                    matrix = _matrix(step, axes) @ matrix
            # Centers are shifted by half a pixel at each level: corners coincide.
            levels.append(Level(group[str(one["path"])], whole @ matrix))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise Corrupt(
            f"{kind} {name!r} of section {section.name!r} cannot be read: {error}; run "
            "`tisseract verify` and ingest it again"
        ) from error
    return levels


def _matrix(step: Mapping[str, Any], axes: list[str]) -> "NDArray[np.float64]":
    """One transformation as a matrix on (x, y, 1)."""
    matrix, at = np.eye(3), [axes.index("x"), axes.index("y")]
    if step["type"] == "scale":
        matrix[0, 0], matrix[1, 1] = (float(step["scale"][i]) for i in at)
    elif step["type"] == "affine":
        rows = np.asarray(step["affine"], np.float64)
        for i, row in enumerate(at):
            matrix[i] = [rows[row][at[0]], rows[row][at[1]], rows[row][-1]]
    else:
        raise ValueError(f"a transformation of type {step['type']!r} is not read")
    return matrix


def _choose(levels: list[Level], level: int | None, um_per_px: float | None, what: str) -> Level:
    if um_per_px is not None:
        fit = [one for one in levels if one.um_per_px <= um_per_px * (1 + 1e-9)]
        return fit[-1] if fit else levels[0]
    number = 0 if level is None else level
    if not 0 <= number < len(levels):
        raise InvalidArgument(
            f"a level of {what} from 0 to {len(levels) - 1} is wanted, but got {level}"
        )
    return levels[number]


def _crop(level: Level, place: Place | None) -> "xr.DataArray | None":
    """Pixels that the box of a place touches, as a lazy array; None where it touches none."""
    import dask.array as da
    import xarray as xr

    height, width = level.array.shape[-2:]
    window = (0, height, 0, width) if place is None else _window(level, place.bounds)
    if window is None:
        return None
    top, bottom, left, right = window
    chunks: Any = _chunks(level.array, window)
    lazy = da.from_array(_Window(level.array, window), chunks=chunks, name=False, asarray=True)
    matrix = level.matrix @ np.array([[1.0, 0, left], [0, 1, top], [0, 0, 1]])
    coords: dict[str, Any] = {}
    if matrix[0, 1] == matrix[1, 0] == 0:
        coords["x"] = matrix[0, 0] * (np.arange(right - left) + 0.5) + matrix[0, 2]
        coords["y"] = matrix[1, 1] * (np.arange(bottom - top) + 0.5) + matrix[1, 2]
    dims = ("c", "y", "x")[-level.array.ndim :]
    attrs = {"affine": matrix.tolist(), "um_per_px": level.um_per_px}
    return xr.DataArray(lazy, dims=dims, coords=coords, attrs=attrs)


def _window(
    level: Level, box: tuple[float, float, float, float]
) -> tuple[int, int, int, int] | None:
    """Rows and columns (top, bottom, left, right) of the pixels that a box touches."""
    xmin, ymin, xmax, ymax = box
    height, width = level.array.shape[-2:]
    corners = np.array([[xmin, ymin, 1], [xmax, ymin, 1], [xmin, ymax, 1], [xmax, ymax, 1]])
    pixels = (corners @ np.linalg.inv(level.matrix).T)[:, :2]
    low, high = np.floor(pixels.min(axis=0)), np.ceil(pixels.max(axis=0))
    limits = np.array([width, height], np.float64)
    # A box without extent still lies in a pixel.
    high = np.maximum(high, low + 1)
    if (high <= 0).any() or (low >= limits).any():
        return None
    (left, top), (right, bottom) = np.clip(low, 0, limits), np.clip(high, 0, limits)
    return int(top), int(bottom), int(left), int(right)


def _chunks(array: Any, window: tuple[int, int, int, int]) -> tuple[Any, ...]:
    """Chunks along the stored ones, as many together as make a good task."""
    top, bottom, left, right = window
    edges = []
    pixel = array.dtype.itemsize * int(np.prod(array.shape[:-2], dtype=np.int64))
    stored = array.chunks[-2] * array.chunks[-1] * pixel
    times = max(1, int(np.sqrt(_BYTES_AT_ONCE / max(1, stored))))
    for low, high, size in ((top, bottom, array.chunks[-2]), (left, right, array.chunks[-1])):
        step = size * times
        cuts = np.unique(np.r_[low, np.arange((low // step + 1) * step, high, step), high])
        edges.append(tuple(np.diff(cuts).tolist()))
    return (*((n,) for n in array.shape[:-2]), *edges)


@dataclass(frozen=True, slots=True)
class _Window:
    """A rectangle of a Zarr array that reads as an array of its own; nothing outside is touched."""

    array: Any
    window: tuple[int, int, int, int]

    @property
    def shape(self) -> tuple[int, ...]:
        top, bottom, left, right = self.window
        return (*self.array.shape[:-2], bottom - top, right - left)

    @property
    def dtype(self) -> Any:
        return self.array.dtype

    @property
    def ndim(self) -> int:
        return int(self.array.ndim)

    def __getitem__(self, index: tuple[slice, ...]) -> Any:
        top, _, left, _ = self.window
        *rest, rows, columns = index
        moved = (
            slice(rows.start + top, rows.stop + top),
            slice(columns.start + left, columns.stop + left),
        )
        return self.array[(*rest, *moved)]
