"""Graphs of spots and bins on a lattice."""
