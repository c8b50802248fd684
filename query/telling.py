"""Warnings that point to the line that asked, however deep in the package they arise."""

import warnings
from pathlib import Path

__all__ = ["tell"]

_PACKAGE = str(Path(__file__).parents[1])


def tell(message: str, category: type[Warning]) -> None:
    """Warn with the line of the caller outside the package."""
    warnings.warn(message, category, stacklevel=2, skip_file_prefixes=(_PACKAGE,))
