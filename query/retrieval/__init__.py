"""Finding tissue that is like other tissue: an index of windows, search, ranking of cells."""
