"""Where the images of a CosMx export lie: FOVs placed and turned into mosaics in global pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import Fault, InputError, near
from ...atlas.image_sources import LazyImage
from ...atlas.labels import LazyLabels
from .cosmx_files import LABEL_KINDS
from .cosmx_images import (
    LabelRows,
    MosaicOpener,
    place_tiles,
    plane_names,
    read_header,
)
from .cosmx_turn import GUIDES, local_pixels, orientation
from .cosmx_unit import rows_of_fov

if TYPE_CHECKING:
    from ...atlas.images import Affine
    from .cosmx_elements import Target
    from .cosmx_frame import FovFrame

__all__ = ["fov_sizes", "image_files", "mosaics", "without"]

_STRIP_BYTES = 2**27  # of a band of 512 rows; wider slides become several mosaics
_BAND_ROWS = 512
_SLIDE_PX = 1_500_000  # two slides of 75 mm in the smallest pixels
_PICTURES = ("uint8", "uint16", "float32")
_NEARLY_ALL, _BEYOND = 0.99, 1.02  # of the cells, of the rows of an image
_THIN = 4.0  # mosaic pixels a pixel of an image: above, most of it is empty


def mosaics(
    images: Mapping[str, Mapping[int, Path]],
    there: Mapping[str, Mapping[int, Path]],
    target: Target,
) -> tuple[dict[str, LazyImage], dict[str, LazyLabels]]:
    """Put the files of each kind into one mosaic; the headers of first files are read.

    Parameters
    ----------
    images : mapping
        Files by kind and FOV.
    there : mapping
        Files of all kinds, asked for or not: they tell directions and pixels.
    target : Target
        Where things go.

    Raises
    ------
    InputError
        A first file is no image of its kind, or FOVs lie farther apart than a slide is long.
    """
    frame = target.frame
    pictures: dict[str, LazyImage] = {}
    masks: dict[str, LazyLabels] = {}
    if images and frame is None:
        target.notes.append(
            f"{', '.join(images)} not read: nothing tells where the FOVs lie (local and global "
            "pixels, or fov_positions_file)"
        )
    if not images or frame is None:
        return pictures, masks
    headers = {kind: _header(kind, files[min(files)]) for kind, files in images.items()}
    height = _fov_height(there, target, frame)
    reverse = orientation(there, target, frame, height)
    for kind, files in images.items():
        grid = _Grid(kind, files, *headers[kind], height, reverse)
        for name, opener, affine in _mosaics_of(grid, target, frame):
            if kind in LABEL_KINDS:
                masks[name] = LazyLabels(opener, affine)
            else:
                pictures[name] = LazyImage(opener, affine)
    return pictures, masks


@dataclass(frozen=True, slots=True)
class _Grid:
    """Images of one kind."""

    kind: str
    files: Mapping[int, Path]
    shape: tuple[int, int, int]
    """Planes, height and width of each."""
    dtype: np.dtype[Any]
    fov_height: float
    """Rows of a FOV in the pixels of the coordinates."""
    reverse: tuple[bool, bool]
    """Whether columns and rows run against global x and y."""

    @property
    def ratio(self) -> float:
        """Pixels of the coordinates a pixel of the images: composites may be made smaller."""
        return self.fov_height / self.shape[1]


def fov_sizes(images: Mapping[str, Mapping[int, Path]]) -> dict[str, tuple[int, int]]:
    """Height and width of the first file of each kind; none of broken ones."""
    found = {}
    for kind, files in images.items():
        with suppress(InputError):  # told where images are read
            _, *size = read_header(files[min(files)])[0]
            found[kind] = size[0], size[1]
    return found


def _fov_height(there: Mapping[str, Mapping[int, Path]], target: Target, frame: FovFrame) -> float:
    """Rows of a FOV in the pixels of the coordinates: those of masks, else of the largest image.

    Where cells lie below the largest, all are made smaller: then those of the instrument.
    """
    sizes = fov_sizes(there)
    if "CellLabels" in sizes:
        return sizes["CellLabels"][0]
    height, width = max(sizes.values())
    local = local_pixels(target, frame)[:, 1]
    known = local[np.isfinite(local)]
    if not known.size or np.quantile(known, _NEARLY_ALL) <= _BEYOND * height:
        return height
    whole = rows_of_fov(height, width)
    target.notes.append(
        f"images have {height} rows, and cells lie below them: taken as smaller copies of FOVs of "
        f"{whole} rows"
    )
    return whole


def _header(kind: str, path: Path) -> tuple[tuple[int, int, int], Any]:
    """Shape and number type of a file, of which its kind must be able."""
    shape, dtype = read_header(path)
    mask = kind in LABEL_KINDS
    fits = dtype.kind in "iu" and shape[0] == 1 if mask else dtype.name in _PICTURES
    if not fits:
        what = "one plane of whole numbers" if mask else f"numbers of {', '.join(_PICTURES)}"
        raise InputError(
            Fault(str(path), f"expected {what}, but got {dtype} in {shape[0]} planes; export again")
        )
    return shape, dtype


def _corners(
    frame: FovFrame, files: Mapping[int, Path], ratio: float, shape: tuple[int, int, int]
) -> dict[int, tuple[float, float]]:
    """Least global x and y of each FOV, in pixels of its image."""
    fovs = np.array(sorted(files), np.int64)
    at = frame.rows_of(fovs)
    known, size = at >= 0, np.array([shape[2], shape[1]])
    low = frame.origin[at[known]] / ratio - np.where(np.array(frame.sign) < 0, size, 0)
    if low.size and np.ptp(low, axis=0).max() > _SLIDE_PX:
        raise InputError(
            Fault(
                str(files[min(files)].parent),
                f"expected FOVs on one slide, but got places {np.ptp(low, axis=0).max():.4g} "
                "pixels apart; check the coordinates of metadata and fov_positions_file",
            )
        )
    return {
        int(fov): (float(x), float(y))
        for fov, (x, y) in zip(fovs[known].tolist(), low.tolist(), strict=True)
    }


def _strips(
    places: Mapping[int, tuple[float, float]], shape: tuple[int, int, int], pixel_bytes: int
) -> list[dict[int, tuple[float, float]]]:
    """FOVs in groups from left to right, so that a band of each mosaic fits into memory."""
    widest = max(_STRIP_BYTES // (_BAND_ROWS * shape[0] * pixel_bytes), shape[2])
    strips: list[dict[int, tuple[float, float]]] = []
    left = -np.inf
    for fov, place in sorted(places.items(), key=lambda item: item[1][0]):
        if not strips or place[0] + shape[2] - left > widest:
            strips.append({})
            left = place[0]
        strips[-1][fov] = place
    return strips


def _mosaics_of(
    grid: _Grid, target: Target, frame: FovFrame
) -> Iterator[tuple[str, MosaicOpener, Affine]]:
    """Mosaics of one kind, from left to right, with their names and places."""
    planes, height, width = grid.shape
    places = _corners(frame, grid.files, grid.ratio, grid.shape)
    if lost := len(grid.files) - len(places):
        target.notes.append(f"{grid.kind}: {lost} FOVs without a place left out")
    mask, labels = grid.kind in LABEL_KINDS, None
    if grid.kind == "CellLabels":
        order = np.argsort(target.cells.keys)
        labels = LabelRows(target.cells.keys[order], order)
    names = ("label",) if mask else plane_names(grid.files[min(grid.files)], planes)
    strips = _strips(places, grid.shape, 4 if mask else grid.dtype.itemsize)
    for number, strip in enumerate(strips):
        tiles, (rows, columns), corner = place_tiles(grid.files, strip, height, width)
        empty = rows * columns / (len(tiles) * height * width)
        if empty > _THIN:
            target.notes.append(
                f"{grid.kind}: the mosaic is {empty:.0f} times as large as its FOVs"
            )
        opener = MosaicOpener(
            tiles,
            (planes, rows, columns),
            grid.shape,
            grid.dtype.name,
            names,
            grid.reverse,
            labels,
            mask,
        )
        name = grid.kind if len(strips) == 1 else f"{grid.kind}_{number + 1}"
        yield name, opener, _affine(corner, target.scale * grid.ratio, target.flip)


def _affine(corner: tuple[float, float], step: float, flip: bool) -> Affine:
    """Pixels of a mosaic to stored units."""
    sign = -1.0 if flip else 1.0
    return (step, 0.0, corner[0] * step), (0.0, sign * step, sign * corner[1] * step)


def image_files(
    images: Mapping[str, Mapping[int, Path]], kinds: object, where: str
) -> tuple[Path, ...]:
    """Images that are read: those chosen, and the ones that tell pixels and directions."""
    chosen = without(images, kinds, where)
    guide = next((kind for kind in GUIDES if kind in images), None) if chosen else None
    whole = [*chosen.values(), *([images[guide]] if guide else [])]
    first = [files[min(files)] for files in images.values()]
    return tuple(dict.fromkeys([*(one for files in whole for one in files.values()), *first]))


def without(
    images: Mapping[str, Mapping[int, Path]], kinds: object, where: str
) -> dict[str, Mapping[int, Path]]:
    """Keep the kinds of images chosen by reader_kwargs `images`: true, false, or names.

    Raises
    ------
    InputError
        A name that is none.
    """
    if kinds in (True, None):
        return {kind: files for kind, files in images.items() if kind != "CellOverlay"}
    chosen = [] if kinds is False else [kinds] if isinstance(kinds, str) else kinds
    if not isinstance(chosen, list | tuple):
        raise InputError(Fault(where, f"expected images true, false or names, but got {kinds!r}"))
    folded = {kind.casefold(): kind for kind in images}
    for name in chosen:
        if str(name).casefold() not in folded:
            raise InputError(
                Fault(
                    where,
                    f"expected images out of {', '.join(images) or 'none'}, but got {name!r}."
                    f"{near(str(name), list(images))}",
                )
            )
    return {folded[str(name).casefold()]: images[folded[str(name).casefold()]] for name in chosen}
