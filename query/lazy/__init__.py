"""Answers that are not read yet: dask arrays, xarray datasets, batches, one section at a time."""
