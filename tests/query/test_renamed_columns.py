"""Obs columns whose names were changed on disk: the names of the source find them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tisseract.atlas.errors import InvalidArgument
from tisseract.query import select

from ..sections import make_raw, make_store


def test_the_name_in_the_source_finds_the_column(tmp_path: Path) -> None:
    obs = {"percent mito": np.arange(300.0), "_x": np.zeros(300), "x": np.ones(300)}
    store = make_store(tmp_path, {"s1": make_raw(obs=obs)})
    for name in ("percent mito", "percent_mito", "obs:percent mito"):
        assert select(store, obs=f"`{name}` < 5").n_obs == 5
    assert select(store, obs="x == 1").n_obs == 300
    assert select(store, obs="_x == 0").n_obs == 300


def test_a_name_stored_in_two_ways_must_be_told_apart(tmp_path: Path) -> None:
    plain = {"a b": np.zeros(300)}
    both = {"a b": np.zeros(300), "a_b": np.ones(300)}
    store = make_store(tmp_path, {"s1": make_raw(obs=plain), "s2": make_raw(obs=both, seed=1)})
    with pytest.raises(InvalidArgument, match="store as a_b and a_b_c8687a08; name one"):
        select(store, obs="`a b` == 0")
