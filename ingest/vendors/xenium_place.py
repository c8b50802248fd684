"""Where a morphology image lies that was cut out: found by its nuclei, never taken for granted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...atlas.image_sources import LazyImage

__all__ = ["REGISTER_BYTES", "Registered", "covered", "register"]

REGISTER_BYTES = 384 * 2**20
"""Most that finding a cut image takes, whatever its size."""

_LARGEST = 4096  # pixels along a side of an image that is looked at
_SIDE = 1024  # pixels along a side of what is compared, where nuclei allow
_MOST_SIDE = 2048  # at most
_FINE_UM, _COARSE_UM = 1.75, 4.5  # pixels in which nuclei show well, and still show
_BAND = 256
_REMEMBERED = 8
_HALVINGS = 7  # a cut may be made of any level of the pyramid
_CLEAR = 20.0  # standard deviations of the correlation
_ALONE = 1.5  # times the best of all other scales
_NEAR = 1.03
_FEWEST = 30  # cells on the image
_NUCLEUS_UM = 3.0
_REACH_UM = 12.0


@dataclass(frozen=True, slots=True)
class Registered:
    """How pixels of a cut image become micrometers."""

    matrix: NDArray[np.float64]
    """(3, 3)"""
    clearness: float
    """Height of the match, in standard deviations of all others."""


_KNOWN: dict[bytes, Registered | None] = {}


def covered(shape: tuple[int, int], pixel_um: float, positions: NDArray[np.float64]) -> float:
    """Share of cells that lie on an image whose first pixel is the origin."""
    if not len(positions):
        return 1.0
    high = np.array([shape[1], shape[0]]) * pixel_um
    return float(((positions >= 0) & (positions <= high)).all(axis=1).mean())


def register(
    image: LazyImage, pixel_um: float, positions: NDArray[np.float64]
) -> Registered | None:
    """Find a cut image by its bright nuclei: shift, and how often its pixels were halved.

    Parameters
    ----------
    image : LazyImage
        Nuclei are bright in its first channel.
    pixel_um : float
        Micrometers per pixel before the image was made coarser.
    positions : array, (n, 2)
        Cells, micrometers.

    Returns
    -------
    Registered or None
        None where no place is clearly better than all others, or the image is too large. Cost: an
        FFT of mostly 2,048 x 2,048, at most 4,096 x 4,096, for each of seven scales, and
        `REGISTER_BYTES`. What was found is remembered, as inspecting and opening both ask.
    """
    bright = _first_channel(image)
    if bright is None or bright.size == 0 or not bright.max() > bright.min():
        return None
    digest = hashlib.blake2b(bright.tobytes(), key=np.float64(pixel_um).tobytes())
    digest.update(np.ascontiguousarray(positions).tobytes())
    key = digest.digest()
    if key in _KNOWN:
        return _KNOWN[key]
    found = _registered(bright, pixel_um, positions)
    while len(_KNOWN) >= _REMEMBERED:
        _KNOWN.pop(next(iter(_KNOWN)), None)
    _KNOWN[key] = found
    return found


def _first_channel(image: LazyImage) -> NDArray[Any] | None:
    """(height, width) read band by band; None when it is too large."""
    with image.open() as pixels:
        _, height, width = pixels.shape
        if max(height, width) > _LARGEST:
            return None
        bright: NDArray[Any] = np.empty((height, width), pixels.dtype)
        for start in range(0, height, _BAND):
            stop = min(start + _BAND, height)
            bright[start:stop] = pixels.rows(start, stop)[0]
    return bright


def _registered(
    bright: NDArray[Any], pixel_um: float, positions: NDArray[np.float64]
) -> Registered | None:
    height, width = bright.shape
    extent = float(np.ptp(positions, axis=0).max())
    scales = [pixel_um * 2**k for k in range(_HALVINGS)]
    # Likely scales first: most often all the cells there are lie on the image.
    scales.sort(key=lambda one: abs(np.log(max(height, width) * one / max(extent, one))))
    best: Registered | None = None
    second = 0.0
    for scale in scales:
        found = _match(bright, scale, positions)
        if found is None:
            continue
        if best is None or found.clearness > best.clearness:
            second, best = best.clearness if best else 0.0, found
        else:
            second = max(second, found.clearness)
        if best.clearness > 2 * _CLEAR:
            break
    if best is None or best.clearness < max(_CLEAR, _ALONE * second):
        return None
    if not _scale_holds(bright, best, positions):
        return None
    return best if _cells_on(best.matrix, (height, width), positions) >= _FEWEST else None


def _scale_holds(bright: NDArray[Any], best: Registered, positions: NDArray[np.float64]) -> bool:
    """Whether pixels a little larger or smaller fit worse."""
    scale = float(best.matrix[0, 0])
    others = (_match(bright, scale * change, positions) for change in (1 / _NEAR, _NEAR))
    return all(one is None or one.clearness < best.clearness for one in others)


def _cells_on(
    matrix: NDArray[np.float64], shape: tuple[int, int], positions: NDArray[np.float64]
) -> int:
    inside = (positions - matrix[:2, 2]) / matrix[0, 0]
    return int(((inside >= 0) & (inside <= [shape[1], shape[0]])).all(axis=1).sum())


def _match(bright: NDArray[Any], scale: float, positions: NDArray[np.float64]) -> Registered | None:
    """Best shift at a scale, by correlation of the image with disks on the cells."""
    low = positions.min(axis=0) - _REACH_UM
    reach = positions.max(axis=0) + _REACH_UM - low
    step = _binning(max(float(reach.max()) / scale, *bright.shape), scale)
    if step is None:
        return None
    coarse = scale * step
    peaks = _disks(positions - low, np.ceil(reach / coarse), coarse)
    image = _contrast(_binned(bright, step), _NUCLEUS_UM / coarse / 2, _REACH_UM / coarse)
    surface = _correlation(peaks, image)
    spread = float(surface.std())
    if not spread > 0:
        return None
    row, column = np.unravel_index(int(surface.argmax()), surface.shape)
    y, x = (
        k - n if k >= m else k
        for k, n, m in zip(_peak(surface, row, column), surface.shape, peaks.shape, strict=True)
    )
    left, top = low[0] + x * coarse, low[1] + y * coarse
    matrix = np.array([[scale, 0, left], [0, scale, top], [0, 0, 1.0]])
    return Registered(matrix, float(surface.max()) / spread)


def _binning(side: float, scale: float) -> int | None:
    """Pixels that are made one, along each side; None where nuclei would not show.

    >>> _binning(4096, 0.2125), _binning(900, 1.7), _binning(4000, 1.7), _binning(9000, 1.7)
    (4, 1, 2, None)
    """
    if not side < _MOST_SIDE * _COARSE_UM / min(scale, _COARSE_UM) + 1:
        return None
    step = min(int(np.ceil(side / _SIDE)), max(1, int(_FINE_UM / scale)))
    step = max(step, int(np.ceil(side / _MOST_SIDE)))
    return step if step == 1 or step * scale <= _COARSE_UM else None


def _binned(bright: NDArray[Any], step: int) -> NDArray[np.float32]:
    """Means of squares of pixels; what does not fill a square is left out."""
    height, width = (max(1, n // step) for n in bright.shape)
    high, wide = (min(step, n) for n in bright.shape)
    squares = bright[: height * high, : width * wide].reshape(height, high, width, wide)
    found: NDArray[np.float32] = squares.mean(axis=(1, 3), dtype=np.float32)
    return found


def _disks(
    places: NDArray[np.float64], size: NDArray[np.float64], coarse: float
) -> NDArray[np.float32]:
    at = (places / coarse).astype(np.int64)
    cells = np.zeros((int(size[1]), int(size[0])), np.float32)
    np.add.at(cells, (at[:, 1], at[:, 0]), 1.0)
    return _contrast(cells, _NUCLEUS_UM / coarse, _REACH_UM / coarse)


def _contrast(image: NDArray[np.float32], narrow: float, wide: float) -> NDArray[np.float32]:
    """Less the surroundings: tissue is brighter than glass, whatever its nuclei are."""
    from scipy import ndimage

    found = ndimage.gaussian_filter(image, narrow)
    found -= ndimage.gaussian_filter(image, wide)
    return np.asarray(found, np.float32)


def _correlation(peaks: NDArray[np.float32], image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Correlation at all shifts; negative ones at the end."""
    from scipy import fft

    shape = tuple(int(a + b) for a, b in zip(peaks.shape, image.shape, strict=True))
    spectrum = fft.rfft2(peaks, shape)
    other = fft.rfft2(image, shape)
    spectrum *= np.conj(other, out=other)
    del other
    return np.asarray(fft.irfft2(spectrum, shape, overwrite_x=True), np.float32)


def _peak(surface: NDArray[np.float32], row: Any, column: Any) -> tuple[float, float]:
    """Place of the highest point between pixels: the top of a parabola through it, each way."""
    found = []
    for line, k in ((surface[:, column], int(row)), (surface[row], int(column))):
        before, here, after = (float(line[(k + step) % line.size]) for step in (-1, 0, 1))
        bend = before - 2 * here + after
        found.append(k + (0.5 * (before - after) / bend if bend < 0 else 0.0))
    return found[0], found[1]
