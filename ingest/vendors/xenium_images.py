"""Images of a Xenium output: morphology by focus or projection, stains, and aligned H&E."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import Fault, InputError
from ...atlas.image_sources import LazyImage, file_image, open_pixels, stack_images
from ..reader import faults_of
from .ome_pixels import ome_attributes
from .xenium_files import patterns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...atlas.images import Affine
    from .folder import Folder

__all__ = [
    "Found",
    "Morphology",
    "Place",
    "add_aligned",
    "add_given",
    "alignment_of",
    "checked_matrix",
    "find_morphology",
    "image_files",
    "morphology_files",
    "read_alignment",
]

_STAINS = ("DAPI", "ATP1A1/CD45/E-Cadherin", "18S", "AlphaSMA/Vimentin")
_NUMBERED = re.compile(r"morphology_focus_(\d{4})\.ome\.tiff?$", re.IGNORECASE)
_CHANNEL = re.compile(r"ch(\d{4})_(.+)\.ome\.tiff?$", re.IGNORECASE)
_ALIGNED = ("he_image", "if_image")


@dataclass(frozen=True, slots=True)
class Place:
    """How pixels of the morphology image become coordinates of the section."""

    pixel_um: float
    """Micrometers per pixel."""
    said: str
    """Who says it."""
    scale: float = 1.0
    """Stored units a micrometer."""
    flip: bool = False
    """Whether stored y is the negative of the source's."""
    given: NDArray[np.float64] | None = None
    """(3, 3) pixels to micrometers, as the user gives them or the nuclei show them; wins."""

    def affine(self, to_morphology: NDArray[np.float64] | None = None) -> Affine:
        """Pixels of an image, through those of the morphology image, to stored coordinates."""
        um = np.diag([self.pixel_um, self.pixel_um, 1.0]) if self.given is None else self.given
        sign = -1.0 if self.flip else 1.0
        stored = np.diag([self.scale, sign * self.scale, 1.0]) @ um
        if to_morphology is not None:
            stored = stored @ to_morphology
        (a, b, c), (d, e, f), _ = stored.tolist()
        return ((a, b, c), (d, e, f))


@dataclass(frozen=True, slots=True)
class Morphology:
    """Files of the morphology images."""

    focus: tuple[Path, ...]
    """One a channel, or one with all of them."""
    names: tuple[str, ...]
    """(len(focus),) what the files are called, for images that do not name their channels."""
    mip: Path | None
    """Projection."""
    planes: Path | None
    """Stack in z, which is not read."""

    @property
    def first(self) -> Path | None:
        """The file that tells the size of a pixel."""
        return self.focus[0] if self.focus else self.mip


@dataclass(slots=True)
class Found:
    """Images of an output."""

    place: Place
    """Where the morphology image lies."""
    images: dict[str, LazyImage] = field(default_factory=dict)
    shape: tuple[int, int] | None = None
    """Height and width of the morphology image, None where none is written."""
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def morphology_files(folder: Folder) -> Morphology:
    """Find the morphology images by their names."""
    focus, names = _named_stack(folder)
    single = None if focus else folder.find(*patterns("morphology_focus.ome.tif"))
    if single is not None:
        focus, names = (single,), _STAINS[:1]
    mip, planes = (
        folder.find(*patterns(f"{name}.ome.tif")) for name in ("morphology_mip", "morphology")
    )
    return Morphology(focus, names, mip, planes)


def find_morphology(files: Morphology, place: Place) -> Found:
    """Open the morphology images; headers are read, no pixels.

    Raises
    ------
    InputError
        An image that cannot be opened, or channels of different sizes.
    """
    found = Found(place)
    affine = place.affine()
    if len(files.focus) == 1:
        found.images["morphology_focus"] = _one(files.focus[0], files.names, affine)
    elif files.focus:
        names = _stack_names(files)
        found.images["morphology_focus"] = stack_images(files.focus, names, affine)
    if files.mip is not None:
        found.images["morphology_mip"] = _one(files.mip, _STAINS[:1], affine)
    for image in list(found.images.values())[:1]:
        with image.open() as pixels:
            found.shape = (int(pixels.shape[1]), int(pixels.shape[2]))
    if files.planes is not None:
        found.notes.append(
            "morphology.ome.tif left out: a stack of planes; "
            + ("focus and projection are kept" if found.images else "it has no projection beside")
        )
    elif not found.images:
        found.missing.append(
            "no morphology image in the folder (morphology_focus, morphology_mip): none is written"
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


def _stack_names(files: Morphology) -> tuple[str, ...]:
    """Names that the first file gives all channels, else what the files are called."""
    said = [one.get("Name", "") for one in ome_attributes(files.focus[0], "Channel")]
    if len(said) == len(files.focus) and all(said) and len(set(said)) == len(said):
        return tuple(said)
    once = len(set(files.names)) == len(files.names)
    return files.names if once else tuple(f"{name} {k}" for k, name in enumerate(files.names))


def _one(path: Path, names: Sequence[str], affine: Affine) -> LazyImage:
    """One file; a plane gets its stain's name."""
    with open_pixels(path, own=True) as pixels:
        planes = pixels.shape[0]
    if planes == 1:
        return stack_images((path,), tuple(names[:1]), affine)
    return file_image(path, affine)


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


def add_aligned(folder: Folder, found: Found, place: Place, skipped: Path | None) -> None:
    """Add the images of the folder that were aligned to the morphology image.

    An image without a matrix is taken to be aligned when it has the size of the morphology image;
    otherwise it is left out. Matrices that the instrument's software exports lead to the whole
    morphology image (`place`), also where the one of the folder was cut out of it (`found.place`).

    Raises
    ------
    InputError
        A matrix that is none.
    """
    for kind in _ALIGNED:
        files = _aligned_files(folder, kind)
        for k, file in enumerate(files):
            if skipped is None or file.resolve() != skipped.resolve():
                name = kind if len(files) == 1 else f"{kind}_{k}"
                affine = _exported(_alignment_file(file, folder), place)
                if told := _add(found, name, file, affine):
                    found.missing.append(f"{file.name} is not written: {told}")


def add_given(found: Found, place: Place, options: Mapping[str, object], image: Path) -> None:
    """Add the image that the sheet names: by the matrix given, else the one beside it.

    Raises
    ------
    InputError
        A matrix that is none, or nothing says where the image lies.
    """
    given = options.get("image_alignment")
    if given is None:
        affine = _exported(_alignment_file(image), place)
    elif isinstance(given, str):
        affine = found.place.affine(read_alignment(image.parent / given))
    else:
        affine = found.place.affine(checked_matrix(given, "image_alignment"))
    if told := _add(found, "image", image, affine):
        message = f"{told}; give reader_kwargs `image_alignment`, a 3 x 3 matrix"
        raise InputError(Fault(str(image), message))


def _aligned_files(folder: Folder, kind: str) -> tuple[Path, ...]:
    return folder.all(*(f"{at}*{kind}.ome.tif*" for at in ("", "outs/")))


def _alignment_file(image: Path, folder: Folder | None = None) -> Path | None:
    """`<image>alignment.csv`, as the exporter names it; none that leads out of the folder."""
    stem = re.sub(r"(\.ome)?\.tiff?$", "", image.name, flags=re.IGNORECASE)
    for name in (f"{stem}alignment.csv", f"{stem}_alignment.csv"):
        file = image.parent / name
        inside = folder is None or file.relative_to(folder.root).as_posix() in folder.names
        if inside and file.is_file():
            return file
    return None


def _exported(matrix: Path | None, place: Place) -> Affine | None:
    """Where an image lies by its matrix, None without one."""
    return None if matrix is None else place.affine(read_alignment(matrix))


def _add(found: Found, name: str, file: Path, affine: Affine | None) -> str:
    """Add an image; say what lacks where nothing tells its place."""
    with open_pixels(file) as pixels:
        shape = (int(pixels.shape[1]), int(pixels.shape[2]))
    if affine is None and shape != found.shape:
        return (
            f"expected {re.sub(r'[.]ome[.]tiff?$', '', file.name)}alignment.csv beside it, or the "
            f"size of the morphology image, but got no matrix and {shape[1]} x {shape[0]} pixels"
        )
    found.images[name] = file_image(file, found.place.affine() if affine is None else affine)
    return ""


def image_files(folder: Folder) -> list[Path]:
    """Files that the images are read from, by their names."""
    files = morphology_files(folder)
    found = [*files.focus, files.mip]
    for kind in _ALIGNED:
        for one in _aligned_files(folder, kind):
            found += [one, _alignment_file(one, folder)]
    return [one for one in found if one is not None]


def alignment_of(image: Path, options: Mapping[str, object]) -> Path | None:
    """File of the matrix of the sheet's image."""
    given = options.get("image_alignment")
    if given is None:
        return _alignment_file(image)
    return image.parent / given if isinstance(given, str) else None
