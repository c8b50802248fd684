"""Genes: names, summaries and values across sections."""
