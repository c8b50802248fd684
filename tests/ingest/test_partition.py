import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from tisseract.atlas import morton
from tisseract.atlas.errors import BudgetExceeded, InputError
from tisseract.atlas.obs_names import stored_names
from tisseract.ingest import partition
from tisseract.ingest.partition import plan_partition, write_section
from tisseract.ingest.source import CategoricalValues, CsrBlock, Polygons, RawSection

from ..sections import LIMIT, make_raw, random_counts


@dataclass(frozen=True)
class Blocks:
    """A source that yields blocks of a fixed number of rows, columns shuffled inside rows."""

    matrix: sparse.csr_matrix
    rows: int
    seed: int = 0

    @property
    def n_obs(self) -> int:
        return int(self.matrix.shape[0])

    @property
    def n_vars(self) -> int:
        return int(self.matrix.shape[1])

    @property
    def nnz(self) -> int | None:
        return None if self.seed % 2 else int(self.matrix.nnz)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.matrix.dtype)

    def blocks(self, budget_bytes: int) -> Iterator[CsrBlock]:
        rng = np.random.default_rng(self.seed)
        for start in range(0, self.n_obs, self.rows):
            part = self.matrix[start : start + self.rows]
            indices, data = part.indices.astype(np.int32), part.data.copy()
            for low, high in zip(part.indptr[:-1], part.indptr[1:], strict=True):
                mixed = rng.permutation(high - low) + low
                indices[low:high], data[low:high] = indices[mixed], data[mixed]
            yield CsrBlock(start, part.indptr.astype(np.int64), indices, data)


def read_back(path: Path) -> dict[str, Any]:
    """Everything by zarr-python and scipy, independent of our reader."""
    import zarr

    root: Any = zarr.open_group(path, mode="r")

    def array(name: str) -> Any:
        return np.asarray(root[name][:])

    def parts(group: str) -> Any:
        return tuple(array(f"{group}/{part}") for part in ("data", "indices", "indptr"))

    shape = tuple(root["tables/table/X"].attrs["shape"])
    return {
        "csr": sparse.csr_matrix(parts("tables/table/X"), shape=shape),
        "csc": sparse.csc_matrix(parts("tisseract/by_gene"), shape=shape),
        "positions": array("tables/table/obsm/spatial"),
        "source_row": array("tisseract/source_row"),
        "ptr": array("tisseract/tiles/ptr"),
        "sums": array("tisseract/stats/gene_sum"),
    }


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    n_obs=st.integers(1, 120),
    n_vars=st.integers(1, 12),
    tile_cells=st.integers(1, 50),
    block_rows=st.integers(1, 60),
    bucket_rows=st.integers(1, 60),
    bucket_nnz=st.integers(1, 300),
    spread=st.sampled_from([1, 4, 1000]),
    seed=st.integers(0, 5),
)
def test_written_then_read_is_the_source_permuted(
    tmp_path_factory: pytest.TempPathFactory,
    n_obs: int,
    n_vars: int,
    tile_cells: int,
    block_rows: int,
    bucket_rows: int,
    bucket_nnz: int,
    spread: int,
    seed: int,
) -> None:
    """For any tile size, block size and budget; `spread` 1 puts all cells on a few places."""
    rng = np.random.default_rng(seed)
    matrix = random_counts(n_obs, n_vars, seed)
    positions = rng.integers(0, spread + 1, (n_obs, 2)).astype(float)
    raw = make_raw(positions=positions, counts=Blocks(matrix, block_rows, seed), obs={})
    path = tmp_path_factory.mktemp("section") / "s.zarr"
    plan = plan_partition(n_obs, n_vars, matrix.nnz, memory_limit=LIMIT)
    from dataclasses import replace

    small = replace(plan, bucket_rows=bucket_rows, bucket_nnz=bucket_nnz)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partition, "plan_partition", lambda *a, **k: small)
        summary = write_section(raw, path, tile_cells=tile_cells, memory_limit=LIMIT)
    found = read_back(path)
    codes = morton.encode(positions, morton.Frame.around(positions))
    order = np.lexsort((np.arange(n_obs), codes))
    assert np.array_equal(found["source_row"], order)
    matrix.eliminate_zeros()
    wanted = matrix[order]
    assert (found["csr"] != wanted).nnz == 0
    assert found["csr"].has_canonical_format
    assert (found["csc"] != wanted.tocsc()).nnz == 0
    assert found["csc"].has_sorted_indices
    assert np.array_equal(found["positions"], positions[order])
    ptr = found["ptr"]
    sums = [wanted[a:b].sum(axis=0) for a, b in pairwise(ptr)]
    assert np.array_equal(found["sums"], np.asarray(np.concatenate(sums)).T)
    assert summary.nnz == wanted.nnz
    assert [p.name for p in path.parent.iterdir()] == ["s.zarr"]


def write(raw: RawSection, tmp_path: Path, **more: Any) -> Path:
    path = tmp_path / "s.zarr"
    write_section(raw, path, memory_limit=LIMIT, **more)
    return path


def refused(raw: RawSection, tmp_path: Path, match: str) -> None:
    with pytest.raises(InputError, match=match):
        write(raw, tmp_path / "x")
    assert not list((tmp_path / "x").glob(".sort-*"))


@pytest.mark.parametrize("bad", [-1.0, 1.5, np.nan, np.inf, 2.0**33])
def test_values_that_are_no_counts_are_refused(tmp_path: Path, bad: float) -> None:
    matrix = random_counts(300, 12, 0).toarray().astype(np.float64)
    matrix[217, 5] = bad
    matrix[:217, 5] = 0
    refused(
        make_raw(counts=matrix),
        tmp_path,
        r"whole numbers .*, but got .* in cell 'cell-217' \(row 217\), gene 'Gene5'",
    )


@pytest.mark.parametrize("values", ["expected", "normalized", "log1p", "composition"])
def test_fractions_pass_when_the_matrix_says_so(tmp_path: Path, values: str) -> None:
    dense = random_counts(300, 12, 0).toarray().astype(np.float64) * 0.37
    dense[7, 3] = 1e-46
    matrix = sparse.csr_matrix(dense)
    found = read_back(write(make_raw(counts=matrix, values=values), tmp_path))
    assert found["csr"].dtype == np.float32
    order = found["source_row"]
    assert (found["csr"] != matrix[order].astype(np.float32)).nnz == 0
    assert (found["csr"].data > 0).all()
    assert found["csr"].nnz == matrix.nnz - 1
    for bad in (np.nan, -0.5, 1e39, -np.inf):
        dense[7, 3] = bad
        refused(
            make_raw(counts=dense, values=values),
            tmp_path,
            rf"values must be finite, from 0 to 3.4e\+38, but got {bad:g}.* in cell 'cell-7' "
            r"\(row 7\), gene 'Gene3'; scaled".replace("1e+39", r"1e\+39"),
        )


def test_a_late_negative_value_is_refused(tmp_path: Path) -> None:
    matrix = sparse.csr_matrix(np.full((3000, 30), 0.5, np.float32))
    matrix.data[-1] = -2.5
    raw = make_raw(counts=matrix, values="normalized", obs={})
    refused(raw, tmp_path, "got -2.5 in cell 'cell-2999'")


def test_counts_that_float32_rounds_are_noted(tmp_path: Path) -> None:
    matrix = random_counts(50, 6, 0).astype(np.int64)
    matrix.data[0] = 2**24 + 1
    summary = write_section(
        make_raw(counts=matrix, provenance={"notes": ["first"]}),
        tmp_path / "s.zarr",
        memory_limit=LIMIT,
    )
    assert "16777217" in summary.notes[0]
    about: Any = zarr.open_group(tmp_path / "s.zarr/tisseract/provenance", mode="r")
    assert about.attrs["notes"] == ["first", *summary.notes]
    matrix.data[0] = 2**24
    assert write_section(make_raw(counts=matrix), tmp_path / "b", memory_limit=LIMIT).notes == ()


def test_obs_extremes_and_empty_categories(tmp_path: Path) -> None:
    area = np.arange(300.0)
    area[[3, 9]] = np.inf, np.nan
    none = CategoricalValues(np.full(300, -1, np.int8), ())
    raw = make_raw(obs={"area": area, "none": none})
    summary = write_section(raw, tmp_path / "s.zarr", tile_cells=64, memory_limit=LIMIT)
    # A finite largest value would let a query leave out the cell beyond it.
    assert "max" not in summary.columns["area"]
    assert summary.columns["none"]["n_categories"] == 0
    stats: Any = zarr.open_group(tmp_path / "s.zarr/tisseract/stats/obs/area", mode="r")
    assert np.isinf(np.asarray(stats["max"])).sum() == 1


@pytest.mark.parametrize("far", [1.7e308, -1.7e308, 1e16])
def test_positions_far_out_are_refused(tmp_path: Path, far: float) -> None:
    positions = np.random.default_rng(0).random((300, 2))
    positions[5, 0] = far
    refused(make_raw(positions=positions), tmp_path, "below 1e.15, but got .* at row 5")


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64", "uint16"])
def test_counts_are_stored_as_narrow_as_they_are(tmp_path: Path, dtype: str) -> None:
    matrix: Any = random_counts(50, 6, 0).astype(dtype)
    matrix.data[0] = 200
    assert read_back(write(make_raw(counts=matrix), tmp_path / "a"))["csr"].dtype == np.uint8
    if dtype != "uint8":
        matrix.data[0] = 60_000
        assert read_back(write(make_raw(counts=matrix), tmp_path / "b"))["csr"].dtype == np.uint16
    if dtype in {"int64", "float64"}:
        matrix.data[0] = 2**32 - 1
        assert read_back(write(make_raw(counts=matrix), tmp_path / "c"))["csr"].max() == 2**32 - 1


def test_a_gene_twice_in_a_cell_is_refused(tmp_path: Path) -> None:
    blocks = [CsrBlock(0, np.array([0, 2, *[2] * 38]), np.array([3, 3], np.int32), np.ones(2))]
    source = _Fixed(blocks, 39, 6)
    raw = make_raw(positions=np.random.default_rng(0).random((39, 2)), counts=source, obs={})
    refused(raw, tmp_path, r"each gene once a cell, but got one twice in cell 'cell-0' \(row 0\)")


@dataclass(frozen=True)
class _Fixed:
    """A source of given blocks, however wrong."""

    given: list[CsrBlock]
    n_obs: int
    n_vars: int
    nnz: int | None = None
    dtype: Any = np.float64

    def blocks(self, budget_bytes: int) -> Iterator[CsrBlock]:
        return iter(self.given)


@pytest.mark.parametrize(
    ("start", "rows", "match"),
    [(1, 5, "expected row 0 next, but got 1"), (0, 4, "expected 5 rows, but got 4")],
)
def test_blocks_that_do_not_add_up_are_refused(
    tmp_path: Path, start: int, rows: int, match: str
) -> None:
    block = CsrBlock(start, np.zeros(rows + 1, np.int64), np.empty(0, np.int32), np.empty(0))
    raw = make_raw(positions=np.random.default_rng(0).random((5, 2)), counts=_Fixed([block], 5, 3))
    refused(raw, tmp_path, match)


@pytest.mark.parametrize("column", [-1, 3, 70_000])
def test_a_column_outside_the_panel_is_refused(tmp_path: Path, column: int) -> None:
    block = CsrBlock(0, np.array([0, 1]), np.array([column], np.int32), np.ones(1))
    raw = make_raw(positions=np.zeros((1, 2)), counts=_Fixed([block], 1, 3), obs={})
    refused(raw, tmp_path, rf"expected a column in 0..2, but got {column} in cell 'cell-0'")


def test_no_cells_and_repeated_ids_and_odd_columns_are_refused(tmp_path: Path) -> None:
    refused(make_raw(counts=np.zeros((0, 3)), obs={}), tmp_path, "at least one cell, but got 0")
    ids = [f"c{k % 299}" for k in range(300)]
    refused(make_raw(ids=ids), tmp_path, "must be unique, but got 1 repeated: 'c0'")
    refused(make_raw(obs={"x": np.zeros(7)}), tmp_path, "obs 'x': expected 300 rows, but got 7")


def test_a_source_that_fails_midway_leaves_no_scratch(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Failing(_Fixed):
        def blocks(self, budget_bytes: int) -> Iterator[CsrBlock]:
            yield self.given[0]
            raise OSError("truncated")

    block = CsrBlock(0, np.array([0, 1]), np.zeros(1, np.int32), np.ones(1))
    raw = make_raw(positions=np.zeros((2, 2)), counts=Failing([block], 2, 3), obs={})
    with pytest.raises(OSError, match="truncated"):
        write(raw, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["s.zarr"]


def test_parts_that_disagree_are_all_named() -> None:
    with pytest.raises(InputError, match="2 faults"):
        make_raw(
            positions=np.zeros((4, 2)), counts=random_counts(5, 3, 0), genes=["a", "b"], obs={}
        )


def test_spatialdata_reads_it_without_our_warnings(tmp_path: Path) -> None:
    import spatialdata

    names = {
        "cell type": np.array(["a", "b"] * 150),
        "Größe": np.ones(300),
        "_x": np.zeros(300),
        "x": np.full(300, 2.0),
        "日本": np.zeros(300),
        "Area": np.ones(300),
        "area": np.zeros(300),
    }
    path = write(make_raw(obs=names, um_per_unit=2.0), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # anndata asks pandas 3.1 for an option that pandas deprecated; no store can prevent it.
        warnings.filterwarnings("ignore", message=".*future.infer_string.*")
        data = spatialdata.read_zarr(path)
    table = data.tables["table"]
    stored = stored_names(names)
    assert table.obs.columns.tolist()[:7] == list(stored.values())
    assert list(stored.values())[:6] == ["cell_type", "Größe", "_x", "x", "日本", "Area"]
    assert set(table.obs["x"]) == {2.0}
    assert data.coordinate_systems == ["microns"]
    assert table.uns["spatialdata_attrs"]["region"] == "cells"
    circles = data.shapes["cells"]
    xy = np.stack([circles.geometry.x, circles.geometry.y], axis=1)
    assert np.array_equal(xy, table.obsm["spatial"])
    assert (circles.radius > 0).all()
    assert circles.index.tolist() == table.obs["spatialdata_instance"].tolist()


def test_polygons_follow_the_rows(tmp_path: Path) -> None:
    import geopandas

    positions = np.random.default_rng(0).random((50, 2)) * 100
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) - 0.5
    rings = (positions[:, None] + square).reshape(-1, 2)
    shapes = Polygons(rings, np.arange(51) * 4)
    raw = make_raw(
        positions=positions, counts=random_counts(50, 4, 0), shapes=shapes, y_axis="up", obs={}
    )
    path = write(raw, tmp_path)
    frame = geopandas.read_parquet(path / "shapes/cells/shapes.parquet")
    centers = np.stack([frame.geometry.centroid.x, frame.geometry.centroid.y], axis=1)
    np.testing.assert_allclose(centers, read_back(path)["positions"])


def test_plans_do_not_grow_with_cells_and_refuse_what_cannot_fit() -> None:
    plans = [plan_partition(n, 300, 60 * n, memory_limit=2**30) for n in (10**6, 4 * 10**6)]
    assert plans[0].peak_bytes == plans[1].peak_bytes <= 2**30
    assert "peak 640.0 MiB of 1.0 GiB" in str(plans[0])
    small = plan_partition(1000, 300, 60_000, memory_limit=2**30)
    assert small.peak_bytes < 256 * 2**20
    with pytest.raises(BudgetExceeded, match="sorting 100,000,000 cells into tiles needs about"):
        plan_partition(10**8, 300, 6 * 10**9, memory_limit=2**30)
    for limit in (256 * 2**20, 320 * 2**20, 2**30, 2**34):
        assert plan_partition(10**5, 300, 6 * 10**6, memory_limit=limit).peak_bytes <= limit


def test_nothing_is_written_when_the_limit_refuses(tmp_path: Path) -> None:
    with pytest.raises(BudgetExceeded):
        write_section(make_raw(), tmp_path / "s.zarr", memory_limit=2**20)
    assert list(tmp_path.iterdir()) == []


def test_progress_ends_every_stage_at_one(tmp_path: Path) -> None:
    seen: dict[str, float] = {}
    path = tmp_path / "s.zarr"
    write_section(make_raw(), path, memory_limit=LIMIT, progress=seen.__setitem__)
    assert seen == dict.fromkeys(["order", "obs", "scatter", "gather", "genes"], 1.0)


def test_a_full_disk_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from tisseract.atlas.errors import StorageFull

    def full(*args: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "rows-0")

    monkeypatch.setattr(partition, "scatter", full)
    with pytest.raises(StorageFull, match="needs space, but got none left at rows-0"):
        write(make_raw(), tmp_path)
