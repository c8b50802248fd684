"""What scanpy and squidpy keep under `uns["spatial"]`: images, and the scale of the coordinates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from ..atlas.image_sources import ArrayPixels
from ..atlas.images import Pixels

__all__ = ["Embedded", "EmbeddedImage", "embedded", "unit_of"]


@dataclass(frozen=True, slots=True)
class Embedded:
    """One library of `uns["spatial"]`."""

    library: str
    """Its name."""
    images: dict[str, tuple[str, float]]
    """Key in the file and image pixels per coordinate unit, by resolution."""
    microns_per_pixel: float | None
    """Length of a coordinate unit, where the file says it (Visium HD)."""
    spots: bool
    """Whether it has the scale factors of a spot array."""


def embedded(root: Any) -> dict[str, Embedded]:
    """Read the libraries of `uns["spatial"]`; empty when there are none.

    Only scale factors are read, no image.
    """
    if "uns" not in root or not hasattr(root["uns"], "keys") or "spatial" not in root["uns"]:
        return {}
    found = {}
    spatial = root["uns/spatial"]
    for library in spatial if hasattr(spatial, "keys") else ():
        group = spatial[library]
        if not hasattr(group, "keys"):
            continue
        factors = _factors(group)
        images = {}
        for name in _keys(group, "images"):
            node = group["images"][name]
            scale = factors.get(f"tissue_{name}_scalef")
            plane = hasattr(node, "shape") and len(node.shape) in (2, 3)
            if plane and node.dtype.kind in "uf" and scale and scale > 0:
                images[name] = (f"uns/spatial/{library}/images/{name}", scale)
        found[library] = Embedded(
            library, images, factors.get("microns_per_pixel"), "spot_diameter_fullres" in factors
        )
    return found


def _keys(group: Any, name: str) -> list[str]:
    return list(group[name]) if name in group and hasattr(group[name], "keys") else []


def _factors(group: Any) -> dict[str, float]:
    factors = {}
    for name in _keys(group, "scalefactors"):
        node = group["scalefactors"][name]
        if hasattr(node, "shape") and node.shape == () and node.dtype.kind in "iuf":
            factors[name] = float(node[()])
    return factors


def unit_of(libraries: dict[str, Embedded], columns: set[str]) -> tuple[float | str, str] | None:
    """Tell the unit that the file itself says: micrometres per pixel, or Visium's lattice.

    Parameters
    ----------
    libraries : dict
        What `embedded` found.
    columns : set of str
        obs columns; array_row and array_col mark a spot array.
    """
    scales = {one.microns_per_pixel for one in libraries.values()} - {None}
    if len(scales) == 1:
        scale = scales.pop()
        assert scale is not None
        return scale, "microns_per_pixel of the file"
    spots = any(one.spots for one in libraries.values())
    if spots and {"array_row", "array_col"} <= columns:
        return "lattice:100", "Visium scale factors and array positions in the file"
    return None


@dataclass(frozen=True, slots=True)
class EmbeddedImage:
    """Opens an image array of an AnnData tree: rows x columns, or rows x columns x channels."""

    node: Callable[[], AbstractContextManager[Any]]
    """Opens the array."""

    @contextmanager
    def __call__(self) -> Iterator[Pixels]:
        """Open the pixels; nothing is read yet."""
        with self.node() as array:
            item = array.dtype.itemsize
            row = int(array.shape[1]) * item * (array.shape[2] if array.ndim == 3 else 1)
            held = row * (array.chunks[0] if array.chunks else 1)
            yield ArrayPixels(array, "yx" if array.ndim == 2 else "yxc", held_bytes=held)
