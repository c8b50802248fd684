"""What building graphs of several sections will read, write and need."""

from __future__ import annotations

from dataclasses import dataclass

from ..spec import describe
from .plan import GraphPlan, describe_costs, name_unit

__all__ = ["GraphPlans"]


@dataclass(frozen=True, slots=True)
class GraphPlans:
    """The plans of several sections, and what they come to."""

    sections: tuple[GraphPlan, ...]
    """One a section, in order."""

    @property
    def n_obs(self) -> int:
        """Cells of all sections."""
        return sum(plan.n_obs for plan in self.sections)

    @property
    def n_tiles(self) -> int:
        """Tiles of all sections."""
        return sum(plan.n_tiles for plan in self.sections)

    @property
    def n_tasks(self) -> int:
        """Tasks of all sections, all passes together."""
        return sum(plan.n_tasks for plan in self.sections)

    @property
    def edges(self) -> int:
        """Edges of all sections; see `GraphPlan.edges`."""
        return sum(plan.edges for plan in self.sections)

    @property
    def bounded(self) -> bool:
        """Whether there cannot be more edges than `edges`."""
        return all(plan.bounded for plan in self.sections)

    @property
    def bytes_read(self) -> int:
        """Estimate of the positions read in all passes, uncompressed."""
        return sum(plan.bytes_read * plan.passes for plan in self.sections)

    @property
    def bytes_written(self) -> int:
        """Bytes written, before compression; as sure as `edges`."""
        return sum(plan.bytes_written for plan in self.sections)

    @property
    def task_bytes(self) -> int:
        """Projected peak memory of the largest task."""
        return max((plan.task_bytes for plan in self.sections), default=0)

    def __str__(self) -> str:
        if len(self.sections) == 1:
            return str(self.sections[0])
        # What all sections share; a mask has another digest in each.
        parameters = {} if not self.sections else dict(self.sections[0].parameters)
        parameters.pop("mask", None)
        kind = self.sections[0].kind if self.sections else "neighborhood"
        head = describe(kind, parameters, of=f" of {len(self.sections)} sections")
        units = sorted({plan.unit for plan in self.sections if plan.unit})
        return (
            f"{head}\n"
            f"  {self.n_obs:,} cells in {self.n_tiles:,} tiles -> {self.n_tasks:,} tasks"
            f"{name_unit(' and '.join(units))}\n"
            f"{describe_costs(self, self.bytes_read)}"
        )
