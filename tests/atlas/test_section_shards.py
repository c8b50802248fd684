from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas.codecs import Grid
from tisseract.atlas.errors import Corrupt
from tisseract.atlas.section_arrays import ArrayLayout, RowArray
from tisseract.atlas.section_columns import StringValues
from tisseract.atlas.section_shards import ArrayWriter, TextWriter, write_array, write_text
from tisseract.atlas.storage import open_storage


def view(folder: Path, name: str, shape: tuple[int, ...], dtype: str, grid: Grid) -> RowArray:
    layout = ArrayLayout(shape, dtype, grid.chunk, grid.shard)
    return RowArray(open_storage(str(folder)), name, layout, f"section 's', array {name}")


@settings(max_examples=30, deadline=None)
@given(
    length=st.integers(1, 500),
    chunk=st.integers(1, 40),
    per_shard=st.integers(1, 5),
    step=st.integers(1, 200),
    wide=st.booleans(),
    data=st.data(),
)
def test_zarr_and_own_reader_give_back_what_was_appended(
    tmp_path_factory: pytest.TempPathFactory,
    length: int,
    chunk: int,
    per_shard: int,
    step: int,
    wide: bool,
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("a")
    grid = Grid(chunk, chunk * per_shard)
    shape = (length, 2) if wide else (length,)
    values = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    with ArrayWriter(folder / "x", values.shape, "uint16", grid) as writer:
        for start in range(0, length, step):
            writer.append(values[start : start + step])
    stored = zarr.open_array(folder / "x", mode="r")
    assert np.array_equal(np.asarray(stored[:]), values)
    array = view(folder, "x", values.shape, "uint16", grid)
    cuts = sorted(data.draw(st.lists(st.integers(0, length), max_size=6)))
    runs = list(zip(cuts[::2], cuts[1::2], strict=False))
    wanted = [values[a:b] for a, b in runs]
    assert np.array_equal(array.read(runs), np.concatenate([values[:0], *wanted]))
    assert np.array_equal(array.read(), values)


def test_threads_keep_the_order(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 9, 3_000_000).astype(np.int32)
    with (
        ThreadPoolExecutor(4) as pool,
        ArrayWriter(tmp_path / "x", values.shape, "int32", Grid(4096, 2**18), pool=pool) as writer,
    ):
        writer.append(values)
    assert np.array_equal(np.asarray(zarr.open_array(tmp_path / "x", mode="r")[:]), values)
    assert np.array_equal(
        view(tmp_path, "x", values.shape, "int32", Grid(4096, 2**18)).read(), values
    )


def test_strings_are_zarr_strings(tmp_path: Path) -> None:
    words = ["a", "", "µm", "x" * 300] * 50
    grid = Grid(16, 64)
    with TextWriter(tmp_path / "t", len(words), grid) as writer:
        writer.append(StringValues.from_strings(words))
    assert np.asarray(zarr.open_array(tmp_path / "t", mode="r")[:]).tolist() == words
    assert view(tmp_path, "t", (200,), "string", grid).read([(3, 21)]).tolist() == words[3:21]


def test_empty_arrays_are_legal(tmp_path: Path) -> None:
    write_array(tmp_path / "x", np.empty(0, np.int32))
    write_text(tmp_path / "t", StringValues.from_strings([]))
    assert zarr.open_array(tmp_path / "x", mode="r").shape == (0,)
    assert zarr.open_array(tmp_path / "t", mode="r").shape == (0,)
    assert view(tmp_path, "x", (0,), "int32", Grid(1, 1)).read().size == 0


@pytest.mark.parametrize("rows", [3, 5])
def test_a_wrong_number_of_rows_is_refused(tmp_path: Path, rows: int) -> None:
    writer = ArrayWriter(tmp_path / "x", (4,), "uint8", Grid(2, 4))
    writer.append(np.zeros(rows, np.uint8))
    with pytest.raises(ValueError, match=f"expected 4 rows, but got {rows}"):
        writer.close()


def test_a_short_append_is_copied_and_holds_nothing(tmp_path: Path) -> None:
    writer = ArrayWriter(tmp_path / "x", (4,), "uint8", Grid(2, 4))
    values = np.zeros(3, np.uint8)
    writer.append(values)
    assert all(part.base is None for part in writer._parts)


class TestDamage:
    grid = Grid(16, 64)

    @pytest.fixture
    def array(self, tmp_path: Path) -> RowArray:
        write_array(tmp_path / "x", np.arange(200, dtype=np.int64), self.grid)
        return view(tmp_path, "x", (200,), "int64", self.grid)

    def test_missing_shard(self, array: RowArray, tmp_path: Path) -> None:
        (tmp_path / "x/c/1").unlink()
        assert array.read([(0, 64)]).size == 64
        with pytest.raises(Corrupt, match=r"section 's', array x: chunk 4 .* is missing"):
            array.read([(70, 71)])

    def test_missing_inner_chunk(self, array: RowArray, tmp_path: Path) -> None:
        from tisseract.atlas.codecs import seal, unseal

        shard = tmp_path / "x/c/0"
        blob = shard.read_bytes()
        table = bytearray(unseal(blob[-68:]) or b"")
        table[16:32] = b"\xff" * 16
        shard.write_bytes(blob[:-68] + seal(bytes(table)))
        assert not np.asarray(zarr.open_array(tmp_path / "x", mode="r")[16:32]).any()
        with pytest.raises(Corrupt, match="chunk 1 cannot be read, it is absent from its shard"):
            array.read([(0, 20)])

    @pytest.mark.parametrize("at", [0, 40, -1, -30, -68])
    def test_flipped_bit(self, array: RowArray, tmp_path: Path, at: int) -> None:
        shard = tmp_path / "x/c/0"
        blob = bytearray(shard.read_bytes())
        blob[at] ^= 4
        shard.write_bytes(blob)
        with pytest.raises(Corrupt, match="section 's', array x: chunk"):
            array.read([(0, 64)])

    @pytest.mark.parametrize("length", [0, 10, 100])
    def test_cut_shard(self, array: RowArray, tmp_path: Path, length: int) -> None:
        shard = tmp_path / "x/c/0"
        shard.write_bytes(shard.read_bytes()[:length])
        with pytest.raises(Corrupt, match="section 's', array x"):
            array.read()

    def test_rows_outside(self, array: RowArray) -> None:
        with pytest.raises(IndexError, match=r"rows must lie in 0..200, but got 190:201"):
            array.read([(190, 201)])


@pytest.mark.parametrize(
    ("shape", "dtype", "chunk", "shard"),
    [
        ((-1,), "int32", 1, 1),
        ((10**18,), "int32", 1, 1),
        ((5,), "object", 1, 1),
        ((5,), "int32", 0, 1),
        ((5,), "int32", 2, 3),
        ((), "int32", 1, 1),
        ((5, 2**40), "float64", 2**20, 2**20),
        ((5,), "int32", True, True),
    ],
)
def test_hostile_layouts_are_refused(
    shape: tuple[int, ...], dtype: str, chunk: int, shard: int
) -> None:
    with pytest.raises(Corrupt, match="sound shape, type and grid"):
        ArrayLayout(shape, dtype, chunk, shard)
