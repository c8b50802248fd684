"""Pictures of sections, small enough that a thousand of them fit in one page."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import Corrupt

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...atlas.section import Section

__all__ = ["BUDGET_BYTES", "data_uri", "density_png", "image_jpeg", "pixels_within"]

BUDGET_BYTES = 8 * 2**20
"""What the pictures of a page may take together, as text."""

_SIDES = (64, 48, 32, 24, 16)
_HEAD_BYTES = 400  # palette, headers and checksums of a PNG
_ANCHORS = np.array(
    [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], np.float64
)
_SHADES = 63  # beside the transparent one
_LARGEST_LEVEL = 32 * 2**20  # bytes of an image level that is worth reading for a thumbnail
_JPEG_QUALITY = 70


def pixels_within(n_sections: int, budget: int = BUDGET_BYTES) -> int:
    """Longest side of a picture so that all of them fit in a budget; 0 for no pictures.

    Examples
    --------
    >>> pixels_within(10), pixels_within(1000), pixels_within(4000), pixels_within(10**6)
    (64, 64, 32, 0)
    """
    for side in _SIDES:
        # A byte a pixel does not grow by more than its headers; base64 makes four of three.
        if n_sections * (side * side + _HEAD_BYTES) * 4 // 3 <= budget:
            return side
    return 0


def data_uri(data: bytes, kind: str) -> str:
    """Write bytes as a `data:` URI.

    Examples
    --------
    >>> data_uri(b"a", "image/png")
    'data:image/png;base64,YQ=='
    """
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def density_png(preview: NDArray[np.float32], side: int) -> bytes:
    """Draw the mean counts a cell of each pixel; pixels without cells are left clear.

    Parameters
    ----------
    preview : (2, h, w) float32
        Cells of each pixel, and the sum of their counts.
    side : int
        Longest side of the picture; it is not made larger than it is.

    Returns
    -------
    bytes
        PNG with a palette of 64 colors; shades are the logarithm between the 2nd and the 98th
        percentile of the section.
    """
    from PIL import Image

    cells, counts = (_shrunk(np.nan_to_num(part.astype(np.float64)), side) for part in preview)
    there = cells > 0
    light = np.zeros(cells.shape, np.uint8)
    if there.any():
        level = np.log1p(np.maximum(counts[there], 0) / cells[there])
        low, high = np.percentile(level, [2, 98])
        scaled = (level - low) / (high - low) if high > low else np.full(level.shape, 0.5)
        light[there] = 1 + np.clip(scaled * (_SHADES - 1), 0, _SHADES - 1).astype(np.uint8)
    picture = Image.fromarray(light, mode="P")
    picture.putpalette(_palette())
    return _saved(picture, "PNG", transparency=0, optimize=True)


def _palette() -> list[int]:
    at = np.linspace(0, len(_ANCHORS) - 1, _SHADES)
    shades = [np.interp(at, np.arange(len(_ANCHORS)), _ANCHORS[:, k]) for k in range(3)]
    colors = np.vstack([[255, 255, 255], np.stack(shades, axis=1)])
    found: list[int] = np.rint(colors).astype(int).ravel().tolist()
    return found


def _shrunk(values: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Sum pixels into at most `side` along the longer side."""
    longest = max(values.shape)
    if longest <= side:
        return values
    shape = tuple(max(1, n * side // longest) for n in values.shape)
    y, x = (np.arange(n) * m // n for n, m in zip(values.shape, shape, strict=True))
    out = np.zeros(shape)
    np.add.at(out, (y[:, None], x[None, :]), values)
    return out


def image_jpeg(section: Section, side: int) -> bytes | None:
    """Shrink the coarsest level of the first image of a section; None where there is none.

    Levels above 32 MiB are left alone: a source without a pyramid is not read for a thumbnail.

    Raises
    ------
    Corrupt
        The image is not as OME-Zarr is, or a part of it is missing.
    """
    from PIL import Image

    names = section.elements.get("images", ())
    if not names:
        return None
    try:
        pixels = _coarsest(section, names[0], side)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise Corrupt(
            f"an image in OME-Zarr is wanted in section {section.name!r}, but {names[0]!r} cannot "
            f"be read: {str(error)[:80]}; run `tisseract verify`"
        ) from error
    if pixels is None:
        return None
    picture = Image.fromarray(_colors(pixels))
    picture.thumbnail((side, side))
    return _saved(picture, "JPEG", quality=_JPEG_QUALITY, optimize=True)


def _coarsest(section: Section, name: str, side: int) -> NDArray[Any] | None:
    """(c, y, x) pixels of the coarsest level, every so many; None where that is too large."""
    group: Any = section.group[f"images/{name}"]
    datasets = group.attrs.get("ome", group.attrs)["multiscales"][0]["datasets"]
    level = group[datasets[-1]["path"]]
    if level.ndim != 3 or level.nbytes > _LARGEST_LEVEL:
        return None
    step = max(1, max(level.shape[1:]) // (4 * side))
    return np.asarray(level[:, ::step, ::step])


def _colors(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """(y, x, 3) of (c, y, x): colors as they are, else the first channel in gray."""
    if pixels.dtype == np.uint8 and pixels.shape[0] in (3, 4):
        return np.ascontiguousarray(pixels[:3].transpose(1, 2, 0))
    light = np.nan_to_num(pixels[0].astype(np.float64))
    high = float(np.percentile(light, 99.5)) or 1.0
    gray = (np.clip(light / high, 0, 1) * 255).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)


def _saved(picture: Any, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()
