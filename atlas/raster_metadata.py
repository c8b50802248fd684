"""What NGFF says of the levels of a raster, and where its pixels lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .images import Affine

__all__ = ["datasets_of", "named_axis", "placement"]


def named_axis(name: str, unit: bool) -> dict[str, str]:
    """Describe an axis of a raster, with its unit where a transformation does."""
    kind = {"name": name, "type": "channel" if name == "c" else "space"}
    return kind | ({"unit": "unit"} if unit and name != "c" else {})


def datasets_of(shapes: Sequence[tuple[int, ...]]) -> list[dict[str, Any]]:
    """List the levels of a pyramid, each with its scale and shift; shapes end in y, x."""
    datasets = []
    full_height, full_width = shapes[0][-2:]
    for number, (*rest, height, width) in enumerate(shapes):
        # Exactly 2 a level, since odd last rows are left out; less where a side is down to 1.
        scale = [1.0] * len(rest) + [
            min(2.0**number, a / b) for a, b in ((full_height, height), (full_width, width))
        ]
        datasets.append(
            {
                "path": f"s{number}",
                "coordinateTransformations": [
                    {"type": "scale", "scale": scale},
                    {"type": "translation", "translation": [0.5 * (s - 1) for s in scale]},
                ],
            }
        )
    return datasets


def placement(affine: Affine, coordinate_system: str, axes: str) -> dict[str, Any]:
    """Describe how pixels go to a coordinate system; axes are those of the file, in order."""
    (a, b, e), (c, d, f) = affine
    one = [1.0] if "c" in axes else []
    if b == c == e == f == 0 and a > 0 and d > 0:
        transform: dict[str, Any] = {"type": "scale", "scale": [*one, d, a]}
    else:
        plane = [[d, c, f], [b, a, e]]
        matrix = [[1.0, 0.0, 0.0, 0.0], *([0.0, *row] for row in plane)] if one else plane
        transform = {"type": "affine", "affine": matrix}
    named = [named_axis(axis, unit=True) for axis in axes]
    transform["input"] = {"name": axes, "axes": named}
    transform["output"] = {"name": coordinate_system, "axes": named}
    return transform
