"""Shape, type and grid of an array of a section, checked as it is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import Corrupt

__all__ = ["ArrayLayout", "zarr_layout"]

_DTYPES = frozenset(
    ["bool", "string", "float32", "float64"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
_MAX_CHUNK_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """Shape and grid of an array, from the index of a section; cannot describe a hostile array.

    Raises
    ------
    Corrupt
        Lengths that are not positive, an unknown number type, or chunks beyond 1 GiB.
    """

    shape: tuple[int, ...]
    """Full shape; only the first axis is chunked."""
    dtype: str
    """NumPy name of a number type, `bool`, or `string`."""
    chunk: int
    """Rows of an inner chunk."""
    shard: int
    """Rows of a shard."""

    def __post_init__(self) -> None:
        lengths: tuple[Any, ...] = (*self.shape, self.chunk, self.shard)
        whole = all(type(v) is int and 0 <= v < 2**48 for v in lengths)
        if (
            not whole
            or not self.shape
            or self.dtype not in _DTYPES
            or self.chunk < 1
            or self.shard < 1
            or self.shard % self.chunk
            or self.chunk * self.row_bytes > _MAX_CHUNK_BYTES
        ):
            raise Corrupt(
                "an array of a section must have a sound shape, type and grid, but got "
                f"shape {self.shape}, type {self.dtype!r}, chunk {self.chunk}, shard {self.shard}; "
                "run `tisseract verify`"
            )

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> ArrayLayout:
        """Build from the JSON of the section's index."""
        try:
            return cls(
                tuple(described["shape"]),
                str(described["dtype"]),
                described["chunk"],
                described["shard"],
            )
        except (KeyError, TypeError) as error:
            raise Corrupt(f"an array's description misses a part, but got {described!r}") from error

    @property
    def row_bytes(self) -> int:
        """Uncompressed bytes of a row; 1 for strings, whose length varies."""
        size = 1 if self.dtype == "string" else np.dtype(self.dtype).itemsize
        return size * math.prod(self.shape[1:])


def zarr_layout(metadata: Any, label: str) -> ArrayLayout:
    """Read shape, type and grid of a sharded array from its own Zarr metadata.

    Raises
    ------
    Corrupt
        Not an array that is sharded along its first axis only.
    """
    try:
        rest = list(metadata["shape"])[1:]
        inner = metadata["codecs"][0]["configuration"]["chunk_shape"]
        outer = metadata["chunk_grid"]["configuration"]["chunk_shape"]
        if list(inner)[1:] != rest or list(outer)[1:] != rest:
            raise ValueError(f"chunks {inner} and {outer}")
        return ArrayLayout.of(
            {
                "shape": metadata["shape"],
                "dtype": metadata["data_type"],
                "chunk": inner[0],
                "shard": outer[0],
            }
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise Corrupt(
            "an array sharded along its first axis is wanted, but got something else in "
            f"{label}; run `tisseract verify`"
        ) from error
