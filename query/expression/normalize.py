"""Depth correction and logarithm, by what a section's matrix holds."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ..cells.rows import RunArray, pairs_of

if TYPE_CHECKING:
    import scipy.sparse as sp

    from ...atlas.section import Section

TARGET_SUM = 1e4


def depth_of(section: "Section", runs: RunArray) -> NDArray[np.float64] | None:
    """Sum of all stored values of each cell (m,), None where the values are no counts.

    The sum is over the whole panel, whatever genes are handed out.
    """
    if section.values not in ("counts", "expected"):
        return None
    return section.depth(pairs_of(runs))


def log_normalize(
    matrix: "sp.csr_array", values: str, depth: NDArray[np.float64] | None
) -> "sp.csr_array":
    """log1p of each cell scaled to 10,000, from what is stored; a new matrix, float32.

    Parameters
    ----------
    matrix
        Stored values (m, g), float32 CSR.
    values
        What they are: counts and expected counts are scaled and logged, normalized values only
        logged, log1p left alone.
    depth
        Sum of each cell over its whole panel (m,); None where values are no counts.

    Raises
    ------
    InvalidArgument
        Compositions, which have no depth.
    """
    import scipy.sparse as sp

    if values == "composition":
        raise InvalidArgument(
            "counts or normalized values are wanted for normalize='log1p', but got a section of "
            "compositions; leave normalize out, or exclude it"
        )
    data = matrix.data.astype(np.float32)
    if depth is not None:
        scale = np.divide(TARGET_SUM, depth, out=np.zeros_like(depth), where=depth > 0)
        data = data * np.repeat(scale, np.diff(matrix.indptr))
    if values != "log1p":
        data = np.log1p(data)
    return sp.csr_array(
        (data.astype(np.float32), matrix.indices.copy(), matrix.indptr.copy()), shape=matrix.shape
    )
