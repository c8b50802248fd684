"""Differences between groups of cells, with replicates as the unit."""

from .diff import CellsAsReplicatesWarning, diff

__all__ = ["CellsAsReplicatesWarning", "diff"]
