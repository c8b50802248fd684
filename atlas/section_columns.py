"""Values of one obs column, as readers hand them to the writer: four kinds, all nullable."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = [
    "BooleanValues",
    "CategoricalValues",
    "ColumnKind",
    "ColumnValues",
    "NumericValues",
    "StringValues",
]

_HASHED_BYTES = 1 << 20  # of text hashed at a time; a longer string is hashed alone

ColumnKind = Literal["numeric", "boolean", "categorical", "string"]


@dataclass(frozen=True, slots=True)
class NumericValues:
    """Integers or floats, one per row; NaN is a missing float, `mask` marks missing integers.

    Raises
    ------
    ValueError
        If `values` is not a one-dimensional integer or float array.
    """

    values: NDArray[np.generic]
    """(n,) integer or float."""
    mask: NDArray[np.bool_] | None = None
    """(n,) True where missing; None when nothing is missing beyond NaN."""

    def __post_init__(self) -> None:
        if self.values.ndim != 1 or self.values.dtype.kind not in "iuf":
            raise ValueError(
                "a numeric column must be 1-D integers or floats, "
                f"but got {self.values.ndim}-D {self.values.dtype}"
            )


@dataclass(frozen=True, slots=True)
class BooleanValues:
    """True or False, one per row; `mask` marks missing ones."""

    values: NDArray[np.bool_]
    """(n,) bool."""
    mask: NDArray[np.bool_] | None = None
    """(n,) True where missing; None when nothing is missing."""


@dataclass(frozen=True, slots=True)
class CategoricalValues:
    """Codes into a short list of names; code -1 is missing.

    Raises
    ------
    ValueError
        If a code points past the categories.

    Examples
    --------
    >>> import numpy as np
    >>> CategoricalValues(np.array([0, -1, 1], dtype=np.int8), ("layer 1", "WM")).categories
    ('layer 1', 'WM')
    """

    codes: NDArray[np.signedinteger]
    """(n,) int8, int16 or int32; -1 where missing."""
    categories: tuple[str, ...]
    """Names, unique, in the order of the codes."""
    ordered: bool = False
    """Whether the order of the categories carries meaning."""

    def __post_init__(self) -> None:
        if self.codes.size and (
            int(self.codes.max()) >= len(self.categories) or int(self.codes.min()) < -1
        ):
            raise ValueError(
                f"codes must lie in -1..{len(self.categories) - 1}, "
                f"but got {int(self.codes.min())}..{int(self.codes.max())}"
            )


@dataclass(frozen=True, slots=True)
class StringValues:
    """UTF-8 strings as one buffer and offsets: 8 bytes a row beside the text, no Python objects."""

    text: NDArray[np.uint8]
    """(sum of lengths,) the bytes of all strings, one after the other."""
    offsets: NDArray[np.int64]
    """(n + 1,) where each string starts."""
    mask: NDArray[np.bool_] | None = None
    """(n,) True where missing; None when nothing is missing."""

    @classmethod
    def from_strings(cls, strings: Any) -> StringValues:
        """Pack a sequence, NumPy array or Arrow array of strings; None and NaN become missing.

        Examples
        --------
        >>> StringValues.from_strings(["a", None, "µm"]).to_list()
        ['a', None, 'µm']
        """
        import pyarrow as pa

        if isinstance(strings, (pa.Array, pa.ChunkedArray)):
            array = strings.cast(pa.large_string())
            array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
        elif isinstance(strings, np.ndarray) and strings.dtype.kind == "S":
            array = pa.array(strings, type=pa.large_binary()).cast(pa.large_string())
        elif isinstance(strings, np.ndarray) and strings.dtype.kind != "O":
            array = pa.array(np.asarray(strings, dtype=object), type=pa.large_string())
        else:
            array = pa.array(strings, type=pa.large_string(), from_pandas=True)
        return cls._from_arrow(array)

    @classmethod
    def _from_arrow(cls, array: Any) -> StringValues:
        mask = np.asarray(array.is_null()) if array.null_count else None
        if array.null_count:
            array = array.fill_null("")
        _, offsets_buffer, text_buffer = array.buffers()
        n, first = len(array), array.offset
        if n == 0:
            return cls(np.empty(0, np.uint8), np.zeros(1, np.int64), mask)
        offsets = np.frombuffer(offsets_buffer, np.int64)[first : first + n + 1]
        text = np.frombuffer(text_buffer, np.uint8) if text_buffer else np.empty(0, np.uint8)
        return cls(text[offsets[0] : offsets[-1]], offsets - offsets[0], mask)

    def __len__(self) -> int:
        return self.offsets.size - 1

    @classmethod
    def join(cls, pieces: Iterable[StringValues]) -> StringValues:
        """Put pieces one after the other, as they arrive.

        Examples
        --------
        >>> parts = [StringValues.from_strings(["a"]), StringValues.from_strings(["bc", None])]
        >>> StringValues.join(parts).to_list()
        ['a', 'bc', None]
        """
        # Grown in place: pieces beside the whole would hold a long column twice.
        text = bytearray()
        lengths, masks = [], []
        for piece in pieces:
            text += memoryview(np.ascontiguousarray(piece.text))
            lengths.append(np.diff(piece.offsets))
            masks.append(np.zeros(len(piece), bool) if piece.mask is None else piece.mask)
        if not lengths:
            return cls(np.empty(0, np.uint8), np.zeros(1, np.int64))
        offsets = np.zeros(sum(part.size for part in lengths) + 1, np.int64)
        np.cumsum(np.concatenate(lengths), out=offsets[1:])
        mask = np.concatenate(masks)
        return cls(np.frombuffer(text, np.uint8), offsets, mask if mask.any() else None)

    def hashes(self) -> NDArray[np.uint64]:
        """(n,) 64-bit multilinear hashes: equal strings have equal hashes, others hardly ever."""
        found = np.zeros(len(self), np.uint64)
        step = _HASHED_BYTES
        longest = int(np.diff(self.offsets).max(initial=0))
        weight = np.random.default_rng(0).integers(0, 2**63, longest + 1, np.uint64) * 2 + 1
        start = 0
        while start < len(self):
            # Bounded in bytes: 24 of arithmetic for each of text.
            ends = np.searchsorted(self.offsets, self.offsets[start] + step, side="right")
            stop = min(max(int(ends) - 1, start + 1), start + step, len(self))
            offsets = self.offsets[start : stop + 1]
            lengths = np.diff(offsets)
            place = np.arange(offsets[0], offsets[-1]) - np.repeat(offsets[:-1], lengths)
            # One is added to each byte, so that a trailing zero byte changes the hash.
            terms = (self.text[offsets[0] : offsets[-1]].astype(np.uint64) + 1) * weight[place]
            filled = np.flatnonzero(lengths)
            if filled.size:
                sums = np.add.reduceat(terms, (offsets[:-1] - offsets[0])[filled])
                found[start + filled] = sums
            start = stop
        return found

    def repeated(self) -> list[str]:
        """Strings that occur more than once, each once, sorted; 24 bytes a row while searching.

        Examples
        --------
        >>> StringValues.from_strings(["b", "a", "b", None, None]).repeated()
        ['b']
        """
        hashes = self.hashes()
        order = np.argsort(hashes, kind="stable")
        same = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
        if self.mask is not None:
            same = same[~self.mask[order[same]] & ~self.mask[order[same + 1]]]
        first, second = self.take(order[same]).to_list(), self.take(order[same + 1]).to_list()
        return sorted({a for a, b in zip(first, second, strict=True) if a == b and a is not None})

    def find_in(self, other: StringValues) -> NDArray[np.int64]:
        """(n,) row of each string in another column, whose strings are unique; -1 where absent.

        Memory: 24 bytes a row of each.

        Examples
        --------
        >>> words = StringValues.from_strings(["b", "x", "a"])
        >>> words.find_in(StringValues.from_strings(["a", "b"])).tolist()
        [1, -1, 0]
        """
        import pyarrow.compute as pc

        if len(other) == 0:
            return np.full(len(self), -1, np.int64)
        hashes = other.hashes()
        order = np.argsort(hashes)
        place = np.searchsorted(hashes, self.hashes(), sorter=order)
        found = order[np.minimum(place, len(other) - 1)].astype(np.int64)
        del hashes, order, place
        same = pc.equal(self.to_arrow(), other.take(found).to_arrow())
        wrong = np.flatnonzero(~np.asarray(same))
        if wrong.size:
            # Absent, or one of two strings with the same hash.
            rest = pc.index_in(self.take(wrong).to_arrow(), value_set=other.to_arrow())
            found[wrong] = np.asarray(rest.fill_null(-1))
        return found

    def take(self, rows: NDArray[np.integer]) -> StringValues:
        """Strings of the given rows, in that order; cost is the size of the result.

        Examples
        --------
        >>> import numpy as np
        >>> StringValues.from_strings(["a", "bc", ""]).take(np.array([1, 0])).to_list()
        ['bc', 'a']
        """
        mask = None if self.mask is None else self.mask[rows]
        taken = self._from_arrow(self.to_arrow().take(rows))
        return StringValues(taken.text, taken.offsets, mask)

    def to_arrow(self) -> pa.LargeStringArray:
        """View as Arrow strings without a copy; missing ones are empty."""
        import pyarrow as pa

        buffers = [None, pa.py_buffer(self.offsets), pa.py_buffer(self.text)]
        found: pa.LargeStringArray = pa.Array.from_buffers(pa.large_string(), len(self), buffers)
        return found

    def to_list(self) -> list[str | None]:
        """Python strings, None where missing."""
        blob = self.text.tobytes()
        ends = self.offsets.tolist()
        words: list[str | None] = [blob[a:b].decode("utf-8") for a, b in pairwise(ends)]
        if self.mask is not None:
            for row in np.flatnonzero(self.mask).tolist():
                words[row] = None
        return words


ColumnValues = NumericValues | BooleanValues | CategoricalValues | StringValues
"""What `ObsColumn.read` returns."""
