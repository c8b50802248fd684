"""Tables of rows that pass through memory a block at a time."""
