"""Words of a delimited text as values: numbers where every word comes back from them, else text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MISSING", "first_guess", "typed_words"]

MISSING = ("", "NA", "NaN", "nan", "null", "NULL", "None")
"""Words for no value in columns of numbers."""

_EXACT_DIGITS = 15  # that a float64 keeps whatever they are
_ZERO, _NINE, _PLUS, _MINUS = 48, 57, 43, 45


def first_guess(kind: Any) -> Any:
    """Type of a column by the one that Arrow infers: dates and bytes are text."""
    import pyarrow as pa
    import pyarrow.types as kinds

    plain = kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind)
    return kind if plain or kinds.is_null(kind) else pa.string()


def typed_words(words: Any, kind: Any, missing: Sequence[str] = MISSING) -> Any:
    """Values of a column of text in a type, or in the next wider one that holds all of them.

    Parameters
    ----------
    words : pyarrow.StringArray or ChunkedArray of them, (n,)
        Cells as they are written.
    kind : pyarrow.DataType
        Null or an integer goes on to float64 and text, a float or a boolean to text.
    missing : sequence of str
        Words for no value in numbers.

    Returns
    -------
    pyarrow.Array or ChunkedArray, (n,)
        Null where there is no value; all words where one of them would not come back: `007`, or
        more than 15 digits that are no int64.

    Examples
    --------
    >>> import pyarrow as pa
    >>> typed_words(pa.array(["1", "NA", "2.5"]), pa.int64()).to_pylist()
    [1.0, None, 2.5]
    >>> typed_words(pa.array(["1", "007"]), pa.int64()).to_pylist()
    ['1', '007']
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as kinds

    if kinds.is_string(kind):
        return words
    if not kinds.is_boolean(kind) and _any(words, _has_leading_zero):
        return words
    given = pc.if_else(pc.is_in(words, value_set=pa.array(missing)), None, words)
    if kinds.is_null(kind) and given.null_count == len(given):
        return pa.nulls(len(given))
    wider = [pa.int64()] if kinds.is_null(kind) or kinds.is_integer(kind) else []
    for one in [pa.bool_()] if kinds.is_boolean(kind) else [*wider, pa.float64()]:
        if kinds.is_floating(one) and _any(given, _has_long_integer):
            return words
        try:
            return pc.utf8_trim_whitespace(given).cast(one)
        except pa.ArrowInvalid:
            continue
    return words


def _any(words: Any, has: Any) -> bool:
    import pyarrow as pa

    chunks = words.chunks if isinstance(words, pa.ChunkedArray) else [words]
    return any(has(chunk) for chunk in chunks)


def _has_leading_zero(words: Any) -> bool:
    letters, starts, lengths = _letters(words)
    signed = lengths > 2  # behind a shorter word's sign and zero begins the next word
    signed[signed] = np.isin(letters[starts[signed]], (_PLUS, _MINUS))
    return _zero_first(letters, starts[lengths > 1]) or _zero_first(letters, starts[signed] + 1)


def _zero_first(letters: NDArray[np.uint8], at: NDArray[np.int64]) -> bool:
    zero = at[letters[at] == _ZERO]
    return bool(((letters[zero + 1] >= _ZERO) & (letters[zero + 1] <= _NINE)).any())


def _has_long_integer(words: Any) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    _, _, lengths = _letters(words)
    if not (lengths > _EXACT_DIGITS).any():
        return False
    long = words.filter(pa.array(lengths > _EXACT_DIGITS))
    pattern = rf"^\s*[+-]?[0-9]{{{_EXACT_DIGITS + 1},}}\s*$"
    return bool(pc.any(pc.match_substring_regex(long, pattern)).as_py())


def _letters(words: Any) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Bytes of an array of text, where each word starts, and how long it is."""
    _, offsets, data = words.buffers()
    if len(words) == 0 or data is None:
        return np.empty(0, np.uint8), np.zeros(len(words), np.int64), np.zeros(len(words), np.int64)
    own = slice(words.offset, words.offset + len(words) + 1)
    places = np.frombuffer(offsets, np.int32)[own].astype(np.int64)
    return np.frombuffer(data, np.uint8), places[:-1], np.diff(places)
