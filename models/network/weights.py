"""Arrays in the safetensors format, read and written with NumPy alone.

The format is eight bytes of header length, a JSON header, then raw little-endian values. Reading
executes nothing, whatever the file says; every offset is checked against the file.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import Corrupt, InvalidArgument

__all__ = ["pack_weights", "unpack_weights"]

_DTYPES: Mapping[str, str] = {
    "F64": "<f8",
    "F32": "<f4",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "U8": "|u1",
    "BOOL": "|b1",
}
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}
_LARGEST_HEADER = 16 * 2**20


def pack_weights(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Serialize arrays; equal arrays give equal bytes.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        float32, float64, int16, int32, int64, uint8 or bool.

    Returns
    -------
    bytes
        A safetensors file.

    Raises
    ------
    InvalidArgument
        Another dtype.

    Examples
    --------
    >>> import numpy as np
    >>> unpack_weights(pack_weights({"w": np.arange(3.0)}))["w"].tolist()
    [0.0, 1.0, 2.0]
    """
    header: dict[str, Any] = {}
    parts: list[bytes] = []
    offset = 0
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        plain = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<")))
        if plain.dtype not in _NAMES:
            raise InvalidArgument(
                f"wanted weights of {', '.join(_DTYPES)}, but got {array.dtype} for {name!r}"
            )
        data = plain.tobytes()
        header[name] = {
            "dtype": _NAMES[plain.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + len(data)],
        }
        parts.append(data)
        offset += len(data)
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(parts)


def unpack_weights(data: bytes, where: str = "weights") -> dict[str, NDArray[Any]]:
    """Read a safetensors file.

    Parameters
    ----------
    data : bytes
        The whole file.
    where : str
        Named in messages.

    Returns
    -------
    dict of str to ndarray
        Copies, writable.

    Raises
    ------
    Corrupt
        Not such a file, or one whose offsets do not fit it.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(len(data) - 8, _LARGEST_HEADER):
        raise Corrupt(f"wanted a safetensors file, but got {len(data)} other bytes in {where}")
    body = memoryview(data)[8 + length :]
    try:
        header = json.loads(data[8 : 8 + length])
        header.pop("__metadata__", None)
        return {str(name): _one(body, facts) for name, facts in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Corrupt(f"wanted a safetensors file, but got {error} in {where}") from error


def _one(body: memoryview, facts: Mapping[str, Any]) -> NDArray[Any]:
    dtype = np.dtype(_DTYPES[facts["dtype"]])
    shape = tuple(int(n) for n in facts["shape"])
    start, stop = (int(n) for n in facts["data_offsets"])
    size = math.prod(shape) * dtype.itemsize
    if min((*shape, 0)) < 0 or not 0 <= start <= stop <= len(body) or stop - start != size:
        raise ValueError(f"an array of shape {shape} at bytes {start}:{stop} of {len(body)}")
    if dtype == np.bool_:  # any other byte than 0 and 1 would be a broken value
        return np.asarray(np.frombuffer(body[start:stop], dtype=np.uint8) != 0).reshape(shape)
    return np.frombuffer(body[start:stop], dtype=dtype).reshape(shape).copy()
