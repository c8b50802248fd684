"""The decorator of compiled loops, whose cache notices edits in other files.

Compiled code is kept beside its source and holds the code of all functions it calls, those of
other files included. numba compares the age of the caller's file only: after an upgrade that
changed a callee elsewhere it would run the old machine code. Here the cache is also keyed by what
a function calls, and what that calls in turn.
"""

from hashlib import sha256
from types import CodeType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    def njit[F: Callable[..., Any]](function: F) -> F:
        """Stand in for numba's decorator, which ships without types."""
        return function

else:
    from numba import njit as _njit
    from numba.core.caching import FunctionCache

    class _CalleeCache(FunctionCache):
        """numba's cache on disk, with the digest of the function as one more key."""

        def __init__(self, function: "Callable[..., Any]", digest: str) -> None:
            super().__init__(function)
            self._digest = digest

        def _index_key(self, sig: object, codegen: object) -> tuple[object, ...]:
            return (*super()._index_key(sig, codegen), self._digest)

    def njit(function: "Callable[..., Any]") -> "Callable[..., Any]":
        """Compile a function on first use: no interpreter lock, exact arithmetic, kept on disk."""
        digest = _digest(function)
        compiled = _njit(nogil=True, cache=True, error_model="numpy")(function)
        compiled.__dict__["tisseract_digest"] = digest
        compiled._cache = _CalleeCache(function, digest)
        return compiled


__all__ = ["njit"]


def _digest(function: "Callable[..., Any]") -> str:
    """Digest of a function's code, the numbers it uses, and the compiled functions it calls."""
    code, globals_ = function.__code__, function.__globals__
    parts = [repr(_described(code))]
    for name in code.co_names:
        value = globals_.get(name)
        called = getattr(value, "__dict__", {}).get("tisseract_digest")
        if called is not None or isinstance(value, bool | int | float | str | tuple):
            parts.append(f"{name}={called or value!r}")
    return sha256("\n".join(parts).encode()).hexdigest()


def _described(code: CodeType) -> tuple[object, ...]:
    """Return what a code object does; its own text would hold its address."""
    inner = [_described(c) if isinstance(c, CodeType) else c for c in code.co_consts]
    return code.co_code, code.co_names, code.co_varnames, inner
