"""Domains: composition, areas, markers of labels across sections."""
