"""One batch of the tile loader: blocks of cells, their exact halo, counts and edges."""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .count_rows import CountRows, SparseRows
from .edge_pages import EdgePages
from .node_space import NodeSpace
from .pyg import Data  # pyright: ignore[reportAttributeAccessIssue]  # untyped library
from .tile_kernels import number_neighbors, refill_table

__all__ = ["TileReader"]


@dataclass(frozen=True, slots=True)
class _Patch:
    """Cells and edges of a batch, in the order of its numbers."""

    nodes: NDArray[np.int64]
    edges: NDArray[np.int64]
    lengths: NDArray[np.float32]
    nodes_per_hop: list[int]
    edges_per_hop: list[int]


@dataclass(frozen=True, slots=True)
class TileReader:
    """Reads batches; holds no state but its caches, and may be used by many threads.

    Attributes
    ----------
    space : NodeSpace
    counts : CountRows
    edges : EdgePages
    hops : int
        Edges walked from the seeds; with 0, a batch has the edges among its seeds only.
    treatments : ndarray (sections,) uint8
        What the values of each section need; see `densify`.
    """

    space: NodeSpace
    counts: CountRows
    edges: EdgePages
    hops: int
    treatments: NDArray[np.uint8]

    def load(self, runs: NDArray[np.int64]) -> Data:
        """Read one batch.

        Parameters
        ----------
        runs : ndarray (blocks, 2) int64
            Disjoint nodes `start:stop`, within a section each.

        Returns
        -------
        Data
            See `tile_loader`.
        """
        patch = self._patch(runs)
        section, row = self.space.locate(patch.nodes)
        n_seeds = patch.nodes_per_hop[0]
        rows = self.counts.read(section, row, n_seeds)
        n_id = torch.from_numpy(patch.nodes)
        lengths = torch.from_numpy(patch.lengths[:, None]) if self.edges.lengths else None
        return Data(
            x=_csr_tensor(rows, self.counts.n_genes),
            depth=torch.from_numpy(rows.depth),
            edge_index=torch.from_numpy(patch.edges),
            edge_attr=lengths,
            n_id=n_id,
            input_id=n_id[:n_seeds],
            section=torch.from_numpy(section),
            treatment=torch.from_numpy(self.treatments[section]),
            batch_size=n_seeds,
            num_sampled_nodes=patch.nodes_per_hop,
            num_sampled_edges=patch.edges_per_hop if self.hops else [],
        )

    def _patch(self, runs: NDArray[np.int64]) -> _Patch:
        size = runs[:, 1] - runs[:, 0]
        base = np.cumsum(size) - size
        order = np.argsort(runs[:, 0])
        blocks = (runs[order, 0], runs[order, 1], base[order])
        known = np.concatenate([np.arange(a, b) for a, b in runs.tolist()])
        table = np.empty(0, dtype=np.int32)
        first, n_known = 0, len(known)
        per_hop, edges_per_hop = [n_known], []
        parts, lengths = [], []
        for _ in range(max(self.hops, 1)):
            found = self.edges.parts(known[first:n_known])
            total = sum(part.n_edges for part in found)
            known = np.concatenate([known[:n_known], np.empty(total, np.int64)])
            ends = self.edges.buffers.empty((2, total), np.int64)
            length = self.edges.buffers.empty(total if self.edges.lengths else 0, np.float32)
            at, reached, kept = first, n_known, 0
            for part in found:
                # for what this part may bring, not all: a table that is small stays in the cache
                table = _enlarged(table, known, per_hop[0], reached, part.n_edges)
                reached, kept = number_neighbors(
                    *blocks,
                    part.rows,
                    part.indptr,
                    part.columns,
                    part.lengths,
                    part.offset,
                    at,
                    table,
                    known,
                    reached,
                    self.hops > 0,
                    kept,
                    ends[0],
                    ends[1],
                    length,
                )
                at += len(part.rows)
            parts.append(ends[:, :kept])
            lengths.append(length[:kept])
            edges_per_hop.append(int(kept))
            if self.hops:
                per_hop.append(int(reached) - n_known)
            first, n_known = n_known, int(reached)
        return _Patch(
            known[:n_known].copy(),
            np.ascontiguousarray(parts[0]) if len(parts) == 1 else np.concatenate(parts, axis=1),
            lengths[0] if len(lengths) == 1 else np.concatenate(lengths),
            per_hop,
            edges_per_hop,
        )


def _enlarged(
    table: NDArray[np.int32], known: NDArray[np.int64], n_seeds: int, n_known: int, more: int
) -> NDArray[np.int32]:
    """Return a table that is long enough for `more` further cells."""
    wanted = 1 << (2 * (n_known - n_seeds + more) + 1).bit_length()
    if wanted <= len(table):
        return table
    longer = np.full(wanted, -1, dtype=np.int32)
    refill_table(longer, known, n_seeds, n_known)
    return longer


def _csr_tensor(rows: SparseRows, n_columns: int) -> torch.Tensor:
    return torch.sparse_csr_tensor(
        torch.from_numpy(rows.indptr),
        torch.from_numpy(rows.columns),
        torch.from_numpy(rows.values),
        size=(len(rows.indptr) - 1, n_columns),
    )


with warnings.catch_warnings():
    # torch says once that its CSR tensors are a beta; the user can do nothing about it
    warnings.simplefilter("ignore", UserWarning)
    _csr_tensor(
        SparseRows(*(np.zeros(n, t) for n, t in ((1, "i4"), (0, "i4"), (0, "f4"), (0, "f4")))), 1
    )
