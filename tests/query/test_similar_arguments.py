"""Arguments and files that are out of shape are told in words, never by a raw error."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tisseract as ts
from tisseract.atlas.errors import Corrupt, InvalidArgument
from tisseract.query.retrieval import approximate
from tisseract.query.retrieval.opened import open_index

from ..sections import make_raw, make_store


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> ts.Atlas:
    raws = {name: make_raw(n_obs=300, seed=seed) for seed, name in enumerate(("s1", "s2"))}
    store = make_store(tmp_path_factory.mktemp("arguments"), raws)
    made = ts.open(store.url, read_only=False)
    made.build_index("i", window_um=(200.0, 400.0), n_genes=12, n_dims=3, columns=["layer"])
    return made


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"k": 1.5}, "k, a whole number of at least 1, is wanted, but got 1.5"),
        ({"k": "a"}, "k, a whole number of at least 1, is wanted, but got 'a'"),
        ({"k": True}, "k, a whole number"),
        ({"k": None}, "k, a whole number"),
        ({"max_overlap": "a"}, "max_overlap, a share from 0 to 1"),
        ({"weights": ["mean"]}, r"weights=\{'mean': 1"),
        ({"weights": {"mean": "a"}}, "a number for 'mean' in weights="),
        ({"having": ["layer"]}, r"having=\{'cell_type'"),
        ({"having": {"layer": 0.5}}, r"having=\{'cell_type'"),
        ({"having": {"layer": {"L1": "a"}}}, "a number for 'L1' in having="),
    ],
)
def test_arguments_of_an_example(atlas: ts.Atlas, given: dict[str, Any], said: str) -> None:
    like = atlas.region("s1", bbox=(0, 0, 500, 500))
    with pytest.raises(InvalidArgument, match=said):
        atlas.similar(like, key="i", **given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"genes": ["Gene1"]}, r"genes=\{'Sox2': 1"),
        ({"genes": "Gene1"}, r"genes=\{'Sox2': 1"),
        ({"genes": {"Gene1": "a"}}, "a number for 'Gene1' in genes="),
        ({"genes": {"Gene1": None}}, "a number for 'Gene1' in genes="),
        ({"genes": {"Gene1": float("nan")}}, "genes with weights"),
        ({"genes": {"Gene1": 1}, "k": 1.5}, "k, a whole number"),
        ({"genes": {"Gene1": 1}, "k": "a"}, "k, a whole number"),
        ({"genes": {"Gene1": 1}, "k": 0}, "k, a whole number"),
        ({"genes": {"Gene1": 1}, "max_overlap": 2}, "max_overlap, a share"),
    ],
)
def test_arguments_of_a_programme(atlas: ts.Atlas, given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        atlas.similar(**given)


WRONG: tuple[Any, ...] = (None, -1, 1.5, "x", True, [], {}, 10**30, 1e308)
OPTIONAL = ("without",)


def changes(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every place of a JSON value with every wrong value; ... stands for leaving it out."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items):
        for wrong in (..., *WRONG):
            if (wrong is ... or type(wrong) is not type(inner)) and wrong != inner:
                yield (*path, key), wrong
        if isinstance(inner, dict | list):
            yield from changes(inner, (*path, key))


def changed(body: Any, path: tuple[Any, ...], wrong: Any) -> Any:
    new = copy.deepcopy(body)
    at = new
    for key in path[:-1]:
        at = at[key]
    if wrong is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = wrong
    return new


# What another value of the same kind may be: these say nothing of shapes.
FREE = {("parameters", "where"), ("parameters", "min_cells"), ("parameters", "n_genes")}


def test_every_change_of_the_facts_is_told(atlas: ts.Atlas) -> None:
    found = open_index(atlas, "i")
    assert found is not None
    (segment,) = found.segments
    root = Path(str(atlas.storage.local_path(f"{segment.entry.prefix}/index.json")))
    body = json.loads(root.read_text())
    like = atlas.region("s1", bbox=(0, 0, 500, 500))
    like.runs  # noqa: B018 - read before anything is damaged
    tried = missed = 0
    try:
        for path, wrong in changes(body):
            root.write_text(json.dumps(changed(body, path, wrong)))
            tried += 1
            try:
                open_index(atlas, "i")
            except Corrupt:
                continue
            # numbers are numbers: a window may lie elsewhere, and labels have any name
            missed += 1
            assert harmless(path), (path, wrong)
        for path, wrong in wrong_shapes(body):
            root.write_text(json.dumps(changed(body, path, wrong)))
            with pytest.raises(Corrupt):
                open_index(atlas, "i")
    finally:
        root.write_text(json.dumps(body))
    assert tried > 400
    assert missed < tried / 10


def harmless(path: tuple[Any, ...]) -> bool:
    last = path[-1]
    return (
        path[:2] in FREE
        or "without" in path
        or last in ("x", "y", "scale")
        or (len(path) == 3 and path[:2] == ("parameters", "sizes"))
    )


def wrong_shapes(body: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Values of the right type that do not fit the others."""
    windows = body["sections"][0]["windows"]
    yield ("sections", 0, "windows", 0), windows[0] + 1
    yield ("sections", 0, "windows", 1), 0
    yield ("width",), body["width"] + 1
    yield ("genes",), body["genes"][:-1]
    yield ("values", "layer"), ["L1"]
    yield ("sections",), body["sections"][:1]
    yield ("sections",), [body["sections"][0]] * 2
    yield ("parameters", "sizes"), [200.0]
    yield ("parameters", "columns"), []
    yield ("arrays", "w0.mean", "sums"), []
    yield ("arrays", "w0.mean", "block"), 0
    yield ("arrays", "w0.mean", "dtype"), "<f8"
    yield ("format",), "tisseract-index/2"


def test_a_damaged_graph_is_not_mapped(tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    atlas = ts.open(make_store(tmp_path, {"s1": make_raw(n_obs=300)}).url, read_only=False)
    atlas.build_index("g", window_um=300.0, n_genes=12, n_dims=3, approximate=True)
    like = atlas.region("s1", bbox=(0, 0, 500, 500))
    assert len(atlas.similar(like, key="g", approximate=True, exclude_self=False).table)
    (entry,) = atlas.snapshot.segments.values()
    for name in (approximate.graph_name(0), "w0.scale.bin"):
        path = Path(str(atlas.storage.local_path(f"{entry.prefix}/{name}")))
        whole = path.read_bytes()
        for damaged in (whole[:-1], whole[:40] + b"\xff" * 8 + whole[48:], b"", whole + b"x"):
            if damaged == whole:
                continue
            path.write_bytes(damaged)
            with pytest.raises(Corrupt, match="is damaged"):
                atlas.similar(like, key="g", approximate=True, exclude_self=False)
        path.write_bytes(whole)
    assert len(atlas.similar(like, key="g", approximate=True, exclude_self=False).table)
