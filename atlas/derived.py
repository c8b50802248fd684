"""Derived arrays: embeddings and domain labels, row-aligned with their section.

One attempt is a Zarr v3 group, `derived/<kind>/<key>/<section>/<attempt>/`, with a
`provenance.json` beside its arrays: what it was computed from, by what, with which parameters.
Row `i` of every array is row `i` of the section.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .errors import InvalidArgument
from .snapshot import DerivedEntry

if TYPE_CHECKING:
    from pathlib import Path

    import zarr
    from numpy.typing import NDArray

    from .attempt import Attempt
    from .section import Section
    from .store import AtlasStore

__all__ = [
    "Home",
    "Provenance",
    "RowBlocks",
    "tile_histogram",
    "write_derived",
    "write_provenance",
]

# An inner chunk is about one tile of an embedding. A shard is written at once, from memory.
_CHUNK_ROWS = 4096
_SHARD_CHUNKS = 64
_SHARD_BYTES = 16 * 2**20
_NODE_BYTES = 2**20

type Runs = Sequence[tuple[int, int]]


class Home(Protocol):
    """What derived data is written into: an atlas, or one whose section is not committed yet."""

    @property
    def version(self) -> int:
        """Snapshot that was looked at."""
        ...

    def section(self, name: str) -> Section:
        """Section of that name."""
        ...

    def new_attempt(self, parent: str) -> Attempt:
        """Open a fresh place to write into."""
        ...


@dataclass(frozen=True, slots=True)
class RowBlocks:
    """An array that is made while it is written, a block of rows at a time.

    Attributes
    ----------
    shape : tuple of int
        Of the whole array; axis 0 is the rows.
    dtype : dtype
    blocks : callable
        Yields consecutive blocks of rows that add up to `shape[0]`.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    blocks: Callable[[], Iterator[NDArray[Any]]]


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where derived data comes from; everything that is needed to compute it again.

    Attributes
    ----------
    inputs : mapping of str to str
        `section:<name>` or `<kind>/<key>/<section>` -> attempt id, as in the snapshot.
    parameters : mapping
        What the computation was told, defaults included.
    seed : int, optional
    run : str, optional
        Run whose weights were used.
    """

    inputs: Mapping[str, str]
    parameters: Mapping[str, Any]
    seed: int | None = None
    run: str | None = None


def write_derived(
    store: AtlasStore,
    kind: str,
    key: str,
    section: str,
    *,
    arrays: Mapping[str, NDArray[Any] | RowBlocks],
    attrs: Mapping[str, Any],
    provenance: Provenance,
    info: Mapping[str, Any] | None = None,
) -> DerivedEntry:
    """Write and seal derived arrays; visible to readers once the returned entry is committed.

    Parameters
    ----------
    store : AtlasStore
        Opened for writing.
    kind, key, section : str
        Their place: `derived/<kind>/<key>/<section>`.
    arrays : mapping of str to ndarray or RowBlocks
        Arrays by name; `RowBlocks` are written as they are made.
    attrs : mapping
        Small JSON facts kept with the arrays (kind and number of rows are added).
    provenance : Provenance
    info : mapping, optional
        Small JSON facts kept in the snapshot, readable without opening the arrays.

    Returns
    -------
    DerivedEntry
        For `Change(add_derived=[...])`; nothing is committed here.

    Raises
    ------
    ReadOnly
        The store was opened for reading.
    InvalidArgument
        An array that has not one row a cell (one a tile, where its name begins with `tile_`), or
        blocks that do not add up to the promised shape.

    Notes
    -----
    Memory: about five times one shard, which is at most 16 MiB and 262,144 rows.
    """
    n_obs = store.section(section).n_obs
    for name, source in arrays.items():
        _check_rows(store, section, name, source.shape)
    with store.new_attempt(f"derived/{kind}/{key}/{section}") as attempt:
        _write_group(attempt.path, arrays, {"kind": kind, "n_obs": n_obs, **attrs})
        write_provenance(store, provenance, attempt.path)
        receipt = attempt.seal()
    return DerivedEntry(
        kind=kind,
        key=key,
        section=section,
        attempt=receipt.attempt,
        digest=receipt.digest,
        nbytes=receipt.nbytes,
        inputs=dict(provenance.inputs),
        run=provenance.run,
        info=dict(info or {}),
    )


def write_provenance(store: Home, provenance: Provenance, path: Path) -> None:
    """Write `provenance.json` into the folder of an attempt at derived data."""
    text = json.dumps(_facts(store, provenance), indent=1, sort_keys=True)
    (path / "provenance.json").write_text(text + "\n", encoding="utf-8")


def _facts(store: Home, provenance: Provenance) -> dict[str, Any]:
    return {
        "tool": "tisseract",
        "version": version("tisseract"),
        "snapshot": store.version,
        "inputs": dict(provenance.inputs),
        "parameters": dict(provenance.parameters),
        "seed": provenance.seed,
        "run": provenance.run,
    }


def _write_group(
    path: Path, arrays: Mapping[str, NDArray[Any] | RowBlocks], attrs: Mapping[str, Any]
) -> None:
    import zarr
    from zarr.storage import LocalStore

    group = zarr.open_group(LocalStore(path), mode="a", zarr_format=3, attributes=dict(attrs))
    for name, source in arrays.items():
        blocks = source if isinstance(source, RowBlocks) else _as_blocks(source)
        array = _create(group, name, blocks)
        done = 0
        for rows in _regrouped(blocks.blocks(), array.shards[0] if array.shards else _CHUNK_ROWS):
            if done + len(rows) > blocks.shape[0] or rows.shape[1:] != blocks.shape[1:]:
                done += len(rows)
                break
            array[done : done + len(rows)] = rows
            done += len(rows)
        if done != blocks.shape[0]:
            raise InvalidArgument(
                f"wanted blocks of {name!r} that add up to shape {blocks.shape}, "
                f"but got {done} rows"
            )


def _check_rows(store: AtlasStore, section: str, name: str, shape: tuple[int, ...]) -> None:
    entry = store.section(section).entry
    by_tile = name.startswith("tile_")
    wanted = entry.n_tiles if by_tile else entry.n_obs
    if not shape or shape[0] != wanted:
        raise InvalidArgument(
            f"wanted {wanted} rows in {name!r}, one a {'tile' if by_tile else 'cell'} of section "
            f"{section!r}, but got shape {tuple(shape)}"
        )


def _as_blocks(values: NDArray[Any]) -> RowBlocks:
    return RowBlocks(values.shape, values.dtype, lambda: iter([values]))


def _create(group: zarr.Group, name: str, blocks: RowBlocks) -> zarr.Array[Any]:
    from zarr.codecs import BloscCodec, Crc32cCodec

    n_rows, rest = blocks.shape[0], blocks.shape[1:]
    chunk = max(1, min(_CHUNK_ROWS, n_rows))
    row_bytes = blocks.dtype.itemsize * math.prod(rest)
    fitting = max(1, _SHARD_BYTES // max(chunk * row_bytes, 1))
    shard = chunk * min(_SHARD_CHUNKS, fitting, -(-max(n_rows, 1) // chunk))
    return group.create_array(
        name,
        shape=blocks.shape,
        dtype=blocks.dtype,
        chunks=(chunk, *rest),
        shards=(shard, *rest),
        compressors=[BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"), Crc32cCodec()],
        fill_value=0,
        # a chunk of zeros must be written: readers take a missing chunk for a lost one
        config={"write_empty_chunks": True},
    )


def _regrouped(blocks: Iterator[NDArray[Any]], rows: int) -> Iterator[NDArray[Any]]:
    """Join and cut blocks to `rows` rows each, so that no shard is written twice."""
    waiting: list[NDArray[Any]] = []
    held = 0
    for block in blocks:
        rest = block
        while held + len(rest) >= rows:
            take = rows - held
            yield np.concatenate([*waiting, rest[:take]])
            waiting, held, rest = [], 0, rest[take:]
        if len(rest):
            waiting.append(rest)
            held += len(rest)
    if waiting:
        yield np.concatenate(waiting)


def tile_histogram(
    codes: NDArray[np.integer], ptr: NDArray[np.int64], n_categories: int
) -> NDArray[np.int32]:
    """Cells of each category in each tile.

    Parameters
    ----------
    codes : ndarray (n,) integer
        Category of each row; negative where it has none.
    ptr : ndarray (T + 1,) int64
        Tile t is rows `ptr[t]:ptr[t + 1]`.
    n_categories : int

    Returns
    -------
    ndarray (T, n_categories) int32

    Examples
    --------
    >>> import numpy as np
    >>> tile_histogram(np.array([0, 1, 1, -1]), np.array([0, 2, 4]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    tiles = len(ptr) - 1
    owner = np.repeat(np.arange(tiles), np.diff(ptr))
    labeled = codes >= 0
    flat = owner[labeled] * n_categories + codes[labeled].astype(np.int64)
    counts = np.bincount(flat, minlength=tiles * n_categories)
    return counts.reshape(tiles, n_categories).astype(np.int32)
