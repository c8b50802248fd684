"""What outputs of Space Ranger share: one of several matrices, scale factors, scaled images."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...atlas.errors import Fault, InputError
from ...atlas.image_sources import file_image, open_pixels
from ..spaceranger_files import image_scale, read_scalefactors
from ..tenx import FeatureMatrix, open_h5, open_mtx

if TYPE_CHECKING:
    from ...atlas.images import Affine
    from ..reader import ReadOptions
    from .folder import Folder
    from .vendor import Survey

__all__ = [
    "MatrixFiles",
    "find_matrix",
    "find_scalefactors",
    "image_files",
    "images_wanted",
    "lists_beside",
    "read_instead",
    "scaled_images",
    "survey_images",
    "within",
]

_BARCODES = ("barcodes.tsv.gz", "barcodes.tsv")
_FEATURES = ("features.tsv.gz", "features.tsv", "genes.tsv.gz", "genes.tsv")
_PACKED = (".tar", ".tar.gz", ".tgz", ".zip")
_ENDINGS = ("png", "jpg", "jpeg", "tif", "tiff")
_SHOWN = 4


def within(bases: Sequence[str], *names: str) -> tuple[str, ...]:
    """Patterns of files in some folders: each name alone first, then after any prefix.

    Portals put the name of the sample before each file that they hand out.

    Examples
    --------
    >>> within(["", "outs/"], "a.h5")
    ('a.h5', 'outs/a.h5', '*a.h5', 'outs/*a.h5')
    """
    plain = [glob.escape(base) for base in bases]
    return (
        *(f"{base}{name}" for name in names for base in plain),
        *(f"{base}*{name}" for name in names for base in plain),
    )


@dataclass(frozen=True, slots=True)
class MatrixFiles:
    """A feature-barcode matrix that was found: one HDF5 file, or three text files."""

    kind: str
    """Such as `filtered`, `raw` or `probe`."""
    paths: tuple[Path, ...]
    """The HDF5 file; or matrix, barcodes and features."""

    def open(self) -> FeatureMatrix:
        """Open it; reads names, no counts."""
        return open_h5(self.paths[0]) if len(self.paths) == 1 else open_mtx(*self.paths)


def find_matrix(
    folder: Folder, bases: Sequence[str], stems: Mapping[str, str], wanted: object = None
) -> MatrixFiles:
    """Find the first matrix of some kinds: HDF5 before text, named folders before bare files.

    Parameters
    ----------
    folder : Folder
        The output.
    bases : sequence of str
        Folders in it that are looked at, "" or ending in a slash.
    stems : mapping of str to str
        File name without ending of each kind, in the order of preference.
    wanted : object
        The one kind to take, None for the first.

    Raises
    ------
    InputError
        None is there, several are, or a part of one is missing.
    """
    if wanted is not None and wanted not in list(stems):
        raise InputError(Fault("matrix", f"expected one of {', '.join(stems)}, but got {wanted!r}"))
    for kind in stems if wanted is None else [str(wanted)]:
        stem = stems[kind]
        if (found := folder.find(*within(bases, f"{stem}.h5"))) is not None:
            return MatrixFiles(kind, (found,))
        inner = within(bases, f"{stem}/matrix.mtx.gz", f"{stem}/matrix.mtx")
        bare = within(bases, "matrix.mtx.gz", "matrix.mtx") if kind == "filtered" else ()
        if (found := folder.find(*inner) or folder.find(*bare)) is not None:
            return MatrixFiles(kind, (found, *lists_beside(found)))
    raise InputError(Fault(str(folder.root), _nothing(folder, bases, stems, wanted)))


def read_instead(found: MatrixFiles, stems: Mapping[str, str], wanted: object) -> list[str]:
    """Tell of a matrix that is read since the one of the first kind is not there."""
    first = next(iter(stems))
    if wanted is not None or found.kind == first:
        return []
    return [f"no {stems[first]} in the folder: {stems[found.kind]} is read instead"]


def lists_beside(matrix: Path) -> tuple[Path, Path]:
    """Barcodes and features of a Matrix Market file, of the same prefix.

    Raises
    ------
    InputError
        Naming what is missing.
    """
    prefix = matrix.name[: max(0, matrix.name.casefold().rfind("matrix.mtx"))]
    found: list[Path] = []
    missing: list[str] = []
    for names in (_BARCODES, _FEATURES):
        one = next((p for n in names if (p := matrix.with_name(prefix + n)).is_file()), None)
        if one is None:
            missing.append(prefix + names[0])
        else:
            found.append(one)
    if missing:
        raise InputError(
            Fault(
                str(matrix.parent),
                f"expected {', '.join(missing)} beside {matrix.name}, but got none; copy the whole "
                "folder of the matrix",
            )
        )
    return found[0], found[1]


def _nothing(folder: Folder, bases: Sequence[str], stems: Mapping[str, str], wanted: object) -> str:
    first = stems[str(wanted)] if wanted is not None else next(iter(stems.values()))
    there = [name for name in folder.names if "_matrix" in name.casefold()][:_SHOWN]
    packed = [name for name in there if name.casefold().endswith(_PACKED)]
    where = f" in {bases[-1]}" if bases[-1] else ""
    step = f"; unpack {packed[0]}" if packed else ""
    if folder.root.resolve().name == "spatial":
        step = "; name the folder above `spatial`"
    return (
        f"expected {first}.h5 or the folder {first}{where}, but got "
        f"{', '.join(there) or 'no matrix'}{step}"
    )


def find_scalefactors(
    folder: Folder, bases: Sequence[str]
) -> tuple[Path | None, dict[str, float], list[str]]:
    """Find and read scale factors: their file, the numbers, and what is missing."""
    found = folder.find(*within(bases, "scalefactors_json.json"))
    if found is None:
        return None, {}, ["no scalefactors_json.json in the folder: no image of it is written"]
    return found, read_scalefactors(found), []


def scaled_images(
    folder: Folder, bases: Sequence[str], factors: Mapping[str, float], wanted: Sequence[str]
) -> tuple[dict[str, tuple[Path, float]], list[str]]:
    """Find the downscaled images that are wanted, with their pixels per full-resolution pixel.

    What is missing of them comes second. Images that show what was detected
    (`detected_tissue_image`, `aligned_fiducials`) are drawn over, and none of the tissue.
    """
    images, missing = {}, []
    for name in (one for one in ("hires", "lowres") if one in wanted):
        names = [f"tissue_{name}_image.{ending}" for ending in _ENDINGS]
        found = folder.find(*within(bases, *names))
        factor = factors.get(f"tissue_{name}_scalef")
        if found is None:
            missing.append(f"no {name} image in the folder (tissue_{name}_image.png): none written")
        elif factor is None:
            missing.append(
                f"no tissue_{name}_scalef in scalefactors_json.json: {found.name} is not written"
            )
        else:
            images[name] = (found, factor)
    return images, missing


def image_files(options: ReadOptions) -> tuple[Path, ...]:
    """Return the image of the sheet, and the scale factors beside it that place it."""
    if options.image is None:
        return ()
    beside = image_scale(options.image)
    return (options.image, beside[0]) if beside else (options.image,)


def images_wanted(options: ReadOptions, names: Sequence[str]) -> tuple[str, ...]:
    """Names of the images of the folder that the sheet asks for; all without a word on it.

    Raises
    ------
    InputError
        The option `images` is neither true nor false nor a list of some of the names.
    """
    given = options.reader_kwargs.get("images", True)
    if isinstance(given, bool):
        return tuple(names) if given else ()
    if not isinstance(given, (list, tuple)) or any(one not in names for one in given):
        raise InputError(
            Fault(
                "images",
                f"expected true, false or a list out of {', '.join(names)}, but got {given!r}",
            )
        )
    return tuple(given)


def survey_images(
    survey: Survey,
    options: ReadOptions,
    images: Mapping[str, tuple[Path, float]],
) -> None:
    """Add the image of the sheet and those found in the folder; headers are read.

    Raises
    ------
    InputError
        An image that cannot be decoded, or an option of no meaning.
    """
    unit = survey.unit.um_per_unit or 1.0
    sign = -1.0 if options.y_axis == "up" else 1.0

    def add(name: str, path: Path, scale: float) -> None:
        affine: Affine = ((unit / scale, 0.0, 0.0), (0.0, sign * unit / scale, 0.0))
        with survey.faults.part(), open_pixels(path):
            survey.images[name] = file_image(path, affine)

    if options.image is not None:
        # The user may name one of the output's own images, whose scale lies beside it.
        beside = image_scale(options.image)
        scale = options.reader_kwargs.get("image_scale", beside[1] if beside else 1.0)
        number = scale if isinstance(scale, (int, float)) and scale is not True else np.nan
        if not 0 < number < np.inf:
            raise InputError(
                Fault("image_scale", f"expected a number above zero, but got {scale!r}")
            )
        add("image", options.image, float(number))
    for name, (path, scale) in images.items():
        add(name, path, scale)
