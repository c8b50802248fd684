import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisseract.atlas import codecs
from tisseract.atlas.codecs import Grid, element_grid, row_grid
from tisseract.atlas.errors import InvalidArgument
from tisseract.atlas.section_columns import StringValues

DTYPES = ["uint8", "uint16", "uint32", "int32", "int64", "float32", "float64", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_chunks_come_back(dtype: str) -> None:
    values = np.random.default_rng(0).integers(0, 200, 5000).astype(dtype)
    back = codecs.decode(codecs.encode(values), values.dtype, values.nbytes)
    assert back is not None
    assert np.array_equal(back, values)


@given(st.data())
def test_any_flipped_bit_is_found(data: st.DataObject) -> None:
    values = np.arange(300, dtype=np.int32) // 7
    blob = bytearray(codecs.encode(values))
    blob[data.draw(st.integers(0, len(blob) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert codecs.decode(bytes(blob), values.dtype, values.nbytes) is None


@pytest.mark.parametrize("length", [0, 3, 10])
def test_a_cut_chunk_is_found(length: int) -> None:
    values = np.arange(300, dtype=np.int32)
    assert codecs.decode(codecs.encode(values)[:length], values.dtype, values.nbytes) is None


def test_a_chunk_of_another_length_is_refused_before_it_is_unpacked() -> None:
    bomb = codecs.encode(np.zeros(10_000_000, np.uint8))
    assert codecs.decode(bomb, np.dtype(np.uint8), 1000) is None


@given(st.lists(st.text(max_size=8), min_size=1, max_size=20), st.integers(0, 5))
def test_strings_come_back_padded(words: list[str], more: int) -> None:
    packed = StringValues.from_strings(words)
    blob = codecs.encode_text(packed.text, packed.offsets, len(words) + more)
    back = codecs.decode_text(blob, len(words) + more)
    assert back is not None
    assert back.tolist() == words + [""] * more


def test_text_that_would_unpack_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = StringValues.from_strings(["x" * 5000])
    blob = codecs.encode_text(packed.text, packed.offsets, 1)
    assert codecs.decode_text(blob, 1) is not None
    assert codecs.decode_text(blob, 2) is None
    monkeypatch.setattr(codecs, "_MAX_TEXT_BYTES", 1000)
    assert codecs.decode_text(blob, 1) is None
    with pytest.raises(InvalidArgument, match="shorten the texts"):
        codecs.encode_text(packed.text, packed.offsets, 1)


def test_grids_follow_rows_and_bounds() -> None:
    assert element_grid(60_000_000, 1_000_000, 4) == Grid(16_384, 2**24)
    assert element_grid(1_102_587, 161_421, 4).chunk == 2048
    assert element_grid(800_000, 346, 4).chunk == 65_536
    assert element_grid(0, 5, 4) == Grid(1024, 1024)
    for length in (1, 255, 256, 10**6, 10**9):
        grid = row_grid(256, length, 16)
        assert grid.shard // grid.chunk <= 1024
        assert grid.shard * 16 <= 64 * 2**20


def test_a_shard_of_broken_chunks_is_refused() -> None:
    with pytest.raises(ValueError, match="whole number of chunks, but got 5 and 2"):
        Grid(2, 5)
