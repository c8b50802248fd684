"""What a query asks of each cell, as a value, under three-valued logic.

A comparison with a missing value is neither true nor false but unknown, as in SQL: `x != 3` and
`x not in [3]` leave out the cells whose `x` is missing, and so does `not (x == 3)`. Only
`x is null` and `x is not null` look at missingness itself. A query returns the cells for which
the predicate is true.

::

        and | T U F      or | T U F      not |
        ----+------     ----+------     -----+--
          T | T U F       T | T T T        T | F
          U | U U F       U | T U U        U | U
          F | F F F       F | T U F        F | T
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from keyword import iskeyword
from typing import Literal

import numpy as np
from numpy.typing import NDArray

# A name with its source, such as counts:Sox2, and what may follow without backquotes.
SOURCED = re.compile(
    r"(?:counts|log1p|cell|meta|obs|domains|confidence|annotations):\w"
    r"(?:\w|[:-](?=\w)|\.(?!(?:startswith|endswith|contains)\s*\()(?=\w))*"
)
# Words of the filter grammar that are no names unless backquoted.
RESERVED = ("null", "none", "true", "false")

type Scalar = str | int | float | bool
type Operator = Literal["==", "!=", "<", "<=", ">", ">="]
type BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Compare:
    """`column op value`; unknown where the column is missing."""

    column: str
    op: Operator
    value: Scalar

    def __str__(self) -> str:
        return f"{quote(self.column)} {self.op} {self.value!r}"


@dataclass(frozen=True, slots=True)
class In:
    """`column in values`; unknown where the column is missing."""

    column: str
    values: tuple[Scalar, ...]

    def __str__(self) -> str:
        return f"{quote(self.column)} in [{', '.join(map(repr, self.values))}]"

    def holds(self, value: object) -> bool:
        """Whether a value is one of them, in constant time: the list may be long."""
        return value in _members(Same(self.values))


class Same:
    """A list told from others by being the same object: comparing long ones takes longer."""

    def __init__(self, values: tuple[Scalar, ...]) -> None:
        self.values = values

    def __hash__(self) -> int:
        return id(self.values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.values is self.values


@lru_cache(maxsize=16)
def _members(same: Same) -> frozenset[Scalar]:
    return frozenset(same.values)


@dataclass(frozen=True, slots=True)
class Null:
    """`column is null`; never unknown."""

    column: str

    def __str__(self) -> str:
        return f"{quote(self.column)} is null"


@dataclass(frozen=True, slots=True)
class StringTest:
    """`column.startswith(text)`, `.endswith` or `.contains`; case matters, no patterns."""

    column: str
    test: Literal["startswith", "endswith", "contains"]
    text: str

    def __str__(self) -> str:
        return f"{quote(self.column)}.{self.test}({self.text!r})"


@dataclass(frozen=True, slots=True)
class And:
    """True where every part is true; `And(())` is true everywhere."""

    parts: tuple["Predicate", ...]

    def __str__(self) -> str:
        return " and ".join(f"({part})" for part in self.parts) or "true"


@dataclass(frozen=True, slots=True)
class Or:
    """True where some part is true; `Or(())` is false everywhere."""

    parts: tuple["Predicate", ...]

    def __str__(self) -> str:
        return " or ".join(f"({part})" for part in self.parts) or "false"


@dataclass(frozen=True, slots=True)
class Not:
    """True where the part is false; unknown stays unknown."""

    part: "Predicate"

    def __str__(self) -> str:
        return f"not ({self.part})"


type Leaf = Compare | In | Null | StringTest
type Predicate = Leaf | And | Or | Not

EVERYTHING = And(())


def quote(column: str) -> str:
    """Spell a column as the string grammar does, in backquotes where it is no plain name.

    >>> quote("cell_type"), quote("cell type")
    ('cell_type', '`cell type`')
    """
    if SOURCED.fullmatch(column):
        return column
    plain = column.isidentifier() and column.isascii() and not iskeyword(column)
    return column if plain and column.lower() not in RESERVED else f"`{column}`"


def leaves(predicate: Predicate) -> Iterator[Leaf]:
    """Every test on a column, from left to right.

    >>> [leaf.column for leaf in leaves(And((Null("a"), Not(Compare("b", "==", 1)))))]
    ['a', 'b']
    """
    if isinstance(predicate, And | Or):
        for part in predicate.parts:
            yield from leaves(part)
    elif isinstance(predicate, Not):
        yield from leaves(predicate.part)
    else:
        yield predicate


def conjunction(parts: list[Predicate]) -> Predicate:
    """All of the parts at once, without needless nesting.

    >>> str(conjunction([EVERYTHING, Compare("a", ">", 1)]))
    'a > 1'
    """
    kept = [part for part in parts if part != EVERYTHING]
    return kept[0] if len(kept) == 1 else And(tuple(kept))


@dataclass(frozen=True, slots=True)
class Truth:
    """Three-valued answers for m cells: `yes` and `no` are disjoint, neither set means unknown."""

    yes: BoolArray
    no: BoolArray


def evaluate(predicate: Predicate, leaf: Callable[[Leaf], Truth], n: int) -> Truth:
    """Answer for each of `n` cells, given the answers to its tests on columns.

    Parameters
    ----------
    predicate
        What is asked.
    leaf
        Answers one test on a column; arrays of length `n`.
    n
        Number of cells.

    Returns
    -------
    Truth
        Two boolean arrays of length `n`; memory is two bytes a cell and level of nesting.
    """
    if isinstance(predicate, And | Or):
        answer = _constant(n, isinstance(predicate, And))
        for part in predicate.parts:
            other = evaluate(part, leaf, n)
            if isinstance(predicate, And):
                answer = Truth(answer.yes & other.yes, answer.no | other.no)
            else:
                answer = Truth(answer.yes | other.yes, answer.no & other.no)
        return answer
    if isinstance(predicate, Not):
        inner = evaluate(predicate.part, leaf, n)
        return Truth(inner.no, inner.yes)
    return leaf(predicate)


def _constant(n: int, value: bool) -> Truth:
    return Truth(np.full(n, value), np.full(n, not value))


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is known of the answers inside each of T groups of cells (tiles, or one section).

    Sound, not tight: `can_*` may be true needlessly, `all_*` false needlessly, never the reverse.
    """

    can_yes: BoolArray
    can_no: BoolArray
    all_yes: BoolArray
    all_no: BoolArray

    @classmethod
    def unknown(cls, n: int) -> "Bounds":
        """Nothing is known about any of `n` groups."""
        true, false = np.ones(n, bool), np.zeros(n, bool)
        return cls(true, true, false, false)

    @classmethod
    def exactly(cls, truth: Truth) -> "Bounds":
        """Each group answers as one: its cells share one value."""
        return cls(truth.yes, truth.no, truth.yes, truth.no)


def bound(predicate: Predicate, leaf: Callable[[Leaf], Bounds], n: int) -> Bounds:
    """Bounds on the answers in each of `n` groups, given those of the tests on columns.

    `And` can be true in a group only where every part can, though perhaps for different cells;
    it is true of all cells where every part is. `Or` mirrors it; `Not` swaps yes and no.
    """
    if isinstance(predicate, And | Or):
        conjunctive = isinstance(predicate, And)
        answer = Bounds.exactly(_constant(n, conjunctive))
        for part in predicate.parts:
            other = bound(part, leaf, n)
            answer = _both(answer, other) if conjunctive else _either(answer, other)
        return answer
    if isinstance(predicate, Not):
        inner = bound(predicate.part, leaf, n)
        return Bounds(inner.can_no, inner.can_yes, inner.all_no, inner.all_yes)
    return leaf(predicate)


def _both(a: Bounds, b: Bounds) -> Bounds:
    return Bounds(
        a.can_yes & b.can_yes, a.can_no | b.can_no, a.all_yes & b.all_yes, a.all_no | b.all_no
    )


def _either(a: Bounds, b: Bounds) -> Bounds:
    return Bounds(
        a.can_yes | b.can_yes, a.can_no & b.can_no, a.all_yes | b.all_yes, a.all_no & b.all_no
    )
