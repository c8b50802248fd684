"""Agreement of domains with expert labels on real tissue, and with the truth on simulated tissue.

One setting for all tissues; labels give the number of domains and the score, nothing else. Cells
without a label take part in fitting and are not scored. Each model is fitted once a seed (those
that draw nothing once in all) and read out with and without refinement. `xy` is the control: the
same mixture on the coordinates of each section alone.

    python benchmarks/bench_domains.py --output benchmarks/results/domains
    python benchmarks/bench_domains.py --only dlpfc,starmap --method gnn --seeds 3 --auto
    python benchmarks/bench_domains.py --only dlpfc --method plain --method "plain flavor=seurat_v3"
    python benchmarks/bench_domains.py --only dlpfc --method "plain integrate=harmony"
"""

import argparse
import csv
import json
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from tisseract.atlas.derived_read import read_domains
from tisseract.atlas.store import AtlasStore, open_store
from tisseract.ingest import ingest
from tisseract.models import ari, nmi
from tisseract.models.baseline import DomainBaseline, ExpressionBaseline
from tisseract.models.domains.labeling import Tables, choose, cluster, refined
from tisseract.models.rows.file import RowFile
from tisseract.models.sampling.graph_source import GraphSource
from tisseract.simulator import SimulationPlan, simulate

UNLABELED = ("NA", "nan", "None", "", "undetermined")
COLUMNS = ("tissue", "method", "n_domains", "readout", "of")


@dataclass(frozen=True)
class Tissue:
    """Sections that are labeled together; `donors` where several are of one."""

    files: dict[str, str]
    label: str
    n_domains: int
    values: str = "counts"
    donors: dict[str, str] = field(default_factory=dict)


# n_domains is the number of expert labels: the one thing that a fit takes from them
TISSUES = {
    "dlpfc": Tissue(
        {i: f"dlpfc/{i}.h5ad" for i in ("151673", "151674")},
        "layer",
        7,
        donors={"151673": "Br8100", "151674": "Br8100"},
    ),
    "dlpfc_151510": Tissue({"151510": "dlpfc/151510.h5ad"}, "layer", 7),
    "osmfish": Tissue({"osmfish": "osmfish/osmfish.h5ad"}, "Region", 11, "normalized"),
    "starmap": Tissue({"mpfc1": "starmap_mpfc/*", "mpfc2": "starmap_mpfc/*"}, "z", 4),
    "her2st": Tissue({i: f"her2st/{i}.h5ad" for i in ("A1", "B1", "C1", "D1")}, "label", 6),
}


@dataclass(frozen=True)
class Score:
    """How well the labels of one section agree with the truth."""

    tissue: str
    method: str
    n_domains: str
    readout: str
    seed: int
    section: str
    donor: str
    ari: float
    nmi: float
    found: int


@dataclass(frozen=True)
class Case:
    """A tissue as an atlas, with its truth."""

    name: str
    store: AtlasStore
    label: str
    n_domains: int
    donors: dict[str, str]

    def truth(self, section: str) -> tuple[np.ndarray, np.ndarray]:
        """Labels of the cells, and which of them count."""
        column = self.store.section(section).obs(columns=[self.label], index=False)[self.label]
        labels = column.astype(str)
        return labels.to_numpy(), ~labels.isin(UNLABELED).to_numpy()


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
        for i, (section, pattern) in enumerate(tissue.files.items()):
            files = sorted(data.glob(pattern))  # a star stands for one file a section, in order
            path = files[i if "*" in pattern else 0]
            writer.writerow([section, path.resolve(), "h5ad", tissue.values, "unknown", "none"])
    ingest(sheet, folder / "atlas", n_workers=1)
    return open_store(folder / "atlas", read_only=False), tissue.label, tissue.n_domains


def score(store: AtlasStore, key: str, column: str) -> dict[str, tuple[float, float]]:
    """ARI and NMI of committed labels, by section."""
    case = Case("", store, column, 0, {})
    codes = {name: read_domains(store, key, name).codes for name in store.section_names}
    return {s.section: (s.ari, s.nmi) for s in scores(case, "", "", "", 0, codes)}


def coordinates(case: Case, folder: Path) -> Tables:
    """Standardized positions of every section, as a table of features."""
    tables = {}
    for name in case.store.section_names:
        xy = case.store.section(name).positions()
        table = RowFile(folder / f"xy-{name}", len(xy), 2)
        table.write(0, (xy - xy.mean(axis=0)) / xy.std(axis=0))
        tables[name] = (table, {})
    return tables


@contextmanager
def features(case: Case, method: str, seed: int, options: dict) -> Iterator[Tables]:
    """Fit a model and embed all sections."""
    if method == "xy":
        with tempfile.TemporaryDirectory() as folder:
            tables = coordinates(case, Path(folder))
            yield tables
            for table, _ in tables.values():
                table.close()
        return
    if method == "gnn":
        from tisseract.models.network.gnn import DomainGNN as Model
    else:
        Model = DomainBaseline if method == "plain" else ExpressionBaseline
    model = Model(case.store, seed=seed, **options).fit()
    with model.embedded() as tables:
        yield tables


def readouts(
    case: Case, tables: Tables, seed: int, *, n_domains: int, apart: bool
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Labels of one mixture, or one a section, as they are and after the vote of neighbors."""
    groups = [{name: table} for name, table in tables.items()] if apart else [tables]
    raw = {}
    for group in groups:
        raw |= cluster(group, {}, n_domains, "tied", seed)[1]
    yield "raw", {name: labels.codes for name, labels in raw.items()}
    graph = GraphSource()
    voted = refined(lambda name: graph.open(case.store, name).graph, raw, n_domains)
    yield "refined", {name: labels.codes for name, labels in voted.items()}


def measure(
    case: Case, lane: str, seeds: Sequence[int], auto: bool, keep: Callable[[Score], None]
) -> float:
    """Score every readout of a method; return the CPU seconds of a seed."""
    method, *words = lane.split()
    options = {key: _value(text) for key, _, text in (word.partition("=") for word in words)}
    start = time.process_time()
    fits = [(s, [s]) for s in seeds] if method == "gnn" else [(0, list(seeds))]
    for fit_seed, mixture_seeds in fits:
        with features(case, method, fit_seed, options) as tables:
            for seed in mixture_seeds:
                numbers = {"true": case.n_domains}
                if auto:
                    numbers["auto"] = choose(tables, {}, "tied", seed, None).n_domains
                for kind, number in numbers.items():
                    for readout, codes in readouts(
                        case, tables, seed, n_domains=number, apart=method == "xy"
                    ):
                        for score in scores(case, lane, kind, readout, seed, codes):
                            keep(score)
    return (time.process_time() - start) / len(seeds)


def scores(
    case: Case, lane: str, kind: str, readout: str, seed: int, codes: dict[str, np.ndarray]
) -> Iterator[Score]:
    found = len(np.unique(np.concatenate(list(codes.values()))))
    for section, labels in codes.items():
        truth, counts = case.truth(section)
        left, right = truth[counts], labels[counts]
        donor = case.donors.get(section, section)
        agreement = round(ari(left, right), 4), round(nmi(left, right), 4)
        yield Score(case.name, lane, kind, readout, seed, section, donor, *agreement, found)


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def table(found: Sequence[Score]) -> Iterator[str]:
    """Mean and standard deviation over seeds: per section, per donor, over all sections."""
    groups: dict[tuple[str, ...], dict[int, list[Score]]] = {}
    for whole in ("section", "donor", "all"):
        for score in found:
            name = {"section": score.section, "donor": score.donor, "all": "all sections"}[whole]
            if whole == "donor" and score.donor == score.section:
                continue
            of = f"donor {name}" if whole == "donor" else name
            key = (score.tissue, score.method, score.n_domains, score.readout, of)
            groups.setdefault(key, {}).setdefault(score.seed, []).append(score)
    order = list(dict.fromkeys(key[:4] for key in groups))
    widths = [max(len(w), *(len(key[i]) for key in groups)) for i, w in enumerate(COLUMNS)]
    yield (
        "  ".join(w.ljust(n) for w, n in zip(COLUMNS, widths, strict=True))
        + "  ARI  sd    NMI  sd    domains"
    )
    for key, by_seed in sorted(groups.items(), key=lambda item: order.index(item[0][:4])):
        each = [
            (np.mean([s.ari for s in part]), np.mean([s.nmi for s in part]), part[0].found)
            for part in by_seed.values()
        ]
        mean, sd = np.mean(each, axis=0), np.std(each, axis=0)
        cells = "  ".join(w.ljust(n) for w, n in zip(key, widths, strict=True))
        domains = ",".join(str(n) for n in sorted({n for *_, n in each}))
        yield f"{cells}  {mean[0]:.3f} {sd[0]:.3f}  {mean[1]:.3f} {sd[1]:.3f}  {domains}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", default=",".join([*TISSUES, "sim0", "sim2"]))
    parser.add_argument(
        "--method", action="append", metavar="NAME [OPTION=VALUE ...]", help="xy always runs"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--auto", action="store_true", help="also with the number found")
    parser.add_argument("--output", type=Path, help="writes OUTPUT.jsonl and OUTPUT.txt")
    args = parser.parse_args()
    lanes = ["xy", *(args.method or ["expression", "plain", "gnn"])]
    head = f"{platform.processor() or platform.machine()}, python {platform.python_version()}"
    print(head, flush=True)
    found: list[Score] = []
    lines: list[str] = []
    for name in args.only.split(","):
        with tempfile.TemporaryDirectory() as folder:
            donors = TISSUES[name].donors if name in TISSUES else {}
            case = Case(name, *build(name, args.data, Path(folder)), donors)
            fresh: list[Score] = []
            for lane in dict.fromkeys(lanes):
                seconds = measure(case, lane, range(args.seeds), args.auto, fresh.append)
                lines.append(f"{name} {lane}: {seconds:.1f} CPU seconds a seed")
            print("\n".join(table(fresh)), flush=True)
            found += fresh
    print("\n".join(lines))
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        rows = "".join(json.dumps(asdict(score)) + "\n" for score in found)
        args.output.with_suffix(".jsonl").write_text(rows, encoding="utf-8")
        text = "\n".join([head, *table(found), *lines]) + "\n"
        args.output.with_suffix(".txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
