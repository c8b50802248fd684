"""Filters as Python expressions: `tisseract.col("n_counts") > 200`, or the same with narwhals.

Both become the `Predicate` that the filter string would. Names of methods are those of narwhals
and polars; `&`, `|` and `~` stand for `and`, `or` and `not`.

narwhals has no public way to look into an expression; its nodes are read as narwhals 2.29 lays
them out. Where that fails, an error says so, and `tisseract.col` or a string does the same.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal, NoReturn

from ...atlas.errors import InvalidArgument
from .parser import MAX_DEPTH, MAX_TESTS
from .predicate import And, Compare, In, Not, Null, Operator, Or, Predicate, StringTest
from .sugar import scalar

_OPERATORS: dict[str, Operator] = {
    "__eq__": "==",
    "__ne__": "!=",
    "__lt__": "<",
    "__le__": "<=",
    "__gt__": ">",
    "__ge__": ">=",
}
_KINDS = (And, Or, Not, Compare, In, Null, StringTest)


class Test:
    """A predicate that joins with others by `&`, `|` and `~`."""

    __hash__ = None  # type: ignore[assignment]
    __test__ = False  # no test of pytest

    def __init__(self, predicate: Predicate, joined: type | None = None, n: int = 1) -> None:
        self._predicate, self._joined, self._n = predicate, joined, n

    @property
    def predicate(self) -> Predicate:
        """The question as a value."""
        return self._predicate

    def __and__(self, other: object) -> "Test":
        return _join(And, self, _test(other))

    def __rand__(self, other: object) -> "Test":
        return _join(And, _test(other), self)

    def __or__(self, other: object) -> "Test":
        return _join(Or, self, _test(other))

    def __ror__(self, other: object) -> "Test":
        return _join(Or, _test(other), self)

    def __invert__(self) -> "Test":
        return Test(Not(self.predicate), None, self._n)

    def __bool__(self) -> NoReturn:
        raise InvalidArgument(
            "& | ~ are wanted between tests of columns, but got `and`, `or`, `not` or a chain such "
            "as 1 < col('x') < 5; write col('x').is_between(1, 5, closed='none') for that"
        )

    def __repr__(self) -> str:
        return str(self.predicate)


class Column(Test):
    """A column by name; comparing it gives a test. On its own it is a column of booleans."""

    __hash__ = None

    def __init__(self, name: str) -> None:
        given: object = name
        if not isinstance(given, str) or not given:
            raise InvalidArgument(f"the name of a column is wanted, but got {name!r}")
        super().__init__(Compare(name, "==", True))
        self.name = name

    def _compare(self, op: Operator, value: object) -> Test:
        if isinstance(value, Test):
            raise InvalidArgument(
                f"a value is wanted after {self.name} {op}, but got {value!r}; columns are "
                "compared with values only"
            )
        if value is None:
            raise InvalidArgument(
                f"a value is wanted after {self.name} {op}, but got None; missing values are "
                "found by .is_null()"
            )
        return Test(Compare(self.name, op, scalar(self.name, value)))

    def __eq__(self, value: object) -> Test:  # type: ignore[override]
        return self._compare("==", value)

    def __ne__(self, value: object) -> Test:  # type: ignore[override]
        return self._compare("!=", value)

    def __lt__(self, value: object) -> Test:
        return self._compare("<", value)

    def __le__(self, value: object) -> Test:
        return self._compare("<=", value)

    def __gt__(self, value: object) -> Test:
        return self._compare(">", value)

    def __ge__(self, value: object) -> Test:
        return self._compare(">=", value)

    def is_in(self, other: Iterable[object]) -> Test:
        """Test whether the value is one of these.

        >>> col("cell_type").is_in(["Neuron", "Glia"])
        cell_type in ['Neuron', 'Glia']
        """
        if isinstance(other, str | bytes | Test) or not isinstance(other, Iterable):
            raise InvalidArgument(
                f"a list of values is wanted in {self.name}.is_in, but got {other!r}"
            )
        return Test(In(self.name, tuple(scalar(self.name, value) for value in other)))

    def is_null(self) -> Test:
        """Test whether the value is missing."""
        return Test(Null(self.name))

    def is_between(
        self,
        lower_bound: object,
        upper_bound: object,
        closed: Literal["both", "left", "right", "none"] = "both",
    ) -> Test:
        """Test whether the value lies between two others.

        >>> col("n").is_between(200, 5000, closed="right")
        (n > 200) and (n <= 5000)
        """
        if closed not in ("both", "left", "right", "none"):
            raise InvalidArgument(
                f"closed='both', 'left', 'right' or 'none' is wanted, but got {closed!r}"
            )
        low = self._compare(">=" if closed in ("both", "left") else ">", lower_bound)
        high = self._compare("<=" if closed in ("both", "right") else "<", upper_bound)
        return Test(And((low.predicate, high.predicate)), None, 2)

    @property
    def str(self) -> "Text":
        """Tests of text: `.starts_with`, `.ends_with`, `.contains`."""
        return Text(self.name)


class Text:
    """Tests of a column of text; case matters, and nothing is a pattern."""

    def __init__(self, name: str) -> None:
        self._name = name

    def _text(self, test: Literal["startswith", "endswith", "contains"], text: object) -> Test:
        if not isinstance(text, str):
            raise InvalidArgument(f"text is wanted in {self._name}.str, but got {text!r}")
        return Test(StringTest(self._name, test, text))

    def starts_with(self, prefix: str) -> Test:
        """Test how the text begins."""
        return self._text("startswith", prefix)

    def ends_with(self, suffix: str) -> Test:
        """Test how the text ends."""
        return self._text("endswith", suffix)

    def contains(self, pattern: str, *, literal: bool = True) -> Test:
        """Test for a part of the text; `literal=False`, a regular expression, is refused."""
        if not literal:
            raise InvalidArgument(
                f"plain text is wanted in {self._name}.str.contains, but got a pattern; pass "
                "literal=True"
            )
        return self._text("contains", pattern)


def col(name: str) -> Column:
    """Name a column, to be compared and joined into a filter.

    Parameters
    ----------
    name
        As in a filter string, without backquotes: `n_counts`, `log1p:Sox2`.

    Returns
    -------
    Column

    Examples
    --------
    >>> (col("n_counts") > 200) & ~col("cell type").is_in(["Glia"])
    (n_counts > 200) and (not (`cell type` in ['Glia']))
    """
    return Column(name)


def as_predicate(obs: object) -> Predicate:
    """Take a filter in any of its forms but a string: a predicate, `col`, or narwhals.

    Raises
    ------
    InvalidArgument
        Something else, or a narwhals expression outside the grammar of filters.
    """
    if isinstance(obs, _KINDS):
        return obs
    if isinstance(obs, Test):
        return obs.predicate
    if _is_narwhals(obs):
        found = _from_narwhals(obs, 0)
        if isinstance(found, Test):
            return found.predicate
    raise InvalidArgument(
        f"a filter string or an expression of columns is wanted, but got {type(obs).__name__}; "
        "write such as \"n_counts > 200\" or tisseract.col('n_counts') > 200"
    )


def _join(kind: type[And] | type[Or], left: Test, right: Test) -> Test:
    """Join two tests; `a & b & c` is one `and` of three parts, as in a string."""
    n = left._n + right._n
    if n > MAX_TESTS:
        raise InvalidArgument(f"at most {MAX_TESTS:,} tests are wanted, but got more; use .is_in")
    parts: tuple[Predicate, ...] = (left.predicate,)
    if left._joined is kind and isinstance(left.predicate, And | Or):
        parts = left.predicate.parts
    return Test(kind((*parts, right.predicate)), kind, n)


def _test(value: object) -> Test:
    if isinstance(value, Test):
        return value
    if isinstance(value, _KINDS):
        return Test(value)
    if _is_narwhals(value):
        return Test(as_predicate(value))
    raise InvalidArgument(f"a test of a column is wanted beside & and |, but got {value!r:.80}")


# -- narwhals --------------------------------------------------------------------------------


def _is_narwhals(value: object) -> bool:
    kind = type(value)
    return kind.__module__.partition(".")[0] in ("narwhals", "annsel") and kind.__name__ == "Expr"


class _Literal:
    def __init__(self, value: object) -> None:
        self.value = value


_MIRROR = {"__lt__": "__gt__", "__le__": "__ge__", "__gt__": "__lt__", "__ge__": "__le__"}


def _from_narwhals(expression: Any, depth: int) -> Any:
    """Replay the nodes of a narwhals expression on our own columns."""
    if depth > MAX_DEPTH:
        raise InvalidArgument(f"an expression at most {MAX_DEPTH} levels deep is wanted")
    nodes = getattr(expression, "_nodes", None)
    if not isinstance(nodes, tuple) or not nodes:
        raise InvalidArgument(
            "a narwhals expression of a known layout is wanted, but got one of another version; "
            "write it with tisseract.col, or as a string"
        )
    value: Any = None
    for i, node in enumerate(nodes):
        name, options = str(node.name), dict(node.kwargs)
        given = [_from_narwhals(one, depth + 1) if _is_narwhals(one) else one for one in node.exprs]
        value = _begin(name, given, options) if i == 0 else _apply(value, name, given, options)
    return value


def _begin(name: str, given: list[Any], options: dict[str, Any]) -> Any:
    """First node of an expression: a column, a value, all or any of several tests."""
    if name == "col":
        names = list(options.get("names") or ())
        if len(names) != 1:
            raise InvalidArgument(f"one column at a time is wanted, but got {names!r}")
        return Column(names[0])
    if name == "lit":
        return _Literal(options.get("value"))
    if name in ("all_horizontal", "any_horizontal") and given:
        kind: type[And] | type[Or] = And if name == "all_horizontal" else Or
        found = _test(given[0])
        for one in given[1:]:
            found = _join(kind, found, _test(one))
        return found
    return _unknown(name)


def _apply(value: Any, name: str, given: list[Any], options: dict[str, Any]) -> Test:
    """One further node: an operator or a method on what was found so far."""
    plain: list[Any] = [one.value if isinstance(one, _Literal) else one for one in given]
    plain += [one for key, one in options.items() if key == "other"]
    if name in _OPERATORS and len(plain) == 1:
        if isinstance(value, _Literal):
            return _method(plain[0], _MIRROR.get(name, name))(value.value)
        return _method(value, name)(plain[0])
    if name in ("__and__", "__or__", "__rand__", "__ror__") and len(plain) == 1:
        join: Callable[[object], Test] = getattr(_test(value), name)
        return join(plain[0])
    if name == "__invert__":
        return ~_test(value)
    if name == "is_in" and len(plain) == 1:
        return _column(value, name).is_in(plain[0])
    if name == "is_null":
        return _column(value, name).is_null()
    if name == "is_between":
        bounds: list[Any] = [options.get("lower_bound"), options.get("upper_bound")]
        low, high = plain if len(plain) == 2 else bounds
        return _column(value, name).is_between(low, high, closed=options.get("closed", "both"))
    if name in ("str.starts_with", "str.ends_with", "str.contains"):
        method: Callable[..., Test]
        method = getattr(_column(value, name).str, name.removeprefix("str."))
        text = [options[key] for key in ("prefix", "suffix", "pattern") if key in options] or plain
        extra = {"literal": bool(options["literal"])} if "literal" in options else {}
        return method(*text, **extra)
    return _unknown(name)


def _column(value: Any, name: str) -> Column:
    if not isinstance(value, Column):
        raise InvalidArgument(f"a column is wanted before .{name}, but got {value!r:.80}")
    return value


def _method(value: Any, name: str) -> Callable[[object], Test]:
    method: Callable[[object], Test] = getattr(_column(value, name), name)
    return method


def _unknown(name: str) -> NoReturn:
    raise InvalidArgument(
        f"comparisons, & | ~, is_in, is_null, is_between, str.starts_with, str.ends_with and "
        f"str.contains are wanted in a filter, but got {name!r:.80}"
    )
