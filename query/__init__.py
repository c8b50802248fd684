"""Answers from the store: regions, genes and domains across sections."""
