"""Chunks, shards and codecs of a section's arrays: the one place where they are chosen.

Every array is chunked along its first axis only. Inner chunks are what a read fetches, shards are
what the disk or bucket sees as objects. Inner chunks carry a CRC-32C, shards the checksum of their
index. Figures behind the numbers: `docs/decisions/001-codecs.md`.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

from .errors import InvalidArgument

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "BLOCK_ROWS",
    "COLUMN_ROWS",
    "LZ4",
    "ZSTD",
    "Codec",
    "Grid",
    "array_metadata",
    "column_grid",
    "decode",
    "decode_into",
    "decode_text",
    "element_grid",
    "encode",
    "encode_text",
    "row_grid",
    "seal",
    "unseal",
]

BLOCK_ROWS = 256
"""Rows that one inner chunk of positions, and on average of counts, spans."""
COLUMN_ROWS = 1024
"""Rows of an inner chunk of an obs column: a byte or two a row, so fewer rows are all overhead."""

_MIN_ELEMENTS = 1024
_MAX_ELEMENTS = 65_536  # above this a row of 2,000 genes drags too many neighbors along
_SHARD_BYTES = 64 * 2**20  # uncompressed; objects of this size suit disks and buckets
_SHARD_CHUNKS = 1024  # 16 bytes each in the index, which every first read of a shard fetches
_CRC_BYTES = 4
_RESIDUE = 0x48674BC7  # the CRC-32C of anything that ends in its own CRC-32C
_HEADER = struct.Struct("<4xIII")  # of a blosc frame: bytes unpacked, of a block, of the frame
_MAX_TEXT_BYTES = 2**28  # unpacked bytes of a chunk of strings; readers refuse more


@dataclass(frozen=True, slots=True)
class Codec:
    """How blosc compresses an inner chunk."""

    name: str
    """Inner compressor."""
    level: int
    """Level of it."""
    shuffle: int
    """1: bytes of all numbers side by side; 2: bits."""


ZSTD = Codec("zstd", 1, 1)
"""What sections use: smallest."""
LZ4 = Codec("lz4", 1, 2)
"""What graphs use: four times as fast, and for their numbers hardly larger."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Inner chunk and shard lengths along the first axis.

    Raises
    ------
    ValueError
        If the shard is not a whole number of chunks.
    """

    chunk: int
    """Length of an inner chunk."""
    shard: int
    """Length of a shard."""

    def __post_init__(self) -> None:
        if self.chunk < 1 or self.shard < 1 or self.shard % self.chunk:
            raise ValueError(
                f"a shard must be a whole number of chunks, but got {self.shard} and {self.chunk}"
            )


def row_grid(chunk: int, length: int, item_bytes: int) -> Grid:
    """Grid with a given inner chunk: shards as large as bytes and index length allow, not longer.

    Examples
    --------
    >>> row_grid(256, 1_000_000, 16)
    Grid(chunk=256, shard=262144)
    >>> row_grid(256, 1000, 16)
    Grid(chunk=256, shard=1024)
    """
    needed = max(1, math.ceil(length / chunk))
    allowed = max(1, _SHARD_BYTES // (chunk * item_bytes))
    return Grid(chunk, chunk * min(needed, allowed, _SHARD_CHUNKS))


def element_grid(nnz: int, n_major: int, item_bytes: int, *, rows: int = BLOCK_ROWS) -> Grid:
    """Grid of the data and indices of a sparse matrix: about `rows` rows' worth of elements.

    Parameters
    ----------
    nnz, n_major : int
        Stored elements; rows (CSR) or columns (CSC).
    item_bytes : int
        Size of an element.
    rows : int
        Rows an inner chunk should span on average.

    Examples
    --------
    >>> element_grid(60_000_000, 1_000_000, 4)
    Grid(chunk=16384, shard=16777216)
    """
    wanted = max(1.0, rows * nnz / max(1, n_major))
    chunk = 2 ** min(max(round(math.log2(wanted)), 10), 16)
    return row_grid(min(max(chunk, _MIN_ELEMENTS), _MAX_ELEMENTS), nnz, item_bytes)


def column_grid(length: int, item_bytes: int) -> Grid:
    """Grid of an obs column."""
    return row_grid(COLUMN_ROWS, length, item_bytes)


@cache
def _blosc(codec: Codec) -> Any:
    from numcodecs import Blosc

    return Blosc(cname=codec.name, clevel=codec.level, shuffle=codec.shuffle)


@cache
def _decompress() -> Any:
    """Return the function that unpacks a frame, whatever packed it: frames name their codec."""
    from numcodecs.blosc import decompress

    return decompress


def array_metadata(
    shape: tuple[int, ...],
    dtype: str,
    grid: Grid,
    attributes: dict[str, object] | None = None,
    codec: Codec = ZSTD,
) -> dict[str, Any]:
    """Zarr v3 metadata of a sharded array that is chunked along its first axis.

    Parameters
    ----------
    shape : tuple of int
        Full shape; axes after the first are never divided.
    dtype : str
        NumPy name of a number type, `bool`, or `string` (variable-length UTF-8).
    grid : Grid
        Chunk and shard along the first axis.
    attributes : dict, optional
        User attributes of the array.
    codec : Codec
        How inner chunks are compressed.
    """
    rest = list(shape[1:])
    text = dtype == "string"
    size = 1 if text or dtype == "bool" else np.dtype(dtype).itemsize
    first = (
        {"name": "vlen-utf8", "configuration": {}}
        if text
        else {"name": "bytes", "configuration": {"endian": "little"}}
        if size > 1
        else {"name": "bytes"}
    )
    blosc = {
        "typesize": size,
        "cname": codec.name,
        "clevel": codec.level,
        "shuffle": ("noshuffle", "shuffle", "bitshuffle")[codec.shuffle],
        "blocksize": 0,
    }
    inner = [first, {"name": "blosc", "configuration": blosc}, {"name": "crc32c"}]
    index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    sharding = {
        "chunk_shape": [grid.chunk, *rest],
        "codecs": inner,
        "index_codecs": index,
        "index_location": "end",
    }
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [grid.shard, *rest]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": "" if text else False if dtype == "bool" else 0,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "attributes": attributes or {},
        "storage_transformers": [],
    }


def seal(payload: bytes) -> bytes:
    """Append the CRC-32C of a payload."""
    check: int = google_crc32c.value(payload)
    return payload + check.to_bytes(_CRC_BYTES, "little")


def unseal(blob: bytes) -> bytes | None:
    """Return the payload without its CRC-32C, or None when the sum is wrong."""
    if len(blob) < _CRC_BYTES:
        return None
    return blob[:-_CRC_BYTES] if google_crc32c.value(blob) == _RESIDUE else None


def encode(values: NDArray[Any], codec: Codec = ZSTD) -> bytes:
    """One inner chunk of numbers: little-endian bytes, blosc, CRC-32C.

    Examples
    --------
    >>> import numpy as np
    >>> chunk = np.arange(1000, dtype=np.uint16)
    >>> bool((decode(encode(chunk), chunk.dtype, chunk.nbytes) == chunk).all())
    True
    """
    data = np.ascontiguousarray(values)
    return seal(bytes(_blosc(codec).encode(data)))


def decode(blob: bytes, dtype: np.dtype[Any], nbytes: int) -> NDArray[Any] | None:
    """Numbers of one inner chunk, flat; None when it is damaged or not `nbytes` long."""
    # Blosc's header says how much it would unpack: checked before, so that no bomb goes off.
    if len(blob) < _HEADER.size or _HEADER.unpack_from(blob)[0] != nbytes:
        return None
    out = np.empty(nbytes // dtype.itemsize, dtype)
    return out if decode_into(blob, out) else None


def decode_into(blob: bytes, out: NDArray[Any]) -> bool:
    """Unpack one inner chunk of numbers into memory that is there; whether it was sound.

    Parameters
    ----------
    blob : bytes
        As `encode` made it.
    out : contiguous array
        Of the chunk's number type and length; holds anything when the chunk is not sound.
    """
    # the sum stays behind what is unpacked: a frame says itself where it ends
    if google_crc32c.value(blob) != _RESIDUE or _unpacked_bytes(blob, _CRC_BYTES) != out.nbytes:
        return False
    try:
        _decompress()(blob, out)
    except (RuntimeError, ValueError):
        return False
    return True


def _unpacked_bytes(payload: bytes, behind: int = 0) -> int:
    """Bytes that a blosc frame says it unpacks to; -1 when it is not as long as it says.

    `behind` is how many bytes follow the frame.
    """
    if len(payload) < _HEADER.size + behind:
        return -1
    unpacked, _, packed = _HEADER.unpack_from(payload)
    return int(unpacked) if packed == len(payload) - behind else -1


def encode_text(text: NDArray[np.uint8], offsets: NDArray[np.int64], length: int) -> bytes:
    """One inner chunk of strings, padded with empty ones: vlen-utf8, blosc, CRC-32C.

    Parameters
    ----------
    text : (bytes,) uint8
        UTF-8 bytes of the strings.
    offsets : (m + 1,) int64
        Where each string starts.
    length : int
        Strings in a chunk, at least m.
    """
    sizes = np.zeros(length, np.int64)
    sizes[: offsets.size - 1] = np.diff(offsets)
    # vlen-utf8: a count, then for each string its length (uint32) and its bytes.
    starts = 4 + np.cumsum(sizes + 4) - sizes
    total = 4 + int(sizes.sum()) + 4 * length
    if total > _MAX_TEXT_BYTES:
        raise InvalidArgument(
            f"{length} strings of at most {_MAX_TEXT_BYTES} bytes together are wanted in a chunk, "
            f"but got {total} bytes; shorten the texts of this column, or leave it out"
        )
    out = np.zeros(total, np.uint8)
    out[:4] = np.frombuffer(np.uint32(length).tobytes(), np.uint8)
    heads = sizes.astype("<u4").view(np.uint8).reshape(length, 4)
    out[(starts - 4)[:, None] + np.arange(4)] = heads
    target = np.repeat(starts - np.cumsum(sizes) + sizes, sizes) + np.arange(int(sizes.sum()))
    out[target] = text[offsets[0] : offsets[-1]]
    return seal(bytes(_blosc(ZSTD).encode(out)))


def decode_text(blob: bytes, length: int) -> NDArray[np.object_] | None:
    """Strings of one inner chunk; None when it is damaged, or not `length` strings."""
    from numcodecs.vlen import VLenUTF8

    payload = unseal(blob)
    if payload is None or not 4 <= _unpacked_bytes(payload) <= _MAX_TEXT_BYTES:
        return None
    try:
        text = bytes(_decompress()(payload))
        # The count in front decides how much the decoder allocates.
        if int.from_bytes(text[:4], "little") != length:
            return None
        decoded: NDArray[np.object_] = VLenUTF8().decode(text)
    except (RuntimeError, ValueError):
        return None
    return decoded
