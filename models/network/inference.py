"""Exact embedding, a block of cells and its whole receptive field at a time."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..rows.file import RowFile
from ..sampling.neighborhood import GraphRows, expand
from ..sampling.prefetch import prefetched
from ..sampling.pyg import Data  # pyright: ignore[reportAttributeAccessIssue]  # untyped library
from ..sampling.tile_batches import halo_data
from .device import Placement
from .encoder import Encoder
from .scale import Scale

__all__ = ["embed_section"]

BLOCK_ROWS = 8192


def embed_section(
    encoder: Encoder,
    graph: GraphRows,
    table: RowFile,
    *,
    hops: int,
    scale: Scale,
    device: torch.device,
    path: Path,
    rotation: NDArray[np.float64] | None = None,
    mask: NDArray[np.bool_] | None = None,
    block_rows: int = BLOCK_ROWS,
    num_workers: int = 0,
    progress: Callable[[int], None] | None = None,
) -> RowFile:
    """Embed all cells of a section and center the result, always in float32.

    Parameters
    ----------
    encoder : Encoder
        Trained.
    graph : GraphRows
    table : RowFile
        Features `(n_obs, d)`.
    hops : int
        Layers of the encoder.
    scale : Scale
        As in training.
    device : torch.device
    path : Path
        Scratch file to create.
    rotation : ndarray (n_out, k), optional
        Directions of the embedding to keep; all without.
    mask : ndarray (n_obs,) bool, optional
        Cells that the mean is taken over; all without.
    block_rows : int
        Cells embedded at once.
    num_workers : int
        Threads that read blocks ahead; every number of them gives the same bits.
    progress : callable, optional
        Called with the cells of each block, once they are embedded.

    Returns
    -------
    RowFile
        `(n_obs, n_out)`, or `(n_obs, k)`; the caller closes it.

    Raises
    ------
    DeviceMemoryError
        A block does not fit the device.

    Notes
    -----
    Equals a pass over the whole graph but for the last bits of blocked matrix products.
    Memory: cells of a block and its halo x (features + 2 x hidden) x 4 bytes, 24 bytes an edge;
    features and edges once more for every worker.
    """
    placement = Placement(device)
    width = encoder.decoder.in_features if rotation is None else rotation.shape[1]
    encoder.to(device).eval()

    def block_of(start: int) -> Data:
        halo = expand(graph, start, min(start + block_rows, table.n_rows), hops)
        return placement.pinned(halo_data([halo], [table.take(halo.n_id)]))

    def turned(data: Data) -> NDArray[np.float32]:
        block = _embedded(encoder, data, scale, placement)
        return block if rotation is None else (block @ rotation).astype(np.float32)

    out = RowFile(path, table.n_rows, width)
    starts = range(0, table.n_rows, block_rows)
    blocks = prefetched(block_of, starts, threads=num_workers, depth=num_workers)
    with closing(blocks) as stream:
        return out.fill_centered(map(turned, stream), mask, progress)


def _embedded(
    encoder: Encoder, data: Data, scale: Scale, placement: Placement
) -> NDArray[np.float32]:
    cells = int(data.batch_size)
    with placement.memory_explained(
        f"{cells:,} cells and the {len(data.n_id) - cells:,} around them",
        "train a network of smaller `n_hidden`, or embed with device='cpu'",
    ):
        data = scale.apply(placement.move(data))
        with torch.inference_mode():
            z = encoder(data.x, data.edge_index, data.num_sampled_nodes, data.num_sampled_edges)
        return np.asarray(z.cpu().numpy(), dtype=np.float32)
