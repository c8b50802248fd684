"""Derived arrays: round trips, sharding, provenance, and chunks that must not be missing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas import derived as module
from tisseract.atlas.codecs import seal
from tisseract.atlas.derived import Provenance, RowBlocks, tile_histogram, write_derived
from tisseract.atlas.derived_read import read_domains, read_embedding
from tisseract.atlas.errors import Corrupt, DerivedNotFound, InvalidArgument, ReadOnly
from tisseract.atlas.snapshot import Change, DerivedEntry
from tisseract.atlas.store import AtlasStore, open_store

from ..sections import make_raw, make_store

N = 300


@pytest.fixture
def store(tmp_path: Path) -> AtlasStore:
    return make_store(tmp_path, {"s1": make_raw(n_obs=N)})


def write(store: AtlasStore, arrays: Any, kind: str = "embedding", **attrs: Any) -> DerivedEntry:
    entry = write_derived(
        store,
        kind,
        "key",
        "s1",
        arrays=arrays,
        attrs=attrs,
        provenance=Provenance({"section:s1": store.section("s1").attempt}, {"d": 2}, seed=3),
        info={"d": 2},
    )
    store.commit(Change(add_derived=[entry]), "derive")
    return entry


def files_of(folder: Path, entry: DerivedEntry) -> list[Path]:
    """Return the chunk files of the array `values`."""
    chunks = folder / "atlas" / entry.prefix / "values/c"
    return [path for path in chunks.rglob("*") if path.is_file()]


def test_an_embedding_comes_back(store: AtlasStore) -> None:
    values = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)
    entry = write(store, {"values": values})
    assert np.array_equal(read_embedding(store, "key", "s1"), values)
    assert np.array_equal(
        read_embedding(store, "key", "s1", [(5, 9), (40, 41)]), values[[5, 6, 7, 8, 40]]
    )
    assert read_embedding(store, "key", "s1", []).shape == (0, 3)
    assert entry.nbytes > 0
    told = json.loads(store.storage.get(f"{entry.prefix}/provenance.json"))
    assert told["inputs"] == dict(entry.inputs)
    assert (told["seed"], told["parameters"], told["tool"]) == (3, {"d": 2}, "tisseract")
    group = store.derived_group("embedding", "key", "s1")
    assert (group.attrs["kind"], group.attrs["n_obs"]) == ("embedding", N)


@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(0, N), max_size=6))
def test_blocks_equal_the_whole(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    values = np.arange(N * 2, dtype=np.float32).reshape(N, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK_ROWS", 16)
        patch.setattr(module, "_SHARD_CHUNKS", 4)
        store = make_store(tmp_path_factory.mktemp("blocks"), {"s1": make_raw(n_obs=N)})
        blocks = RowBlocks(
            (N, 2), np.dtype(np.float32), lambda: iter(np.split(values, sorted(cuts)))
        )
        write(store, {"values": blocks})
        array = store.derived_group("embedding", "key", "s1")["values"]
        assert (array.chunks, array.shards) == ((16, 2), (64, 2))
        assert np.array_equal(read_embedding(store, "key", "s1"), values)


@pytest.mark.parametrize("rows", [N - 1, N + 1])
def test_blocks_must_add_up(store: AtlasStore, rows: int) -> None:
    blocks = RowBlocks((N, 2), np.dtype(np.float32), lambda: iter([np.zeros((rows, 2))]))
    with pytest.raises(InvalidArgument, match=f"but got {rows} rows"):
        write(store, {"values": blocks})
    assert not list(store.storage.list("derived"))


def test_labels_come_back(store: AtlasStore) -> None:
    codes = np.arange(N, dtype=np.int16) % 3 - 1
    confidence = np.linspace(0, 1, N, dtype=np.float32)
    write(store, {"codes": codes, "confidence": confidence}, "domains", categories=["x", "y"])
    found = read_domains(store, "key", "s1", [(0, 4)])
    assert found.codes.tolist() == [-1, 0, 1, -1]
    assert found.names.tolist() == ["", "x", "y", ""]
    assert found.confidence.tolist() == confidence[:4].tolist()


def test_labels_without_categories_are_corrupt(store: AtlasStore) -> None:
    write(store, {"codes": np.zeros(N, np.int16)}, "domains")
    with pytest.raises(Corrupt, match="list of categories"):
        read_domains(store, "key", "s1")


def test_a_chunk_of_zeros_is_written_and_a_missing_one_is_an_error(
    store: AtlasStore, tmp_path: Path
) -> None:
    entry = write(store, {"values": np.zeros((N, 2), np.float32)})
    assert not read_embedding(store, "key", "s1").any()
    for path in files_of(tmp_path, entry):
        path.unlink()
    with pytest.raises(Corrupt, match=r"(?i)chunk"):
        read_embedding(open_store(store.url), "key", "s1")


def test_a_flipped_bit_is_an_error(store: AtlasStore, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)
    entry = write(store, {"values": values})
    (path,) = [
        p for p in (tmp_path / "atlas" / entry.prefix / "values/c").rglob("*") if p.is_file()
    ]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(Corrupt, match=r"(?i)checksum"):
        read_embedding(open_store(store.url), "key", "s1")


def test_unknown_keys_and_readers(store: AtlasStore) -> None:
    write(store, {"values": np.zeros((N, 1), np.float32)})
    with pytest.raises(DerivedNotFound, match="'kei'"):
        read_embedding(store, "kei", "s1")
    with pytest.raises(ReadOnly):
        write(open_store(store.url), {"values": np.zeros((N, 1), np.float32)})


def test_an_inner_chunk_absent_from_its_shard_is_an_error(
    store: AtlasStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK_ROWS", 64)
    codes = np.ones(N, np.int16)
    arrays = {"codes": codes, "confidence": np.ones(N, np.float32)}
    entry = write(store, arrays, "domains", categories=["x", "y"])
    path = tmp_path / "atlas" / entry.prefix / "codes/c/0"
    data = bytearray(path.read_bytes())
    n_chunks = -(-N // 64)
    index = bytearray(data[-16 * n_chunks - 4 : -4])
    index[:16] = b"\xff" * 16
    path.write_bytes(bytes(data[: -16 * n_chunks - 4]) + seal(bytes(index)))
    with pytest.raises(Corrupt, match="absent from its shard"):
        read_domains(store, "key", "s1")
    assert read_domains(store, "key", "s1", [(64, 128)]).codes.all()


def test_arrays_have_a_row_a_cell_or_tile(store: AtlasStore) -> None:
    with pytest.raises(InvalidArgument, match=f"wanted {N} rows in 'values', one a cell"):
        write(store, {"values": np.zeros((N - 1, 2), np.float32)})
    with pytest.raises(InvalidArgument, match=r"wanted \d+ rows in 'tile_hist', one a tile"):
        write(store, {"tile_hist": np.zeros((2, 2), np.int32)}, "domains")


def test_labels_past_the_categories_are_corrupt(store: AtlasStore) -> None:
    arrays = {"codes": np.full(N, 2, np.int16), "confidence": np.ones(N, np.float32)}
    write(store, arrays, "domains", categories=["x", "y"])
    with pytest.raises(Corrupt, match=r"codes in -1\.\.1 are wanted"):
        read_domains(store, "key", "s1")


@settings(deadline=None)
@given(codes=st.lists(st.integers(-1, 4), max_size=60), cut=st.integers(0, 60))
def test_histograms_add_up(codes: list[int], cut: int) -> None:
    n = len(codes)
    ptr = np.array([0, min(cut, n), n])
    found = tile_histogram(np.array(codes, dtype=np.int16), ptr, 5)
    for t in range(2):
        part = [code for code in codes[ptr[t] : ptr[t + 1]] if code >= 0]
        assert found[t].tolist() == np.bincount(part, minlength=5).tolist() if part else True
    assert found.sum() == sum(code >= 0 for code in codes)
