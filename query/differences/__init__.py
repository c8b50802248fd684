"""Differences between groups of cells, with replicates as the unit."""
