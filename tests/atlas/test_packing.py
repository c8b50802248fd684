"""Snapshots of a thousand sections: small, opened in few requests, refused when damaged."""

import base64
import json
import uuid
import zlib
from pathlib import Path

import pytest

from tisseract.atlas import packing, schema
from tisseract.atlas.errors import Corrupt, FormatUnsupported
from tisseract.atlas.keys import catalog_key
from tisseract.atlas.snapshot import Change, DerivedEntry, Snapshot
from tisseract.atlas.store import create_store, open_store

from .store_fakes import CountingStorage, section_entry

KINDS = (("graph", "spatial"), ("embedding", "gnn"), ("domains", "gnn_12"))


def _large(n_sections: int = 1_000) -> Change:
    """Sections with a graph, an embedding and domains each, with ids and digests of their own."""
    sections, derived = [], []
    for k in range(n_sections):
        name = f"E{k // 40}_s{k:04d}"
        digest = f"sha256:{uuid.uuid4().hex}{uuid.uuid4().hex}"
        names = [f"domain {i}" for i in range(12)]
        columns = {c: {"kind": "numeric", "min": 0.1 * k, "max": 1.7 * k} for c in "abcdef"}
        columns["cell_type"] = {"kind": "categorical", "n_categories": 12, "categories": names}
        sections.append(section_entry(name, uuid.uuid4().hex, digest=digest, columns=columns))
        inputs = {f"section:{name}": sections[-1].attempt}
        for kind, key in KINDS:
            entry = DerivedEntry(
                kind,
                key,
                name,
                uuid.uuid4().hex,
                f"sha256:{uuid.uuid4().hex * 2}",
                10**6,
                inputs,
                None,
                {"params": {"n_neighs": 10}, "categories": names},
            )
            derived.append(entry)
            inputs = inputs | {entry.name: entry.attempt}
    return Change(add_sections=sections, add_derived=derived)


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("large") / "atlas"
    create_store(path).commit(_large(), "a thousand sections")
    return path


def test_opens_in_few_requests_and_bytes(atlas: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counting = CountingStorage(open_store(atlas).storage)
    monkeypatch.setattr("tisseract.atlas.store.open_storage", lambda *_, **__: counting)
    store = open_store(atlas)
    assert (len(store.section_names), len(store.snapshot.derived)) == (1_000, 3_000)
    assert sum(counting.counts.values()) <= 4
    assert (atlas / catalog_key(1)).stat().st_size < 2_000_000


def test_the_head_stays_readable_and_nothing_is_lost(atlas: Path) -> None:
    data = (atlas / catalog_key(1)).read_bytes()
    body = json.loads(data)
    assert (body["number"], body["requires"]) == (1, ["packed"])
    read = Snapshot.from_bytes(data, 1)
    assert read == open_store(atlas).snapshot
    assert read.to_bytes() == data


def test_a_small_snapshot_stays_text() -> None:
    change = _large(3)
    snapshot = Snapshot(1, None, "0" * 32, "", "", {e.section: e for e in change.add_sections})
    assert json.loads(snapshot.to_bytes())["requires"] == []


def test_a_version_without_the_feature_says_so(
    atlas: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "FEATURES", frozenset())
    with pytest.raises(FormatUnsupported, match="packed; upgrade tisseract"):
        open_store(atlas)


@pytest.mark.parametrize("damage", ["text", "cut", "more", "twice", "none", "bomb"])
def test_damage_is_told(atlas: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.loads((atlas / catalog_key(1)).read_bytes())
    packed = base64.b64decode(body["packed"])
    if damage == "bomb":
        monkeypatch.setattr(packing, "_LARGEST", 10_000)
    lists = {
        "text": "?" * 40,
        "cut": base64.b64encode(packed[:-9]).decode(),
        "more": base64.b64encode(packed + b"x").decode(),
        "twice": base64.b64encode(zlib.compress(b'{"number":2}')).decode(),
        "none": None,
        "bomb": body["packed"],
    }
    with pytest.raises(Corrupt):
        Snapshot.from_bytes(json.dumps(body | {"packed": lists[damage]}).encode(), 1)
