"""Labels and differences on real tissue: labels of four patients, layers of cortex."""

import csv
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely

import tisseract as ts
from tisseract.query.labels.boundary import domain_outlines

from ..real_sheet import real_rows

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    # spatialdata's and anndata's own calls into pandas.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
PATIENTS = ("her2st_A1", "her2st_B1", "her2st_C1", "her2st_D1")
GENES = ["ERBB2", "GRB7", "COL1A1", "CD74", "KRT19", "IGHG1", "FN1", "ACTB", "GAPDH", "B2M"]


@pytest.fixture(scope="module")
def atlas(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> ts.Atlas:
    folder = tmp_path_factory.mktemp("labels")
    rows = [r for r in real_rows(images=False) if r["sample"] in (*PATIENTS, "dlpfc_151673")]
    names = list(dict.fromkeys(name for row in rows for name in row))
    for row in rows:
        row["data_path"] = str(real_data / row["data_path"])
        if row["sample"] in PATIENTS:
            row["data_path"] = str(few_genes(real_data, row["sample"], folder))
    with (folder / "sheet.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    ts.ingest(folder / "sheet.csv", folder / "a.atlas", run_json=folder / "run.json")
    return ts.open(folder / "a.atlas", read_only=False)


def measured_genes(data: Path) -> list[str]:
    """Forty of the most frequent genes that every patient has, and those that are looked at.

    A fit of all 18,758 genes takes minutes.
    """
    totals = [read_patient(data, name).to_df().sum() for name in PATIENTS]
    everywhere = pd.concat(totals, axis=1).min(axis=1).sort_values(ascending=False)
    return [*GENES, *(gene for gene in everywhere.index[:40] if gene not in GENES)]


def read_patient(data: Path, name: str) -> Any:
    """The file of a patient."""
    import anndata as ad

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ad.read_h5ad(data / "her2st" / f"{name.removeprefix('her2st_')}.h5ad")


def few_genes(data: Path, name: str, folder: Path) -> Path:
    """Write a patient's spots with these genes alone."""
    path = folder / f"{name}.h5ad"
    read_patient(data, name)[:, measured_genes(data)].copy().write_h5ad(path)
    return path


def bulks(data: Path) -> pd.DataFrame:
    """Counts of invasive cancer and of the other labeled spots of each patient, from the files."""
    found: dict[tuple[str, str], Any] = {}
    genes = measured_genes(data)
    for name in PATIENTS:
        loaded = read_patient(data, name)
        frame = loaded.to_df()[genes]
        labels = loaded.obs["label"].astype(object)
        cancer = (labels == "invasive cancer").to_numpy()
        other = labels.notna().to_numpy() & ~cancer & (labels != "undetermined").to_numpy()
        found["one", name] = frame[cancer].sum()
        found["two", name] = frame[other].sum()
    return pd.DataFrame(found).T.astype(int).sort_index()


def test_cancer_against_the_rest_equals_pydeseq2(
    atlas: ts.Atlas, real_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pydeseq2.dds import DeseqDataSet
    from pydeseq2.ds import DeseqStats

    cells = atlas.query("label != 'undetermined'", GENES, section=list(PATIENTS))
    table = ts.tl.diff(cells, "label", "invasive cancer", missing="drop")
    assert table.attrs["design"] == "~ replicate + side"
    assert table.attrs["smallest_p"] == 2 / 2**4
    counts = bulks(real_data)
    metadata = pd.DataFrame(
        {"side": [side for side, _ in counts.index], "donor": [name for _, name in counts.index]},
        index=[f"b{k}" for k in range(8)],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = DeseqDataSet(
            counts=pd.DataFrame(np.ascontiguousarray(counts), metadata.index, counts.columns),
            metadata=metadata,
            design="~ donor + side",
            quiet=True,
            n_cpus=1,
        )
        data.deseq2()
        stats = DeseqStats(data, contrast=["side", "one", "two"], quiet=True, n_cpus=1)
        stats.summary()
    capsys.readouterr()
    found: Any = table.set_index("gene").loc[GENES]
    wanted = stats.results_df.loc[GENES]
    np.testing.assert_allclose(found["log2_fold"], wanted["log2FoldChange"], rtol=1e-4)
    np.testing.assert_allclose(found["p"], wanted["pvalue"], rtol=1e-3)
    assert found.loc["ERBB2", "log2_fold"] > 0.3
    assert found.loc["ERBB2", "stat"] > found.loc["CD74", "stat"]


def test_own_labels_of_real_spots(atlas: ts.Atlas, tmp_path: Path) -> None:
    layers = atlas.query(section="dlpfc_151673").to_obs(["layer"])
    depth = (
        layers["layer"].astype(object).map(lambda name: "deep" if name in ("L5", "L6") else "other")
    )
    depth.rename("depth").to_csv(tmp_path / "depth.csv")
    atlas.annotate(tmp_path / "depth.csv")
    chosen = atlas.query("depth == 'deep'")
    assert chosen.n_obs == layers["layer"].isin(["L5", "L6"]).sum()
    assert {s for s, _ in chosen.explain().pruned} == set(PATIENTS)


def test_outlines_of_layers(atlas: ts.Atlas) -> None:
    section = atlas.section("dlpfc_151673")
    layer = section.obs(columns=["layer"], index=False)["layer"].astype("category")
    codes = layer.cat.codes.to_numpy().astype(np.int16)
    names = list(layer.cat.categories)
    outlines = domain_outlines(section, codes, None, len(names), limit=2**30)
    points = section.positions()
    for code, outline in enumerate(outlines):
        assert outline.is_valid
        np.testing.assert_array_equal(shapely.contains_xy(outline, points), codes == code)
    total = sum(outline.area for outline in outlines)
    assert total == pytest.approx(shapely.union_all(outlines).area, rel=1e-6)
