"""Images of a Xenium output: morphology by focus or projection, stains, and aligned H&E."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import Fault, InputError
from ...atlas.image_sources import LazyImage, file_image, open_pixels, stack_images
from ..reader import faults_of
from .xenium_files import PIXEL_UM, patterns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...atlas.images import Affine
    from .folder import Folder

__all__ = [
    "Found",
    "Place",
    "aligned",
    "checked_matrix",
    "find_images",
    "image_files",
    "read_alignment",
]

_STAINS = ("DAPI", "ATP1A1/CD45/E-Cadherin", "18S", "AlphaSMA/Vimentin")
_NUMBERED = re.compile(r"morphology_focus_(\d{4})\.ome\.tiff?$", re.IGNORECASE)
_CHANNEL = re.compile(r"ch(\d{4})_(.+)\.ome\.tiff?$", re.IGNORECASE)
_ALIGNED = ("he_image", "if_image")
_MICRON = {"µm", "um", "\N{GREEK SMALL LETTER MU}m", "micrometer", "micron", "microns"}


@dataclass(frozen=True, slots=True)
class Place:
    """How pixels of the morphology image become coordinates of the section."""

    pixel_um: float | None
    """Micrometers per pixel as the run says, None to look into the image."""
    said: str
    """Who says it."""
    scale: float = 1.0
    """Stored units a micrometer."""
    flip: bool = False
    """Whether stored y is the negative of the source's."""
    given: NDArray[np.float64] | None = None
    """(3, 3) pixels to micrometers, as the user gives them; wins."""

    def affine(self, to_morphology: NDArray[np.float64], pixel_um: float) -> Affine:
        """Pixels of an image, through those of the morphology image, to stored coordinates."""
        um = np.diag([pixel_um, pixel_um, 1.0]) if self.given is None else self.given
        sign = -1.0 if self.flip else 1.0
        (a, b, c), (d, e, f), _ = (
            np.diag([self.scale, sign * self.scale, 1.0]) @ um @ to_morphology
        ).tolist()
        return ((a, b, c), (d, e, f))


@dataclass(slots=True)
class Found:
    """Images of an output."""

    images: dict[str, LazyImage] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    """What they are read from."""
    pixel_um: float = PIXEL_UM
    """Micrometers per pixel of the morphology image."""
    pixel_said: str = ""
    """Who says it."""
    shape: tuple[int, int] | None = None
    """Height and width of the morphology image."""
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def find_images(folder: Folder, place: Place) -> Found:
    """Find the images of an output; headers are read, no pixels.

    Raises
    ------
    InputError
        An image that cannot be opened, or channels of different sizes.
    """
    found = Found()
    stack, names = _focus(folder)
    mip = folder.find(*patterns("morphology_mip.ome.tif"))
    single = folder.find(*patterns("morphology_focus.ome.tif"))
    first = next((one for one in (*stack, single, mip) if one is not None), None)
    found.pixel_um, found.pixel_said = _pixel(first, place)
    affine = place.affine(np.eye(3), found.pixel_um)
    if len(stack) == 1:
        found.images["morphology_focus"] = _one(stack[0], names, affine)
    elif stack:
        found.images["morphology_focus"] = stack_images(stack, names, affine)
    elif single is not None:
        found.images["morphology_focus"] = _one(single, ("DAPI",), affine)
    if mip is not None:
        found.images["morphology_mip"] = _one(mip, ("DAPI",), affine)
    found.files += [one for one in (*stack, None if stack else single, mip) if one is not None]
    if first is not None:
        with found.images[next(iter(found.images))].open() as pixels:
            found.shape = (int(pixels.shape[1]), int(pixels.shape[2]))
    elif folder.find(*patterns("morphology.ome.tif")) is None:
        found.missing.append(
            "no morphology image in the folder (morphology_focus, morphology_mip): none is written"
        )
    if folder.find(*patterns("morphology.ome.tif")) is not None:
        found.notes.append(
            "morphology.ome.tif left out: a stack of planes; "
            + ("focus and projection are kept" if first else "it has no projection beside it")
        )
    return found


def _named_stack(folder: Folder) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Channels of `morphology_focus/` in their order, and what their files are called."""
    everywhere = folder.all(
        *(f"{at}morphology_focus/*.ome.tif*" for at in ("", "outs/")),
        "*_morphology_focus/*.ome.tif*",
    )
    named = sorted(
        (int(match[1]), one, match[2]) for one in everywhere if (match := _CHANNEL.match(one.name))
    )
    if named:
        return tuple(one for _, one, _ in named), tuple(word for _, _, word in named)
    numbered = sorted(
        (int(match[1]), one) for one in everywhere if (match := _NUMBERED.search(one.name))
    )
    usual = dict(enumerate(_STAINS))
    names = tuple(usual.get(k, f"channel {k}") for k, _ in numbered)
    return tuple(one for _, one in numbered), names


def _focus(folder: Folder) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Channels of `morphology_focus/`, with the names that the first one gives all of them."""
    channels, names = _named_stack(folder)
    said = _channel_names(channels[0]) if channels else ()
    if len(said) == len(channels):
        return channels, said
    once = len(set(names)) == len(names)
    return channels, names if once else tuple(f"{name} {k}" for k, name in enumerate(names))


def _one(path: Path, names: Sequence[str], affine: Affine) -> LazyImage:
    """One file; a plane gets its stain's name."""
    with open_pixels(path, own=True) as pixels:
        planes = pixels.shape[0]
    if planes == 1:
        return stack_images((path,), tuple(names[:1]), affine)
    return file_image(path, affine)


def _ome(path: Path) -> str:
    """OME-XML of a TIFF, "" where it has none."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            text = page.description
    except (tifffile.TiffFileError, OSError, ValueError, KeyError, IndexError, TypeError):
        return ""
    return text if "<OME" in text[:4096] else ""


def _attributes(xml: str, tag: str) -> list[dict[str, str]]:
    """Attributes of every element of a name; text of a file is never parsed as a document."""
    elements = re.findall(rf"<(?:\w+:)?{tag}\s([^<>]*)>", xml)
    found = [re.findall(r'([A-Za-z:]+)="([^"]*)"', element) for element in elements]
    return [{name: unescape(value) for name, value in pairs} for pairs in found]


def _channel_names(path: Path) -> tuple[str, ...]:
    names = [one.get("Name", "") for one in _attributes(_ome(path), "Channel")]
    return tuple(names) if names and all(names) and len(set(names)) == len(names) else ()


def _pixel(first: Path | None, place: Place) -> tuple[float, str]:
    """Micrometers per pixel: what the run says, else the image, else what all instruments have."""
    if place.pixel_um is not None:
        return place.pixel_um, place.said
    if first is not None:
        for pixels in _attributes(_ome(first), "Pixels"):
            size, unit = pixels.get("PhysicalSizeX", ""), pixels.get("PhysicalSizeXUnit", "µm")
            if re.fullmatch(r"\d*\.?\d+", size) and unit in _MICRON and 0.01 < float(size) < 100:
                return float(size), f"PhysicalSizeX of {first.name}"
    return PIXEL_UM, f"{PIXEL_UM} um, as in all Xenium releases; no experiment.xenium says it"


def read_alignment(path: Path) -> NDArray[np.float64]:
    """Read a matrix of three rows, pixels of an image to pixels of the morphology image.

    Raises
    ------
    InputError
        No such matrix.
    """
    with (
        faults_of(path, "a 3 x 3 matrix", parsing=True),
        path.open(encoding="utf-8-sig", newline="") as file,
    ):
        text = file.read(65_536)
        rows = [row for row in csv.reader(text.splitlines()) if any(cell.strip() for cell in row)]
        matrix = np.array([[float(cell) for cell in row] for row in rows])
    return checked_matrix(matrix, str(path))


def checked_matrix(matrix: Any, where: str) -> NDArray[np.float64]:
    """Check an affine matrix, (3, 3) or (2, 3).

    Raises
    ------
    InputError
        It is none, or cannot be inverted.
    """
    try:
        found = np.asarray(matrix, np.float64)
    except (TypeError, ValueError):
        found = np.empty(0)
    if found.shape == (2, 3):
        found = np.vstack([found, [0.0, 0.0, 1.0]])
    square = found.shape == (3, 3) and bool(np.isfinite(found).all())
    if not (square and np.allclose(found[2], [0, 0, 1]) and abs(np.linalg.det(found)) > 1e-12):
        raise InputError(
            Fault(where, f"expected a 3 x 3 affine matrix, but got {np.array2string(found)[:200]}")
        )
    return found


def aligned(
    folder: Folder, found: Found, place: Place, options: Mapping[str, object], image: Path | None
) -> None:
    """Add the images that were aligned to the morphology image, and the one the sheet names.

    An image without a matrix is taken to be aligned when it has the size of the morphology image;
    otherwise it is left out.

    Raises
    ------
    InputError
        A matrix that is none, or an image of the sheet whose place nothing says.
    """
    given = options.get("image_alignment")
    if image is not None:
        matrix = _given_matrix(given, image) if given is not None else _matrix_beside(image)
        _add(found, place, "image", image, matrix, needed=True)
    elif given is not None:
        raise InputError(
            Fault("image_alignment", "expected the column `image` beside it, but got none")
        )
    for kind in _ALIGNED:
        files = folder.all(*(f"{at}*{kind}.ome.tif*" for at in ("", "outs/")))
        for k, file in enumerate(files):
            if image is None or file.resolve() != image.resolve():
                name = kind if len(files) == 1 else f"{kind}_{k}"
                _add(found, place, name, file, _matrix_beside(file))


def _given_matrix(given: object, image: Path) -> NDArray[np.float64]:
    if isinstance(given, str):
        return read_alignment(image.parent / given)
    return checked_matrix(given, "image_alignment")


def _alignment_file(image: Path) -> Path | None:
    """`<image>alignment.csv`, as the exporter names it."""
    stem = re.sub(r"(\.ome)?\.tiff?$", "", image.name, flags=re.IGNORECASE)
    names = (f"{stem}alignment.csv", f"{stem}_alignment.csv")
    return next((image.parent / name for name in names if (image.parent / name).is_file()), None)


def _matrix_beside(image: Path) -> NDArray[np.float64] | None:
    file = _alignment_file(image)
    return None if file is None else read_alignment(file)


def _add(
    found: Found,
    place: Place,
    name: str,
    file: Path,
    matrix: NDArray[np.float64] | None,
    *,
    needed: bool = False,
) -> None:
    with open_pixels(file) as pixels:
        shape = (int(pixels.shape[1]), int(pixels.shape[2]))
    if matrix is None and shape != found.shape:
        message = (
            f"expected {re.sub(r'[.]ome[.]tiff?$', '', file.name)}alignment.csv beside it, or the "
            f"size of the morphology image, but got no matrix and {shape[1]} x {shape[0]} pixels"
        )
        if needed:
            raise InputError(
                Fault(str(file), f"{message}; give reader_kwargs `image_alignment`, a 3 x 3 matrix")
            )
        found.missing.append(f"{file.name} is not written: {message}")
        return
    to_morphology = np.eye(3) if matrix is None else matrix
    found.images[name] = file_image(file, place.affine(to_morphology, found.pixel_um))
    found.files.append(file)


def image_files(folder: Folder) -> list[Path]:
    """Files that the images are read from, by their names."""
    stack, _ = _named_stack(folder)
    single = folder.find(*patterns("morphology_focus.ome.tif")) if not stack else None
    found = [*stack, single, folder.find(*patterns("morphology_mip.ome.tif"))]
    for kind in _ALIGNED:
        for one in folder.all(*(f"{at}*{kind}.ome.tif*" for at in ("", "outs/"))):
            found += [one, _alignment_file(one)]
    return [one for one in found if one is not None]
