"""Approximate search: a graph over the windows of one size, made and searched by usearch.

The graph holds the mean parts of the descriptions, divided by their spread between the windows of
the segment and scaled to length 1, so that nearest by inner product is nearest by cosine.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import Corrupt, InvalidArgument, MissingKey
from ...atlas.manifest import digest_bytes, digest_file, read_manifest
from .scoring import unit_rows

if TYPE_CHECKING:
    from .segment import Segment

THRESHOLD = 2_000_000
"""Windows of one size beyond which a graph is made unasked."""

# Files that were compared with their digest: digest of the manifest, key, inode, size, time.
_KNOWN: set[tuple[object, ...]] = set()
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


def _checked(segment: "Segment", name: str) -> Path | bytes:
    """Path or bytes of an object of a segment, once it is known to be what was committed."""
    storage, entry = segment.storage, segment.entry
    key = f"{entry.prefix}/{name}"
    try:
        path = storage.local_path(key)
        source: Path | bytes = storage.get(key) if path is None else Path(path)
        seen = (entry.digest, key, *_stamp(source)) if isinstance(source, Path) else None
        if seen is not None and seen in _KNOWN:
            return source
        manifest = read_manifest(storage, entry.manifest, entry.digest)
        wanted = {(one.size, one.sha256) for one in manifest.keys if one.key == name}
        found = (
            digest_file(source)
            if isinstance(source, Path)
            else (len(source), digest_bytes(source).removeprefix("sha256:"))
        )
    except (MissingKey, FileNotFoundError) as error:
        raise _damaged(key) from error
    if found not in wanted:
        raise _damaged(key)
    if seen is not None:
        _KNOWN.add(seen)
    return source


def _stamp(path: Path) -> tuple[int, int, int]:
    facts = path.stat()
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _damaged(key: str) -> Corrupt:
    return Corrupt(
        f"{key} is damaged or missing; run `tisseract verify`, then `tisseract index --overwrite`, "
        "or search with approximate=False"
    )


def search_graph(
    segment: "Segment", size: int, query: NDArray[np.float64], n: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows (m,) of the windows nearest to a description (d,), and their cosine, best first.

    On a disk the graph is mapped, not read; from elsewhere it is fetched whole. As usearch trusts
    its file, a graph is compared with the digest in the manifest before its first use, and again
    once the file has changed: one pass over it, which a process makes once.

    Raises
    ------
    Corrupt
        The graph is missing, or not the one that was committed.
    """
    usearch = require_usearch()
    read = _checked(segment, f"w{size}.scale.bin")
    scale = np.frombuffer(read.read_bytes() if isinstance(read, Path) else read, "<f4")
    source = _checked(segment, graph_name(size))
    local = isinstance(source, Path)
    graph = usearch.Index.restore(str(source) if local else source, view=local)
    if graph is None or (graph.ndim, len(graph)) != (len(scale), segment.rows(f"w{size}.mean")):
        raise _damaged(f"{segment.entry.prefix}/{graph_name(size)}")
    graph.expansion_search = max(_EXPANSION, 2 * n)
    asked = unit_rows((query / scale)[None, :].astype(np.float32))[0]
    found = graph.search(asked, min(n, len(graph)))
    keys = np.asarray(found.keys, np.int64).ravel()
    return keys, 1.0 - np.asarray(found.distances, np.float64).ravel()
