"""Vendor bundles in, committed sections out."""
