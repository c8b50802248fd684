"""Principal components of sections that do not fit in memory, and their correction."""
