"""Genes of real tissue: squidpy's Moran's I, scanpy's means, and where a marker is known to be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

import tisseract as ts

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def moran_of_squidpy(adata: Any, radius: float) -> Any:
    import squidpy as sq

    sq.gr.spatial_neighbors_radius(adata, radius=radius)
    sq.gr.spatial_autocorr(adata, mode="moran", n_perms=None)
    return adata.uns["moranI"]["I"]


@pytest.mark.parametrize(
    ("section", "radius", "n_genes"),
    [("dlpfc_151673", 120.0, 300), ("merfish", 30.0, 135), ("iss", 60.0, 40)],
)
def test_ranks_of_spatial_genes_agree_with_squidpy(
    real_atlas: Path, section: str, radius: float, n_genes: int
) -> None:
    atlas = ts.open(real_atlas)
    name = next(s for s in atlas.section_names if s.startswith(section))
    genes = atlas.section(name).panel.name[:n_genes].tolist()
    ranked = ts.tl.spatially_variable(atlas, genes, sections=name, method="moran", radius=radius)
    adata = atlas.query(section=name, genes=genes).to_anndata()
    wanted = moran_of_squidpy(adata, radius)
    got = ranked.set_index("gene")["I"].dropna()
    both = got.index.intersection(wanted.dropna().index)
    assert len(both) > 0.9 * min(n_genes, len(genes))
    assert spearmanr(got[both], wanted[both]).statistic >= 0.99
    np.testing.assert_allclose(got[both], wanted[both], rtol=1e-4, atol=1e-6)


def test_myelin_lies_in_white_matter_and_is_spatial(real_atlas: Path) -> None:
    atlas = ts.open(real_atlas)
    view = atlas.gene("ENSG00000197971", sections=["dlpfc_151673", "dlpfc_151674"])
    table = view.where("layer").set_index("layer")
    adata = atlas.query(section=list(view.sections), genes=["ENSG00000197971"]).to_anndata()
    wanted = adata.to_df().iloc[:, 0].groupby(adata.obs["layer"].astype(str).to_numpy()).mean()
    np.testing.assert_allclose(table["mean_counts"], wanted[table.index.astype(str)], rtol=1e-6)
    assert table["mean_log1p"].idxmax() == "WM"
    assert (view.variability()["pval_sparkx"] < 1e-50).all()
    assert {"PLP1", "MOBP", "CNP", "GFAP", "CRYAB"} & set(
        _symbols(view.colocalized(20, radius=120.0))
    )


def _symbols(table: Any) -> list[str]:
    known: dict[str, str] = {
        "ENSG00000123560": "PLP1",
        "ENSG00000168314": "MOBP",
        "ENSG00000173786": "CNP",
    }
    known |= {"ENSG00000131095": "GFAP", "ENSG00000109846": "CRYAB"}
    return [known.get(str(gene), str(gene)) for gene in table["gene_id"]]
