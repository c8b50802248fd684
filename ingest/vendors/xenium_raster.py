"""Images and masks of a Xenium output, placed on its cells."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ...atlas.errors import Fault, InputError
from ...atlas.labels import LazyLabels
from .xenium_files import PIXEL_UM
from .xenium_images import Found, Place, aligned, checked_matrix, find_images
from .xenium_place import REGISTER_BYTES, covered, register
from .xenium_zip import CellsZip, MaskPixels

if TYPE_CHECKING:
    from ...atlas.images import Affine
    from .xenium_parts import Parts

__all__ = ["add_images", "add_labels"]

_ON_IMAGE = 0.5  # of the cells: an image with fewer of them on it was cut


def _place(parts: Parts) -> Place:
    kwargs = parts.options.reader_kwargs
    given = kwargs.get("image_affine")
    size = kwargs.get("pixel_size")
    if size is not None and (
        isinstance(size, bool) or not isinstance(size, (int, float)) or not 0 < size < 100
    ):
        raise InputError(Fault("pixel_size", f"expected micrometers above zero, but got {size!r}"))
    said = "pixel_size of experiment.xenium" if size is None else "reader_kwargs pixel_size"
    return Place(
        float(size) if size is not None else parts.run.pixel_um,
        said,
        parts.scale,
        parts.flip,
        None if given is None else checked_matrix(given, "image_affine"),
    )


def add_labels(parts: Parts) -> None:
    """Masks of nuclei and cells."""
    zipped = parts.zipped
    if zipped is None or not parts.on["labels"]:
        return
    place = _place(parts)
    affine = _mask_affine(zipped, place, parts)
    for kind, name in enumerate(("nucleus_labels", "cell_labels")):
        if kind in zipped.masks:
            opener = MaskPixels(zipped.path, kind)
            with opener():
                parts.survey.labels[name] = LazyLabels(opener, affine)
        else:
            parts.survey.missing.append(f"no masks/{kind} in cells.zarr.zip: no {name}")


def _mask_affine(zipped: CellsZip, place: Place, parts: Parts) -> Affine:
    """Pixels of a mask to stored coordinates: by its own transform where it is one of pixels."""
    pixel = place.pixel_um or PIXEL_UM
    um = np.diag([pixel, pixel, 1.0])
    if zipped.transform is not None and place.given is None:
        for own in (np.linalg.inv(zipped.transform), zipped.transform):
            if np.allclose(np.abs(np.diag(own)[:2]), pixel, rtol=0.02):
                um = own
                break
        else:
            parts.survey.notes.append(
                "the transform of masks in cells.zarr.zip does not fit the pixel size "
                f"{pixel:g} um; masks are placed by the pixel size"
            )
    return replace(place, given=um if place.given is None else place.given).affine(np.eye(3), 1.0)


def add_images(parts: Parts) -> None:
    """Morphology images and those aligned to them."""
    survey, options = parts.survey, parts.options
    if not parts.on["images"] and options.image is None:
        return
    folder, place = parts.files.folder, _place(parts)
    found = find_images(folder, place) if parts.on["images"] else Found()
    if parts.on["images"] and place.given is None and survey.positions is not None:
        place, found = _on_cells(parts, place, found)
    aligned(folder, found, place, options.reader_kwargs, options.image)
    survey.images |= found.images
    survey.notes += found.notes
    survey.missing += found.missing
    survey.versions |= {"pixel_size_um": found.pixel_um, "pixel_size_from": found.pixel_said}


def _on_cells(parts: Parts, place: Place, found: Found) -> tuple[Place, Found]:
    """Find where a morphology image lies on which hardly a cell does: it was cut out."""
    positions = parts.survey.positions
    if positions is None or found.shape is None:
        return place, found
    share = covered(found.shape, found.pixel_um, positions)
    if share >= _ON_IMAGE:
        return place, found
    height, width = found.shape
    told = (
        f"at {found.pixel_um:g} um a pixel, {width} x {height} pixels from the origin hold "
        f"{share:.0%} of the cells: the morphology image was cut out"
    )
    name = next(iter(found.images))
    parts.survey.placing_bytes = REGISTER_BYTES
    match = register(found.images[name], found.pixel_um, positions)
    if match is None:
        found.missing.append(
            f"{told}, and its nuclei do not show where; it is not written, give reader_kwargs "
            "`image_affine` (a matrix from its pixels to micrometers)"
        )
        found.images.clear()
        return place, found
    place = replace(place, given=match.matrix)
    again = find_images(parts.files.folder, place)
    (pixel, _, left), (_, _, top), _ = match.matrix.tolist()
    again.notes.append(
        f"{told}; placed by its nuclei ({name}, {match.clearness:.0f} standard deviations): "
        f"{pixel:g} um a pixel, first pixel at {left:.1f}, {top:.1f} um"
    )
    again.pixel_um, again.pixel_said = pixel, "nuclei of the image"
    return place, again
