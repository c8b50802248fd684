"""Where the images of a CosMx export lie: FOVs placed and turned into mosaics in global pixels."""

from __future__ import annotations

from collections.abc import Mapping
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
from .cosmx_turn import orientation

if TYPE_CHECKING:
    from ...atlas.images import Affine
    from .cosmx_elements import Target
    from .cosmx_frame import FovFrame

__all__ = ["mosaics", "without"]

_STRIP_BYTES = 2**27  # of a band of 512 rows; wider slides become several mosaics
_BAND_ROWS = 512
_SLIDE_PX = 1_500_000  # two slides of 75 mm in the smallest pixels
_PICTURES = ("uint8", "uint16", "float32")
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
    if frame is None:
        if images:
            target.notes.append(
                f"{', '.join(images)} not read: nothing tells where the FOVs lie (local and global "
                "pixels, or fov_positions_file)"
            )
        return pictures, masks
    if not images:
        return pictures, masks
    reverse = orientation(there, target, frame)
    # Composites are made smaller in some exports; masks have the pixels of the coordinates.
    sizes = {kind: _header(kind, files[min(files)]) for kind, files in images.items()}
    full = max(shape[1] for shape, _ in sizes.values())
    if "CellLabels" in there:
        full = read_header(there["CellLabels"][min(there["CellLabels"])])[0][1]
    for kind, files in images.items():
        shape, dtype = sizes[kind]
        places = _corners(frame, files, full / shape[1], shape)
        lost = len(files) - len(places)
        if lost:
            target.notes.append(f"{kind}: {lost} FOVs without a place left out")
        strips = _strips(places, shape, 4 if kind in LABEL_KINDS else dtype.itemsize)
        for number, strip in enumerate(strips):
            name = kind if len(strips) == 1 else f"{kind}_{number + 1}"
            own = {fov: files[fov] for fov in strip}
            opener, corner = _mosaic(kind, own, strip, reverse, target)
            affine = _affine(corner, target.scale * full / shape[1], target.flip)
            if kind in LABEL_KINDS:
                masks[name] = LazyLabels(opener, affine)
            else:
                pictures[name] = LazyImage(opener, affine)
    return pictures, masks


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


def _mosaic(
    kind: str,
    files: Mapping[int, Path],
    places: Mapping[int, tuple[float, float]],
    reverse: tuple[bool, bool],
    target: Target,
) -> tuple[MosaicOpener, tuple[float, float]]:
    """Mosaic of some FOVs, and the place of its first pixel in pixels of the images."""
    first = files[min(files)]
    shape, dtype = read_header(first)
    tiles, (rows, columns), corner = place_tiles(files, places, shape[1], shape[2])
    empty = rows * columns / (len(tiles) * shape[1] * shape[2])
    if empty > _THIN:
        target.notes.append(f"{kind}: the mosaic is {empty:.0f} times as large as its FOVs")
    labels = None
    if kind == "CellLabels":
        order = np.argsort(target.cells.keys)
        labels = LabelRows(target.cells.keys[order], order)
    mask = kind in LABEL_KINDS
    names = ("label",) if mask else plane_names(first, shape[0])
    whole = (shape[0], rows, columns)
    return MosaicOpener(tiles, whole, shape, dtype.name, names, reverse, labels, mask), corner


def _affine(corner: tuple[float, float], step: float, flip: bool) -> Affine:
    """Pixels of a mosaic to stored units."""
    sign = -1.0 if flip else 1.0
    return (step, 0.0, corner[0] * step), (0.0, sign * step, sign * corner[1] * step)


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
