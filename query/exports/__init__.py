"""Answers as AnnData, SpatialData and files."""
