"""Exact embedding, a block of cells and its whole receptive field at a time."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..components.projection import center
from ..rows.file import RowFile
from ..sampling.neighborhood import GraphRows, expand
from ..sampling.tile_batches import halo_data
from .encoder import Encoder
from .training import Scale

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
    block_rows: int = BLOCK_ROWS,
) -> RowFile:
    """Embed all cells of a section and center the result.

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
    block_rows : int
        Cells embedded at once.

    Returns
    -------
    RowFile
        `(n_obs, n_out)`, or `(n_obs, k)`; the caller closes it.

    Notes
    -----
    Equals a pass over the whole graph but for the last bits of blocked matrix products.
    Memory: cells of a block and its halo x (features + 2 x hidden) x 4 bytes, 24 bytes an edge.
    """
    width = encoder.decoder.in_features if rotation is None else rotation.shape[1]
    out = RowFile(path, table.n_rows, width)
    total = np.zeros(out.width)
    encoder.to(device).eval()
    for start in range(0, table.n_rows, block_rows):
        halo = expand(graph, start, min(start + block_rows, table.n_rows), hops)
        data = scale.apply(halo_data([halo], [table.take(halo.n_id)]), device)
        with torch.inference_mode():
            z = encoder(data.x, data.edge_index, data.num_sampled_nodes, data.num_sampled_edges)
        block = z.cpu().numpy()
        if rotation is not None:
            block = (block @ rotation).astype(np.float32)
        total += block.sum(axis=0, dtype=np.float64)
        out.write(start, block)
    center(out, total / max(table.n_rows, 1), block_rows)
    return out
