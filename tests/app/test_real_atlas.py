"""One atlas of real tissue through every verb, and its exports in the tools people use."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tisseract as ts

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    # anndata's, scanpy's and squidpy's own calls into pandas, dask and numba.
    pytest.mark.filterwarnings("ignore"),
]
SAMPLES = ("dlpfc_151673", "dlpfc_151674", "her2st_A1", "starmap_BZ5", "visium_mouse")


def run_cli(*words: str) -> Any:
    """Run a command as a user does and return its JSON."""
    code = "import sys; from tisseract.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, *words, "--json", "-q"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else None


@pytest.fixture(scope="module")
def atlas(real_atlas: Path, tmp_path_factory: pytest.TempPathFactory) -> ts.Atlas:
    """A copy that may be written to, with graphs and domains."""
    copy = tmp_path_factory.mktemp("tour") / "real.atlas"
    shutil.copytree(real_atlas, copy)
    opened = ts.open(copy, read_only=False)
    opened.build_graphs(n_neighs=6)
    opened.build_graphs("grid", key_added="grid", sections=["dlpfc_151673", "visium_mouse"])
    opened.find_domains(n_domains=7, sections=["dlpfc_151673", "dlpfc_151674"])
    return opened


def test_graphs_of_all_sections_are_committed(atlas: ts.Atlas) -> None:
    assert atlas.derived_keys("graph")["spatial"] == atlas.section_names


@pytest.mark.parametrize("key", ["spatial", "grid"])
def test_committed_graph_equals_squidpy(atlas: ts.Atlas, key: str) -> None:
    import squidpy as sq

    adata: Any = atlas.query(section="visium_mouse").to_anndata()
    if key == "grid":
        sq.gr.spatial_neighbors_grid(adata, n_neighs=6)
    else:
        sq.gr.spatial_neighbors_knn(adata, n_neighs=6)
    theirs = adata.obsp["spatial_connectivities"].tocsr()
    theirs.eliminate_zeros()
    ours: Any = atlas.graph("visium_mouse", key).to_squidpy().connectivities
    if key == "grid":
        assert (ours != theirs).nnz == 0
        return
    distances = atlas.graph("visium_mouse", key).to_csr().data.reshape(-1, 6)
    wanted = adata.obsp["spatial_distances"].tocsr().data.reshape(-1, 6)
    np.testing.assert_allclose(np.sort(distances), np.sort(wanted), rtol=1e-6)


def test_export_of_everything_through_the_command_line(atlas: ts.Atlas, tmp_path: Path) -> None:
    import anndata

    listed = run_cli("ls", atlas.url)
    assert len(listed) == len(atlas.section_names) == 44
    assert {"section", "n_obs", "n_vars", "technology", "timepoint"} <= set(listed[0])
    path = tmp_path / "all.h5ad"
    run_cli("query", atlas.url, "-o", str(path))
    whole: Any = anndata.read_h5ad(path)
    assert whole.n_obs == sum(row["n_obs"] for row in listed)
    counts = whole.obs["section"].value_counts()
    assert {row["section"]: row["n_obs"] for row in listed} == counts.to_dict()
    labeled = whole.obs["domain"].notna().groupby(whole.obs["section"], observed=True).sum()
    assert labeled["dlpfc_151673"] == counts["dlpfc_151673"]
    assert labeled["her2st_A1"] == 0


@pytest.mark.parametrize("name", SAMPLES)
def test_export_opens_in_scanpy_and_squidpy(atlas: ts.Atlas, name: str, tmp_path: Path) -> None:
    import anndata
    import scanpy as sc
    import squidpy as sq

    path = tmp_path / "one.h5ad"
    run_cli("export", atlas.url, "--section", name, "-o", str(path))
    adata: Any = anndata.read_h5ad(path)
    entry = atlas.snapshot.sections[name]
    assert adata.shape == (entry.n_obs, entry.n_vars)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=5)
    sq.gr.spatial_neighbors_knn(adata, n_neighs=6)
    sq.gr.spatial_autocorr(adata, genes=list(adata.var_names[:3]), mode="moran")
    assert np.isfinite(adata.obsm["X_pca"]).all()


def test_region_as_spatialdata_is_a_store_others_open(atlas: ts.Atlas, tmp_path: Path) -> None:
    import spatialdata

    name = "dlpfc_151673"
    xmin, ymin, xmax, ymax = atlas.snapshot.sections[name].bounds
    box = (xmin, ymin, (xmin + xmax) / 2, (ymin + ymax) / 2)
    selection = atlas.region(name, bbox=box)
    selection.to_spatialdata().write(tmp_path / "roi.zarr")
    read: Any = spatialdata.read_zarr(tmp_path / "roi.zarr")
    assert read.tables["table"].n_obs == selection.n_obs > 100
    assert "domain" in read.tables["table"].obs


def test_every_section_opens_in_scanpy_and_squidpy(real_atlas: Path, tmp_path: Path) -> None:
    import anndata
    import scanpy as sc
    import squidpy as sq

    from tisseract.query import export

    atlas = ts.open(real_atlas)
    for name in atlas.section_names:
        path = tmp_path / f"{name}.h5ad"
        export(atlas.query(section=name), path)
        adata: Any = anndata.read_h5ad(path)
        path.unlink()
        assert adata.n_obs == atlas.snapshot.sections[name].n_obs, name
        sc.pp.calculate_qc_metrics(adata, percent_top=None, inplace=True)
        sq.gr.spatial_neighbors_knn(adata, n_neighs=4)
        assert adata.obsp["spatial_connectivities"].shape == (adata.n_obs, adata.n_obs), name
