"""Committed graphs: their layout, reading them, and how they are built again."""
