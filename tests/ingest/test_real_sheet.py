"""Real tissue: one sheet, one call, one atlas whose every count equals its source."""

import gzip
import json
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import io, sparse

from tisseract.atlas.store import AtlasStore, open_store
from tisseract.atlas.verify import verify

from ..real_sheet import real_rows, write_real_sheet

pytestmark = [pytest.mark.real, pytest.mark.slow]

SECTIONS = 44


@pytest.fixture(scope="module")
def store(real_atlas: Path) -> AtlasStore:
    return open_store(real_atlas)


@cache
def h5ad_counts(path: Path) -> tuple[sparse.csr_matrix, list[str], dict[str, np.ndarray]]:
    """Matrix, genes and split columns of an h5ad, read by anndata."""
    import anndata

    with warnings.catch_warnings():  # of anndata about pandas; the oracle's business, not ours
        warnings.simplefilter("ignore")
        data = anndata.read_h5ad(path)
    columns = {name: data.obs[name].astype(str).to_numpy() for name in data.obs.columns}
    matrix: Any = data.X
    return sparse.csr_matrix(matrix), list(data.var_names), columns


def visium_counts(path: Path) -> tuple[sparse.csr_matrix, list[str]]:
    """Matrix and gene ids of a Space Ranger folder in barcode order, read without our reader."""
    folder = path / "filtered_feature_bc_matrix"
    if folder.is_dir():
        with gzip.open(folder / "matrix.mtx.gz") as file:
            text_file: Any = file
            matrix = sparse.csr_matrix(io.mmread(text_file, spmatrix=False).T)
        text = gzip.decompress((folder / "features.tsv.gz").read_bytes()).decode()
        return matrix, [line.split("\t")[0] for line in text.splitlines()]
    import h5py

    with h5py.File(f"{folder}.h5") as file:
        group = file["matrix"]
        shape = tuple(group["shape"][:][::-1])
        matrix = sparse.csr_matrix(
            (group["data"][:], group["indices"][:], group["indptr"][:]), shape
        )
        return matrix, [name.decode() for name in group["features/id"][:]]


def source_of(
    row: dict[str, str], section_metadata: dict[str, object], root: Path
) -> tuple[sparse.csr_matrix, list[str]]:
    path = root / row["data_path"]
    if row.get("format") == "visium":
        return visium_counts(path)
    matrix, genes, columns = h5ad_counts(path)
    split = row.get("split_by")
    if split:
        value = str(section_metadata["__split__"])
        return matrix[columns[split] == value], genes
    return matrix, genes


def test_one_call_takes_the_whole_sheet_in(store: AtlasStore, real_atlas: Path) -> None:
    assert len(store.section_names) == SECTIONS
    run = json.loads((real_atlas.parent / "run.json").read_text())
    assert run["exit_code"] == 0
    assert {o["outcome"] for o in run["outcomes"]} == {"written"}
    table = store.sections
    assert table.loc["dlpfc_151673", "donor"] == "Br8100"
    assert table.loc["heart_14", "timepoint"] == "E14"
    assert table.loc["heart_14", "time_value"] == 14
    order = table.loc[table.timepoint.notna()].sort_values("timepoint_order").timepoint
    assert list(dict.fromkeys(order)) == ["E4", "E7", "E8.5", "E10", "E14"]


def test_verify_is_clean(store: AtlasStore) -> None:
    report = verify(store)
    assert report.ok, str(report)


def test_every_count_equals_its_source(store: AtlasStore, real_data: Path) -> None:
    rng = np.random.default_rng(20261122)
    origin: dict[str, dict[str, Any]] = {
        name: dict(store.section(name).group["tisseract/provenance"].attrs)
        for name in store.section_names
    }
    seen = set()
    for row in real_rows():
        for name, provenance in origin.items():
            if not provenance["source"].endswith(row["data_path"]):
                continue
            seen.add(name)
            section = store.section(name)
            wanted, genes = source_of(row, {"__split__": provenance["split_value"]}, real_data)
            wanted.sum_duplicates()
            wanted.eliminate_zeros()
            source_row = np.asarray(section.group["tisseract/source_row"])
            assert sorted(source_row) == list(range(wanted.shape[0])), name
            stored = sparse.csr_matrix(section.counts())
            assert list(section.panel.name) == genes, name
            difference: Any = stored != wanted[source_row].astype(np.float32)
            assert difference.nnz == 0, name
            by_gene = sparse.csr_matrix(section.gene_columns(np.arange(wanted.shape[1])))
            difference = by_gene != stored
            assert difference.nnz == 0, name
            sums = np.asarray(wanted.sum(axis=0, dtype=np.float64)).ravel()
            if section.values == "counts":
                np.testing.assert_array_equal(section.totals.sums, sums, err_msg=name)
            else:
                np.testing.assert_allclose(section.totals.sums, sums, rtol=1e-12, err_msg=name)
            cells = rng.choice(wanted.shape[0], 20)
            np.testing.assert_array_equal(
                stored[cells].toarray(), wanted[source_row[cells]].toarray(), err_msg=name
            )
    assert seen == set(store.section_names)


def test_spatialdata_opens_every_section_without_a_warning(
    store: AtlasStore, real_atlas: Path
) -> None:
    import spatialdata

    for name, entry in store.snapshot.sections.items():
        data = spatialdata.read_zarr(real_atlas / entry.prefix)
        table = data.tables["table"]
        assert table.shape == (entry.n_obs, entry.n_vars), name
        system = "microns" if entry.um_per_unit is not None else "source_units"
        assert system in data.coordinate_systems, name


def pitch_of_array(path: Path, x: str, y: str, *, x_step: float, y_step: float) -> float:
    """Micrometers per pixel, from regressing pixels on the array coordinates of the spots."""
    import h5py

    with h5py.File(path) as file:
        pixels = file["obsm/spatial"][:]
        steps = [np.polyfit(file["obs"][c][:], pixels[:, i], 1)[0] for i, c in enumerate((x, y))]
    return float(np.mean([x_step / abs(steps[0]), y_step / abs(steps[1])]))


def test_units_are_those_of_the_spot_arrays(store: AtlasStore, real_data: Path) -> None:
    """The data page's figures for her2st come from nearest neighbors, which jitter shortens."""
    for name, entry in store.snapshot.sections.items():
        unit, wanted = entry.um_per_unit, None
        if name.startswith("her2st"):
            path = real_data / f"her2st/{name.removeprefix('her2st_')}.h5ad"
            wanted = pitch_of_array(path, "new_x", "new_y", x_step=200, y_step=200)
        elif name.startswith("dlpfc"):
            path = real_data / f"dlpfc/{name.removeprefix('dlpfc_')}.h5ad"
            rows = 100 * np.sqrt(3) / 2  # of a hexagonal lattice; columns count half a pitch
            wanted = pitch_of_array(path, "array_col", "array_row", x_step=50, y_step=rows)
        elif name.startswith("merfish"):
            wanted = 1.0
        elif name.startswith(("osmfish", "starmap", "seqfish", "iss")):
            assert unit is None, name
            continue
        assert unit is not None, name
        if wanted is not None:
            assert unit == pytest.approx(wanted, rel=0.01), name


def test_ingesting_the_sheet_again_writes_nothing(real_atlas: Path, real_data: Path) -> None:
    from tisseract.ingest import ingest

    before = open_store(real_atlas).version
    report = ingest(write_real_sheet(real_data, real_atlas.parent / "samples.csv"), real_atlas)
    assert len(report.skipped) == SECTIONS
    assert report.snapshot == before
