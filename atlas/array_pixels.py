"""Pixels of anything that is sliced like an array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ArrayPixels", "channel_names", "is_color", "native"]


def native(dtype: Any) -> np.dtype[Any]:
    """Give the number type that pixels are handed out in: float64 as float32, bool as uint8.

    >>> native("float64"), native(">u2")
    (dtype('float32'), dtype('uint16'))
    """
    given = np.dtype(dtype)
    if given.kind == "f":
        return np.dtype(np.float32)
    return np.dtype(np.uint8) if given.kind == "b" else given.newbyteorder("=")


def channel_names(n: int, names: Sequence[str]) -> Sequence[str]:
    """Names of n channels: those given, else r, g, b (and a), else numbers."""
    if len(names) == n:
        return names
    return ("r", "g", "b", "a")[:n] if n in {3, 4} else [str(i) for i in range(n)]


def is_color(n: int, dtype: np.dtype[Any], names: Sequence[str]) -> bool:
    """Whether channels are colors of one picture, which are looked at together."""
    return dtype == np.uint8 and tuple(channel_names(n, names)[:3]) == ("r", "g", "b")


@dataclass(frozen=True, slots=True)
class ArrayPixels:
    """Anything sliceable as an array, with its axes named."""

    array: Any
    """NumPy, h5py or Zarr array."""
    axes: str
    """Its axes, such as "cyx" or "yxc"; of others the first is taken, of a stack a `plane`."""
    names: tuple[str, ...] = ()
    """Channel names; empty for r, g, b (and a) or numbers."""
    held_bytes: int = 0
    """Memory that a read of one piece holds."""
    plane: int = 0
    """Which plane of an axis other than these three that is longer than 1."""

    def _length(self, axis: str) -> int:
        return int(self.array.shape[self.axes.index(axis)]) if axis in self.axes else 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self._length("c"), self._length("y"), self._length("x")

    @property
    def dtype(self) -> np.dtype[Any]:
        """Number type handed out: float64 comes as float32, bool as uint8."""
        return native(self.array.dtype)

    @property
    def channels(self) -> Sequence[str]:
        """Name of each channel."""
        return channel_names(self.shape[0], self.names)

    @property
    def separate(self) -> bool:
        """Whether channels are stored one after another and are no colors."""
        first = "c" in self.axes and self.axes.index("c") < self.axes.index("y")
        return first and not is_color(self.shape[0], self.dtype, self.names)

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Rows `start:stop` as (channels, stop - start, width)."""
        return self._read(slice(None), start, stop)

    def channel_rows(self, channel: int, start: int, stop: int) -> NDArray[Any]:
        """Rows `start:stop` of one channel as (stop - start, width)."""
        found: NDArray[Any] = self._read(slice(channel, channel + 1), start, stop)[0]
        return found

    def _read(self, channels: slice, start: int, stop: int) -> NDArray[Any]:
        wanted = {"c": channels, "y": slice(start, stop), "x": slice(None)}
        index = tuple(
            wanted.get(axis, min(self.plane, n - 1))
            for axis, n in zip(self.axes, self.array.shape, strict=True)
        )
        band = np.asarray(self.array[index])
        kept = [axis for axis in self.axes if axis in "cyx"]
        if "c" not in kept:
            band, kept = band[None], ["c", *kept]
        return band.transpose([kept.index(axis) for axis in "cyx"]).astype(self.dtype, copy=False)
