"""What is measured of this package, and the raw reads it is held against."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from .measure import LATER_EPOCHS, Meter, folder_bytes, touch_memory
from .simulated import SAMPLED_GRAPH, TILE_GRAPH, opened

# blocks of a batch, rows of a block, rows read at once, hops, MiB
TILES: dict[str, tuple[int, int, int, int, int]] = {
    "256 x 32, 1 hop": (32, 256, 4096, 1, 512),
    "256 x 32, 0 hops": (32, 256, 4096, 0, 512),
    "256 x 32, 2 hops": (32, 256, 4096, 2, 512),
    "64 x 128, 1 hop": (128, 64, 4096, 1, 512),
    "256 x 32, 1 hop, cache < data": (32, 256, 4096, 1, 256),
    "256 x 64, 1 hop, reads of 256": (64, 256, 256, 1, 512),
    "512 x 64, 1 hop": (64, 512, 4096, 1, 768),
    "512 x 64, 1 hop, reads of 512": (64, 512, 512, 1, 768),
    "512 x 64, 1 hop, bytes, no lengths": (64, 512, 4096, 1, 768),
    "4096 x 32, 1 hop": (32, 4096, 4096, 1, 2048),
    "4096 x 32, 1 hop, bytes, no lengths": (32, 4096, 4096, 1, 2048),
    "256 x 32, 1 hop, bytes, no lengths": (32, 256, 4096, 1, 512),
}

# with counts, lanes, memory for edges and counts
NEIGHBORS: dict[str, tuple[bool, int, str | None]] = {
    "without counts": (False, 0, None),
    "with counts": (True, 0, None),
    "without counts, 32 lanes, a quarter in memory": (False, 32, "42 MiB"),
    "without counts, 32 lanes, a tenth in memory": (False, 32, "17 MiB"),
}


def run_raw(options: argparse.Namespace) -> dict[str, float]:
    """Read the arrays of matrix and graph in order, by zarr with the zarrs pipeline."""
    import zarr

    zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
    # by path: zarrs knows stores of zarr itself, and silently leaves others to codecs in Python
    section = next((options.folder / "atlas" / "sections" / "S1").glob("*.zarr"))
    matrix = zarr.open_group(section, mode="r")["tables/table/X"]
    edges = options.folder / "atlas" / "derived" / "graph" / TILE_GRAPH / "S1"
    graph = zarr.open_group(next(each for each in edges.iterdir() if each.is_dir()), mode="r")
    np.asarray(matrix["indptr"][:1])
    touch_memory()
    meter, n_bytes = Meter(), {"features": 0, "edges": 0}
    for name in ("data", "indices", "indptr"):
        array, step = matrix[name], 2**24  # a shard
        for start in range(0, array.shape[0], step):
            n_bytes["features"] += array[start : start + step].nbytes
    features = meter.read()["seconds"]
    for _, block in sorted(graph["blocks"].groups()):
        for _, array in block.arrays():
            n_bytes["edges"] += array[:].nbytes
    return {**meter.read(), **n_bytes, "feature_seconds": features}


def run_tiles(options: argparse.Namespace) -> dict[str, Any]:
    """Whole first epoch of blocks with their exact surroundings and sparse counts."""
    from tisseract.models import shuffle_quality, tile_loader

    lanes, block_rows, read_rows, hops, limit = TILES[options.variant]

    def make() -> Any:
        return tile_loader(
            opened(options),
            graph=TILE_GRAPH,
            hops=hops,
            lanes=lanes,
            block_rows=block_rows,
            read_rows=read_rows,
            lengths="no lengths" not in options.variant,
            dtype="stored" if "bytes" in options.variant else "float32",
            memory_limit=limit * 2**20,
        )

    warm = make()
    # compiled code is fetched for few cells: the memory that is measured comes later
    warm.reader.load(warm.plan.runs(0, 0)[:1])
    del warm
    loader = make()
    touch_memory()
    meter, seeds, edges, nodes = Meter(), 0, 0, 0
    for data in loader:
        seeds += int(data.batch_size)
        edges += int(data.edge_index.shape[1])
        nodes += len(data.n_id)
        del data
    used, requests = meter.read(), loader.reader.counts.requests
    meter = Meter()
    for _ in range(LATER_EPOCHS):
        for data in loader:
            del data
    later = meter.read()
    n_blocks = [len(loader.plan.runs(0, number)) for number in range(loader.plan.n_batches)]
    quality = shuffle_quality(loader.plan, _patches(options))
    return {
        **used,
        "later_seconds": later["seconds"] / LATER_EPOCHS,
        "later_cpu": later["cpu"] / LATER_EPOCHS,
        "seeds": seeds,
        "edges": edges,
        "nodes": nodes,
        "requests": requests,
        "limit": limit * 2**20,
        "least_blocks": min(n_blocks),
        "quality": str(quality),
    }


def _patches(options: argparse.Namespace) -> np.ndarray:
    """Labels of squares of about 2,000 neighboring cells, nine kinds."""
    xy = opened(options).section("S1").positions()
    square = np.floor(xy / 450.0).astype(np.int64) % 3
    return np.asarray(square[:, 0] * 3 + square[:, 1])


def run_neighbors(options: argparse.Namespace) -> dict[str, Any]:
    """Whole first epoch of sampled neighborhoods, with the counts of their cells or without."""
    from tisseract.models import node_loader, shuffle_quality

    counts, lanes, cache = NEIGHBORS[options.variant]

    def make(batch_size: int) -> Any:
        return node_loader(
            opened(options),
            graph=SAMPLED_GRAPH,
            features="raw" if counts else None,
            num_neighbors=options.fanouts,
            batch_size=batch_size,
            lanes=lanes or options.lanes,
            cache_bytes=cache,
        )

    next(iter(make(64)))
    loader = make(options.batch)
    touch_memory()
    meter, seeds, edges, nodes = Meter(), 0, 0, 0
    for data in loader:
        seeds += int(data.batch_size)
        edges += int(data.edge_index.shape[1])
        nodes += len(data.n_id)
        del data
    used = meter.read()
    quality = shuffle_quality(loader.plan, _patches(options))
    return {**used, "seeds": seeds, "edges": edges, "nodes": nodes, "quality": str(quality)}


def run_sizes(options: argparse.Namespace) -> dict[str, float]:
    """Bytes on disk of the matrix by rows and of the graphs."""
    section = next((options.folder / "atlas" / "sections" / "S1").glob("*.zarr"))
    graphs = options.folder / "atlas" / "derived" / "graph"
    return {
        "matrix": folder_bytes(section / "tables" / "table" / "X"),
        TILE_GRAPH: folder_bytes(graphs / TILE_GRAPH),
        SAMPLED_GRAPH: folder_bytes(graphs / SAMPLED_GRAPH),
    }
