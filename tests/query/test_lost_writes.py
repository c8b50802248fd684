"""Two writers of one name: the second is told, and what the first wrote stays."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tisseract as ts
from tisseract.atlas.derived import Provenance, tile_histogram, write_derived
from tisseract.atlas.errors import CommitConflict
from tisseract.atlas.snapshot import Change
from tisseract.models import DomainBaseline

from ..sections import make_raw, make_store

SECTION = "s1"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two sections with domains `named` of names 0, 1, 2, and a model `saved`."""
    raws = {
        name: make_raw(n_obs=300, seed=seed, metadata={"section": name})
        for seed, name in enumerate((SECTION, "s2"))
    }
    store = make_store(tmp_path_factory.mktemp("lost"), raws, tile_cells=64)
    for name in raws:
        section = store.section(name)
        codes = (np.arange(section.n_obs) % 3).astype(np.int16)
        arrays: dict[str, Any] = {
            "codes": codes,
            "confidence": np.ones(section.n_obs, np.float32),
            "tile_hist": tile_histogram(codes, section.tiles.ptr, 3),
        }
        entry = write_derived(
            store,
            "domains",
            "named",
            name,
            arrays=arrays,
            attrs={"categories": list("012")},
            provenance=Provenance({f"section:{name}": section.attempt}, {}),
            info={"categories": list("012")},
        )
        store.commit(Change(add_derived=[entry]), "label")
    DomainBaseline(store, sections=[SECTION], n_comps=3).fit().save("saved")
    return store.url


@pytest.fixture
def url(made: str, tmp_path: Path) -> str:
    return str(shutil.copytree(made, tmp_path / "atlas"))


def write(url: str) -> ts.Atlas:
    return ts.open(url, read_only=False)


def entries(url: str) -> dict[str, str]:
    snapshot = ts.open(url).snapshot
    attempts = {name: entry.attempt for name, entry in snapshot.derived.items()}
    return attempts | {name: entry.attempt for name, entry in snapshot.segments.items()}


def annotate(atlas: ts.Atlas, turn: int) -> None:
    frame = atlas.query(section=SECTION).to_obs(["section"])[[]]
    atlas.annotate(frame.assign(mine=f"of {turn}"), overwrite=turn == 2)


def regions(atlas: ts.Atlas, turn: int) -> None:
    square = [(0, 0), (0, 9 + turn), (9, 9)]
    atlas.annotate_regions(SECTION, {f"of {turn}": square}, overwrite=turn == 2)


def register(atlas: ts.Atlas, turn: int) -> None:
    matrix = [[1, 0, turn], [0, 1, 0]]
    atlas.register("ccf", {SECTION: matrix}, overwrite=turn == 2)


def rename(atlas: ts.Atlas, turn: int) -> None:
    atlas.domains("named").rename({"0": f"of {turn}"}, key_added="new", overwrite=turn == 2)


def graph(atlas: ts.Atlas, turn: int) -> None:
    wanted: dict[str, Any] = {"n_neighs": 4 + turn, "units": "source", "overwrite": turn == 2}
    atlas.build_graphs("knn", key_added="near", sections=[SECTION], **wanted)


def domains(atlas: ts.Atlas, turn: int) -> None:
    options: dict[str, Any] = {"n_neighs": 4, "n_comps": 3, "seed": turn, "overwrite": turn == 2}
    atlas.find_domains("plain", n_domains=2, sections=[SECTION], refine=False, **options)


def embed(atlas: ts.Atlas, turn: int) -> None:
    atlas.embed("saved", key_added="embedded", sections=[SECTION], overwrite=turn == 2)


WRITERS = [annotate, regions, register, rename, graph, domains, embed]


@pytest.mark.parametrize("write_one", WRITERS)
def test_the_second_of_two_handles_is_told(
    url: str, write_one: Callable[[ts.Atlas, int], None]
) -> None:
    before = entries(url)
    first, second = write(url), write(url)
    write_one(first, 0)
    theirs = entries(url)
    assert theirs != before
    with pytest.raises(CommitConflict, match=r"atlas\.refresh\(\).*overwrite=True") as told:
        write_one(second, 1)
    ours = {name: attempt for name, attempt in theirs.items() if before.get(name) != attempt}
    assert any(name in str(told.value) and ours[name] in str(told.value) for name in ours)
    assert entries(url) == theirs
    write_one(second, 2)  # asked to overwrite: the newest there is, seen or not
    assert all(entries(url)[name] != attempt for name, attempt in ours.items())


@pytest.mark.parametrize("together", [False, True])
def test_edits_in_place_add_up_in_one_view(url: str, together: bool) -> None:
    atlas = write(url)
    view = atlas.domains("named")
    for name in "01":
        edited = view.rename({name: f"X{name}"})
        assert view.names == edited.names
        view = edited if together else view
    assert atlas.domains("named").names == ["X0", "X1", "2"]
    assert view.merge({"X": ["X0", "X1"]}).names == ["X", "2"]
    kept = view.rename({"X": "Y"}, key_added="other")
    assert view.names == ["X", "2"]
    assert kept.names == ["Y", "2"]


def test_an_edit_in_place_of_what_another_edited_is_refused(url: str) -> None:
    first, second = write(url), write(url)
    old, further = first.domains("named"), second.domains("named")
    old.rename({"0": "X0"})
    second.refresh()  # the view still shows what it showed
    with pytest.raises(CommitConflict, match=r"domains/named/s1.*in attempt"):
        further.rename({"1": "X1"})
    second.domains("named").rename({"1": "X1"})
    assert write(url).domains("named").names == ["X0", "X1", "2"]
    with pytest.raises(CommitConflict):
        old.rename({"2": "X2"})
    assert old.rename({"2": "X2"}, overwrite=True).names == ["X0", "1", "X2"]


def test_the_same_graph_built_twice_is_one(url: str) -> None:
    first, second = write(url), write(url)
    built = [
        atlas.build_graphs("knn", n_neighs=5, key_added="near", units="source")
        for atlas in (first, second)
    ]
    kept = {name: at for name, at in entries(url).items() if name.startswith("graph/")}
    for some in built:
        assert {entry.name: entry.attempt for entry in some} == kept


def test_models_embed_over_what_they_saw_alone(url: str) -> None:
    first, second = write(url), write(url)
    models = [
        DomainBaseline(a, sections=[SECTION], n_comps=n).fit() for n, a in ((3, first), (2, second))
    ]
    models[0].embed("mine")
    with pytest.raises(CommitConflict, match="embedding/mine/s1"):
        models[1].embed("mine")
    models[0].embed("mine")  # its own, which it saw
    models[1].embed("mine", overwrite=True)


@pytest.mark.parametrize("kind", ["index", "summary"])
def test_one_name_of_two_indices_or_summaries(url: str, kind: str) -> None:
    def build(atlas: ts.Atlas, turn: int, **more: Any) -> None:
        if kind == "summary":
            atlas.summarize([] if turn else ["named"], key_added="mine", **more)
        else:
            options: dict[str, Any] = {"window_spacings": 6 + turn, "n_genes": 5, "n_dims": 2}
            atlas.build_index("mine", **options, **more)

    first, second = write(url), write(url)
    build(first, 0, sections=[SECTION])
    theirs = entries(url)
    with pytest.raises(CommitConflict, match=f"{kind}/mine.*segments.*refresh"):
        build(second, 1)
    assert entries(url) == theirs
    build(second.refresh(), 0)  # the rest
    assert len(entries(url)) == len(theirs) + 1
