"""A Zarr store on the disk that does not follow links out of the atlas."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, override

from zarr.storage import LocalStore

from .errors import Corrupt

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

__all__ = ["RootedStore", "check_inside"]


def check_inside(path: Path, root: str) -> None:
    """Refuse a path that links lead out of a root (`os.path.realpath` of it)."""
    real = os.path.realpath(path)
    if real != root and not real.startswith(root + os.sep):
        raise Corrupt(f"a file inside {root} is wanted, but got {str(path)!r} linked outside it")


class RootedStore(LocalStore):
    """A store read only within the folder it was opened at."""

    def _check(self, key: str) -> None:
        check_inside(self.root / key, os.path.realpath(self.root))

    @override
    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        self._check(key)
        return super().get_sync(key, prototype=prototype, byte_range=byte_range)

    @override
    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        self._check(key)
        return await super().get(key, prototype, byte_range)

    @override
    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        wanted = list(key_ranges)
        for key, _ in wanted:
            self._check(key)
        return await super().get_partial_values(prototype, wanted)
