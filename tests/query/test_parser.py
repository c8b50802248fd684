"""The filter grammar: what is read, what is refused and how it says so; nothing is evaluated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisseract.atlas.errors import QuerySyntax
from tisseract.query.filters.parser import MAX_DEPTH, MAX_LENGTH, MAX_TESTS, parse
from tisseract.query.filters.predicate import And, Compare, In, Not, Null, Or, StringTest

READ = {
    "a == 1": Compare("a", "==", 1),
    "1 < a": Compare("a", ">", 1),
    "1 < a <= 5": And((Compare("a", ">", 1), Compare("a", "<=", 5))),
    "a == -1.5": Compare("a", "==", -1.5),
    "a == true": Compare("a", "==", True),
    "flag": Compare("flag", "==", True),
    "not flag": Not(Compare("flag", "==", True)),
    "a in ['x', \"y\"]": In("a", ("x", "y")),
    "a not in (1, 2)": Not(In("a", (1, 2))),
    "a in []": In("a", ()),
    "a is null": Null("a"),
    "a is not null": Not(Null("a")),
    "a is None": Null("a"),
    "a.startswith('x')": StringTest("a", "startswith", "x"),
    "`cell type` == 'x'": Compare("cell type", "==", "x"),
    "percent.mito > 5": Compare("percent.mito", ">", 5),
    "percent.mito.contains('x')": StringTest("percent.mito", "contains", "x"),
    "µm > 5": Compare("µm", ">", 5),
    "é == 'é' and `ü x` == 1": And((Compare("é", "==", "é"), Compare("ü x", "==", 1))),
    "a == 'it`s'": Compare("a", "==", "it`s"),
    "a == 1\nor b == 2": Or((Compare("a", "==", 1), Compare("b", "==", 2))),
    "`null` == 1": Compare("null", "==", 1),
    "a == '#1' or `#2` == 1": Or((Compare("a", "==", "#1"), Compare("#2", "==", 1))),
    "a > 9223372036854775808": Compare("a", ">", 2**63),
    "-1e20 < a < 1e20": And((Compare("a", ">", -1e20), Compare("a", "<", 1e20))),
    "a in [1e300]": In("a", (1e300,)),
}


@pytest.mark.parametrize("text", READ)
def test_reads_the_grammar(text: str) -> None:
    assert parse(text) == READ[text]


@pytest.mark.parametrize("text", READ)
def test_what_is_printed_reads_back(text: str) -> None:
    assert parse(str(parse(text))) == READ[text]


REFUSED = {
    "": "empty string",
    "a == b": "'b' at column 6; text stands in quotes",
    "a & b": "use `and` and `or`",
    "x = 3": "column 3",
    "().__class__": "the name of a column",
    "a in 'abc'": "a list of values is wanted after `in`",
    "a == None": "`column is null`",
    "1 == 2": "a column on one side",
    "(a == 1": "was never closed",
    "a == 1) or (b == 2": "unmatched",
    "`a": "close it with `",
    "a == 1j": "1j",
    "a == 0x" + "f" * 40: "a whole number below 2^64",
    "a < 1e999": "the largest is 1.8e308",
    "a.upper() == 'x'": "a column on one side",
    "a.contains('x', 'y')": "one text in quotes",
    "a.contains(b)": "one text in quotes",
    "a is 3": "`is null`",
    "\0": "null bytes",
    "a == '''x\ny'''": "within one line",
    "a == 1 # one\nand b == 2": "without comments",
    "`cell type`.x == 'a'": "one name between backquotes",
    "`a`b == 1": "one name between backquotes",
    "`a``b` == 1": "one name between backquotes",
    "a.`b c` == 1": "one name between backquotes",
}


@pytest.mark.parametrize("text", REFUSED)
def test_refuses_and_names_the_part(text: str) -> None:
    with pytest.raises(QuerySyntax) as caught:
        parse(text)
    assert REFUSED[text] in str(caught.value)


HOSTILE = [
    "__import__('os').system('touch PWNED')",
    "@pd.io.common.os.system('touch PWNED')",
    "().__class__.__base__.__subclasses__()",
    "(lambda: open('PWNED', 'w'))()",
    "[open('PWNED', 'w') for _ in [1]]",
    "{**globals()}",
    "a == open('PWNED', 'w')",
    "a in [open('PWNED', 'w')]",
    "a.startswith(open('PWNED', 'w'))",
    "f\"{open('PWNED', 'w')}\" == a",
    "a == 1; open('PWNED', 'w')",
    'exec(\'open("PWNED", "w")\')',
    "a[open('PWNED', 'w')] == 1",
    "(yield) == 1",
    "await a == 1",
    "(x := 3) == a",
    "a if b else c",
    "*a == 1",
    "print(1) and a == 1",
    "getattr(a, '__class__') == 1",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_strings_are_refused_and_never_run(
    text: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pathlib import Path

    assert isinstance(tmp_path, Path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(QuerySyntax):
        parse(text)
    assert list(tmp_path.iterdir()) == []


def test_caps_length_depth_and_tests() -> None:
    with pytest.raises(QuerySyntax, match="characters"):
        parse("a == 1 " + " " * MAX_LENGTH)
    with pytest.raises(QuerySyntax, match="levels deep"):
        parse("not " * (MAX_DEPTH + 1) + "a")
    with pytest.raises(QuerySyntax, match="use `column in"):
        parse(" or ".join(["a == 1"] * (MAX_TESTS + 1)))
    with pytest.raises(QuerySyntax):
        parse("(" * 5000 + "a" + ")" * 5000)
    with pytest.raises(QuerySyntax):
        parse("not " * 20_000 + "a")
    with pytest.raises(QuerySyntax):
        parse("a == " + "-" * 50_000 + "1")


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_as_syntax(text: str) -> None:
    try:
        predicate = parse(text)
    except QuerySyntax:
        return
    assert parse(str(predicate)) == predicate
