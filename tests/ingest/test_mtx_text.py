"""Matrix Market allows any blanks between its numbers."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from tisseract.atlas.errors import InputError
from tisseract.ingest.mtx_text import mtx_pieces
from tisseract.ingest.tenx import open_mtx
from tisseract.ingest.vendors.long_counts import MtxTriples

HEADER = "%%MatrixMarket matrix coordinate integer general\n%\n 3\t2  3\n"


@pytest.mark.parametrize(
    "entries",
    [
        "1 1 5\n3 1 6\n2 2 7\n",
        "1\t1\t5\n3\t1\t6\n2\t2\t7",
        "  1   1 5 \n 3 1\t\t6\n2  2  7  \n",
        "1 1 5\r\n3 1 6\r\n2 2 7\r\n\r\n",
    ],
)
def test_one_parser_for_any_blanks(tmp_path: Path, entries: str) -> None:
    path = tmp_path / "matrix.mtx"
    path.write_bytes((HEADER + entries).encode())
    (tmp_path / "barcodes.tsv").write_text("a\nb\n")
    (tmp_path / "features.tsv").write_text("x\ny\nz\n")
    tenx = open_mtx(path, tmp_path / "barcodes.tsv", tmp_path / "features.tsv").counts
    for counts in (tenx, MtxTriples.of(path, 2, 3)):
        dense = np.zeros((2, 3))
        for block in counts.blocks(2**20):
            for row, (start, stop) in enumerate(zip(block.indptr, block.indptr[1:], strict=False)):
                dense[block.start_row + row, block.indices[start:stop]] = block.data[start:stop]
        assert dense.tolist() == [[5, 0, 6], [0, 7, 0]]


def test_a_line_without_end_is_refused_early(tmp_path: Path) -> None:
    """A tail of zeros, as some file systems leave after a crash, is no line to hold whole."""
    file = io.BytesIO(b"1 1 5\n" + bytes(2**23))
    with pytest.raises(ValueError, match=r"a line of more than 1\.5 MiB"):
        list(mtx_pieces(file, np.dtype(np.int64)))
    assert file.tell() <= 2**22
    path = tmp_path / "matrix.mtx"
    path.write_bytes(HEADER.encode() + b"1 1 5\n" + bytes(2**23))
    with pytest.raises(InputError, match=r"matrix\.mtx.*a line of more than 1\.5 MiB"):
        list(MtxTriples.of(path, 2, 3).blocks(2**20))
