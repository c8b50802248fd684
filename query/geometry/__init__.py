"""Where cells must lie."""
