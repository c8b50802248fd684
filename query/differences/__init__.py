"""Differences between groups of cells, with replicates as the unit."""

from .diff import CellsAsReplicatesWarning, UnmatchedReplicatesWarning, diff

__all__ = ["CellsAsReplicatesWarning", "UnmatchedReplicatesWarning", "diff"]
