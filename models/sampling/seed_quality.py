"""How far the batches of a plan are from independent draws."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from .block_plan import BlockPlan
from .seed_plan import SeedPlan

__all__ = ["ShuffleQuality", "shuffle_quality"]


@dataclass(frozen=True, slots=True)
class ShuffleQuality:
    """Measures of one epoch; a perfect shuffle has `variance_ratio` 1.

    Attributes
    ----------
    blocks_mean : float
        Blocks of consecutive rows that a batch draws from, in the mean.
    blocks_least : int
        Fewest of any full batch; of a plan of blocks, of any batch.
    blocks_ideal : float
        What independent draws would have in the mean.
    variance_ratio : float
        Variance of the labels' shares between batches over that of random batches without
        replacement.
    """

    blocks_mean: float
    blocks_least: int
    blocks_ideal: float
    variance_ratio: float

    def __str__(self) -> str:
        return (
            f"{self.blocks_mean:.1f} blocks a batch (least {self.blocks_least}, independent draws "
            f"{self.blocks_ideal:.1f}); variance of label shares {self.variance_ratio:.2f} x that "
            "of independent draws"
        )


def shuffle_quality(
    plan: SeedPlan | BlockPlan,
    labels: NDArray[np.integer],
    *,
    epoch: int = 0,
    block_rows: int = 256,
) -> ShuffleQuality:
    """Measure an epoch of a plan.

    Parameters
    ----------
    plan : SeedPlan or BlockPlan
    labels : ndarray (n_nodes,) integer
        Something that lies in patches, such as cell types or sections; negative where unknown.
    epoch : int
    block_rows : int
        Consecutive nodes that count as one block.

    Returns
    -------
    ShuffleQuality

    Raises
    ------
    InvalidArgument
        Not one label a node, fewer than two labels, or not one full batch.

    Notes
    -----
    One pass over the epoch's numbers; nothing is read. The variance of a share p among batches of
    m of n cells without replacement is p (1 - p) / m x (n - m) / (n - 1).

    Examples
    --------
    >>> import numpy as np
    >>> from tisseract.models.sampling.node_space import NodeSpace
    >>> from tisseract.models.sampling.seed_plan import plan_seeds
    >>> space = NodeSpace.of_sizes(["a"], [40_000])
    >>> patches = np.arange(40_000) // 1000 % 5
    >>> for shuffle in ("none", "cells"):
    ...     found = shuffle_quality(plan_seeds(space, shuffle=shuffle, batch_size=500), patches)
    ...     found.blocks_mean > 100, found.variance_ratio > 2
    (False, True)
    (True, False)
    """
    # batches of whole blocks are of many sizes where sections are short, and all of them count
    full = plan.n_batches if isinstance(plan, BlockPlan) else plan.n_seeds // plan.batch_size
    known = np.asarray(labels)
    kinds, codes = np.unique(known[known >= 0], return_inverse=True)
    if len(known) != plan.space.n_nodes or len(kinds) < 2 or full < 1:
        raise InvalidArgument(
            f"labels of {plan.space.n_nodes} cells, two or more kinds, and a full batch are "
            f"wanted, but got {len(known)} labels, {len(kinds)} kinds and {full} full batches"
        )
    code = np.full(len(known), len(kinds), dtype=np.int64)
    code[known >= 0] = codes
    share = np.bincount(codes, minlength=len(kinds)) / len(known)
    spread, total = float((share * (1 - share)).sum()), plan.space.n_nodes
    blocks, sizes = np.empty(full, dtype=np.int64), np.empty(full, dtype=np.int64)
    square = 0.0
    for number in range(full):
        seeds = plan.batch(epoch, number)
        blocks[number], sizes[number] = len(np.unique(seeds // block_rows)), len(seeds)
        found = np.bincount(code[seeds], minlength=len(kinds) + 1)[:-1] / len(seeds)
        square += float(np.square(found - share).sum())
    ideal = float((spread / sizes * (total - sizes) / max(total - 1, 1)).sum())
    n_blocks = -(-total // block_rows)
    return ShuffleQuality(
        float(blocks.mean()),
        int(blocks.min()),
        n_blocks * (1.0 - (1.0 - 1.0 / n_blocks) ** float(sizes.mean())),
        square / ideal if ideal > 0 else 1.0,
    )
