"""Lists of a large snapshot, compressed inside its JSON, so that opening stays one small read.

A snapshot of 1,000 sections with a graph, an embedding and labels each is some 2.6 MB of JSON, of
which ids and digests repeat; packed it is 0.55 MB.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from typing import Any

from .errors import Corrupt
from .manifest import parse_json

__all__ = ["FEATURE", "pack", "unpack"]

FEATURE = "packed"
"""Name of the feature, as a snapshot that uses it requires it."""

# Below this, the lists stay text that anyone can read; opening costs one request either way.
_PACK_BYTES = 256 * 2**10
# As large as a snapshot in plain text may be.
_LARGEST = 512 * 2**20
_LEVEL = 6


def pack(head: str, lists: str) -> str:
    """Put together the JSON of a snapshot, its lists packed where they are large.

    Parameters
    ----------
    head, lists
        JSON objects: fields that stay readable, and the rest.

    Examples
    --------
    >>> pack('{"number":1}', '{"runs":[]}')
    '{"number":1,"requires":[],"runs":[]}'
    """
    data = lists.encode("utf-8")
    if len(data) < _PACK_BYTES:
        return f'{head[:-1]},"requires":[],{lists[1:]}'
    packed = base64.b64encode(zlib.compress(data, _LEVEL)).decode("ascii")
    return f'{head[:-1]},"requires":["{FEATURE}"],"{FEATURE}":"{packed}"}}'


def unpack(body: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    """Put the lists of a packed snapshot beside its other fields; others come as they are.

    Raises
    ------
    Corrupt
        What is packed is damaged, larger than a snapshot may be, or names a field of the head.
    """
    if FEATURE not in body.get("requires", ()):
        return body
    reader = zlib.decompressobj()
    try:
        data = reader.decompress(base64.b64decode(body[FEATURE], validate=True), _LARGEST)
    except (KeyError, TypeError, ValueError, binascii.Error, zlib.error) as error:
        raise Corrupt(f"packed lists are wanted in {what}, but got {str(error)[:80]!r}") from error
    if not reader.eof or reader.unused_data:
        raise Corrupt(
            f"packed lists of at most {_LARGEST} bytes are wanted in {what}, but got more, or less "
            "than they say; run `tisseract verify`"
        )
    lists = parse_json(data, f"the packed lists of {what}")
    if both := sorted(set(lists) & set(body)):
        raise Corrupt(f"each field once is wanted in {what}, but got {json.dumps(both)[:80]} twice")
    return {**body, **lists}
