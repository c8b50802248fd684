"""Text for a terminal: names and labels come from stores and sheets, so they are never trusted."""

from __future__ import annotations

import unicodedata

__all__ = ["clean", "size"]

# Cc: control codes (escape sequences start with one); Cf: direction overrides and other invisible
# marks; Cs, Zl, Zp: lone surrogates and line separators, which a terminal may act upon.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def clean(value: object, *, lines: bool = False) -> str:
    r"""Spell out characters that a terminal would act upon.

    Parameters
    ----------
    value : object
        Anything; its `str` is taken.
    lines : bool
        Keep line breaks (for messages of several lines).

    Examples
    --------
    >>> clean("E12\x1b[2J")
    'E12\\x1b[2J'
    """
    text = str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char
        if unicodedata.category(char) not in _UNSAFE or (lines and char == "\n")
        else ascii(char)[1:-1]
        for char in text
    )


def size(nbytes: float) -> str:
    """Bytes for people.

    Examples
    --------
    >>> size(1536)
    '1.5 KiB'
    """
    from ..atlas.memory import format_bytes

    return format_bytes(int(nbytes))
