"""Features of a GeoJSON file of any size, some at a time; numbers are parsed outside of Python.

The text is cut between features, by brackets outside of strings, and every piece is handed to
Arrow as lines of JSON. Depth and length of a feature are bounded, so that a hostile file cannot
hold more memory than its pieces.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from ...atlas.errors import Fault, InputError
from ..packed import open_bytes
from ..reader import faults_of
from ..ring_checks import largest_part, ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Rings", "feature_rings", "feature_texts"]

_PIECE = 2**21  # bytes of text read at a time
_LONGEST = 2**24  # bytes of one feature: a ring of some 500,000 vertices
_DEEPEST = 16  # brackets inside a feature; a multipolygon has 6
_HEAD = 2**16  # bytes before the list of features: names and reference systems
_LIST = re.compile(rb'"(?:features|geometries)"\s*:\s*\[')
_QUOTE, _BACKSLASH, _COMMA = 34, 92, 44
_STEP = np.zeros(256, np.int8)
_STEP[[ord("{"), ord("[")]] = 1
_STEP[[ord("}"), ord("]")]] = -1


@dataclass(frozen=True, slots=True)
class Rings:
    """Outer rings of some features, in the order of the file."""

    ids: NDArray[np.int64]
    """(k,) the number that names each feature."""
    counts: NDArray[np.int64]
    """(k,) vertices of each ring."""
    vertices: NDArray[np.float64]
    """(counts.sum(), 2)"""
    n_further: int = 0
    """Polygons left out, as their feature has a larger one."""


def feature_texts(path: Path) -> Iterator[bytes]:
    """Yield the features of a FeatureCollection as lines of JSON, some megabytes at a time.

    Raises
    ------
    InputError
        No FeatureCollection, one that breaks off, or a feature too long or too deep.
    """
    with faults_of(path, "a GeoJSON FeatureCollection", parsing=True), open_bytes(path) as file:
        rest = _after_head(file, path)
        done = False
        while not done:
            piece = file.read(_PIECE)
            rest += piece
            lines, rest, done = _cut(rest, path)
            if lines:
                yield lines
            if not piece and not done:
                raise _fault(path, "its end", "a file that breaks off: copy it again")
            if len(rest) > _LONGEST:
                raise _fault(path, f"features below {_LONGEST} bytes", "a longer one")


def _fault(path: Path, wanted: str, got: str) -> InputError:
    return InputError(Fault(str(path), f"expected {wanted}, but got {got}"))


def _after_head(file: IO[bytes], path: Path) -> bytes:
    head = file.read(_HEAD)
    bare = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if bare.startswith(b"["):  # of QuPath
        return bare[1:]
    found = _LIST.search(head)
    if found is None:
        raise _fault(
            path, 'a FeatureCollection with a list "features"', f"{head[:60]!r} at its start"
        )
    return head[found.end() :]


def _cut(text: bytes, path: Path) -> tuple[bytes, bytes, bool]:
    """Complete features as lines, the text after them, and whether the list has ended."""
    codes = np.frombuffer(text, np.uint8)
    outside = ~_in_strings(codes)
    steps = np.where(outside, _STEP[codes], 0)
    depth = np.cumsum(steps, dtype=np.int32)
    ends = np.flatnonzero(depth < 0)
    stop = int(ends[0]) if ends.size else codes.size
    if stop and int(depth[:stop].max()) > _DEEPEST:
        raise _fault(path, f"features of at most {_DEEPEST} brackets", "a deeper one")
    between = np.flatnonzero((codes[:stop] == _COMMA) & outside[:stop] & (depth[:stop] == 0))
    if ends.size:
        last, rest = stop, b""
    else:
        last = int(between[-1]) if between.size else 0
        rest = text[last + bool(between.size) :]
    lines = np.array(codes[:last])
    # Line ends inside a feature would cut it; in valid JSON none lies inside a string.
    lines[(lines == 10) | (lines == 13)] = 32
    lines[between[between < last]] = 10
    return lines.tobytes().strip(), rest, bool(ends.size)


def _in_strings(codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether each byte lies inside a string; the text begins outside of one."""
    quotes = np.flatnonzero(codes == _QUOTE)
    if (codes == _BACKSLASH).any():
        quotes = quotes[~_escaped(codes, quotes)]
    marks = np.zeros(codes.size, np.int8)
    marks[quotes] = 1
    return (np.cumsum(marks, dtype=np.int32) & 1).astype(bool)


def _escaped(codes: NDArray[np.uint8], at: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Whether an odd number of backslashes stands before each place."""
    plain = np.where(codes == _BACKSLASH, -1, np.arange(codes.size))
    last = np.concatenate([[-1], np.maximum.accumulate(plain)])
    run = at - 1 - last[at]
    return cast("NDArray[np.bool_]", run % 2 == 1)


def feature_rings(path: Path, key: str) -> Iterator[Rings]:
    """Outer rings of polygons, named by a number among the properties.

    Parameters
    ----------
    path : Path
        GeoJSON, gzipped or not.
    key : str
        Property with the number.

    Raises
    ------
    InputError
        A feature that is no polygon or has no number.
    """
    for lines in feature_texts(path):
        with faults_of(path, "polygons of GeoJSON", parsing=True):
            yield _plain_rings(lines, key) or _any_rings(lines, key, path)


def _plain_rings(lines: bytes, key: str) -> Rings | None:
    """Read polygons by Arrow; None when some feature is of another kind."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import json as arrow_json

    ring = pa.list_(pa.list_(pa.float64()))
    schema = pa.schema(
        [
            ("properties", pa.struct([(key, pa.int64())])),
            ("geometry", pa.struct([("type", pa.string()), ("coordinates", pa.list_(ring))])),
        ]
    )
    try:
        table = arrow_json.read_json(
            pa.BufferReader(lines),
            arrow_json.ReadOptions(use_threads=False, block_size=max(len(lines), 1024) + 16),
            arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        ).combine_chunks()
    except pa.ArrowInvalid:
        return None
    if table.num_rows == 0:
        return Rings(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 2)))
    names = table.column("properties").chunk(0).field(key)
    kinds, polygons = (table.column("geometry").chunk(0).field(k) for k in range(2))
    if names.null_count or kinds.null_count or not pc.all(pc.equal(kinds, "Polygon")).as_py():
        return None
    outer = _outer_rings(polygons)
    return None if outer is None else Rings(np.asarray(names, np.int64), *outer)


def _outer_rings(polygons: Any) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """Vertices of the first ring of each polygon; None when some have none, or no x and y."""
    own = np.asarray(polygons.offsets, np.int64)
    if polygons.null_count or (np.diff(own) < 1).any():
        return None
    first, rings = own[:-1], polygons.values
    starts = np.asarray(rings.offsets, np.int64)
    low, high = starts[first], starts[first + 1]
    points = rings.values
    ends = np.asarray(points.offsets, np.int64)
    if rings.null_count or points.null_count or points.values.null_count:
        return None
    if (np.diff(ends) < 2).any():
        return None
    counts = high - low
    at = ragged(low, counts)
    numbers = np.asarray(points.values)
    return counts, np.column_stack([numbers[ends[at]], numbers[ends[at] + 1]])


def _any_rings(lines: bytes, key: str, path: Path) -> Rings:
    """Read polygons, and the largest of multipolygons, one feature after another."""
    ids, counts, vertices, n_further = [], [], [], 0
    for line in lines.split(b"\n"):
        feature = json.loads(line)
        geometry = feature["geometry"]
        kind, parts = geometry["type"], geometry["coordinates"]
        if kind not in {"Polygon", "MultiPolygon"}:
            raise _fault(path, "polygons", f"a feature of type {kind!r}")
        rings = [ring for one in ([parts] if kind == "Polygon" else parts) for ring in one[:1]]
        n_further += len(rings) - 1
        ring = largest_part([_points(one, path) for one in rings])
        name = _name(feature, key, path)
        ids.append(name)
        counts.append(len(ring))
        vertices.append(ring)
    return Rings(
        np.array(ids, np.int64),
        np.array(counts, np.int64),
        np.concatenate(vertices) if vertices else np.empty((0, 2)),
        n_further,
    )


def _points(ring: Any, path: Path) -> NDArray[np.float64]:
    """(v, 2) x and y."""
    found: NDArray[np.float64] = np.array([point[:2] for point in ring], np.float64)
    if found.ndim != 2 or found.shape[1] != 2:
        raise _fault(path, "rings of x and y", f"{str(ring)[:60]!r}")
    return found


def _name(feature: Any, key: str, path: Path) -> int:
    """Read the number of a feature, also where it is written as text."""
    properties = feature.get("properties")
    found = properties.get(key) if isinstance(properties, dict) else None
    digits = re.search(r"\d+", str(found).split("-")[0])
    if found is None or digits is None or len(digits[0]) > 18:
        raise _fault(path, f"a property {key!r} with a number", repr(found)[:60])
    return int(digits[0])
