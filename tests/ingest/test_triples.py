"""The external sort of entries: any order, any budget, the same matrix; bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from tisseract.ingest import triples
from tisseract.ingest.partition import plan_partition, write_section
from tisseract.ingest.scratch import scratch_bytes_of, scratch_folder, scratch_in
from tisseract.ingest.split import MaskedCounts
from tisseract.ingest.triples import Entries, sorted_blocks
from tisseract.ingest.vendors.entries import EntryCounts, EntryPiece
from tisseract.ingest.vendors.xenium_features import ScaledCounts

from ..sections import LIMIT, make_raw


def entries_of(matrix: Any, seed: int, pieces: int) -> list[Entries]:
    rows, columns = np.nonzero(matrix)
    order = np.random.default_rng(seed).permutation(rows.size)
    rows, columns = rows[order], columns[order].astype(np.int32)
    cuts = np.linspace(0, rows.size, pieces + 1).astype(int)
    return [
        Entries(rows[a:b], columns[a:b], matrix[rows[a:b], columns[a:b]]) for a, b in pairwise(cuts)
    ]


def whole(blocks: Any, n_vars: int) -> Any:
    parts, start = [], 0
    for block in blocks:
        assert block.start_row == start
        start += block.n_rows
        shape = (block.n_rows, n_vars)
        parts.append(sparse.csr_matrix((block.data, block.indices, block.indptr), shape=shape))
    return sparse.vstack(parts).toarray()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 6), st.integers(0, 10**6), st.sampled_from([None, 3]))
def test_any_order_gives_the_matrix(n: int, pieces: int, seed: int, nnz: int | None) -> None:
    matrix = np.random.default_rng(seed).poisson(0.6, (n, 5))
    found = sorted_blocks(
        entries_of(matrix, seed, pieces), n, matrix.dtype, nnz=nnz, budget_bytes=1
    )
    assert (whole(found, 5) == matrix).all()


def test_a_range_too_large_is_divided_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triples, "_FEWEST", 8)
    monkeypatch.setattr(triples, "_MOST_FILES", 4)
    matrix = np.random.default_rng(0).poisson(2, (200, 7))
    matrix[50:60] += 5  # a dense stretch
    largest: list[int] = []
    inner = triples._block

    def watched(entries: Any, *rest: Any) -> Any:
        largest.append(len(entries))
        return inner(entries, *rest)

    monkeypatch.setattr(triples, "_block", watched)
    entries = entries_of(matrix, 1, 9)
    with scratch_in(tmp_path):
        found = sorted_blocks(entries, 200, matrix.dtype, nnz=None, budget_bytes=1)
        assert (whole(found, 7) == matrix).all()
    assert max(largest) <= 8
    assert not list(tmp_path.iterdir())


def test_duplicates_are_summed_when_asked() -> None:
    twice = [Entries(np.array([0, 0, 1]), np.array([2, 2, 2], np.int32), np.array([1, 2, 4]))] * 2
    found = sorted_blocks(twice, 2, np.dtype(np.int64), nnz=6, budget_bytes=1, sum_duplicates=True)
    assert whole(found, 3).tolist() == [[0, 0, 6], [0, 0, 8]]


def test_entries_are_sorted_beside_the_section_that_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In threads that read ahead, too; the plan counts the files."""
    matrix = np.random.default_rng(0).poisson(0.6, (200, 30))
    places: list[Path] = []
    inner = triples._block

    def watched(*args: Any) -> Any:
        places.extend(tmp_path.rglob(".triples-*"))
        return inner(*args)

    def pieces() -> Iterator[EntryPiece]:
        for one in entries_of(matrix, 0, 3):
            yield EntryPiece(one.rows, one.columns.astype(np.int64), one.values)

    monkeypatch.setattr(triples, "_block", watched)
    n = int((matrix > 0).sum())
    raw = make_raw(counts=EntryCounts(pieces, 200, 30, n))
    summary = write_section(raw, tmp_path / "s.zarr", memory_limit=LIMIT)
    assert summary.nnz == n
    assert places
    assert all(place.is_relative_to(tmp_path) for place in places)
    assert scratch_folder() is None
    plain = plan_partition(200, 30, n, memory_limit=LIMIT, reading=raw.reading)
    assert summary.plan.scratch_bytes == plain.scratch_bytes + 20 * n
    masked = MaskedCounts(ScaledCounts(raw.counts, np.ones(30)), np.arange(7))
    assert scratch_bytes_of(masked) == 20 * n
    assert scratch_bytes_of(object()) == 0
