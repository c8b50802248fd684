"""Agreement of domains with expert labels on real tissue, and with the truth on simulated tissue.

Labels are used for scoring alone: one setting for all tissues, nothing is tuned per section.
Cells without a label take part in fitting and are not scored.

    python benchmarks/bench_domains.py --data ../shared/data
    python benchmarks/bench_domains.py --only dlpfc,starmap --methods gnn --seeds 3
    python benchmarks/bench_domains.py --only sim --sim-seeds 5 --option reconstruction=0.1
"""

import argparse
import csv
import json
import platform
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tisseract.atlas.derived_read import read_domains
from tisseract.atlas.store import AtlasStore, open_store
from tisseract.ingest import ingest
from tisseract.models import ari, find_domains, nmi
from tisseract.simulator import SimulationPlan, simulate

UNLABELED = ("NA", "nan", "None", "", "undetermined")


@dataclass(frozen=True)
class Tissue:
    """Sections that are labeled together."""

    files: dict[str, str]
    label: str
    n_domains: int
    values: str = "counts"


# n_domains is the number of expert labels: the one thing that scoring takes from them
TISSUES = {
    "dlpfc": Tissue({i: f"dlpfc/{i}.h5ad" for i in ("151673", "151674")}, "layer", 7),
    "dlpfc_151510": Tissue({"151510": "dlpfc/151510.h5ad"}, "layer", 7),
    "osmfish": Tissue({"osmfish": "osmfish/osmfish.h5ad"}, "Region", 11, "normalized"),
    "starmap": Tissue({"mpfc1": "starmap_mpfc/*0.h5ad", "mpfc2": "starmap_mpfc/*1.h5ad"}, "z", 4),
    "her2st": Tissue({i: f"her2st/{i}.h5ad" for i in ("A1", "B1", "C1", "D1")}, "label", 6),
}


def build(name: str, data: Path, folder: Path) -> tuple[AtlasStore, str, int]:
    """Write the tissue into an atlas; return it with the column of labels and their number."""
    if name.startswith("sim"):
        result = simulate(SimulationPlan(seed=int(name[3:])), folder / "raw")
        ingest(result.sheet, folder / "atlas", n_workers=1)
        return open_store(folder / "atlas", read_only=False), "true_domain", 8
    tissue = TISSUES[name]
    sheet = folder / "samples.csv"
    with sheet.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["sample", "data_path", "format", "values", "um_per_unit", "split_by"])
        for section, pattern in tissue.files.items():
            files = sorted(data.glob(pattern))
            path = (
                files[0]
                if files
                else sorted(data.glob("starmap_mpfc/*.h5ad"))[list(tissue.files).index(section)]
            )
            writer.writerow([section, path.resolve(), "h5ad", tissue.values, "unknown", "none"])
    ingest(sheet, folder / "atlas", n_workers=1)
    return open_store(folder / "atlas", read_only=False), tissue.label, tissue.n_domains


def score(store: AtlasStore, key: str, column: str) -> dict[str, tuple[float, float]]:
    """ARI and NMI of each section over its labeled cells."""
    found = {}
    for name in store.section_names:
        truth = store.section(name).obs(columns=[column], index=False)[column].astype(str)
        labels = read_domains(store, key, name).names
        scored = ~truth.isin(UNLABELED).to_numpy()
        left, right = truth.to_numpy()[scored], labels[scored]
        found[name] = (ari(left, right), nmi(left, right))
    return found


def measure(
    store: AtlasStore, column: str, k: int, method: str, seed: int, refine: bool, options: dict
) -> dict[str, object]:
    key = f"{method}_{seed}_{int(refine)}"
    start = time.perf_counter()
    more = options if method == "gnn" else {}
    find_domains(store, method, n_domains=k, key_added=key, seed=seed, refine=refine, **more)
    seconds = time.perf_counter() - start
    sections = score(store, key, column)
    values = np.array(list(sections.values()))
    return {
        "method": method + ("+refine" if refine else ""),
        "seed": seed,
        "ari": round(float(values[:, 0].mean()), 4),
        "nmi": round(float(values[:, 1].mean()), 4),
        "seconds": round(seconds, 1),
        "sections": {name: [round(v, 3) for v in pair] for name, pair in sections.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", default=",".join([*TISSUES, "sim"]))
    parser.add_argument("--methods", default="expression,plain,gnn")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--sim-seeds", type=int, default=1)
    parser.add_argument("--refine", action="store_true", help="also with refined labels")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE")
    args = parser.parse_args()
    options = {k: json.loads(v) for k, _, v in (o.partition("=") for o in args.option)}
    names = []
    for name in args.only.split(","):
        names += [f"sim{s}" for s in range(args.sim_seeds)] if name == "sim" else [name]
    print(f"{platform.processor() or platform.machine()}, {platform.python_version()}, {options}")
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            store, column, k = build(name, args.data, Path(folder))
            for method in args.methods.split(","):
                for seed in range(args.seeds):
                    for refine in (False, True) if args.refine else (False,):
                        found = measure(store, column, k, method, seed, refine, options)
                        print(json.dumps({"tissue": name, **found}), flush=True)


if __name__ == "__main__":
    main()
