"""How batches mix, and how well sections and patients that took no part are embedded.

Labels score, nothing is tuned on them. Three parts, every line of the output one JSON object:

demo    simulated tissue, two runs of the instrument: mixing of runs and ARI with the truth.
her2st  24 sections of 4 patients: mixing of patients in tissue that patients share, agreement of
        siblings; then each patient is left out, embedded by the saved model, and told by the
        labels of the other three, against the same with a model that was fitted on all.
dlpfc   the same with one section of two left out.

Labels of unseen tissue are told in two ways, the same for both models and from the labels of the
other patients alone: by a linear classifier on the embedding, with balanced classes (`probe`), and
by the most frequent label of each domain (`domains`; the mixture is fitted without the tissue, or
with it). `ari` compares the domains themselves. Labels that the others lack are not scored.

    python benchmarks/bench_integration.py --data ../shared/data --output FILE.jsonl
    python benchmarks/bench_integration.py --only her2st --methods gnn --option steps=100
"""

import argparse
import csv
import json
import platform
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from integration_parts import (
    Arrays,
    agreement,
    arrays,
    labels_of,
    mixing,
    model_of,
    readout_of,
    score_told,
    siblings,
    told,
    truths,
)

from tisseract.atlas.store import AtlasStore, open_store
from tisseract.ingest import ingest
from tisseract.models import ari, batch_asw
from tisseract.simulator import SimulationPlan, simulate

PATIENTS = "ABCD"
TISSUES = ("connective tissue", "adipose tissue", "invasive cancer")  # the last one should not mix

type Say = Callable[..., None]


def demo(args: argparse.Namespace, folder: Path, say: Say) -> None:
    for seed in range(args.seeds):
        place = folder / f"demo-{seed}-{args.demo_cells}"
        if not place.exists():
            raw = simulate(
                SimulationPlan(seed=seed, n_cells=args.demo_cells), place.with_suffix(".raw")
            )
            ingest(raw.sheet, place, n_workers=1)
        store = open_store(place, read_only=False)
        truth, batch_of = truths(store, "true_domain"), store.sections["batch"].to_dict()
        for method in args.methods.split(","):
            start = time.process_time()
            model = model_of(method, store, "batch", args.options)(seed=seed).fit()
            for cells in (False, True) if method in ("uncorrected", "plain") else (False,):
                x = arrays(model, store.section_names, cells=cells)
                whole, domain = (
                    np.concatenate(list(x.values())),
                    np.concatenate(list(truth.values())),
                )
                batch = np.repeat([batch_of[n] for n in x], [len(v) for v in x.values()])
                found = labels_of(model, readout_of(x, 8), x)
                name = method + (" (cells alone)" if cells else "")
                say(
                    method=name,
                    seed=seed,
                    **mixing(whole, batch, 90),
                    batch_asw=batch_asw(whole, batch, domain, sample=300).asw,
                    ari=agreement(truth, found, x),
                    ari_of_all=ari(domain, np.concatenate([found[n] for n in x])),
                    cpu_s=time.process_time() - start,
                )


def unseen(
    make: Callable[..., Any],
    model: Any,
    whole: Arrays,
    truth: Arrays,
    k: int,
    folds: Mapping[str, list[str]],
    say: Say,
) -> None:
    """Leave each fold out; compare with `model`, which was fitted on all, and its embedding."""
    known = labels_of(model, readout_of(whole, k), whole)
    pairs: dict[str, list[Any]] = {"transductive": [], "inductive": []}
    aris: dict[str, list[float]] = {"transductive": [], "inductive": []}
    for fold, gone in folds.items():
        train = [n for n in whole if n not in gone]
        fitted, run = make(sections=train).fit(), f"without-{uuid.uuid4().hex[:8]}"
        fitted.save(run)
        loaded = type(fitted).load(model.store, run)
        x = arrays(loaded, whole)
        found = labels_of(loaded, readout_of({n: x[n] for n in train}, k), x)
        held, others = [n for n in gone if n in truth], [n for n in train if n in truth]
        for how, rows, labels in (("transductive", whole, known), ("inductive", x, found)):
            pairs[how].append(told(rows, labels, truth, others, held))
            aris[how].append(agreement(truth, labels, held))
            say(fold=fold, how=how, ari=aris[how][-1], **score_told(pairs[how][-1:]))
        both = float(np.mean([ari(known[n], found[n]) for n in gone]))
        say(fold=fold, how="domains of both", ari=both)
    total = {
        how: {"ari": float(np.mean(aris[how])), **score_told(each)} for how, each in pairs.items()
    }
    ratio = {what: v / total["transductive"][what] for what, v in total["inductive"].items()}
    for how, values in (*total.items(), ("inductive / transductive", ratio)):
        say(fold="all", how=how, **values)


def build(folder: Path, files: Mapping[str, Path]) -> AtlasStore:
    """Write the sections into an atlas, unless it is there; the donor is the first letter."""
    if not (folder / "atlas").exists():
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "samples.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(
                ["sample", "data_path", "format", "values", "um_per_unit", "split_by", "donor"]
            )
            for name, path in files.items():
                writer.writerow(
                    [name, path.resolve(), "h5ad", "counts", "unknown", "none", name[0]]
                )
        ingest(folder / "samples.csv", folder / "atlas", n_workers=1)
    return open_store(folder / "atlas", read_only=False)


def her2st(args: argparse.Namespace, folder: Path, say: Say) -> None:
    """Mixing of patients, agreement of siblings, patients left out."""
    names = [f"{patient}{i}" for patient in PATIENTS for i in range(1, 7)]
    store = build(folder / "her2st", {n: args.data / "her2st" / f"{n}.h5ad" for n in names})
    truth, k = truths(store, "label"), 6
    for method in args.methods.split(","):
        make = partial(model_of(method, store, "donor", args.options), seed=0)
        model = make().fit()
        x = arrays(model, names)
        found = labels_of(model, readout_of(x, k), x)
        whole = np.concatenate([x[n] for n in truth])
        expert = np.concatenate(list(truth.values()))
        patient = np.repeat([n[0] for n in truth], [len(x[n]) for n in truth])
        mixed = {t: mixing(whole[expert == t], patient[expert == t], 30) for t in TISSUES}
        say(
            method=method,
            **{f"{what} {t}": v for t, scores in mixed.items() for what, v in scores.items()},
            **siblings(model, found, k),
            ari=agreement(truth, found, truth),
        )
        if not args.no_folds and method != "uncorrected":
            folds = {p: [n for n in names if n[0] == p] for p in PATIENTS}
            unseen(make, model, x, truth, k, folds, partial(say, method=method))


def dlpfc(args: argparse.Namespace, folder: Path, say: Say) -> None:
    """One section of two left out."""
    names = ["151673", "151674"]
    store = build(folder / "dlpfc", {n: args.data / "dlpfc" / f"{n}.h5ad" for n in names})
    truth = truths(store, "layer")
    for method in args.methods.split(","):
        if method not in ("uncorrected", "harmony"):  # one section has nothing to be mixed with
            make = partial(model_of(method, store, "section", args.options), seed=0)
            model = make().fit()
            folds = {"151674": ["151674"]}
            unseen(make, model, arrays(model, names), truth, 7, folds, partial(say, method=method))


PARTS = {"demo": demo, "her2st": her2st, "dlpfc": dlpfc}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--methods", default="uncorrected,plain,harmony,gnn")
    parser.add_argument("--seeds", type=int, default=3, help="simulated tissues")
    parser.add_argument("--demo-cells", type=int, default=36_000)
    parser.add_argument("--no-folds", action="store_true", help="leave no patient out")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--atlases", type=Path, help="keep the atlases here for another run")
    parser.add_argument("--output", type=Path, help="append the lines to this file")
    args = parser.parse_args()
    args.options = {n: json.loads(v) for n, _, v in (o.partition("=") for o in args.option)}

    def say(**facts: Any) -> None:
        told = {n: round(float(v), 4) if isinstance(v, float) else v for n, v in facts.items()}
        print("  ".join(f"{n} {v}" for n, v in told.items()), flush=True)
        if args.output:
            with args.output.open("a", encoding="utf-8") as file:
                file.write(json.dumps(told) + "\n")

    say(python=platform.python_version(), machine=platform.machine(), options=args.options)
    with tempfile.TemporaryDirectory() as folder:
        for part in args.only.split(","):
            PARTS[part](args, args.atlases or Path(folder), partial(say, part=part))


if __name__ == "__main__":
    main()
