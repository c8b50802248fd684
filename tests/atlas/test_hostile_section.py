"""A section whose index lies: a named error, never a raw one, and never a file outside."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tisseract.atlas.errors import Corrupt, FormatUnsupported
from tisseract.atlas.section import Section
from tisseract.atlas.snapshot import Change, Snapshot
from tisseract.atlas.store import AtlasStore

from ..sections import make_raw, make_store
from .store_fakes import section_entry


@pytest.fixture
def store(tmp_path: Path) -> AtlasStore:
    return make_store(tmp_path, {"s1": make_raw(n_obs=60)})


def edit(store: AtlasStore, change: Callable[[dict[str, Any]], None]) -> Section:
    key = f"{store.snapshot.sections['s1'].prefix}/tisseract/zarr.json"
    node = json.loads(store.storage.get(key))
    change(node["attributes"])
    store.storage.put(key, json.dumps(node).encode())
    return Section(store.storage, store.snapshot.sections["s1"])


def read_all(section: Section) -> None:
    _ = section.tiles, section.blocks, section.obs(), section.counts(), section.totals


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.pop("obs"),
        lambda a: a.update(obs=None),
        lambda a: a["obs"]["layer"].pop("path"),
        lambda a: a["obs"]["layer"].update(kind="magic"),
        lambda a: a["obs"]["layer"].update(path="../../elsewhere"),
        lambda a: a["obs"]["layer"]["categories"].pop(),
        lambda a: a["obs"]["layer"].update(categories=["L1", "L1", "WM"]),
        lambda a: a["obs"].update(layer=[]),
        lambda a: a.update(frame=None),
        lambda a: a["frame"].update(side="wide"),
        lambda a: a.update(arrays=[]),
        lambda a: a["arrays"].update({"tisseract/tiles/ptr": []}),
        lambda a: a["arrays"]["tisseract/tiles/ptr"].update(shape=[3]),
        lambda a: a["arrays"]["tables/table/obsm/spatial"].update(shape=[60]),
        lambda a: a["arrays"]["tables/table/obsm/spatial"].update(shape=[60, 2**40, 2**40]),
        lambda a: a.update(n_tiles=99),
    ],
)
def test_a_lying_index_is_corrupt(store: AtlasStore, change: Any) -> None:
    section = edit(store, change)
    with pytest.raises((Corrupt, FormatUnsupported)):
        read_all(section)


def test_a_true_index_reads(store: AtlasStore) -> None:
    read_all(edit(store, lambda a: None))


@pytest.mark.parametrize(
    "column",
    [
        {},
        {"kind": "magic"},
        {"kind": "numeric", "min": "low"},
        {"kind": "string", "nulls": -1},
        {"kind": "categorical", "categories": [1]},
    ],
)
def test_lying_columns_of_the_catalog_are_corrupt(column: dict[str, Any]) -> None:
    entry = section_entry("a", columns={"x": column})
    data = Snapshot(1, None, "0" * 32, "", "", sections={"a": entry}).to_bytes()
    with pytest.raises(Corrupt, match="columns"):
        Snapshot.from_bytes(data, 1)


def test_links_out_of_the_atlas_are_refused(store: AtlasStore, tmp_path: Path) -> None:
    section = store.section("s1")
    path = store.storage.local_path(f"{section.entry.prefix}/tisseract/depth/c/0")
    assert path is not None
    outside = tmp_path / "outside.bin"
    path.rename(outside)
    path.symlink_to(outside)
    depth: Any = section.group["tisseract/depth"]
    with pytest.raises(Corrupt, match="linked outside"):
        depth[:]
    with pytest.raises(Corrupt, match="linked outside"):
        section.depth()


def test_a_message_may_speak_of_tombstones(store: AtlasStore) -> None:
    store.commit(Change(add_sections=[section_entry("b")]), "tisseract-tombstone")
    assert store.refresh().has_section("b")
