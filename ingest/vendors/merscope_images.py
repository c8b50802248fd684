"""Mosaics of MERSCOPE: which planes become images, and where their pixels lie in micrometers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import Fault, InputError
from ...atlas.image_sources import stack_images
from ..reader import faults_of
from .merscope_files import Bundle, Mosaic

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...atlas.image_sources import LazyImage
    from ...atlas.images import Affine

__all__ = [
    "Placement",
    "image_share",
    "mosaic_images",
    "place",
    "planes_wanted",
    "read_json",
]

_PIXEL = 1.0  # an image may be this many pixels larger or smaller than its manifest says
_LARGEST_FILE = 2**24


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the pixels of the mosaics lie."""

    matrix: NDArray[np.float64]
    """(2, 3) pixel (x, y, 1) to micrometers, for images of `size`."""
    size: tuple[int, int] | None
    """Width and height in pixels that the matrix is for; None: those of any mosaic."""
    how: str
    """Where it comes from."""
    notes: tuple[str, ...] = ()
    """What does not agree."""

    def affine(self, size: tuple[int, int], unit: float, *, flip: bool) -> Affine:
        """Pixels of an image of that width and height to stored coordinates."""
        matrix = self.matrix.copy()
        if self.size is not None:
            matrix[:, :2] *= np.array(self.size) / np.array(size)
        matrix *= np.array([[unit], [-unit if flip else unit]])
        (a, b, c), (d, e, f) = matrix.tolist()
        return (a, b, c), (d, e, f)


def planes_wanted(option: object, offered: Sequence[Mosaic]) -> tuple[int, ...]:
    """Planes to write as images.

    Parameters
    ----------
    option : object
        None for the middle one of those with the most stains, a number, a list of them, "all",
        or "none".
    offered : sequence of Mosaic
        Images there are.

    Raises
    ------
    InputError
        Something else, or a plane that is not there.

    Examples
    --------
    >>> mosaics = [Mosaic("DAPI", z, Path(f"mosaic_DAPI_z{z}.tif")) for z in range(7)]
    >>> planes_wanted(None, mosaics), planes_wanted([0, 6], mosaics)
    ((3,), (0, 6))
    """
    stains: dict[int, int] = {}
    for mosaic in offered:
        stains[mosaic.z] = stains.get(mosaic.z, 0) + 1
    if option == "none" or option is False or not stains:
        return ()
    if option is None:
        richest = sorted(z for z, n in stains.items() if n == max(stains.values()))
        return (richest[len(richest) // 2],)
    if option == "all":
        return tuple(sorted(stains))
    asked: list[object] = list(option) if isinstance(option, (list, tuple)) else [option]
    wanted = [z for z in asked if isinstance(z, int) and not isinstance(z, bool) and z in stains]
    wrong = [z for z in asked if z not in wanted or isinstance(z, bool)]
    if wrong:
        raise InputError(
            Fault(
                "reader_kwargs z_layers",
                f"expected planes out of {', '.join(map(str, sorted(stains)))}, 'all' or 'none', "
                f"but got {wrong[0]!r}",
            )
        )
    return tuple(dict.fromkeys(wanted))


def place(bundle: Bundle) -> Placement | None:
    """Find where the mosaics lie, None when nothing says it.

    The transform maps micrometers to pixels and is inverted. The manifest tells width and height
    of the mosaic and the box it covers; it alone knows when images were made smaller later.

    Raises
    ------
    InputError
        A transform that is no invertible 3 x 3 matrix, or a manifest that is no JSON object.
    """
    manifest = {} if bundle.manifest is None else read_json(bundle.manifest)
    size, box = _size(manifest), _box(manifest)
    boxed = None
    if box is not None:
        spans = np.array([box[2] - box[0], box[3] - box[1]])
        # Against a size of one pixel: `affine` divides by the size of the image at hand.
        boxed = np.column_stack([np.diag(spans), box[:2]])
    if bundle.transform is None:
        if boxed is None:
            return None
        return Placement(boxed, (1, 1), "bbox_microns of manifest.json")
    matrix = _read_transform(bundle.transform)
    notes: list[str] = []
    if boxed is not None and size is not None:
        apart = _corners_apart(matrix, boxed, size)
        pixel = float(np.abs(np.linalg.det(matrix[:, :2]))) ** 0.5
        if apart > 2 * pixel:
            notes.append(
                f"{bundle.transform.name} and manifest.json place the mosaics {apart:.3g} um "
                "apart; the former is taken"
            )
    return Placement(matrix, size, bundle.transform.name, tuple(notes))


def _corners_apart(
    matrix: NDArray[np.float64], boxed: NDArray[np.float64], size: tuple[int, int]
) -> float:
    corners = np.array([[0.0, 0.0, 1.0], [size[0], size[1], 1.0]])
    unit = np.array([[0.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
    return float(np.abs(corners @ matrix.T - unit @ boxed.T).max())


def _read_transform(path: Path) -> NDArray[np.float64]:
    """Micrometers to pixels, inverted: (2, 3)."""
    with faults_of(path, "a transform of 3 x 3 numbers", parsing=True):
        if path.stat().st_size > _LARGEST_FILE:
            raise ValueError("too large for nine numbers")
        lines = path.read_text(encoding="utf-8-sig").replace(",", " ").splitlines()
        rows = [[float(cell) for cell in line.split()] for line in lines if line.strip()]
        matrix = np.array(rows, dtype=np.float64)
    good = matrix.shape == (3, 3) and bool(np.isfinite(matrix).all())
    if good and np.array_equal(matrix[2], [0.0, 0.0, 1.0]):
        scale = np.abs(np.linalg.det(matrix[:2, :2]))
        # A pixel between a nanometer and a millimeter.
        if 1e-6 < scale < 1e6:
            inverse: NDArray[np.float64] = np.linalg.inv(matrix)[:2]
            return inverse
    raise InputError(
        Fault(
            str(path),
            "expected a 3 x 3 matrix from micrometers to pixels that can be inverted and ends in "
            f"0 0 1, but got {np.array2string(matrix, max_line_width=200, threshold=12)[:120]}",
        )
    )


def read_json(path: Path) -> Mapping[str, Any]:
    """Read a JSON object of at most 16 MiB.

    Raises
    ------
    InputError
        It is none.
    """
    with faults_of(path, "a JSON object", parsing=True):
        if path.stat().st_size > _LARGEST_FILE:
            raise ValueError("larger than 16 MiB")
        try:
            found = json.loads(path.read_text(encoding="utf-8-sig"))
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        if not isinstance(found, dict):
            raise TypeError(f"a {type(found).__name__}")
    return found


def _size(manifest: Mapping[str, Any]) -> tuple[int, int] | None:
    sides: list[Any] = [manifest.get(f"mosaic_{side}_pixels") for side in ("width", "height")]
    if all(_is_number(side) and 1 <= side < 2**31 for side in sides):
        return int(sides[0]), int(sides[1])
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _box(manifest: Mapping[str, Any]) -> NDArray[np.float64] | None:
    """Return xmin, ymin, xmax, ymax in micrometers."""
    given = manifest.get("bbox_microns")
    if not isinstance(given, list) or len(given) != 4 or not all(map(_is_number, given)):
        return None
    try:
        box = np.array(given, np.float64)
    except OverflowError:
        return None
    spans = box[2:] - box[:2]
    return box if np.isfinite(box).all() and (spans > 0).all() and (spans < 1e7).all() else None


def mosaic_images(
    bundle: Bundle,
    placement: Placement,
    planes: Sequence[int],
    *,
    unit: float,
    flip: bool,
    notes: list[str],
) -> dict[str, LazyImage]:
    """One image a plane, its stains as channels; headers are read.

    Parameters
    ----------
    bundle : Bundle
        Files.
    placement : Placement
        Where the pixels lie.
    planes : sequence of int
        Planes to write.
    unit : float
        Stored units a micrometer.
    flip : bool
        Whether y points up in the source.
    notes : list of str
        Is added to.
    """
    images = {}
    for z in planes:
        # Stains of another size or number type cannot be channels of the same image.
        for k, ((width, height, _), group) in enumerate(
            sorted(_by_shape(bundle, z).items(), key=lambda one: -len(one[1]))
        ):
            _note_size(placement, (width, height), group[0], notes)
            images[f"mosaic_z{z}" if k == 0 else f"mosaic_z{z}_{k + 1}"] = stack_images(
                [mosaic.path for mosaic in group],
                [mosaic.stain for mosaic in group],
                placement.affine((width, height), unit, flip=flip),
            )
    return images


def _by_shape(bundle: Bundle, z: int) -> dict[tuple[int, int, str], list[Mosaic]]:
    """Stains of a plane by width, height and number type."""
    found: dict[tuple[int, int, str], list[Mosaic]] = {}
    for mosaic in bundle.mosaics:
        if mosaic.z != z:
            continue
        with stack_images((mosaic.path,), (mosaic.stain,)).open() as pixels:
            key = (pixels.shape[2], pixels.shape[1], str(pixels.dtype))
        if 0 in key:
            fault = Fault(str(mosaic.path), f"expected pixels, but got {key[0]} x {key[1]}")
            raise InputError(fault)
        found.setdefault(key, []).append(mosaic)
    return found


def _note_size(
    placement: Placement, size: tuple[int, int], mosaic: Mosaic, notes: list[str]
) -> None:
    said = placement.size
    if said is None or said == (1, 1):
        return
    if max(abs(said[0] - size[0]), abs(said[1] - size[1])) > _PIXEL:
        notes.append(
            f"{mosaic.path.name} is {size[0]} x {size[1]} pixels, manifest.json says {said[0]} x "
            f"{said[1]}: taken as a smaller copy of the same field"
        )


def image_share(
    image: LazyImage, positions: NDArray[np.float64], unit: float, *, flip: bool
) -> float:
    """Share of some positions (n, 2), in source units, that lie on an image; reads its header."""
    with image.open() as pixels:
        size = np.array([pixels.shape[2], pixels.shape[1]], np.float64)
    matrix = np.array(image.affine)
    stored = positions * np.array([unit, -unit if flip else unit])
    at = np.linalg.solve(matrix[:, :2], (stored - matrix[:, 2]).T).T
    return float(((at >= 0) & (at < size)).all(axis=1).mean())
