"""Names of obs columns on disk: kept where possible, never swapped, whatever their order."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisseract.atlas.errors import InputError
from tisseract.atlas.obs_names import stored_names

NAMES = st.lists(st.text("aA_. /ßé\u0301", max_size=4), unique=True, max_size=8)


def test_a_name_that_fits_is_never_given_to_another_column() -> None:
    for names in (["_x", "x", "x_2"], ["x_2", "x", "_x"]):
        assert stored_names(names) == {name: name for name in names}
    assert stored_names(["a b", "a_b"])["a_b"] == "a_b"
    assert stored_names(["__x", "x"])["x"] == "x"
    assert stored_names(["_index", "index"])["index"] == "index"


def test_letters_of_any_script_stay() -> None:
    assert stored_names(["Größe", "日本"]) == {"Größe": "Größe", "日本": "日本"}
    decomposed = unicodedata.normalize("NFD", "Größe")
    assert stored_names([decomposed]) == {decomposed: "Größe"}


@given(names=NAMES, seed=st.randoms())
def test_order_plays_no_part_and_names_stay_apart(names: list[str], seed: object) -> None:
    stored = stored_names(names)
    shuffled = list(names)
    seed.shuffle(shuffled)  # type: ignore[attr-defined]
    assert stored_names(shuffled) == stored
    assert list(stored) == names
    folded = {unicodedata.normalize("NFKC", name.casefold()) for name in stored.values()}
    assert len(folded) == len(names)
    for name in stored.values():
        assert all(letter.isalnum() or letter in "_.-" for letter in name)
        assert name not in {"", ".", "..", "_index"}
        assert not name.startswith("__")


def test_long_names_are_refused() -> None:
    with pytest.raises(InputError, match="at most 200 bytes, but got one of 300"):
        stored_names(["x" * 300])
