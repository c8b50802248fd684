"""Approximate search: a graph over the windows of one size, made and searched by usearch.

The graph holds the mean parts of the descriptions, divided by their spread between the windows of
the segment and scaled to length 1, so that nearest by inner product is nearest by cosine.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from .scoring import unit_rows

if TYPE_CHECKING:
    from .segment import Segment

THRESHOLD = 2_000_000
"""Windows of one size beyond which a graph is made unasked."""

_EXPANSION = 256
_DEGREE = 24
_BLOCK = 65_536


def require_usearch() -> Any:
    """Import usearch.

    Raises
    ------
    InvalidArgument
        It is not installed.
    """
    try:
        from usearch import index as usearch_index
    except ImportError as error:
        raise InvalidArgument(
            "approximate search wants usearch, which is not installed: "
            "pip install tisseract[search]; or search exactly with approximate=False"
        ) from error
    return usearch_index


def installed() -> bool:
    """Tell whether usearch can be imported."""
    from importlib.util import find_spec

    return find_spec("usearch") is not None


def graph_name(size: int) -> str:
    """File of the graph over the windows of one size."""
    return f"w{size}.usearch"


def add_graphs(folder: Path, facts: Mapping[str, Any], wanted: bool | None) -> None:
    """Make graphs beside the arrays of a segment that is being written.

    Parameters
    ----------
    folder
        Where the arrays are.
    facts
        What `index.json` says.
    wanted
        True for all sizes, False for none, None for those with more than 2,000,000 windows, where
        usearch is installed.
    """
    for size in range(len(facts["parameters"]["sizes"])):
        n = sum(int(one["windows"][size]) for one in facts["sections"])
        if n and (wanted or (wanted is None and n > THRESHOLD and installed())):
            _add_graph(folder, size, n, int(facts["width"]))


def _add_graph(folder: Path, size: int, n: int, width: int) -> None:
    usearch = require_usearch()
    vectors = np.memmap(folder / f"w{size}.mean.bin", np.float16, "r", shape=(n, width))
    scale = _scale(vectors)
    graph = usearch.Index(
        ndim=width,
        metric="ip",
        dtype="f16",
        connectivity=_DEGREE,
        expansion_add=_EXPANSION,
        expansion_search=_EXPANSION,
    )
    for low in range(0, n, _BLOCK):
        high = min(low + _BLOCK, n)
        block = unit_rows(vectors[low:high].astype(np.float32) / scale)
        # one thread: the graph is then the same each time
        graph.add(np.arange(low, high), block, threads=1)
    graph.save(str(folder / graph_name(size)))
    (folder / f"w{size}.scale.bin").write_bytes(scale.astype("<f4").tobytes())


def _scale(vectors: NDArray[np.float16]) -> NDArray[np.float32]:
    total = square = np.zeros(vectors.shape[1])
    for low in range(0, len(vectors), _BLOCK):
        block = vectors[low : low + _BLOCK].astype(np.float64)
        total, square = total + block.sum(axis=0), square + (block * block).sum(axis=0)
    variance = np.maximum(square / len(vectors) - (total / len(vectors)) ** 2, 0.0)
    return np.sqrt(variance + max(0.05 * float(variance.mean()), 1e-12)).astype(np.float32)


def has_graph(segment: "Segment", size: int) -> bool:
    """Whether a segment has a graph for one size."""
    return segment.storage.exists(f"{segment.entry.prefix}/{graph_name(size)}")


def search_graph(
    segment: "Segment", size: int, query: NDArray[np.float64], n: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows (m,) of the windows nearest to a description (d,), and their cosine, best first.

    On a disk the graph is mapped, not read; from elsewhere it is fetched whole.
    """
    usearch = require_usearch()
    prefix = segment.entry.prefix
    key = f"{prefix}/{graph_name(size)}"
    scale = np.frombuffer(segment.storage.get(f"{prefix}/w{size}.scale.bin"), "<f4")
    local = segment.storage.local_path(key)
    source: Any = str(local) if local is not None else segment.storage.get(key)
    graph = usearch.Index.restore(source, view=local is not None)
    graph.expansion_search = max(_EXPANSION, 2 * n)
    asked = unit_rows((query / scale)[None, :].astype(np.float32))[0]
    found = graph.search(asked, min(n, len(graph)))
    keys = np.asarray(found.keys, np.int64).ravel()
    return keys, 1.0 - np.asarray(found.distances, np.float64).ravel()
