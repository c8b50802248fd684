"""Words that stand for a missing value, such as ``NA``, in columns of text and categories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atlas.errors import Fault, InputError
from ..atlas.section_columns import CategoricalValues, StringValues
from .frame import read_column

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..atlas.section_columns import ColumnValues
    from .reader import ReadOptions
    from .source import ColumnKind, ObsColumn

__all__ = ["BlankedColumn", "missing_words", "suspects"]

_LIKE_MISSING = frozenset({"na", "n/a", "<na>", "nan", "none", "null"})


@dataclass(frozen=True, slots=True)
class BlankedColumn:
    """A column in which some words are missing values."""

    column: ObsColumn
    """As the file has it."""
    words: tuple[str, ...]
    """What means missing."""

    @property
    def kind(self) -> ColumnKind:
        """Kind of the values."""
        return self.column.kind

    def read(self) -> ColumnValues:
        """Read the column; these words are no category and no text of it."""
        values = self.column.read()
        if isinstance(values, CategoricalValues):
            kept = [name for name in values.categories if name not in self.words]
            place = {name: number for number, name in enumerate(kept)}
            fresh = [*(place.get(name, -1) for name in values.categories), -1]
            codes = np.array(fresh, values.codes.dtype)[values.codes]
            return CategoricalValues(codes, tuple(kept), values.ordered)
        if isinstance(values, StringValues):
            found = values.find_in(StringValues.from_strings(list(self.words))) >= 0
            mask = found if values.mask is None else found | values.mask
            return StringValues(values.text, values.offsets, mask if mask.any() else None)
        return values


def missing_words(options: ReadOptions, where: str) -> tuple[str, ...]:
    """Words that the sample sheet names in `missing_values`.

    Raises
    ------
    InputError
        Something other than a word or a list of words.
    """
    given = options.reader_kwargs.get("missing_values", ())
    words = (given,) if isinstance(given, str) else given
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
        raise InputError(
            Fault(where, f"expected reader_kwargs missing_values as a list of words, got {given!r}")
        )
    return tuple(dict.fromkeys(words))


def suspects(obs: Any, columns: Mapping[str, ColumnKind], words: tuple[str, ...]) -> list[str]:
    """Tell of categories that look like missing values and are not named as such.

    Reads the codes of categorical columns, one column at a time.
    """
    notes = []
    for name, kind in columns.items():
        values = read_column(obs, name) if kind == "categorical" else None
        if not isinstance(values, CategoricalValues):
            continue
        for code, word in enumerate(values.categories):
            n = int((values.codes == code).sum()) if word.lower() in _LIKE_MISSING else 0
            if n and word not in words:
                notes.append(
                    f"obs column {name!r} says {word!r} in {n:,} cells, a value like any other; "
                    f'reader_kwargs {{"missing_values": ["{word}"]}} makes it missing'
                )
    return notes
