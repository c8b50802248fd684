"""How plans deal cells out: blocks of rows, stretches of neighboring blocks, lanes that walk them.

The plans of seeds and of whole blocks share this, and nothing else: what a round is, and which
draws belong to which plan, each says itself.
"""

from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .node_space import NodeSpace

__all__ = ["blocks_of", "dealt", "stretches_shuffled"]


@lru_cache(maxsize=8)
def blocks_of(space: NodeSpace, block_rows: int) -> NDArray[np.int64]:
    """Return nodes `start:stop` of every block, (b, 2); blocks end where their section ends.

    Examples
    --------
    >>> blocks_of(NodeSpace.of_sizes(["a", "b"], [5, 2]), 3).tolist()
    [[0, 3], [3, 5], [5, 7]]
    """
    parts = []
    for start, stop in pairwise(space.offsets):
        edge = np.arange(start, stop, block_rows, dtype=np.int64)
        parts.append(np.stack([edge, np.append(edge[1:], stop)[: len(edge)]], axis=1))
    return np.concatenate(parts)


def stretches_shuffled(
    blocks: NDArray[np.int64], stretch_blocks: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Shuffle stretches of neighboring blocks; inside a stretch their order stays.

    Parameters
    ----------
    blocks : ndarray (b, 2) int64
    stretch_blocks : int
        Blocks of a stretch.
    rng : Generator
        Of the epoch.

    Returns
    -------
    ndarray (b, 2) int64
        A new array.
    """
    # stretches begin elsewhere in every epoch, so that their ends do too
    shift = int(rng.integers(stretch_blocks))
    stretch = (np.arange(len(blocks)) + shift) // stretch_blocks
    place = rng.permutation(int(stretch[-1]) + 1)
    return blocks[np.argsort(place[stretch], kind="stable")]


def dealt(n_runs: int, lanes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Deal runs out in rounds: each lane walks through its share, a run of every lane a round.

    Parameters
    ----------
    n_runs, lanes : int
        At least 1.

    Returns
    -------
    order : ndarray (n_runs,) int64
        The runs, round by round.
    first : ndarray (rounds + 1,) int64
        Round i is `order[first[i] : first[i + 1]]`.

    Examples
    --------
    >>> order, first = dealt(5, 2)
    >>> [order[a:b].tolist() for a, b in zip(first[:-1], first[1:])]
    [[0, 3], [1, 4, 2]]
    """
    # lane l walks runs cut[l]:cut[l + 1]; round r takes the r-th run of every lane
    lane = np.arange(n_runs) * lanes // n_runs
    turn = np.arange(n_runs) - np.searchsorted(lane, lane, side="left")
    order = np.lexsort((lane, turn))
    # a last round of a few lanes only would mix few blocks: it joins the one before
    rounds = max(1, n_runs // lanes)
    first = np.searchsorted(turn[order], np.arange(rounds + 1))
    first[-1] = n_runs
    return order, first.astype(np.int64)
