"""From the sparse counts that travel to the dense, normalized features that networks read."""

import torch

from .pyg import Data  # pyright: ignore[reportAttributeAccessIssue]  # untyped library

__all__ = ["AS_STORED", "LIBRARY_SIZE", "LOG1P", "densify"]

LIBRARY_SIZE, LOG1P, AS_STORED = 0, 1, 2
"""What a cell's values need: library size and log1p, log1p only, or nothing."""


def densify(data: Data, *, normalize: bool = True, target_depth: float = 1e4) -> Data:
    """Make a batch's counts dense, where they are: on the device, after the copy to it.

    Parameters
    ----------
    data : Data
        Batch of a tile loader. Changed: `x` becomes (n, genes) float32.
    normalize : bool
        Whether to bring values to the scale that models see: counts to a common library size and
        log1p, normalized values to log1p, others as they are stored.
    target_depth : float
        Sum over all genes of a section that a cell's counts are brought to; those of a cell
        without counts stay zero.

    Returns
    -------
    Data
        The same batch.

    Notes
    -----
    Memory: 4 bytes a cell and gene, twice that with `normalize`.

    On the device, or on the loader's own threads::

        for data in loader:
            data = densify(data.to("cuda", non_blocking=True))

        loader = tile_loader(atlas, transform=densify)
    """
    x = data.x.to(torch.float32)
    x = x.to_dense() if x.layout != torch.strided else x
    if normalize:
        counts = (data.treatment == LIBRARY_SIZE)[:, None]
        logged = (data.treatment == AS_STORED)[:, None]
        depth = data.depth[:, None]
        scale = torch.where(counts & (depth > 0), target_depth / depth, 1.0)
        scaled = (x * scale).log1p_()
        x = torch.where(logged, x, scaled, out=scaled)
    data.x = x
    return data
