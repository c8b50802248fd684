"""Compiled parser of dense counts in text: bytes to sparse rows in one pass.

Importing this module loads numba (half a second): import it inside the function that needs it.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# Compiled functions are typed by numba at their first call; their docstrings state the dtypes.
# pyright: basic
# ruff: noqa: PLR0915, PLR0917

from __future__ import annotations

import numba

__all__ = ["parse_rows"]

_NEWLINE, _RETURN, _QUOTE, _ZERO, _NINE, _POINT = 10, 13, 34, 48, 57, 46
_LARGEST = 2**53


@numba.njit(cache=True, nogil=True)
def parse_rows(text, delimiter, column_of, rows, first, indptr, indices, data):
    """Parse whole lines of counts; what is not zero goes into sparse rows.

    `text` (b,) uint8 ends in a newline; `column_of` (c,) int32 is the matrix column of each column
    of the text, -1 for others; `rows` (k,) int64 are the rows of the file that are wanted,
    ascending, and `first` is the number of the first line here. `indptr` (lines + 1,) int64,
    `indices` int32 and `data` float64 receive the rows.

    Returns (rows written, lines seen); lines -1 when something other than plain whole numbers
    stands in a wanted column, or a line has another number of columns: then nothing is to be used.
    """
    n_columns = column_of.size
    at, line, written, kept = 0, first, 0, 0
    size = text.size
    wanted = 0
    while wanted < rows.size and rows[wanted] < first:
        wanted += 1
    indptr[0] = 0
    while at < size:
        if text[at] == _NEWLINE:  # empty lines are no rows
            at += 1
            continue
        if text[at] == _RETURN and text[at + 1] == _NEWLINE:
            at += 2
            continue
        take = wanted < rows.size and rows[wanted] == line
        column = 0
        while True:
            if column >= n_columns:
                return 0, -1
            target = column_of[column]
            if target >= 0 and take:
                value = 0
                start = at
                while text[at] >= _ZERO and text[at] <= _NINE:
                    value = value * 10 + (text[at] - _ZERO)
                    at += 1
                    if value > _LARGEST:
                        return 0, -1
                if at == start:
                    return 0, -1
                if text[at] == _POINT:
                    at += 1
                    while text[at] == _ZERO:
                        at += 1
                if value != 0:
                    indices[written] = target
                    data[written] = value
                    written += 1
            elif text[at] == _QUOTE:
                at += 1
                while text[at] != _QUOTE and text[at] != _NEWLINE:
                    at += 1
                if text[at] == _NEWLINE:
                    return 0, -1
                at += 1
            else:
                while text[at] != delimiter and text[at] != _NEWLINE and text[at] != _RETURN:
                    if text[at] == _QUOTE:
                        return 0, -1
                    at += 1
            column += 1
            if text[at] == delimiter:
                at += 1
                continue
            if text[at] == _RETURN:
                at += 1
            if text[at] != _NEWLINE:
                return 0, -1
            at += 1
            break
        if column != n_columns:
            return 0, -1
        line += 1
        if take:
            kept += 1
            wanted += 1
            indptr[kept] = written
    return kept, line - first
