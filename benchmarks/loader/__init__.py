"""Parts of the benchmark of the loaders."""
