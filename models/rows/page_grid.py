"""Which consecutive cells make a page: borders of pages over the nodes of many sections."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ..sampling.node_space import NodeSpace
from .page_kernels import COARSE, find_pages

__all__ = ["PageGrid", "Place"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where some nodes lie: page and row in it, (m,) int64 each."""

    page: NDArray[np.int64]
    row: NDArray[np.int64]

    def take(self, chosen: NDArray[np.int64]) -> "Place":
        """Return the places of some of the nodes."""
        return Place(self.page[chosen], self.row[chosen])


@dataclass(frozen=True, slots=True, eq=False)
class PageGrid:
    """Pages of the cells of some sections; none crosses the end of a section or a cut.

    Attributes
    ----------
    space : NodeSpace
    page_rows : int
        Most cells of a page.
    border : ndarray (P + 1,) int64
        Page p is nodes `border[p]:border[p + 1]`, of which there is at least one.
    offset : ndarray (P,) int64
        First node of the section of each page.
    run : ndarray (P,) int64
        Pages since the last section or cut began: pages of one read go by this.
    coarse : ndarray int64
        Page of every 64th node.
    """

    space: NodeSpace
    page_rows: int
    border: NDArray[np.int64]
    offset: NDArray[np.int64]
    run: NDArray[np.int64]
    coarse: NDArray[np.int64]

    @classmethod
    def of(cls, space: NodeSpace, page_rows: int, cuts: tuple[int, ...] = ()) -> "PageGrid":
        """Cut sections into pages.

        Parameters
        ----------
        space : NodeSpace
        page_rows : int
        cuts : tuple of int
            Nodes where storage begins anew: pages that follow its borders cost no chunk twice.

        Returns
        -------
        PageGrid
            Memory: 24 bytes a page and 8 bytes for every 64 cells.

        Examples
        --------
        >>> grid = PageGrid.of(NodeSpace.of_sizes(["a", "b"], [5, 4]), 2, cuts=(6,))
        >>> grid.border.tolist(), grid.offset.tolist(), grid.run.tolist()
        ([0, 2, 4, 5, 6, 8, 9], [0, 0, 0, 5, 5, 5], [0, 1, 2, 0, 0, 1])
        """
        if page_rows < 1:
            raise InvalidArgument(f"pages of at least one row are wanted, but got {page_rows}")
        starts = np.unique(np.asarray([*space.offsets, *cuts], dtype=np.int64))
        counts = -(-np.diff(starts) // page_rows)
        total = int(counts.sum())
        first = np.repeat(np.cumsum(counts) - counts, counts)
        run = np.arange(total, dtype=np.int64) - first
        begin = np.repeat(starts[:-1], counts) + run * page_rows
        border = np.append(begin, np.int64(space.n_nodes))
        offsets = np.asarray(space.offsets, dtype=np.int64)
        section = np.searchsorted(offsets, begin, side="right") - 1
        coarse = np.searchsorted(border, np.arange(0, space.n_nodes + COARSE, COARSE), side="right")
        return cls(space, page_rows, border, offsets[section], run, coarse - 1)

    def __len__(self) -> int:
        return len(self.offset)

    def place(self, nodes: NDArray[np.int64]) -> Place:
        """Find where nodes lie.

        Raises
        ------
        InvalidArgument
            A node that is none.
        """
        page, row = np.empty(len(nodes), np.int64), np.empty(len(nodes), np.int64)
        wrong = find_pages(nodes, self.border, self.coarse, page, row)
        if wrong >= 0:
            raise InvalidArgument(
                f"nodes in 0..{self.space.n_nodes - 1} are wanted, but got {int(nodes[wrong])}"
            )
        return Place(page, row)
