"""Features, embedding, training and domains of many cells: time, peak memory, bytes read.

Usage: python benchmarks/bench_scale.py [--cells 10000000] [--sections 10] [--k 6] [--folder DIR]
Bars: features, one training epoch and the full embedding of 10 M simulated cells under 2 GiB peak
above what the imports take; hours reported. 300 genes, about 60 non-zeros a cell, planted domains.
Every figure comes from a fresh process: seconds by its own clock after imports, peak as the growth
of the resident set over what imports took (those that wait for their first use among them), bytes
read as the kernel counts them (reads answered by
its page cache included). With --folder the atlas is kept and used again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

KEY, LIMIT = "spatial", "2 GiB"
N_DOMAINS = 8
LATE_IMPORTS = ("numba", "pandas", "pyarrow.parquet", "scipy.linalg", "scipy.sparse", "zarr")
MIB, GIB = 2**20, 2**30


def status_bytes(field: str) -> int:
    """Read a line of this process's status, such as VmRSS or VmHWM, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def read_bytes() -> int:
    """Bytes that this process has read by system calls."""
    line = Path("/proc/self/io").read_text(encoding="ascii").splitlines()[0]
    return int(line.split()[1])


class Meter:
    """Seconds, CPU seconds, bytes read and growth of the peak since it was made."""

    def __init__(self) -> None:
        for module in LATE_IMPORTS:
            import_module(module)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts here
        self._resident, self._read = status_bytes("VmRSS"), read_bytes()
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        self.marks: dict[str, float] = {}

    def progress(self, stage: str, done: int, total: int) -> None:
        """Note when a stage was last heard of."""
        self.marks[stage] = round(time.perf_counter() - self._wall, 2)

    def read(self) -> dict[str, Any]:
        """Return what has been used so far."""
        return {
            "seconds": time.perf_counter() - self._wall,
            "cpu": time.process_time() - self._cpu,
            "peak": status_bytes("VmHWM") - self._resident,
            "read": read_bytes() - self._read,
            "stages": self.marks,
        }


def section_names(options: argparse.Namespace) -> list[str]:
    return [f"S{i:02d}" for i in range(options.sections)]


def prepare(options: argparse.Namespace) -> None:
    """Write the sections that are not there yet, one process each."""
    writer, cells = Path(__file__).with_name("tissue_atlas.py"), options.cells // options.sections
    for number, name in enumerate(section_names(options)):
        about = [str(options.folder), str(cells), str(options.genes), name, str(number)]
        subprocess.run([sys.executable, str(writer), *about], check=True)


def opened(options: argparse.Namespace, *, read_only: bool = True) -> Any:
    from tisseract.atlas.store import open_store

    return open_store(options.folder / "atlas", read_only=read_only)


def source(options: argparse.Namespace) -> Any:
    from tisseract.models import GraphSource

    return GraphSource(None if options.lazy else KEY, options.k)


def run_graph(options: argparse.Namespace) -> dict[str, Any]:
    """Build the stored graph."""
    from tisseract.atlas.graph import build_graphs

    store = opened(options, read_only=False)
    meter = Meter()
    build_graphs(store, key_added=KEY, n_neighs=options.k, memory_limit=options.limit)
    return meter.read()


def run_features(options: argparse.Namespace) -> dict[str, Any]:
    """Choose genes and find principal components."""
    from tisseract.models import ExpressionBaseline

    store = opened(options)
    meter = Meter()
    model = ExpressionBaseline(store, sections=section_names(options), memory_limit=options.limit)
    model.fit(progress=meter.progress)
    return meter.read()


def run_scores(options: argparse.Namespace) -> dict[str, Any]:
    """Project every cell."""
    from tisseract.models import ExpressionBaseline

    store = opened(options)
    model = ExpressionBaseline(
        store, sections=section_names(options)[:1], memory_limit=options.limit
    ).fit()
    model.section_names = section_names(options)
    meter = Meter()
    with model.embedded(progress=meter.progress):
        return meter.read()


def run_plain(options: argparse.Namespace) -> dict[str, Any]:
    """Fit the plain model, save it, embed and commit every section."""
    from tisseract.models import DomainBaseline

    store = opened(options, read_only=False)
    meter = Meter()
    model = DomainBaseline(
        store,
        sections=section_names(options),
        graph=source(options),
        memory_limit=options.limit,
    )
    planned = plan_of(model)
    model.fit(progress=meter.progress)
    model.embed("plain", progress=meter.progress)
    return {**meter.read(), "planned": planned}


def run_domains(options: argparse.Namespace) -> dict[str, Any]:
    """Embed by the saved plain model, fit one mixture, commit labels."""
    import numpy as np

    from tisseract.models import ari, find_domains

    store = opened(options, read_only=False)
    names = section_names(options)
    run = store.derived("embedding", "plain", names[0]).run
    meter = Meter()
    find_domains(
        store,
        "plain",
        n_domains=N_DOMAINS,
        sections=names,
        run=run,
        memory_limit=options.limit,
        progress=meter.progress,
    )
    used = meter.read()
    store = opened(options)
    found = []
    for name in names:
        truth = store.section(name).obs(columns=["domain"], index=False)["domain"]
        codes = store.derived_group("domains", "domain", name)["codes"][:]
        found.append(ari(truth.to_numpy().astype(np.int64), codes))
    return {**used, "ari": float(np.mean(found))}


def run_gnn(options: argparse.Namespace) -> dict[str, Any]:
    """Train the network for one epoch; save it."""
    from tisseract.models import DomainGNN

    store = opened(options, read_only=False)
    meter = Meter()
    steps = max(1, options.cells // 4096)
    model = DomainGNN(
        store,
        sections=section_names(options),
        graph=source(options),
        steps=steps,
        memory_limit=options.limit,
        device="cpu",
    )
    planned = plan_of(model)
    model.fit(progress=meter.progress)
    model.save(f"gnn-{time.time_ns()}")
    return {**meter.read(), "planned": planned}


def run_gnn_embed(options: argparse.Namespace) -> dict[str, Any]:
    """Embed and commit every section by the saved network."""
    from tisseract.models import DomainGNN

    store = opened(options, read_only=False)
    newest = max(name for name in store.snapshot.runs if name.startswith("gnn-"))
    meter = Meter()
    model = DomainGNN.load(store, newest, memory_limit=options.limit, device="cpu")
    model.embed("network", progress=meter.progress)
    return meter.read()


def plan_of(model: Any) -> int:
    return int(model.plan().peak_bytes)


RUNS = {
    "graph": run_graph,
    "features": run_features,
    "scores": run_scores,
    "plain": run_plain,
    "domains": run_domains,
    "gnn": run_gnn,
    "gnn_embed": run_gnn_embed,
}


def child(arguments: list[str], run: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *arguments, "--run", run]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]) or {})


def line(name: str, used: dict[str, Any], cells: int) -> str:
    more = [f"planned {used['planned'] / MIB:.0f} MiB"] if "planned" in used else []
    more += [f"ARI {used['ari']:.3f}"] if "ari" in used else []
    marks = used["stages"]
    more += [f"last heard of {', '.join(f'{k} at {v:.0f} s' for k, v in marks.items())}"] * bool(
        marks
    )
    return (
        f"  {name:<10} {used['seconds']:7.1f} s (CPU {used['cpu']:7.1f} s)  "
        f"{cells / used['seconds'] / 1e3:7.1f} k cells/s  peak {used['peak'] / MIB:6.0f} MiB  "
        f"read {used['read'] / GIB:6.2f} GiB  {'; '.join(more)}"
    )


def compare(options: argparse.Namespace, arguments: list[str]) -> None:
    """Make the atlas, measure every stage in a process of its own."""
    cores = len(os.sched_getaffinity(0))
    print(
        f"{options.cells:,} cells in {options.sections} sections x {options.genes} genes, k = "
        f"{options.k}, memory limit {options.limit}; {platform.platform()}, {cores} cores",
        flush=True,
    )
    started = time.perf_counter()
    prepare(options)
    print(f"  atlas ready after {time.perf_counter() - started:.0f} s", flush=True)
    total = 0.0
    for name in options.stages or RUNS:
        used = child(arguments, name)
        total += used["seconds"]
        print(line(name, used, options.cells), flush=True)
    print(f"  all stages: {total / 3600:.2f} hours")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=10_000_000)
    parser.add_argument("--sections", type=int, default=10)
    parser.add_argument("--genes", type=int, default=300)
    parser.add_argument("--k", type=int, default=6)
    parser.add_argument("--limit", default=LIMIT)
    parser.add_argument("--lazy", action="store_true", help="no stored graph: neighbors on the way")
    parser.add_argument("--stages", nargs="+", choices=RUNS)
    parser.add_argument("--folder", type=Path, help="keep the atlas here")
    parser.add_argument("--run", choices=["prepare", *RUNS], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run == "prepare":
        prepare(options)
    elif options.run:
        print(json.dumps(RUNS[options.run](options)))
    elif options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
        compare(options, sys.argv[1:])
    else:
        folder = Path(tempfile.mkdtemp(prefix="bench-scale-"))
        try:
            compare(options, [*sys.argv[1:], "--folder", str(folder)])
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
