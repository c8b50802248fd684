"""Graphs on disk: one set of arrays per block of whole tiles.

The layout is specified in `docs/format.md`; why it is so, in
`docs/decisions/002-graph-layout.md`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import codecs
from ...errors import Corrupt, FormatUnsupported
from ...manifest import parse_json
from ...section_arrays import ArrayLayout
from ...section_shards import ArrayWriter, write_array, write_node

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ...storage import Storage
    from ..edges import Edges

__all__ = [
    "ARRAYS",
    "GRAPH_FORMAT",
    "BlockReceipt",
    "read_layout",
    "read_root",
    "seal_graph",
    "write_pieces",
]

GRAPH_FORMAT = "1"
"""Version of the layout; readers refuse others."""

# Rows of one inner chunk. Small: who looks for the neighbors of a few cells unpacks whole chunks.
_CHUNK_ROWS = 512
_MOST_EDGES = 65_536  # of an inner chunk
# 50 M cells have about 800 blocks, 2 KiB of metadata each.
_ROOT_BYTES = 64 * 2**20
# Stands for the metadata of all arrays until their texts are put there.
_PLACE = "metadata of all arrays"

ARRAYS = {"indptr": "int64", "indices": "int32", "distances": "float32"}
"""Arrays of a block and their number types."""


@dataclass(frozen=True, slots=True)
class BlockReceipt:
    """What a task says about the block it wrote."""

    block: int
    """Number of the block."""
    nnz: int
    """Edges in it."""


def write_pieces(
    folder: Path, block: int, indptr: NDArray[np.int64], pieces: Iterable[Edges]
) -> BlockReceipt:
    """Write the arrays of one block from edges that are made a piece at a time.

    Tasks that write different blocks never share a file. Holds one piece and the pointers,
    whatever the number of edges; the same bytes as from one piece.

    Parameters
    ----------
    folder : Path
        The attempt.
    block : int
        Number of the block.
    indptr : array (rows + 1,) int64
        Row pointers of the whole block, known before its edges.
    pieces : iterable of Edges
        Consecutive rows, together all of them. Distances are narrowed to float32, relative error
        6e-8: positions give back the exact ones.
    """
    place = folder / "blocks" / str(block)
    rows, nnz = indptr.size - 1, int(indptr[-1])
    write_node(place, _group({}))
    grid = _edge_grid(nnz, rows)
    with (
        ArrayWriter(place / "indices", (nnz,), np.int32, grid, codec=codecs.LZ4) as indices,
        ArrayWriter(place / "distances", (nnz,), np.float32, grid, codec=codecs.LZ4) as distances,
    ):
        for piece in pieces:
            indices.append(piece.indices)
            distances.append(piece.distances)
    pointer_grid = codecs.row_grid(_CHUNK_ROWS, rows + 1, 8)
    write_array(place / "indptr", indptr, pointer_grid, codec=codecs.LZ4)
    return BlockReceipt(block, nnz)


def _edge_grid(nnz: int, rows: int) -> codecs.Grid:
    """Grid of the edges of a block; chunks end with a row where all rows have equally many."""
    degree, rest = divmod(nnz, max(rows, 1))
    if rest or not 0 < degree <= _MOST_EDGES:
        return codecs.element_grid(nnz, rows, 4, rows=_CHUNK_ROWS)
    # a page of rows that begins with a chunk then ends with one: no chunk is unpacked for two pages
    together = _CHUNK_ROWS
    while together * degree > _MOST_EDGES:
        together //= 2
    return codecs.row_grid(together * degree, nnz, 4)


def _group(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}


def seal_graph(folder: Path, attributes: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
    """Write what is left once all blocks are there: groups, provenance, consolidated metadata."""
    write_node(folder / "blocks", _group({}))
    (folder / "provenance.json").write_text(
        json.dumps(provenance, indent=1, allow_nan=False), encoding="utf-8"
    )
    root = _group({"tisseract": dict(attributes)})
    root["consolidated_metadata"] = {
        "kind": "inline",
        "must_understand": False,
        "metadata": _PLACE,
    }
    # As texts, one after the other: parsed, thousands of nodes take ten times their bytes.
    nodes = (
        f"{json.dumps(path.parent.relative_to(folder).as_posix())}: {path.read_text('utf-8')}"
        for path in sorted(folder.rglob("zarr.json"))
    )
    head, tail = json.dumps(root, allow_nan=False).rsplit(json.dumps(_PLACE), 1)
    (folder / "zarr.json").write_text(f"{head}{{{', '.join(nodes)}}}{tail}", encoding="utf-8")


_ATTRIBUTES = {
    "kind": str,
    "parameters": dict,
    "facts": dict,
    "distance_unit": str,
    "n_obs": int,
    "nnz": int,
    "row_ptr": list,
}


def read_root(storage: Storage, prefix: str, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a graph's attributes and the metadata of all its arrays, by one request.

    Parameters
    ----------
    storage : Storage
        Root of the atlas.
    prefix : str
        The attempt.
    name : str
        Name of the graph, for messages.

    Returns
    -------
    tuple of dict
        Attributes; Zarr metadata by path.

    Raises
    ------
    Corrupt
        Not a graph, or one that says impossible things of itself.
    FormatUnsupported
        Written by a newer version.
    """
    root = parse_json(storage.get(f"{prefix}/zarr.json", max_bytes=_ROOT_BYTES), name)
    attributes = _descend(root, "attributes", "tisseract")
    metadata = _descend(root, "consolidated_metadata", "metadata")
    if attributes is None or metadata is None or "format" not in attributes:
        raise Corrupt(f"a graph is wanted, but got something else in {name!r}; run verify")
    if attributes["format"] != GRAPH_FORMAT:
        raise FormatUnsupported(
            f"a graph of format {GRAPH_FORMAT} is wanted, but got {attributes['format']!r} in "
            f"{name!r}; upgrade tisseract"
        )
    for field, kind in _ATTRIBUTES.items():
        if not isinstance(attributes.get(field), kind):
            raise Corrupt(
                f"{field!r} as {kind.__name__} is wanted, but got {attributes.get(field)!r} in "
                f"{name!r}; run verify"
            )
    ptr = attributes["row_ptr"]
    if not all(isinstance(value, int) for value in ptr) or len(ptr) < 2 or ptr != sorted(set(ptr)):
        raise Corrupt(f"ascending row_ptr are wanted, but got others in {name!r}; run verify")
    if ptr[0] != 0:
        raise Corrupt(f"row_ptr from 0 are wanted, but got {ptr[0]} in {name!r}; run verify")
    return attributes, metadata


def _descend(node: object, *names: str) -> dict[str, Any] | None:
    for name in names:
        node = node.get(name) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else None


def read_layout(metadata: Any, dtype: str, label: str) -> ArrayLayout:
    """Read shape and grid of an array from its Zarr metadata.

    Raises
    ------
    Corrupt
        Not an array that `write_pieces` could have written.
    """
    try:
        if metadata["data_type"] != dtype:
            raise ValueError(metadata["data_type"])
        sharding = metadata["codecs"][0]["configuration"]
        return ArrayLayout.of(
            {
                "shape": metadata["shape"],
                "dtype": dtype,
                "chunk": sharding["chunk_shape"][0],
                "shard": metadata["chunk_grid"]["configuration"]["chunk_shape"][0],
            }
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise Corrupt(
            f"a sharded array of {dtype} is wanted, but got something else in {label}; run verify"
        ) from error
