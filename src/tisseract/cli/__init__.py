"""The command line: a thin layer over the same calls as Python, in the same words."""

from .app import main

__all__ = ["main"]
