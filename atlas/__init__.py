"""The store: formats, tiles, catalog, commits, lazy graphs and memory budgets."""
