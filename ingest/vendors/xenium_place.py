"""Where a morphology image lies that was cut out: found by its nuclei, never taken for granted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...atlas.image_sources import LazyImage

__all__ = ["Registered", "covered", "register"]

_LARGEST = 4096  # pixels along a side of what is compared
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
        FFT of at most 8,192 x 8,192 for each of seven scales.
    """
    with image.open() as pixels:
        _, height, width = pixels.shape
        if max(height, width) > _LARGEST:
            return None
        bright = np.asarray(pixels.rows(0, height)[0], np.float64)
    if not bright.std() > 0:
        return None
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


def _scale_holds(
    bright: NDArray[np.float64], best: Registered, positions: NDArray[np.float64]
) -> bool:
    """Whether pixels a little larger or smaller fit worse."""
    scale = float(best.matrix[0, 0])
    others = (_match(bright, scale * change, positions) for change in (1 / _NEAR, _NEAR))
    return all(one is None or one.clearness < best.clearness for one in others)


def _cells_on(
    matrix: NDArray[np.float64], shape: tuple[int, int], positions: NDArray[np.float64]
) -> int:
    inside = (positions - matrix[:2, 2]) / matrix[0, 0]
    return int(((inside >= 0) & (inside <= [shape[1], shape[0]])).all(axis=1).sum())


def _match(
    bright: NDArray[np.float64], scale: float, positions: NDArray[np.float64]
) -> Registered | None:
    """Best shift at a scale, by correlation of the image with disks on the cells."""
    from scipy import fft, ndimage

    low = positions.min(axis=0) - _REACH_UM
    with np.errstate(over="ignore"):
        size = np.ceil((positions.max(axis=0) + _REACH_UM - low) / scale)
    if not size.max() <= _LARGEST:
        return None
    at = ((positions - low) / scale).astype(np.int64)
    cells = np.zeros((int(size[1]), int(size[0])))
    np.add.at(cells, (at[:, 1], at[:, 0]), 1.0)
    # Less the surroundings: tissue is brighter than glass, whatever its nuclei are.
    narrow, wide = _NUCLEUS_UM / scale, _REACH_UM / scale
    peaks = ndimage.gaussian_filter(cells, narrow) - ndimage.gaussian_filter(cells, wide)
    image = ndimage.gaussian_filter(bright, narrow / 2) - ndimage.gaussian_filter(bright, wide)
    shape = tuple(int(a + b) for a, b in zip(peaks.shape, image.shape, strict=True))
    spectrum = fft.rfft2(peaks, shape) * np.conj(fft.rfft2(image, shape))
    surface = fft.irfft2(spectrum, shape)
    spread = float(surface.std())
    if not spread > 0:
        return None
    row, column = np.unravel_index(int(surface.argmax()), surface.shape)
    y, x = (
        int(k) - n if int(k) >= m else int(k)
        for k, n, m in zip((row, column), surface.shape, peaks.shape, strict=True)
    )
    matrix = np.array([[scale, 0, low[0] + x * scale], [0, scale, low[1] + y * scale], [0, 0, 1.0]])
    return Registered(matrix, float(surface.max()) / spread)
