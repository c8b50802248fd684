"""Zarr groups in which a missing chunk is an error instead of zeros."""

from __future__ import annotations

from typing import Any, override

import zarr

from .errors import MissingKey
from .storage import Storage

__all__ = ["StrictGroup", "open_strict"]


class StrictGroup(zarr.Group):
    """A group whose arrays raise `ChunkNotFoundError` where a chunk is missing.

    Zarr reads a missing chunk as the fill value, so half a deleted array looks whole. The setting
    is made on each array, never in Zarr's global configuration, which belongs to the user.
    """

    @override
    def __getitem__(self, path: str) -> Any:
        found = super().__getitem__(path)
        if isinstance(found, zarr.Array):
            return found.with_config({"read_missing_chunks": False})
        return StrictGroup(found._async_group)


def open_strict(storage: Storage, prefix: str) -> StrictGroup:
    """Open a committed prefix for reading.

    Raises
    ------
    MissingKey
        No Zarr group there.
    """
    try:
        group = zarr.open_group(storage.zarr_store(prefix), mode="r", zarr_format=3)
    except FileNotFoundError:
        raise MissingKey(
            f"a Zarr group is wanted at {prefix!r} of {storage.url}, but got none; "
            "run `tisseract verify`"
        ) from None
    return StrictGroup(group._async_group)
