"""Readers of what the instruments write, one technology a file, and the pieces they share."""
