"""The one way in which loops of models are compiled."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

__all__ = ["njit"]

if TYPE_CHECKING:

    def njit[F: Callable[..., Any]](function: F) -> F:
        """Stand in for numba's decorator, which ships without types."""
        return function

else:
    from numba import njit as _njit

    def njit(function):
        """Compile on first use: no interpreter lock, exact arithmetic, kept on disk."""
        return _njit(nogil=True, cache=True, error_model="numpy")(function)
