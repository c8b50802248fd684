"""Counts as triples: names and numbers of cells, both orientations of mtx, what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from tisseract.atlas.errors import InputError
from tisseract.ingest.source import StringValues
from tisseract.ingest.vendors.long_counts import LongCounts, MtxTriples, distinct
from tisseract.ingest.vendors.table import open_table

MATRIX = np.array([[0, 5, 0], [1, 0, 7]])
MTX = (
    "%%MatrixMarket matrix coordinate integer general\n% made by hand\n2 3 3\n1 2 5\n2 1 1\n2 3 7\n"
)


def dense(counts: Any) -> Any:
    found = np.zeros((counts.n_obs, counts.n_vars))
    for block in counts.blocks(2**16):
        row = block.start_row + np.repeat(np.arange(block.n_rows), np.diff(block.indptr))
        np.add.at(found, (row, block.indices), block.data)
    return found.tolist()


def long(path: Path, text: str, match: Literal["id", "position0", "position1"]) -> LongCounts:
    path.write_text("cell,gene,n\n" + text)
    names = StringValues.from_strings
    return LongCounts(
        open_table(path), ("cell", "gene", "n"), names(["a", "b"]), names(["x", "y", "z"]), match
    )


class TestTables:
    @pytest.mark.parametrize(
        ("match", "text"),
        [
            ("id", "b,z,7\nb,x,1\na,y,5\n"),
            ("position0", "1,2,7\n1,0,1\n0,1,5\n"),
            ("position1", "2,3,7\n2,1,1\n1,2,5\n"),
        ],
    )
    def test_cells_by_name_or_number(self, tmp_path: Path, match: Any, text: str) -> None:
        assert dense(long(tmp_path / "n.csv", text, match)) == MATRIX.tolist()

    @pytest.mark.parametrize(
        ("match", "text", "told"),
        [
            ("position0", "1,2,7\n2,0,1\n", r"row 2: expected a cell number from 0 to 1.*got '2'"),
            ("position1", "1,2,7\n0,1,1\n", "a cell number from 1 to 2"),
            ("position1", "1,2,7\n1,4,1\n", "a gene number from 1 to 3"),
            ("position1", "1,2,7\n,1,1\n", "got 'None'"),
            ("id", "a,x,1\nb,w,1\n", r"row 2: expected a gene of the list.*got 'w'"),
        ],
    )
    def test_others_are_refused(self, tmp_path: Path, match: Any, text: str, told: str) -> None:
        with pytest.raises(InputError, match=told):
            dense(long(tmp_path / "n.csv", text, match))

    def test_disk_is_told_before_entries_are_counted(self, tmp_path: Path) -> None:
        counts = long(tmp_path / "n.csv", "b,z,7\n" * 50, "id")
        assert counts.nnz is None
        assert counts.scratch_bytes >= 50 * 20

    def test_words_of_a_column(self, tmp_path: Path) -> None:
        counts = long(tmp_path / "n.csv", "b,z,7\nb,x,1\na,z,5\n", "id")
        assert distinct(counts.table, "gene") == (["x", "z"], 3)


class TestMtx:
    @pytest.mark.parametrize(("shape", "by_cell"), [((2, 3), True), ((3, 2), False)])
    def test_both_orientations(self, tmp_path: Path, shape: Any, by_cell: bool) -> None:
        path = tmp_path / "m.mtx.gz"
        path.write_bytes(gzip.compress(MTX.encode()))
        counts = MtxTriples.of(path, *shape)
        assert counts.by_cell == by_cell
        assert dense(counts) == (MATRIX if by_cell else MATRIX.T).tolist()

    @pytest.mark.parametrize(
        ("old", "new", "told"),
        [
            ("2 3 3", "2 3 4", "expected 4 entries as the header says, but got 3"),
            ("2 3 3", "2 4 3", "expected 3 genes x 2 cells, or the reverse, but got 2 x 4"),
            ("2 3 3", "2 3", "three sizes"),
            ("2 3 7", "2 4 7", "numbers from 1 to 3, but got 4"),
            ("2 3 7", "2 0 7", "numbers from 1 to 3, but got 0"),
            ("2 3 7", "2 3 x", "m.mtx"),
            ("integer general", "integer symmetric", "a coordinate file"),
            ("integer", "complex", "three sizes and numbers"),
        ],
    )
    def test_what_is_refused(self, tmp_path: Path, old: str, new: str, told: str) -> None:
        path = tmp_path / "m.mtx"
        path.write_text(MTX.replace(old, new))
        with pytest.raises(InputError, match=told):
            dense(MtxTriples.of(path, 2, 3))
