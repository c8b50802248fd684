"""Other loaders over the same section: annbatch on its matrix, PyG's on its graph in memory."""

from __future__ import annotations

import argparse
import importlib.util
import warnings

import numpy as np

from .measure import LATER_EPOCHS, Meter, touch_memory
from .simulated import SAMPLED_GRAPH, opened

# codec pipeline, rows of a block, blocks loaded at once
ANNBATCH: dict[str, tuple[str, int, int]] = {
    "default pipeline, 256 x 64": ("zarr.core.codec_pipeline.BatchedCodecPipeline", 256, 64),
    "zarrs, 512 x 64": ("zarrs.ZarrsCodecPipeline", 512, 64),
    "zarrs, 4096 x 8": ("zarrs.ZarrsCodecPipeline", 4096, 8),
}
ANNBATCH_CELLS = 4096  # of a batch


def present(_: argparse.Namespace) -> dict[str, bool]:
    """Which peers this interpreter has."""

    def has(*modules: str) -> bool:
        return any(importlib.util.find_spec(module) for module in modules)

    return {"annbatch": has("annbatch"), "pyg": has("pyg_lib", "torch_sparse")}


def run_annbatch(options: argparse.Namespace) -> dict[str, float]:
    """Whole epoch of annbatch's batches, sparse tensors without edges."""
    import torch
    import zarr

    warnings.simplefilter("ignore")
    pipeline, rows, blocks = ANNBATCH[options.variant]
    zarr.config.set({"codec_pipeline.path": pipeline})
    import anndata
    from annbatch import Loader

    torch.sparse_csr_tensor([0, 0], [], [], size=(1, 1))
    section = next((options.folder / "atlas" / "sections" / "S1").glob("*.zarr"))
    group = zarr.open_group(section, mode="r")
    matrix = anndata.io.sparse_dataset(group["tables/table/X"])

    def make() -> Loader:
        loader = Loader(
            chunk_size=rows,
            preload_nchunks=blocks,
            batch_size=ANNBATCH_CELLS,
            shuffle=True,
            rng=np.random.default_rng(0),
            to="torch",
        )
        return loader.add_dataset(matrix)

    next(iter(make()))
    loader = make()
    touch_memory()
    meter, seeds = Meter(), 0
    for batch in loader:
        seeds += batch["X"].shape[0]
    used, meter = meter.read(), Meter()
    for _ in range(LATER_EPOCHS):
        for _ in loader:
            pass
    later = {f"later_{name}": meter.read()[name] / LATER_EPOCHS for name in ("seconds", "cpu")}
    return {**used, **later, "seeds": seeds, "edges": 0, "nodes": seeds}


def run_memory(options: argparse.Namespace) -> dict[str, float]:
    """PyG's own loader over the same graph and the same seeds, everything in memory."""
    import torch

    from tisseract.atlas.graph import open_graph
    from tisseract.models import NodeSpace, plan_seeds
    from tisseract.models.sampling.pyg import Data

    from torch_geometric.loader import NeighborLoader  # isort: skip  # after ours: it warns

    store = opened(options)
    matrix = open_graph(store, SAMPLED_GRAPH, "S1").to_csr().tocoo()
    edge_index = torch.from_numpy(np.stack([matrix.col, matrix.row]).astype(np.int64))
    plan = plan_seeds(NodeSpace.of(store), batch_size=options.batch, lanes=options.lanes)
    order = torch.from_numpy(np.concatenate(list(plan.epoch(0))))
    loader = NeighborLoader(
        Data(edge_index=edge_index, num_nodes=options.cells),
        num_neighbors=options.fanouts,
        input_nodes=order,
        batch_size=options.batch,
    )
    next(iter(loader))
    touch_memory()
    meter, seeds, edges, nodes = Meter(), 0, 0, 0
    for data in loader:
        seeds += int(data.batch_size)
        edges += int(data.edge_index.shape[1])
        nodes += len(data.n_id)
    return {**meter.read(), "seeds": seeds, "edges": edges, "nodes": nodes}
