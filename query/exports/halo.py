"""The ring of cells around an answer: those near its cells, or that its edges lead to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument, UnitUnknown
from ...atlas.graph.disk.stored import open_graph
from ..cells.rows import RunArray, as_runs, batches, pairs_of, rows_of, runs_of
from ..geometry.near import NearCells

if TYPE_CHECKING:
    from ...atlas.section import Section
    from ..cells.selection import Selection

__all__ = ["Halo", "widened"]

# Cells compared at a time: positions and distances take some 10 MB.
_ROWS_AT_ONCE = 131_072


@dataclass(frozen=True, slots=True)
class Halo:
    """Which further cells an answer is handed out with.

    Raises
    ------
    InvalidArgument
        Both a length and a graph, a length that is not positive, no hop, or a name that is none.
    """

    um: float | None = None
    """Cells up to this far from some cell of the answer, in micrometers."""
    graph: str | None = None
    """Cells that edges of this graph lead to."""
    n_hops: int = 1
    """So many edges away."""

    def __post_init__(self) -> None:
        if self.um is not None and self.graph is not None:
            raise InvalidArgument("halo_um= or halo='graph' is wanted, but got both; give one")
        if self.um is not None and not 0 < self.um < np.inf:
            raise InvalidArgument(f"halo_um= above 0 micrometers is wanted, but got {self.um!r}")
        if self.n_hops < 1:
            raise InvalidArgument(f"n_hops= of at least 1 is wanted, but got {self.n_hops!r}")

    @classmethod
    def of(
        cls, halo: str | None, halo_um: float | None, n_hops: int, graph: str | None
    ) -> "Halo | None":
        """Read the options of an export; None where no halo is asked for.

        >>> Halo.of("graph", None, 2, "spatial")
        Halo(um=None, graph='spatial', n_hops=2)
        """
        if halo not in (None, "graph"):
            raise InvalidArgument(
                f"halo='graph' is wanted, but got {halo!r}; give a width as halo_um=50"
            )
        if halo == "graph" and graph is None:
            raise InvalidArgument("graph= is wanted with halo='graph', but got none; name a graph")
        if halo is None and halo_um is None:
            return None
        return cls(halo_um, graph if halo == "graph" else None, n_hops)


def widened(selection: "Selection", halo: Halo) -> tuple["Selection", dict[str, NDArray[np.bool_]]]:
    """Add a ring of cells, whether or not they satisfy the question.

    Parameters
    ----------
    selection
        The answer.
    halo
        The ring.

    Returns
    -------
    tuple
        The wider selection, over the same sections, and for each whether its cells are of the
        answer (n,) bool.

    Raises
    ------
    UnitUnknown
        A width in micrometers, of a section whose unit is unknown.
    DerivedNotFound, StaleDerived
        Some section has no such graph.

    Notes
    -----
    Reads positions near the answer, or its edges; no counts. Memory: one byte a cell of a
    section, 100 bytes a cell of the answer, and one batch of cells.
    """
    runs: dict[str, RunArray] = {}
    inside: dict[str, NDArray[np.bool_]] = {}
    for section, own in selection.parts():
        chosen = np.zeros(section.n_obs, bool)
        chosen[rows_of(own)] = True
        wide = chosen.copy()
        if halo.um is not None:
            _add_near(selection, section, halo.um, wide)
        if halo.graph is not None:
            _add_linked(selection, section, halo.graph, halo.n_hops, wide)
        rows = np.flatnonzero(wide)
        runs[section.name], inside[section.name] = runs_of(rows), chosen[rows]
    return selection.holding(runs), inside


def _add_near(
    selection: "Selection", section: "Section", um: float, wide: NDArray[np.bool_]
) -> None:
    """Mark cells up to `um` from some own cell; only blocks that near are read."""
    if section.um_per_unit is None:
        raise UnitUnknown(
            f"micrometers are wanted for halo_um=, but got section {section.name!r} of unknown "
            "unit; take halo='graph', or ingest it with um_per_unit"
        )
    ring = NearCells.of(selection, section.name, um)
    near, _ = ring.cover(np.asarray(section.blocks.bounds, np.float64))
    ptr = np.asarray(section.blocks.ptr, np.int64)
    for part in batches(as_runs(np.stack([ptr[:-1][near], ptr[1:][near]], axis=1)), _ROWS_AT_ONCE):
        rows = rows_of(part)
        wide[rows[ring.contains(section.positions(pairs_of(part)))]] = True


def _add_linked(
    selection: "Selection", section: "Section", key: str, n_hops: int, wide: NDArray[np.bool_]
) -> None:
    """Mark the cells that edges lead to, hop by hop; only rows of the last hop are read."""
    graph = open_graph(selection.store, key, section.name)
    last = np.flatnonzero(wide)
    for _ in range(n_hops):
        if not len(last):
            return
        found = np.unique(graph.edges(pairs_of(runs_of(last))).indices)
        last = found[~wide[found]].astype(np.int64)
        wide[last] = True
