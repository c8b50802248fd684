"""Domains: mixtures, their number, nested levels, labels."""
