"""Text for a terminal: names and labels come from stores and sheets, so they are never trusted."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["as_options", "clean", "size"]

# Cc: control codes (escape sequences start with one); Cf: direction overrides and other invisible
# marks; Cs, Zl, Zp: lone surrogates and line separators, which a terminal may act upon.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


# Arguments of Python that are options here; a value behind one goes with it, as it stands. What
# follows a quote or a slash is a value or a path of the user.
_ARGUMENT = re.compile(
    r"(?<![\w.'\"/-])(sections?|domain_key|missing|memory_limit|genes|obs|timepoint|domain|normalize|units"
    r"|organism|bbox|circle|polygon|n_rings|n_domains|key_added|where|percentile|symmetrize"
    r"|near|within_um|region_key|um_per_unit|ontology|predicate|coordinate_system|descendants"
    r"|graph_key|color|frame|groupby|join|run|replicate|markers|by|epochs|steps|device|precision)=(?!=)"
    r"(?:['\"]([\w.:-]+)['\"]|('[^'\n]*'|\"[^\"\n]*\")|\[\.\.\.\]|(-?\w+(?:[.+-]\w+)*))?"
)
# What the command line has otherwise, or not at all.
_SPELLED = {
    "overwrite=True": "--overwrite",
    "kind='knn'": "--knn 6",
    "`sections=`": "sections=",
    "a `gene_map` at ingest": "a gene_map column of the sample sheet at ingest",
    "to accept this, 'nan', join='inner', or": "to accept this, missing='nan', or",
}
_ALTERNATIVES = re.compile(r"(--missing \w+)((?:,? (?:or )?'\w+')+)")


def as_options(message: str) -> str:
    """Spell the arguments that a message of the library names as options of the command line.

    Examples
    --------
    >>> as_options("name it with domain_key=, or a larger memory_limit")
    'name it with --domain-key, or a larger --memory-limit'
    >>> as_options("choose missing='nan', 'drop_sections' or 'zero', or other sections")
    'choose --missing nan, drop_sections or zero, or other sections'
    >>> as_options("give another key_added, or overwrite=True")
    'give another --key-added, or --overwrite'
    >>> as_options("below n_domains=5; name it with graph_key=")
    'below --n-domains 5; name it with --graph'
    >>> as_options("got epochs=-1.5, lr 1 and where='a b'; the file 'run=1/key_added' is none")
    "got --epochs -1.5, lr 1 and --where 'a b'; the file 'run=1/key_added' is none"
    """
    for python, option in _SPELLED.items():
        message = message.replace(python, option)
    text = _ARGUMENT.sub(
        lambda found: " ".join(filter(None, [_option(found[1]), found[2] or found[3] or found[4]])),
        message,
    )
    text = _ALTERNATIVES.sub(lambda found: found[1] + found[2].replace("'", ""), text)
    return re.sub(
        r"(?<![\w.'\"/-])(memory_limit|key_added)\b(?!['\"/=])",
        lambda m: f"--{m[1].replace('_', '-')}",
        text,
    )


def _option(argument: str) -> str:
    """Spell one argument; few are called otherwise in Python."""
    known = {"graph_key": "--graph", "sections": "--section"}
    return known.get(argument, f"--{argument.replace('_', '-')}")


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
