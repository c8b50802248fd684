"""Filter strings, read through Python's syntax tree by whitelist; nothing is ever evaluated.

Grammar (a superset of the Census and TileDB-SOMA value filters)::

    predicate := test | predicate and predicate | predicate or predicate
               | not predicate | ( predicate )
    test      := column op value [op value ...]     op: == != < <= > >=
               | value op column op value           chains: 200 < n_counts <= 5000
               | column in [value, ...] | column not in [value, ...]
               | column is null | column is not null
               | column.startswith("..") | column.endswith("..") | column.contains("..")
               | column                             a column of booleans
               | true | false                       every cell, none
    column    := name | dotted.name | `any name between backquotes`
               | counts:gene | log1p:gene         values of a gene, which name their unit
               | cell:id                          its name, "section:id"
               | obs:name | meta:name | domains:key | confidence:key | annotations:key
    value     := "text" | number | true | false
"""

import ast
import math
import warnings
from dataclasses import dataclass
from typing import Literal, NoReturn, cast

from ...atlas.errors import QuerySyntax
from .predicate import (
    SOURCED,
    And,
    Compare,
    In,
    Not,
    Null,
    Operator,
    Or,
    Predicate,
    Scalar,
    StringTest,
)

MAX_LENGTH = 1_000_000
MAX_DEPTH = 64
MAX_TESTS = 2_000
MAX_INTEGER = 2**64
"""Integers are below it; floats may be any that is finite."""

_OPERATORS: dict[type[ast.cmpop], Operator] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_MIRROR: dict[Operator, Operator] = {
    "==": "==",
    "!=": "!=",
    "<": ">",
    "<=": ">=",
    ">": "<",
    ">=": "<=",
}
_STRING_TESTS = ("startswith", "endswith", "contains")
_NULLS = ("null", "NULL", "None")
_BOOLEANS = {"true": True, "True": True, "false": False, "False": False}


def parse(text: str) -> Predicate:
    """Read a filter string.

    Parameters
    ----------
    text
        The filter; at most 1,000,000 characters, 64 levels deep, 2,000 tests.

    Returns
    -------
    Predicate
        The same question as a value. Whether its columns exist is not looked at here.

    Raises
    ------
    QuerySyntax
        Anything outside the grammar; the message names the part and its column.

    Examples
    --------
    >>> str(parse("cell_type in ['Neuron', 'Glia'] and not 200 < n_counts <= 5000"))
    "(cell_type in ['Neuron', 'Glia']) and (not ((n_counts > 200) and (n_counts <= 5000)))"
    >>> parse("__import__('os').system('true')")
    Traceback (most recent call last):
    tisseract.atlas.errors.QuerySyntax: a test on a column is wanted, but got \
"__import__('os').system('true')" at column 1; of calls only .startswith("..") .endswith("..") \
.contains("..") on a column are known
    """
    if not isinstance(text, str):
        raise QuerySyntax(f"a filter string is wanted, but got {type(text).__name__}")
    if len(text) > MAX_LENGTH:
        raise QuerySyntax(
            f"a filter of at most {MAX_LENGTH:,} characters is wanted, but got {len(text):,}; "
            "pass long lists as values: column=[...], cells=[...]"
        )
    if not text.strip():
        raise QuerySyntax("a filter is wanted, but got an empty string; leave `obs` out instead")
    source = _Source.of(text)
    return _Reader(source).predicate(source.tree(), 0)


@dataclass(frozen=True, slots=True)
class _Source:
    """The text as given, and as Python's parser gets it: same length, backquotes replaced."""

    text: str
    plain: str
    quoted: dict[int, str]
    """Name between backquotes by the offset of its opening one."""

    @classmethod
    def of(cls, text: str) -> "_Source":
        plain: list[str] = []
        quoted: dict[int, str] = {}
        inside = ""
        i = 0
        while i < len(text):
            char = text[i]
            if inside:
                step = 2 if char == "\\" else 1
                inside = "" if char == inside else inside
                plain.append(text[i : i + step])
                i += step
            elif char == "`":
                end = text.find("`", i + 1)
                if end <= i + 1:
                    _fail("a name between backquotes is wanted", text[i:], i, "close it with `")
                quoted[i] = text[i + 1 : end]
                plain.append("_" * (end + 1 - i))
                i = end + 1
            elif (name := SOURCED.match(text, i)) and _begins(text, i):
                quoted[i] = name[0]
                plain.append("_" * len(name[0]))
                i = name.end()
            elif char == "#":
                _fail("a filter without comments is wanted", text[i:], i, "leave out # and on")
            else:
                inside = char if char in "'\"" else ""
                plain.append(" " if char in "\n\r\t\f" else char)
                i += 1
        joined = "".join(plain)
        if "\n" in joined:
            at = joined.index("\n")
            _fail("text within one line is wanted", text[at:], at, "write a line break as \\n")
        return cls(text, joined, quoted)

    def tree(self) -> ast.expr:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ast.parse(self.plain[self.lead :], mode="eval").body
        except SyntaxError as error:
            at = max(0, min((error.offset or 1) - 1 + self.lead, len(self.text) - 1))
            raise QuerySyntax(
                f"a filter such as \"cell_type == 'Neuron' and n_counts > 200\" is wanted, "
                f"but got {_shorten(self.text[at:])} at column {at + 1} ({_reason(error)})"
            ) from None
        except (RecursionError, MemoryError, ValueError) as error:
            raise QuerySyntax(
                f"a filter at most {MAX_DEPTH} levels deep is wanted, but got "
                f"{_shorten(self.text)} ({type(error).__name__})"
            ) from None

    def span(self, node: ast.expr) -> tuple[int, str]:
        """Offset and text of a part, as the user typed it."""
        if self.text.isascii():
            return node.col_offset + self.lead, self.text[
                node.col_offset + self.lead : (node.end_col_offset or 0) + self.lead
            ]
        encoded = self.plain[self.lead :].encode()
        start = len(encoded[: node.col_offset].decode()) + self.lead
        stop = len(encoded[: node.end_col_offset].decode()) + self.lead
        return start, self.text[start:stop]

    @property
    def lead(self) -> int:
        return len(self.plain) - len(self.plain.lstrip())


@dataclass(slots=True)
class _Reader:
    source: _Source
    n_tests: int = 0

    def predicate(self, node: ast.expr, depth: int) -> Predicate:
        if depth > MAX_DEPTH:
            self._fail(f"a filter at most {MAX_DEPTH} levels deep is wanted", node, "split it up")
        if isinstance(node, ast.BoolOp):
            parts = tuple(self.predicate(value, depth + 1) for value in node.values)
            return And(parts) if isinstance(node.op, ast.And) else Or(parts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return Not(self.predicate(node.operand, depth + 1))
        self.n_tests += 1
        if self.n_tests > MAX_TESTS:
            self._fail(f"at most {MAX_TESTS:,} tests are wanted", node, "use `column in [...]`")
        if isinstance(node, ast.Compare):
            return self._comparison(node)
        if isinstance(node, ast.Call):
            return self._string_test(node)
        if isinstance(node, ast.Name) and self._is_name(node, tuple(_BOOLEANS)):
            return And(()) if _BOOLEANS[node.id] else Or(())
        if isinstance(node, ast.Constant) and isinstance(node.value, bool):
            return And(()) if node.value else Or(())
        if isinstance(node, ast.Name | ast.Attribute):
            return Compare(self._column(node), "==", True)
        return self._fail("a test on a column is wanted", node, _hint(node))

    def _comparison(self, node: ast.Compare) -> Predicate:
        operands = [node.left, *node.comparators]
        tests: list[Predicate] = [
            self._pair(node, left, op, right)
            for left, op, right in zip(operands[:-1], node.ops, operands[1:], strict=True)
        ]
        return tests[0] if len(tests) == 1 else And(tuple(tests))

    def _pair(self, node: ast.Compare, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Predicate:
        if isinstance(op, ast.Is | ast.IsNot):
            if not (self._is_name(right, _NULLS) or _is_none(right)):
                self._fail("`is null` or `is not null` is wanted", node, "values take == or !=")
            null = Null(self._column(left))
            return null if isinstance(op, ast.Is) else Not(null)
        if isinstance(op, ast.In | ast.NotIn):
            column = self._column(left)
            if not isinstance(right, ast.List | ast.Tuple | ast.Set):
                self._fail(
                    "a list of values is wanted after `in`", right, f"write {column} in ['a', 'b']"
                )
            found = In(column, tuple(self._value(item) for item in right.elts))
            return found if isinstance(op, ast.In) else Not(found)
        operator = _OPERATORS[type(op)]
        if self._is_column(left):
            if self._is_column(right):
                self._fail(
                    "a value is wanted",
                    right,
                    f"text stands in quotes: {self.source.span(right)[1]!r}",
                )
            return Compare(self._column(left), operator, self._value(right))
        if self._is_column(right):
            return Compare(self._column(right), _MIRROR[operator], self._value(left))
        return self._fail("a column on one side is wanted", node, "both sides are values")

    def _string_test(self, node: ast.Call) -> Predicate:
        call = node.func
        if (
            not isinstance(call, ast.Attribute)
            or call.attr not in _STRING_TESTS
            or not self._is_column(call.value)
        ):
            self._fail("a test on a column is wanted", node, _hint(node))
        if len(node.args) != 1 or node.keywords or not _is_text(node.args[0]):
            self._fail("one text in quotes is wanted", node, f'.{call.attr}("...") takes no more')
        test = cast(Literal["startswith", "endswith", "contains"], call.attr)
        text = cast(ast.Constant, node.args[0]).value
        return StringTest(self._column(call.value), test, str(text))

    def _column(self, node: ast.expr) -> str:
        if not self._is_column(node):
            self._fail("the name of a column is wanted", node, _hint(node))
        start, text = self.source.span(node)
        name = self.source.quoted.get(start)
        if "`" in text and text not in {name, f"`{name}`"}:
            self._fail("one name between backquotes is wanted", node, "put all of it between them")
        # The text as typed: Python would normalize the letters of a name.
        return text if name is None else name

    def _is_column(self, node: ast.expr) -> bool:
        inner = node
        while isinstance(inner, ast.Attribute):
            inner = inner.value
        return isinstance(inner, ast.Name) and not self._is_name(node, (*_NULLS, *_BOOLEANS))

    def _is_name(self, node: ast.expr, names: tuple[str, ...]) -> bool:
        return (
            isinstance(node, ast.Name)
            and node.id in names
            and self.source.span(node)[0] not in self.source.quoted
        )

    def _value(self, node: ast.expr) -> Scalar:
        sign = 1
        inner = node
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            sign = -1 if isinstance(node.op, ast.USub) else 1
            inner = node.operand
        if isinstance(inner, ast.Name) and inner.id in _BOOLEANS and inner is node:
            return _BOOLEANS[inner.id]
        if isinstance(inner, ast.Constant):
            value = inner.value
            if isinstance(value, str | bool) and inner is node:
                return value
            if isinstance(value, int | float) and not isinstance(value, bool):
                if isinstance(value, int) and abs(value) >= MAX_INTEGER:
                    self._fail(
                        "a whole number below 2^64 is wanted",
                        node,
                        "no column of integers holds larger ones; write 1e20 for a decimal",
                    )
                if math.isinf(value):
                    self._fail(
                        "a number that a float holds is wanted", node, "the largest is 1.8e308"
                    )
                return sign * value
        if self._is_name(inner, _NULLS) or _is_none(inner):
            self._fail("a value is wanted", node, "missing values are found by `column is null`")
        return self._fail(
            "text in quotes, a number, true or false is wanted",
            node,
            f"text stands in quotes: {self.source.span(node)[1]!r}"
            if self._is_column(node)
            else _hint(node),
        )

    def _fail(self, wanted: str, node: ast.expr, hint: str) -> NoReturn:
        start, text = self.source.span(node)
        _fail(wanted, text, start, hint)


def _fail(wanted: str, got: str, start: int, hint: str) -> NoReturn:
    raise QuerySyntax(f"{wanted}, but got {_shorten(got)} at column {start + 1}; {hint}")


def _hint(node: ast.expr) -> str:
    hints: list[tuple[type[ast.expr], str]] = [
        (ast.BinOp, "use `and` and `or`, not & and |; arithmetic is not known"),
        (
            ast.Call,
            'of calls only .startswith("..") .endswith("..") .contains("..") on a column are known',
        ),
        (ast.UnaryOp, "use `not`, not ~"),
        (ast.Constant, "compare a column with it: column == value"),
    ]
    general = "known: column == value, `in`, `is null`, .startswith, and, or, not"
    return next((hint for kind, hint in hints if isinstance(node, kind)), general)


def _begins(text: str, at: int) -> bool:
    """Whether a name may begin here, rather than go on."""
    return at == 0 or not (text[at - 1].isalnum() or text[at - 1] in "_.:")


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _reason(error: SyntaxError) -> str:
    return str(error.msg).split(". ", maxsplit=1)[0]


def _shorten(text: str, limit: int = 60) -> str:
    return repr(text if len(text) <= limit else text[:limit] + "...")
