"""Building graphs out of core: orders, blocks as tasks, commits."""
