"""Graphs in memory for the tests of spatial statistics: a matrix cut into blocks anywhere."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from scipy.sparse import csr_array

from tisseract.atlas.graph.edges import Edges
from tisseract.atlas.quadtree import Runs


@dataclass
class MatrixGraph:
    """A `RowGraph` of a CSR matrix of distances."""

    matrix: Any
    row_ptr: tuple[int, ...]

    @property
    def n_obs(self) -> int:
        return int(self.matrix.shape[0])

    def edges(self, runs: Runs) -> Edges:
        parts = [self.matrix[start:stop] for start, stop in runs]
        return Edges.concatenate(
            [
                Edges(part.indptr.astype(np.int64), part.indices.astype(np.int32), part.data)
                for part in parts
            ]
        )


def cut(matrix: Any, *cuts: int) -> MatrixGraph:
    """Cut a matrix into blocks at some rows."""
    inner = sorted({c for c in cuts if 0 < c < matrix.shape[0]})
    return MatrixGraph(matrix, (0, *inner, matrix.shape[0]))


def random_matrix(n: int, degree: float, seed: int, *, symmetric: bool = False) -> Any:
    """Directed or symmetric random graph without diagonal; distances some of which are zero."""
    rng = np.random.default_rng(seed)
    present = rng.random((n, n)) < degree / max(1, n)
    if symmetric:
        present |= present.T
    np.fill_diagonal(present, False)
    rows, columns = np.nonzero(present)
    distances = rng.integers(0, 40, rows.size) / 4.0
    matrix = csr_array((distances, (rows, columns)), shape=(n, n))
    matrix.sort_indices()
    return matrix


@st.composite
def graphs(draw: st.DrawFn, n: int | None = None) -> MatrixGraph:
    """Random graphs of n, or up to 40, cells, cut anywhere."""
    n = draw(st.integers(1, 40)) if n is None else n
    matrix = random_matrix(
        n, draw(st.floats(0, 6)), draw(st.integers(0, 2**32 - 1)), symmetric=draw(st.booleans())
    )
    return cut(matrix, *draw(st.lists(st.integers(0, n), max_size=6)))


def adjacency(matrix: Any) -> Any:
    """Dense ones where the matrix has an element, zeros included."""
    dense = np.zeros(matrix.shape)
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    dense[rows, matrix.indices] = 1.0
    return dense
