"""Images and masks of a Xenium output, placed on its cells."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ...atlas.errors import Fault, InputError
from ...atlas.labels import LazyLabels
from .ome_pixels import pixel_um
from .xenium_files import PIXEL_UM
from .xenium_images import (
    Found,
    Morphology,
    Place,
    add_aligned,
    add_given,
    checked_matrix,
    find_morphology,
    morphology_files,
)
from .xenium_place import REGISTER_BYTES, covered, register
from .xenium_zip import CellsZip, MaskPixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...atlas.images import Affine
    from .vendor import Survey
    from .xenium_parts import Parts

__all__ = ["add_images", "add_labels", "add_place"]

_ON_IMAGE = 0.5  # of the cells: an image with fewer of them on it was cut


def add_place(parts: Parts) -> None:
    """Find the size of a pixel, and read what the user says of images."""
    kwargs = parts.options.reader_kwargs
    given = kwargs.get("image_affine")
    size = kwargs.get("pixel_size")
    if size is None:
        pixel, said = _pixel(parts, morphology_files(parts.files.folder))
    elif isinstance(size, bool) or not isinstance(size, (int, float)) or not 0 < size < 100:
        raise InputError(Fault("pixel_size", f"expected micrometers above zero, but got {size!r}"))
    else:
        pixel, said = float(size), "reader_kwargs pixel_size"
    matrix = None if given is None else checked_matrix(given, "image_affine")
    parts.place = Place(pixel, said, parts.scale, parts.flip, matrix)


def _pixel(parts: Parts, files: Morphology) -> tuple[float, str]:
    """Micrometers per pixel: what the run says, else the image, else what all instruments have."""
    if parts.run.pixel_um is not None:
        return parts.run.pixel_um, "pixel_size of experiment.xenium"
    try:
        own = None if files.first is None else pixel_um(files.first)
    except InputError:
        own = None  # told where the image is opened, if it is
    if files.first is not None and own is not None and 0.01 < own < 100:
        return own, f"PhysicalSizeX of {files.first.name}"
    return PIXEL_UM, f"{PIXEL_UM} um, as in all Xenium releases; no experiment.xenium says it"


def add_labels(parts: Parts) -> None:
    """Masks of nuclei and cells."""
    zipped, place = parts.zipped, parts.place
    if zipped is None or place is None or not parts.on["labels"]:
        return
    affine = _mask_affine(zipped, place, parts.survey)
    for kind, name in enumerate(("nucleus_labels", "cell_labels")):
        if kind in zipped.masks:
            opener = MaskPixels(zipped.path, kind)
            with opener():
                parts.survey.labels[name] = LazyLabels(opener, affine)
        else:
            parts.survey.missing.append(f"no masks/{kind} in cells.zarr.zip: no {name}")


def _mask_affine(zipped: CellsZip, place: Place, survey: Survey) -> Affine:
    """Pixels of a mask to stored coordinates: by its own transform where it is one of pixels."""
    if zipped.transform is not None:
        for own in (np.linalg.inv(zipped.transform), zipped.transform):
            if np.allclose(np.abs(np.diag(own)[:2]), place.pixel_um, rtol=0.02):
                return replace(place, given=own).affine()
        survey.notes.append(
            "the transform of masks in cells.zarr.zip does not fit the pixel size "
            f"{place.pixel_um:g} um; masks are placed like the morphology image"
        )
    return place.affine()


def add_images(parts: Parts) -> None:
    """Morphology images, those aligned to them, and the one that the sheet names."""
    survey, options, place = parts.survey, parts.options, parts.place
    if place is None:
        return
    found = Found(place)
    if parts.on["images"]:
        found = find_morphology(morphology_files(parts.files.folder), place)
        if place.given is None and survey.positions is not None:
            _put_on_cells(found, survey, survey.positions)
        add_aligned(parts.files.folder, found, place, options.image)
    if options.image is not None:
        add_given(found, place, options.reader_kwargs, options.image)
    elif "image_alignment" in options.reader_kwargs:
        raise InputError(
            Fault("image_alignment", "expected the column `image` beside it, but got none")
        )
    survey.images |= found.images
    survey.notes += found.notes
    survey.missing += found.missing
    survey.versions |= {
        "pixel_size_um": found.place.pixel_um,
        "pixel_size_from": found.place.said,
    }


def _put_on_cells(found: Found, survey: Survey, positions: NDArray[np.float64]) -> None:
    """Find where a morphology image lies on which hardly a cell does: it was cut out."""
    if found.shape is None:
        return
    place, (height, width) = found.place, found.shape
    share = covered(found.shape, place.pixel_um, positions)
    if share >= _ON_IMAGE:
        return
    told = (
        f"at {place.pixel_um:g} um a pixel, {width} x {height} pixels from the origin hold "
        f"{share:.0%} of the cells: the morphology image was cut out"
    )
    name, image = next(iter(found.images.items()))
    survey.placing_bytes = REGISTER_BYTES
    match = register(image, place.pixel_um, positions)
    if match is None:
        found.missing.append(
            f"{told}, and its nuclei do not show where; it is not written, give reader_kwargs "
            "`image_affine` (a matrix from its pixels to micrometers)"
        )
        # Images of its size would lie where it lies.
        found.images, found.shape = {}, None
        return
    (pixel, _, left), (_, _, top), _ = match.matrix.tolist()
    found.notes.append(
        f"{told}; placed by its nuclei ({name}, {match.clearness:.0f} standard deviations): "
        f"{pixel:g} um a pixel, first pixel at {left:.1f}, {top:.1f} um"
    )
    found.place = replace(place, pixel_um=pixel, said="nuclei of the image", given=match.matrix)
    affine = found.place.affine()
    found.images = {key: replace(one, affine=affine) for key, one in found.images.items()}
