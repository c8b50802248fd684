"""Dense counts in text: the compiled parser gives what pandas gives, or leaves it to Arrow."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas.errors import InputError
from tisseract.ingest.vendors.dense import DenseCounts
from tisseract.ingest.vendors.dense_text import text_rows
from tisseract.ingest.vendors.table import open_table
from tisseract.ingest.vendors.text_lines import line_blocks
from tisseract.ingest.vendors.text_table import TextTable


def dense_of(counts: DenseCounts, budget: int) -> Any:
    found = np.zeros((counts.n_obs, counts.n_vars))
    n_rows = 0
    for block in counts.blocks(budget):
        assert block.start_row == n_rows
        assert (block.data != 0).all()
        n_rows += block.n_rows
        for row in range(block.n_rows):
            part = slice(int(block.indptr[row]), int(block.indptr[row + 1]))
            np.add.at(found[block.start_row + row], block.indices[part], block.data[part])
    assert n_rows == counts.n_obs
    return found


words = st.sampled_from(["0", "0", "0", "7", "12", "3.0", "1e1", "2.5", '"4"', "9" * 20, " 5"])
plain = st.sampled_from(["0", "0", "0", "7", "12", "3.0", "250000"])


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_numbers_are_those_written(data: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    n, genes = data.draw(st.integers(0, 12)), data.draw(st.integers(1, 6))
    cells = data.draw(
        st.lists(
            st.lists(data.draw(st.sampled_from([words, plain])), min_size=genes, max_size=genes),
            min_size=n,
            max_size=n,
        )
    )
    end = data.draw(st.sampled_from(["\n", "\r\n", "\n\n"]))
    quoted = data.draw(st.booleans())
    names = [f"g{k}" for k in range(genes)]
    keys = [f'"c,{k}"' if quoted else f"c{k}" for k in range(n)]
    rows = [",".join([key, *row]) for key, row in zip(keys, cells, strict=True)]
    path = tmp_path_factory.mktemp("dense") / data.draw(st.sampled_from(["x.csv", "x.csv.gz"]))
    text = (end.join([",".join(["id", *names]), *rows]) + end * data.draw(st.booleans())).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    order = data.draw(st.permutations(range(genes)))
    kept = sorted(data.draw(st.sets(st.integers(0, n - 1)))) if n else []
    some = None if data.draw(st.booleans()) else np.array(kept, np.int64)
    counts = DenseCounts(open_table(path), tuple(names[k] for k in order), some)
    numbers = [float(word.strip('"')) for row in cells for word in row]
    true = np.array(numbers).reshape(n, genes)[:, order]
    true = true if some is None else true[some]
    assert (dense_of(counts, data.draw(st.sampled_from([1, 2**20]))) == true).all()


def parsed(path: Path) -> list[bool]:
    """Whether each block was parsed without Arrow."""
    table = open_table(path)
    assert isinstance(table, TextTable)
    return [not isinstance(found, list) for _, found in text_rows(table, ("a", "b"), None, 2**20)]


def test_plain_text_does_without_arrow_and_other_text_does_not(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("id,a,b\nx,1,0\ny,0,12.0\n")
    assert parsed(path) == [True]
    path.write_text("id,a,b\nx,1,0\ny,0,12.5\n")
    assert parsed(path) == [False]


@pytest.mark.parametrize("line", ["y,0", "y,0,1,2", "y,0,one", 'y,0,"1'])
def test_broken_lines_are_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"id,a,b\nx,1,0\n{line}\n")
    counts = DenseCounts(open_table(path), ("a", "b"), np.array([0, 1]))
    with pytest.raises(InputError, match=r"x\.csv"):
        list(counts.blocks(2**20))


def test_broken_lines_among_rows_that_are_not_wanted_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("id,a,b\nx,1,0\ny,0\nz,1,1\n")
    with pytest.raises(InputError, match=r"x\.csv"):
        list(DenseCounts(open_table(path), ("a", "b"), np.array([0, 2])).blocks(2**20))


@pytest.mark.parametrize("block", [1, 3, 7, 100])
@pytest.mark.parametrize("text", [b"", b"h\n", b"h\na\nbb\n\nccc", b"h\r\na\r\n"])
def test_blocks_of_lines_add_up(tmp_path: Path, text: bytes, block: int) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(text)
    blocks = list(line_blocks(path, 1, block))
    rest = text.partition(b"\n")[2]
    assert b"".join(blocks) == rest + b"\n" * (bool(rest) and not rest.endswith(b"\n"))
    assert all(one.endswith(b"\n") for one in blocks)
