"""One numbering for the cells of many sections: what PyG calls a node id."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument

if TYPE_CHECKING:
    from ...atlas.store import AtlasStore

__all__ = ["NodeSpace"]


@dataclass(frozen=True, slots=True)
class NodeSpace:
    """Cells of some sections, one section after the other: node = offset of its section + row.

    Attributes
    ----------
    sections : tuple of str
        Names, in order.
    offsets : tuple of int
        Section s is nodes `offsets[s]:offsets[s + 1]`.

    Examples
    --------
    >>> import numpy as np
    >>> space = NodeSpace.of_sizes(["a", "b"], [3, 2])
    >>> section, row = space.locate(np.array([4, 0]))
    >>> section.tolist(), row.tolist(), space.n_nodes
    ([1, 0], [1, 0], 5)
    """

    sections: tuple[str, ...]
    offsets: tuple[int, ...]

    def __post_init__(self) -> None:
        rising = all(a <= b for a, b in zip(self.offsets, self.offsets[1:], strict=False))
        if len(self.offsets) != len(self.sections) + 1 or self.offsets[0] != 0 or not rising:
            raise InvalidArgument(
                f"one rising offset per section and the total are wanted, but got {self.offsets} "
                f"for {len(self.sections)} sections"
            )

    @classmethod
    def of_sizes(cls, sections: Sequence[str], sizes: Sequence[int]) -> "NodeSpace":
        """Return the numbering of sections of the given numbers of cells."""
        return cls(tuple(sections), (0, *accumulate(int(size) for size in sizes)))

    @classmethod
    def of(cls, store: "AtlasStore", sections: Sequence[str] | None = None) -> "NodeSpace":
        """Return the numbering of some sections of an atlas, all without.

        Raises
        ------
        SectionNotFound
        InvalidArgument
            There is no section, or one is named twice.
        """
        names = store.section_names if sections is None else list(sections)
        if not names or len(set(names)) != len(names):
            raise InvalidArgument(f"some sections, each once, are wanted, but got {names}")
        return cls.of_sizes(names, [store.section(name).n_obs for name in names])

    @property
    def n_nodes(self) -> int:
        """Cells of all sections."""
        return self.offsets[-1]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Cells of each section."""
        return tuple(b - a for a, b in zip(self.offsets, self.offsets[1:], strict=False))

    def locate(self, nodes: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Find number of the section and row in it of each node.

        Parameters
        ----------
        nodes : ndarray (m,) integer

        Returns
        -------
        section, row : ndarray (m,) int64

        Raises
        ------
        InvalidArgument
            A node that is none.
        """
        wanted = np.asarray(nodes, dtype=np.int64)
        if wanted.size and not 0 <= int(wanted.min()) <= int(wanted.max()) < self.n_nodes:
            raise InvalidArgument(
                f"nodes in 0..{self.n_nodes - 1} are wanted, but got "
                f"{int(wanted.min())}..{int(wanted.max())}"
            )
        offsets = np.asarray(self.offsets, dtype=np.int64)
        section = np.searchsorted(offsets, wanted, side="right") - 1
        return section.astype(np.int64, copy=False), wanted - offsets[section]

    def nodes(self, section: str) -> NDArray[np.int64]:
        """Return the nodes of a section, in row order."""
        if section not in self.sections:
            raise InvalidArgument(f"one of {self.sections} is wanted, but got {section!r}")
        number = self.sections.index(section)
        return np.arange(self.offsets[number], self.offsets[number + 1], dtype=np.int64)
