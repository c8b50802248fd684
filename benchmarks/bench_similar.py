"""Is retrieval useful on real tissue? Cells ranked against an example, windows found like a region.

Usage: python benchmarks/bench_similar.py [--data FOLDER] [--only her2st,dlpfc] [--output FILE]

her2st: "invasive cancer of A1" ranks the cells of B1, C1 and D1 (three other patients,
`undetermined` left out), scored by AUROC. Controls that know no model stand beside: total counts,
ERBB2 as counts and log-normalized, the distance from the section's center; and total counts as the
mean over the same surroundings, which shows how much of the gain is smoothing.

dlpfc: the cells of layer 5 of 151673 find windows in 151674 (same donor) and in 151510 (other
donor, 262 shared genes): share of the best 20 in which most labeled cells are of layer 5. Controls:
total counts alone (the windows nearest in mean log depth), the same place in the section, and
chance (share of layer 5 among all windows).
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

import tisseract as ts

UNLABELED = ("undetermined", "NA", "nan", "")
PITCH_UM = {"her2st": 200.0, "dlpfc": 100.0}
SECTIONS = {
    "her2st": ("A1", "B1", "C1", "D1"),
    "pair": ("151673", "151674"),
    "donors": ("151673", "151510"),
}
TOP = 20


def build(data: Path, folder: Path, tissue: str, sections: tuple[str, ...]) -> ts.Atlas:
    """Ingest real sections; micrometers from the pitch of the array."""
    import h5py
    from scipy.spatial import cKDTree

    sheet = folder / "samples.csv"
    with sheet.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["sample", "data_path", "format", "values", "um_per_unit", "split_by"])
        for section in sections:
            path = (data / tissue / f"{section}.h5ad").resolve()
            with h5py.File(path) as source:
                points = source["obsm/spatial"][:]
            pitch = np.median(cKDTree(points).query(points, 2)[0][:, 1])
            writer.writerow([section, path, "h5ad", "counts", PITCH_UM[tissue] / pitch, "none"])
    ts.ingest(sheet, folder / "atlas", n_workers=1)
    return ts.open(folder / "atlas", read_only=False)


def auroc(score: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    rank = rankdata(score)
    n = int(truth.sum())
    return float((rank[truth].sum() - n * (n + 1) / 2) / (n * (len(truth) - n)))


def labels(atlas: ts.Atlas, section: str, column: str) -> NDArray[np.str_]:
    found = atlas.section(section).obs(columns=[column], index=False)[column]
    return found.astype(str).to_numpy()


def surroundings(atlas: ts.Atlas, section: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over each cell and its 18 nearest: what `rank_cells` does to its features."""
    from scipy.spatial import cKDTree

    points = atlas.section(section).positions()
    return values[cKDTree(points).query(points, 19)[1]].mean(axis=1)


def controls(atlas: ts.Atlas, name: str) -> dict[str, NDArray[np.float64]]:
    """Scores of cells that know no model."""
    section = atlas.section(name)
    depth = section.depth()
    gene = section.gene_columns([section.panel.find("ERBB2")]).toarray().ravel()
    points = section.positions()
    center = np.linalg.norm(points - points.mean(axis=0), axis=1)
    return {
        "total counts": depth,
        "ERBB2, log-normalized": np.log1p(1e4 * gene / depth),
        "ERBB2, counts": gene,
        "coordinates: near the center": -center,
        "coordinates: far from the center": center,
        "total counts, mean of surroundings": surroundings(atlas, name, np.log1p(depth)),
        "ERBB2 counts, mean of surroundings": surroundings(atlas, name, np.log1p(gene)),
    }


def her2st(data: Path) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        atlas = build(data, Path(folder), "her2st", SECTIONS["her2st"])
        like = atlas.query("label == 'invasive cancer'", section="A1")
        targets = SECTIONS["her2st"][1:]
        scores: dict[str, dict[str, float]] = {}
        for target in targets:
            truth = labels(atlas, target, "label")
            counts = ~np.isin(truth, UNLABELED)
            wanted = truth[counts] == "invasive cancer"
            start = time.process_time()
            found = {"rank_cells": atlas.rank_cells(like, target)["score"].to_numpy()}
            seconds = time.process_time() - start
            found |= controls(atlas, target)
            for method, score in found.items():
                scores.setdefault(method, {})[target] = auroc(score[counts], wanted)
            yield f"her2st {target}: {counts.sum()} spots, rank_cells {seconds:.1f} CPU s"
        table = pd.DataFrame(scores).T
        table["macro"] = table.mean(axis=1)
        yield "her2st, invasive cancer of A1, AUROC"
        yield table.round(3).to_string()
        bar = max(table.loc[m, "macro"] for m in ("total counts", "ERBB2, log-normalized"))
        gain = table.loc["rank_cells", "macro"] - bar
        yield f"above the better of total counts and ERBB2: {gain:+.3f} (bar +0.05)"


def majority(atlas: ts.Atlas, section: str, boxes: pd.DataFrame) -> list[str]:
    """Most frequent label in each box."""
    truth = labels(atlas, section, "layer")
    points = atlas.section(section).positions()
    found = []
    for row in boxes.itertuples():
        x, y = points.T
        inside = (x >= row.xmin) & (x < row.xmax) & (y >= row.ymin) & (y < row.ymax)
        known = truth[inside & ~np.isin(truth, UNLABELED)]
        values, n = np.unique(known, return_counts=True)
        found.append(str(values[n.argmax()]) if len(values) else "")
    return found


def nearest_apart(
    atlas: ts.Atlas, section: str, key: str, value: Callable[[pd.DataFrame], NDArray[np.float64]]
) -> pd.DataFrame:
    """Choose the windows of lowest value, without overlap: a control in the place of `similar`."""
    from tisseract.query.retrieval.opened import open_index

    index = open_index(atlas, key)
    assert index is not None
    size = index.parameters.size(200.0, None)
    at = index.rows[section]
    rows = [(at.start[size], at.stop[size])]
    grid = index.segments[at.segment].read(f"w{size}.grid", rows).astype(np.int64)
    boxes = index.grid(section, size).boxes(grid)
    table = pd.DataFrame(boxes, columns=["xmin", "ymin", "xmax", "ymax"])
    chosen: list[int] = []
    for i in np.argsort(value(table), kind="stable"):
        if all(np.abs(grid[i] - grid[c]).max() >= 2 for c in chosen):
            chosen.append(int(i))
        if len(chosen) == TOP:
            break
    return table.iloc[chosen]


def mean_depth(atlas: ts.Atlas, section: str, boxes: pd.DataFrame) -> NDArray[np.float64]:
    depth = np.log1p(atlas.section(section).depth())
    depth -= depth.mean()
    points = atlas.section(section).positions()
    out = []
    for row in boxes.itertuples():
        x, y = points.T
        inside = (x >= row.xmin) & (x < row.xmax) & (y >= row.ymin) & (y < row.ymax)
        out.append(depth[inside].mean())
    return np.array(out)


def layer5(truth: NDArray[np.str_]) -> NDArray[np.bool_]:
    return np.asarray(truth == "L5")


def dlpfc(data: Path) -> Iterator[str]:
    for name, bar in (("pair", 0.8), ("donors", 0.6)):
        with tempfile.TemporaryDirectory() as folder:
            query, target = SECTIONS[name]
            atlas = build(data, Path(folder), "dlpfc", SECTIONS[name])
            start = time.process_time()
            atlas.build_index(window_um=(200, 300, 400))
            seconds = time.process_time() - start
            yield f"dlpfc {target}: index of two sections, {seconds:.1f} CPU s"
            yield from _retrieval(atlas, query, target, bar)


def _retrieval(atlas: ts.Atlas, query: str, target: str, bar: float) -> Iterator[str]:
    import shapely

    points = atlas.section(query).positions()
    mine = layer5(labels(atlas, query, "layer"))
    discs = shapely.unary_union([shapely.Point(p).buffer(60.0) for p in points[mine]])
    pieces = sorted(getattr(discs, "geoms", [discs]), key=lambda part: -part.area)
    example = {
        "polygon (all pieces)": atlas.region(query, polygon=discs),
        "polygon (largest piece)": atlas.region(query, polygon=pieces[0]),
    }
    options: list[dict[str, object]] = [
        {"window_um": 200.0},
        {"window_um": 300.0},
        {"window_um": 400.0},
        {"window_um": 200.0, "weights": {"spread": 0.25}},
        {"window_um": 200.0, "metric": "euclidean"},
    ]
    for words, like in example.items():
        for option in options if words.startswith("polygon (all") else options[:1]:
            hits = atlas.similar(like, k=TOP, where=f"section == '{target}'", **option)
            found = majority(atlas, target, hits.table)
            told = ", ".join(f"{k}={v}" for k, v in option.items())
            yield (
                f"  {words}, {told}: {np.mean([f == 'L5' for f in found]):.2f} of {len(found)}"
                + (f" (bar {bar})" if option == options[0] else "")
            )
    yield from _retrieval_controls(atlas, query, target, points[mine], mine)


def _retrieval_controls(
    atlas: ts.Atlas,
    query: str,
    target: str,
    example: NDArray[np.float64],
    mine: NDArray[np.bool_],
) -> Iterator[str]:
    depth = np.log1p(atlas.section(query).depth())
    asked = (depth - depth.mean())[mine].mean()
    shift = atlas.section(target).positions().mean(axis=0)
    shift -= atlas.section(query).positions().mean(axis=0)
    place = example.mean(axis=0) + shift

    def by_depth(boxes: pd.DataFrame) -> NDArray[np.float64]:
        return np.asarray(np.abs(mean_depth(atlas, target, boxes) - asked))

    def by_place(boxes: pd.DataFrame) -> NDArray[np.float64]:
        middle = boxes[["xmin", "ymin"]].to_numpy() + 100.0
        return np.asarray(np.linalg.norm(middle - place, axis=1))

    for name, value in (("total counts", by_depth), ("coordinates", by_place)):
        found = majority(atlas, target, nearest_apart(atlas, target, "similar", value))
        yield f"  control, {name}: {np.mean([f == 'L5' for f in found]):.2f}"
    truth = labels(atlas, target, "layer")
    known = truth[~np.isin(truth, UNLABELED)]
    yield f"  control, chance: {np.mean(layer5(known)):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", default="her2st,dlpfc")
    parser.add_argument("--output", type=Path, help="writes what is printed")
    args = parser.parse_args()
    lines = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ts.query.UnindexedWarning)
        for name in args.only.split(","):
            for line in {"her2st": her2st, "dlpfc": dlpfc}[name](args.data):
                print(line, flush=True)
                lines.append(line)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
