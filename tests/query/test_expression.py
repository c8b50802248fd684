"""Strings, `col` and narwhals spell the same predicates; hostile strings run nothing, quickly."""

import itertools
import time
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import narwhals as nw
import narwhals.stable.v2 as nw2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tisseract as ts
from tisseract.atlas.errors import InvalidArgument, QuerySyntax, TisseractError
from tisseract.query import parse, select
from tisseract.query.filters.expression import Test as Expression
from tisseract.query.filters.expression import as_predicate
from tisseract.query.filters.predicate import Predicate

from .conftest import Atlas

SPELLINGS: dict[str, Any] = {
    "n > 200": lambda c: c("n") > 200,
    "n >= 200": lambda c: c("n") >= 200,
    "n < 0.5": lambda c: c("n") < 0.5,
    "n <= -1": lambda c: c("n") <= -1,
    "n == 3": lambda c: c("n") == 3,
    "n != 3": lambda c: c("n") != 3,
    "200 < n": lambda c: c("n").__gt__(200),
    "s == 'x'": lambda c: c("s") == "x",
    "flag": lambda c: c("flag"),
    "not flag": lambda c: ~c("flag"),
    "flag == true": lambda c: c("flag") == True,  # noqa: E712
    "s in ['x', 'y']": lambda c: c("s").is_in(["x", "y"]),
    "s not in ['x', 'y']": lambda c: ~c("s").is_in(["x", "y"]),
    "s is null": lambda c: c("s").is_null(),
    "s is not null": lambda c: ~c("s").is_null(),
    "1 <= n <= 5": lambda c: c("n").is_between(1, 5),
    "1 < n <= 5": lambda c: c("n").is_between(1, 5, closed="right"),
    "1 < n < 5": lambda c: c("n").is_between(1, 5, closed="none"),
    "s.startswith('x')": lambda c: c("s").str.starts_with("x"),
    "s.endswith('x')": lambda c: c("s").str.ends_with("x"),
    "s.contains('x')": lambda c: c("s").str.contains("x", literal=True),
    "`cell type` == 'x'": lambda c: c("cell type") == "x",
    "log1p:Sox2 > 1.5": lambda c: c("log1p:Sox2") > 1.5,
    "a > 1 and b > 2 and c": lambda c: (c("a") > 1) & (c("b") > 2) & c("c"),
    "a > 1 and (b > 2 and c)": lambda c: (c("a") > 1) & ((c("b") > 2) & c("c")),
    "a > 1 or b > 2 and not c": lambda c: (c("a") > 1) | (c("b") > 2) & ~c("c"),
    "not (a > 1 or b > 2) and c": lambda c: ~((c("a") > 1) | (c("b") > 2)) & c("c"),
    "1 <= a <= 2 and b": lambda c: c("a").is_between(1, 2) & c("b"),
}


@pytest.mark.parametrize("text", SPELLINGS)
def test_three_spellings_are_one_predicate(text: str) -> None:
    spelled = SPELLINGS[text]
    wanted = parse(text)
    for col in (ts.col, nw.col, nw2.col):
        assert as_predicate(spelled(col)) == wanted


def test_literals_and_horizontal_joins_of_narwhals() -> None:
    assert as_predicate(nw.lit(3) < nw.col("a")) == parse("3 < a")
    assert as_predicate(nw.lit(3) == nw.col("a")) == parse("a == 3")
    joined = nw.all_horizontal(nw.col("a") > 1, nw.col("b"), nw.col("c"), ignore_nulls=False)
    assert as_predicate(joined) == parse("a > 1 and b and c")
    either = nw.any_horizontal(nw.col("a") > 1, nw.col("b"), ignore_nulls=False)
    assert as_predicate(either) == parse("a > 1 or b")
    assert as_predicate((ts.col("a") > 1) & (nw.col("b") > 2)) == parse("a > 1 and b > 2")
    assert as_predicate(ts.col("a") == np.int64(3)) == parse("a == 3")


def test_expressions_answer_as_strings_do(atlas: Atlas) -> None:
    text = "cell_type in ['Neuron'] and area > 40"
    wanted = list(select(atlas.store, text).to_obs(["section"]).index)
    for col in (ts.col, nw.col):
        expression: Any = col("cell_type").is_in(["Neuron"]) & (col("area") > 40)
        found = select(atlas.store, expression)
        assert found.question == select(atlas.store, text).question
        assert list(found.to_obs(["section"]).index) == wanted


VALUES = st.one_of(st.integers(-9, 9), st.sampled_from(["x", "it's", "`"]), st.booleans())
NAMES = st.sampled_from(["a", "b c", "µm"])


@st.composite
def pairs(draw: st.DrawFn, depth: int = 3) -> tuple[Expression, Any]:
    """The same question by `col` and by narwhals."""
    kind = draw(st.sampled_from(["compare", "in", "null", "and", "or", "not"]))
    if depth == 0 or kind in ("compare", "in", "null"):
        name = draw(NAMES)
        if kind == "in":
            values = draw(st.lists(VALUES, max_size=3))
            return ts.col(name).is_in(values), nw.col(name).is_in(values)
        if kind == "null":
            return ts.col(name).is_null(), nw.col(name).is_null()
        op, value = draw(st.sampled_from(["__eq__", "__lt__", "__ge__"])), draw(VALUES)
        return getattr(ts.col(name), op)(value), getattr(nw.col(name), op)(value)
    left = draw(pairs(depth - 1))
    if kind == "not":
        return ~left[0], ~left[1]
    right = draw(pairs(depth - 1))
    if kind == "and":
        return left[0] & right[0], left[1] & right[1]
    return left[0] | right[0], left[1] | right[1]


@given(pairs())
def test_every_expression_reads_back_from_its_text(pair: tuple[Expression, Any]) -> None:
    predicate: Predicate = as_predicate(pair[0])
    assert as_predicate(pair[1]) == predicate
    assert parse(str(predicate)) == predicate


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nw.col("a") + 1 > 2, "'__add__'"),
        (lambda: nw.col("a").mean() > 2, "'mean'"),
        (lambda: nw.col("a", "b") > 2, "one column at a time"),
        (lambda: nw.col("a") > nw.col("b"), "with values only"),
        (lambda: nw.col("a").str.contains("x"), "literal=True"),
        (lambda: nw.col("a").str.to_uppercase() == "X", "str.to_uppercase"),
        (lambda: nw.col("a") == None, "is_null"),  # noqa: E711
        (lambda: ts.col("a") > ts.col("b"), "with values only"),
        (lambda: ts.col("a").is_in("abc"), "a list"),
        (lambda: ts.col("a").is_in([None]), "text, a number"),
        (lambda: ts.col("a") & 3, "a test of a column"),
        (lambda: bool(ts.col("a")), "`and`"),
        (lambda: 1 < ts.col("a") < 5, "is_between"),
        (lambda: ts.col(""), "name of a column"),
        (lambda: 7, "a filter string or an expression"),
        (lambda: ts.col("a") > object(), "text, a number"),
    ],
)
def test_what_is_no_filter_is_refused(make: Any, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        as_predicate(make())


def test_deep_and_long_expressions_are_refused() -> None:
    deep = nw.col("a") > 1
    for _ in range(100):
        deep = (nw.col("b") > 1) & deep
    with pytest.raises(InvalidArgument, match="levels deep"):
        as_predicate(deep)
    many = [ts.col("a") > 1] * 3000
    with pytest.raises(InvalidArgument, match="at most 2,000"):
        reduce(or_, many)


# -- 200 hostile strings ---------------------------------------------------------------------

_SHELLS = [
    "__import__('os').system('touch PWNED')",
    "__import__('subprocess').call(['touch', 'PWNED'])",
    "eval(\"open('PWNED', 'w')\")",
    "exec(\"open('PWNED', 'w')\")",
    "compile('1', '', 'eval')",
    "breakpoint()",
    "globals()['__builtins__']['open']('PWNED', 'w')",
    "().__class__.__mro__[1].__subclasses__()",
    "''.__class__.__base__.__subclasses__()[140]",
    "getattr(__builtins__, 'open')('PWNED', 'w')",
    "(lambda f: f('PWNED', 'w'))(open)",
    "[x for x in [open('PWNED', 'w')]]",
    "{open('PWNED', 'w') for x in [1]}",
    "{1: open('PWNED', 'w')}",
    "(x := open('PWNED', 'w'))",
    'f\'{open("PWNED", "w")}\'',
    't\'{open("PWNED", "w")}\'',
    "@pd.io.common.os.system('touch PWNED')",
    "@np.load('PWNED')",
    "`__import__('os')`.system('touch PWNED')",
    "a.__class__.__init__.__globals__",
    "a.str.replace('x', 'y')",
    "a.apply(print)",
    "a.to_csv('PWNED')",
    "a.pipe(open)",
]
_FRAMES = [
    "{}",
    "a == {}",
    "{} == a",
    "a in [{}]",
    "a > 1 and {}",
    "not {}",
    "a.startswith({})",
    "a[{}] == 1",
]
_ODD = [
    "(" * 90,
    "(" * 100_000,
    "[" * 100_000,
    "{" * 100_000,
    "a." * 50_000 + "b == 1",
    "a == " + "-" * 100_000 + "1",
    "a == " + "~" * 100_000 + "1",
    "not " * 100_000 + "a",
    "a < " * 50_000 + "1",
    "a == 1 and " * 50_000 + "a == 1",
    "a == 9" + "9" * 10_000,
    "a == 9**9**9**9",
    "a == 'x' * 10**10",
    "a == 1e999999",
    "a == 0x" + "f" * 9_000,
    "a == 1_" * 9,
    "a; import os",
    "import os",
    "a == 1 # x",
    "lambda: a",
    "yield a",
    "await a",
    "a if b else c",
    "*a",
    "**a",
    "a == ...",
    "a == b'x'",
    "a == 1j",
    "a\x00b == 1",
    "a == '\ud800'",
    "\u202ea == 1 and",
    "a == '''x\ny'''",
    "$(touch PWNED)",
    "; touch PWNED",
    "a' or '1'='1",
    "a == 1; DROP TABLE cells",
    "a == {'x': 1}",
    "a is not not null",
    "a in b",
    "a == == 1",
    "`" * 1001,
    "print",
]
HOSTILE = [
    *(frame.format(shell) for frame, shell in itertools.product(_FRAMES, _SHELLS)),
    *_ODD,
]


def test_two_hundred_hostile_strings_run_nothing_and_fail_fast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, atlas: Atlas
) -> None:
    assert len(HOSTILE) >= 200
    monkeypatch.chdir(tmp_path)
    slowest = 0.0
    for text in HOSTILE:
        start = time.process_time()
        with pytest.raises((QuerySyntax, TisseractError)):
            select(atlas.store, text)
        slowest = max(slowest, time.process_time() - start)
    assert list(tmp_path.iterdir()) == []
    assert slowest < 2.0, slowest
