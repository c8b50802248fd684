"""Names of obs columns on disk: those of the source, unless SpatialData or a disk refuses them."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from .errors import Fault, InputError
from .section_write import INSTANCE_KEY, REGION_KEY

__all__ = ["stored_names"]

_RESERVED = ("_index", REGION_KEY, INSTANCE_KEY)
_MOST_BYTES = 200  # a name is a folder, 255 bytes at most, and may be given a suffix
_DIGITS = 8  # of the digest that tells apart names that would become one


def stored_names(names: Iterable[str], where: str = "obs") -> dict[str, str]:
    """Map the names of obs columns to those they are stored under.

    A name that SpatialData accepts (letters and digits of any script, `_ . -`, no leading `__`)
    stays as it is. In others, what is refused becomes `_`; where that would meet another name,
    whatever the case, eight digits of the name's SHA-256 are appended. The order of the names
    plays no part.

    Parameters
    ----------
    names : iterable of str
        Names in the source.
    where : str
        Place of the columns, for errors.

    Returns
    -------
    dict
        Stored name of each, in the order given.

    Raises
    ------
    InputError
        Naming those above 200 bytes of UTF-8.

    Examples
    --------
    >>> stored_names(["percent mito", "x", "_x", "Gr\u00f6\u00dfe"])
    {'percent mito': 'percent_mito', 'x': 'x', '_x': '_x', 'Gr\u00f6\u00dfe': 'Gr\u00f6\u00dfe'}
    >>> stored_names(["a b", "a_b"])
    {'a b': 'a_b_c8687a08', 'a_b': 'a_b'}
    """
    wanted = list(dict.fromkeys(names))
    _refuse_long(wanted, where)
    taken = {_folded(name) for name in _RESERVED}
    chosen: dict[str, str] = {}
    # Sorted, so that of names that differ in case alone the same one is always kept.
    for name in sorted(filter(_fits, wanted)):
        if _folded(name) not in taken:
            taken.add(_folded(name))
            chosen[name] = name
    stems = {name: _stem(name) for name in sorted(wanted) if name not in chosen}
    meeting = Counter(_folded(stem) for stem in stems.values())
    for name, stem in stems.items():
        stored, digits = stem, _DIGITS
        if _folded(stem) in taken or meeting[_folded(stem)] > 1:
            digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
            stored = f"{stem}_{digest[:digits]}"
            while _folded(stored) in taken:
                digits += 1
                stored = f"{stem}_{digest[:digits]}"
        taken.add(_folded(stored))
        chosen[name] = stored
    return {name: chosen[name] for name in wanted}


def _refuse_long(names: list[str], where: str) -> None:
    faults = [
        Fault(
            where,
            f"expected column names of at most {_MOST_BYTES} bytes, but got one of {size} that "
            f"starts with {name[:40]!r}; rename it, or leave it out with reader_kwargs "
            "drop_columns",
        )
        for name in names
        if (size := len(name.encode("utf-8", "surrogatepass"))) > _MOST_BYTES
    ]
    if faults:
        raise InputError(faults)


def _folded(name: str) -> str:
    """Fold case and spellings of one letter, as disks and SpatialData may."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _fits(name: str) -> bool:
    """Whether SpatialData takes a name, and every disk keeps it as it is."""
    allowed = all(letter.isalnum() or letter in "_.-" for letter in name)
    return (
        allowed
        and name not in {"", ".", ".."}
        and not name.startswith("__")
        and unicodedata.is_normalized("NFC", name)
    )


def _stem(name: str) -> str:
    """Replace what is refused; equal for any two spellings of one letter."""
    composed = unicodedata.normalize("NFC", name)
    stem = "".join(letter if letter.isalnum() or letter in "_.-" else "_" for letter in composed)
    stem = re.sub(r"_{2,}", "_", stem).strip("_.")
    return stem or "column"
