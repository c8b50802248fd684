"""Neighborhood graphs, tile by tile: exact, lazy, out of core."""
