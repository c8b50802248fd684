"""One spelling of the sparse matrices that models pass around: float32 rows in compressed form."""

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

if TYPE_CHECKING:
    type Csr = sp.csr_array[np.float32, tuple[int, int]]
else:
    type Csr = sp.csr_array

__all__ = ["Csr", "as_csr", "csr_of", "selector"]


def as_csr(matrix: Any) -> Csr:
    """Return any sparse matrix as a float32 `csr_array`, without a copy where it is one."""
    found: Any = sp.csr_array(matrix, dtype=np.float32)
    return found  # type: ignore[no-any-return]  # the stubs cannot tell its shape


def csr_of(
    data: NDArray[Any], indices: NDArray[Any], indptr: NDArray[Any], shape: tuple[int, int]
) -> Csr:
    """Build a matrix of its three arrays; values become float32."""
    parts = (data.astype(np.float32, copy=False), indices, indptr)
    return sp.csr_array(parts, shape=shape)


def selector(rows: NDArray[Any], columns: NDArray[Any], shape: tuple[int, int]) -> Csr:
    """Build a matrix of ones at the given places."""
    ones = np.ones(len(rows), dtype=np.float32)
    return sp.csr_array(sp.coo_array((ones, (rows, columns)), shape=shape))
