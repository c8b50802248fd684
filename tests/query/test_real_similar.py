"""Retrieval on real tissue: a layer found in another donor, cancer ranked in other patients."""

from __future__ import annotations

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import rankdata

import tisseract as ts

pytestmark = [pytest.mark.real, pytest.mark.slow]


def build(folder: Path, paths: list[Path], pitch_um: float) -> ts.Atlas:
    sheet = folder / "samples.csv"
    with sheet.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["sample", "data_path", "format", "values", "um_per_unit", "split_by"])
        for path in paths:
            with h5py.File(path) as source:
                points = source["obsm/spatial"][:]
            unit = pitch_um / np.median(cKDTree(points).query(points, 2)[0][:, 1])
            writer.writerow([path.stem, path.resolve(), "h5ad", "counts", unit, "none"])
    ts.ingest(sheet, folder / "atlas", n_workers=1)
    return ts.open(folder / "atlas", read_only=False)


def labels(atlas: ts.Atlas, section: str, column: str) -> NDArray[np.str_]:
    found = atlas.section(section).obs(columns=[column], index=False)[column]
    return np.asarray(found.astype(str), np.str_)


def auroc(score: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    rank, n = rankdata(score), int(truth.sum())
    return float((rank[truth].sum() - n * (n + 1) / 2) / (n * (len(truth) - n)))


def test_layer_5_is_found_in_another_donor(real_data: Path, tmp_path: Path) -> None:
    names = ("151673", "151510")
    atlas = build(tmp_path, [real_data / "dlpfc" / f"{n}.h5ad" for n in names], 100.0)
    atlas.build_index(window_um=200)
    mine = labels(atlas, "151673", "layer") == "L5"
    points = atlas.section("151673").positions()[mine]
    polygon = shapely.unary_union([shapely.Point(p).buffer(60.0) for p in points])
    like = atlas.region("151673", polygon=polygon)
    hits = atlas.similar(like, k=20, where="section == '151510'")
    layers = []
    for rank in hits.table.index:
        found = hits.region(int(rank)).to_obs(["layer"])["layer"].astype(str)
        layers.append(found[found != "NA"].value_counts().index[0])
    assert len(layers) == 20
    assert np.mean([layer == "L5" for layer in layers]) >= 0.6


def test_cancer_of_one_patient_ranks_the_cells_of_others(real_data: Path, tmp_path: Path) -> None:
    names = ("A1", "B1", "C1", "D1")
    atlas = build(tmp_path, [real_data / "her2st" / f"{n}.h5ad" for n in names], 200.0)
    like = atlas.query("label == 'invasive cancer'", section="A1")
    found, control = [], []
    for name in names[1:]:
        truth = labels(atlas, name, "label")
        known = truth != "undetermined"
        cancer = truth[known] == "invasive cancer"
        score = atlas.rank_cells(like, name)["score"].to_numpy()
        found.append(auroc(score[known], cancer))
        control.append(auroc(atlas.section(name).depth()[known], cancer))
    assert np.mean(found) >= np.mean(control) + 0.05
