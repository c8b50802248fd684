"""Features that are no genes become tables of their own, row-aligned and read by AnnData."""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from tisseract.atlas.errors import ColumnNotFound, Corrupt, InputError, InvalidArgument
from tisseract.atlas.verify import verify
from tisseract.ingest import partition
from tisseract.ingest.partition import plan_partition, write_section
from tisseract.ingest.source import ApartFeatures, MatrixCounts, RawSection

from ..sections import LIMIT, make_raw, make_store, random_counts, write_one


def mixed(
    n_obs: int, n_vars: int, seed: int, *, proteins: bool = True
) -> tuple[Any, dict[str, ApartFeatures], Any]:
    """A matrix of genes, controls and proteins in mixed order; tables; columns of genes."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3 if proteins else 2, n_vars)
    kind[:3] = [0, 1, 2 if proteins else 0]
    rng.shuffle(kind)
    matrix = random_counts(n_obs, n_vars, seed).toarray()
    matrix[:, kind == 2] *= 0.37
    apart = {}
    for k, name in enumerate(("controls", "proteins")[: 1 + proteins]):
        columns = np.flatnonzero(kind == k + 1)
        names = tuple(f"{name}_{c}" for c in columns.tolist())
        apart[name] = ApartFeatures(names, (f"type of {name}",) * len(names), columns)
    return matrix.astype(np.float32), apart, np.flatnonzero(kind == 0)


def raw_of(matrix: Any, apart: dict[str, ApartFeatures], genes: Any, **more: Any) -> RawSection:
    rng = np.random.default_rng(5)
    raw = make_raw(
        positions=rng.random((matrix.shape[0], 2)) * 100, counts=matrix[:, genes], obs={}, **more
    )
    return replace(raw, counts=MatrixCounts(matrix), apart=apart)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    n_obs=st.integers(1, 80),
    n_vars=st.integers(3, 20),
    block_bytes=st.sampled_from([1, 300, 2**20]),
    bucket_nnz=st.integers(1, 200),
    seed=st.integers(0, 9),
)
def test_tables_hold_the_source_permuted(
    tmp_path_factory: pytest.TempPathFactory,
    n_obs: int,
    n_vars: int,
    block_bytes: int,
    bucket_nnz: int,
    seed: int,
) -> None:
    matrix, apart, genes = mixed(n_obs, n_vars, seed)
    raw = raw_of(matrix, apart, genes)
    raw = replace(raw, counts=MatrixCounts(sparse.csr_matrix(matrix)))
    plan = plan_partition(n_obs, n_vars, None, memory_limit=LIMIT)
    small = replace(plan, block_bytes=block_bytes, bucket_nnz=bucket_nnz, bucket_rows=7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partition, "plan_partition", lambda *a, **k: small)
        section = write_one(tmp_path_factory.mktemp("apart"), raw, tile_cells=16)
    order = section.source_rows()
    assert section.apart_names == tuple(apart)
    assert np.array_equal(section.counts().toarray(), matrix[order][:, genes])
    np.testing.assert_array_equal(section.depth(), matrix[order][:, genes].sum(axis=1))
    for name, features in apart.items():
        counts, names, types = section.apart(name)
        np.testing.assert_array_equal(counts.toarray(), matrix[order][:, features.columns])
        assert counts.has_sorted_indices
        assert (names, types) == (features.names, features.feature_types)
        runs = [(0, 1), (n_obs // 2, n_obs)] if n_obs > 2 else [(0, 1)]
        rows = np.concatenate([np.arange(a, b) for a, b in runs])
        some = section.apart(name, runs).counts.toarray()
        np.testing.assert_array_equal(some, matrix[order[rows]][:, features.columns])


def test_anndata_and_spatialdata_read_the_tables(tmp_path: Path) -> None:
    import anndata
    import spatialdata

    matrix, apart, genes = mixed(300, 30, 0)
    first = apart["controls"]
    # A name twice, which AnnData wants made unique.
    apart["controls"] = replace(first, names=(first.names[0], *first.names[:-1]))
    path = tmp_path / "s.zarr"
    write_section(raw_of(matrix, apart, genes), path, memory_limit=LIMIT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # anndata asks pandas 3.1 for an option that pandas deprecated; no store can prevent it.
        warnings.filterwarnings("ignore", message=".*future.infer_string.*")
        data = spatialdata.read_zarr(path)
        alone = anndata.io.read_zarr(path / "tables" / "controls")
    assert set(data.tables) == {"table", "controls", "proteins"}
    table = data.tables["table"]
    order = table.obs_names.str.removeprefix("cell-").astype(int)
    for name, features in apart.items():
        beside = data.tables[name]
        np.testing.assert_array_equal(beside.X.toarray(), matrix[order][:, features.columns])
        assert beside.obs_names.equals(table.obs_names)
        assert beside.var["name"].tolist() == list(features.names)
        assert beside.var["feature_type"].tolist() == list(features.feature_types)
        assert beside.uns["spatialdata_attrs"]["region"] == "cells"
        instances = beside.obs["spatialdata_instance"].tolist()
        assert instances == data.shapes["cells"].index.tolist()
        assert (beside.obs["spatialdata_region"] == "cells").all()
    stored = {"controls": alone.X, "proteins": data.tables["proteins"].X}
    kinds = {name: str(getattr(matrix, "dtype", None)) for name, matrix in stored.items()}
    assert kinds == {"controls": "uint8", "proteins": "float32"}
    assert alone.var_names.is_unique
    assert alone.var_names[:2].tolist() == [first.names[0], f"{first.names[0]}-1"]


def test_what_is_wrong_with_tables_is_told(tmp_path: Path) -> None:
    matrix, apart, genes = mixed(20, 9, 0)
    controls, proteins = apart["controls"], apart["proteins"]
    both = replace(proteins, columns=controls.columns[:1], names=("x",), feature_types=("",))
    sizes = {"controls": controls, "both": both}
    rest = np.setdiff1d(np.arange(9), controls.columns)[1:]
    with pytest.raises(InputError, match=r"each column in one table, but got \d in two"):
        write_section(raw_of(matrix, sizes, rest), tmp_path / "a", memory_limit=LIMIT)
    short = {**apart, "controls": replace(controls, names=())}
    with pytest.raises(InputError, match=r"0 names and \d types"):
        write_section(raw_of(matrix, short, genes), tmp_path / "a", memory_limit=LIMIT)
    with pytest.raises(InputError, match="another name than that of the genes"):
        write_section(
            raw_of(matrix, {"table": controls, "proteins": proteins}, genes),
            tmp_path / "b",
            memory_limit=LIMIT,
        )
    with pytest.raises(InvalidArgument, match="letters"):
        write_section(
            raw_of(matrix, {"../x": controls, "proteins": proteins}, genes),
            tmp_path / "c",
            memory_limit=LIMIT,
        )
    column = int(proteins.columns[0])
    for bad in (np.nan, -1.0, np.inf):
        spoiled = matrix.copy()
        spoiled[7, column] = bad
        with pytest.raises(InputError, match=rf"'cell-7' \(row 7\), feature 'proteins_{column}'"):
            write_section(raw_of(spoiled, apart, genes), tmp_path / str(bad), memory_limit=LIMIT)
    spoiled = matrix.copy()
    spoiled[3, genes[1]] = 0.5
    with pytest.raises(InputError, match=r"'cell-3' \(row 3\), gene 'Gene1'"):
        write_section(raw_of(spoiled, apart, genes), tmp_path / "e", memory_limit=LIMIT)


def test_a_damaged_table_is_found_and_refused(tmp_path: Path) -> None:
    matrix, apart, genes = mixed(300, 12, 1)
    store = make_store(tmp_path, {"s1": raw_of(matrix, apart, genes)})
    assert verify(store).ok
    section = store.section("s1")
    with pytest.raises(ColumnNotFound, match=r"'control' beside its genes.*'controls'"):
        section.apart("control")
    folder = tmp_path / "atlas" / section.entry.prefix / "tables/controls/X"
    (chunk,) = (path for path in (folder / "data/c").rglob("*") if path.is_file())
    damaged = bytearray(chunk.read_bytes())
    damaged[20] ^= 0xFF
    chunk.write_bytes(damaged)
    assert "tables/controls/X/data" in str(verify(store))
    with pytest.raises(Corrupt, match="controls/X/data"):
        store.section("s1").apart("controls")
    chunk.unlink()
    assert "is missing" in str(verify(store))


def test_sections_without_tables_have_none(tmp_path: Path) -> None:
    section = write_one(tmp_path, make_raw())
    assert section.apart_names == ()
    with pytest.raises(ColumnNotFound, match="but has none"):
        section.apart("controls")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"n_vars": -1}, "must have numbers of columns and entries"),
        ({"nnz": True}, "must have numbers of columns and entries"),
        ({"nnz": "9"}, "must have numbers of columns and entries"),
        ({"n_vars": 3}, r"must have \(3,\) values at var/name"),
        ({"nnz": 7}, r"must have \(7,\) values at X/indices"),
        (None, "must hold an object as apart 'controls'"),
        ("../controls", r"must list names as apart"),
    ],
)
def test_an_index_that_contradicts_itself_is_refused(
    tmp_path: Path, change: Any, match: str
) -> None:
    matrix, apart, genes = mixed(40, 9, 1, proteins=False)
    section = write_one(tmp_path, raw_of(matrix, apart, genes))
    file = tmp_path / "atlas" / section.entry.prefix / "tisseract/zarr.json"
    node = json.loads(file.read_text())
    tables = node["attributes"]["apart"]
    if isinstance(change, dict):
        tables["controls"] |= change
    elif change is None:
        tables["controls"] = 3
    else:
        tables[change] = tables.pop("controls")
    file.write_text(json.dumps(node))
    with pytest.raises(Corrupt, match=match):
        section.apart("controls")
