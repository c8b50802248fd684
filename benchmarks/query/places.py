"""Regions and single genes of one large section, ours and the peers', each in a fresh process.

Called by `bench_query.py`; a peer that is not installed is left out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

# What our first answer would load otherwise: imports are no part of the measurement.
OUR_IMPORTS = (
    "anndata",
    "numba",
    "numcodecs",
    "pandas",
    "pyarrow.parquet",
    "scipy.sparse",
    "shapely",
    "tisseract.query",
    "tisseract.query.exports.to_anndata",
    "tisseract.query.expression.view",
    "tisseract.atlas.section",
)


def status(field: str) -> float:
    """Read a line of this process's status, such as VmRSS or VmHWM, in MB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1e3
    raise KeyError(field)


def bytes_read() -> int:
    """Bytes that read calls of this process have returned so far."""
    return int(Path("/proc/self/io").read_text(encoding="ascii").split()[1])


class Meter:
    """Seconds, CPU seconds, bytes and growth of the peak since it was made."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self._base, self._bytes = status("VmRSS"), bytes_read()
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self, **facts: Any) -> dict[str, Any]:
        """Return what has been used so far, with what else is known."""
        return {
            "seconds": time.perf_counter() - self._wall,
            "cpu": time.process_time() - self._cpu,
            "mb": status("VmHWM") - self._base,
            "bytes": bytes_read() - self._bytes,
            **facts,
        }


def boxes(url: str, name: str, n_cells: int, n: int) -> list[list[float]]:
    """Boxes of aspect up to 4 around random cells that hold `n_cells` cells each."""
    from tisseract.atlas.store import open_store

    rng = np.random.default_rng(0)
    points = open_store(url).section(name).positions()
    found = []
    while len(found) < n:
        center = points[rng.integers(len(points))]
        aspect = 2.0 ** rng.uniform(-1, 1)
        away = np.abs(points - center) * [aspect, 1 / aspect]
        reach = np.partition(away.max(axis=1), n_cells)[n_cells]
        half = reach / np.array([aspect, 1 / aspect])
        low, high = center - half, center + half
        if (low >= points.min(axis=0)).all() and (high <= points.max(axis=0)).all():
            found.append([*map(float, low), *map(float, high)])
    return found


def our_region(url: str, name: str, box: str) -> dict[str, Any]:
    """Open the atlas and read a box into an AnnData."""
    from tisseract.atlas.store import open_store
    from tisseract.query import region

    meter = Meter()
    adata = region(open_store(url), name, bbox=json.loads(box)).to_anndata()
    return meter.read(n=adata.n_obs)


def our_regions(url: str, name: str, asked: str) -> dict[str, Any]:
    """Count requests and bytes of many boxes, each through a handle just opened."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from bench_region import returned_bytes

    from tisseract.atlas import storage_local
    from tisseract.atlas.store import open_store
    from tisseract.query import region

    reads: list[tuple[str, int]] = []
    for verb in ("get", "get_range", "get_tail", "size"):
        _count(storage_local.LocalStorage, verb, reads)
    all_requests, data, shares, seconds = [], [], [], []
    for box in json.loads(asked):
        store = open_store(url)
        reads.clear()
        start = time.process_time()
        adata: Any = region(store, name, bbox=box).to_anndata()
        seconds.append(time.process_time() - start)
        wanted = returned_bytes(Path(url), store.section(name), adata.n_obs, adata.X.nnz)
        all_requests.append(len(reads))
        data.append(sum(1 for verb, _ in reads if verb == "get_range"))
        shares.append(sum(n for _, n in reads) / wanted)
    return {
        "requests": [int(np.median(all_requests)), max(all_requests)],
        "data_requests": [int(np.median(data)), max(data)],
        "bytes_read_per_returned": [float(np.median(shares)), float(np.quantile(shares, 0.95))],
        "cpu_ms": 1e3 * float(np.median(seconds)),
    }


def _count(storage: Any, verb: str, reads: list[tuple[str, int]]) -> None:
    plain = getattr(storage, verb)

    def counted(*arguments: Any, **options: Any) -> Any:
        found = plain(*arguments, **options)
        body = found[0] if isinstance(found, tuple) else found
        reads.append((verb, len(body) if isinstance(body, bytes) else 0))
        return found

    setattr(storage, verb, counted)


def our_gene(url: str, name: str, gene: str) -> dict[str, Any]:
    """Open the atlas and read the vector of one gene."""
    from tisseract.atlas.store import open_store
    from tisseract.query import gene as look

    meter = Meter()
    vector = look(open_store(url), gene).vector(name)
    found = meter.read(n=int(np.count_nonzero(vector)))
    return found | gene_bytes(url, name, gene)


def gene_bytes(url: str, name: str, gene: str) -> dict[str, Any]:
    """Compressed bytes of a gene's entries, and of two chunks of each array."""
    from tisseract.atlas.store import open_store

    store = open_store(url)
    section = store.section(name)
    peaks = section.gene_peaks(section.panel.find(gene))
    root = Path(url) / section.entry.prefix / "tisseract" / "by_gene"
    own, chunks = 0.0, 0.0
    for part in ("data", "indices", "indptr"):
        size = sum(f.stat().st_size for f in (root / part / "c").rglob("*") if f.is_file())
        layout = section.layouts[f"tisseract/by_gene/{part}"]
        entries = 2 if part == "indptr" else int(peaks.nnz.sum())
        own += size * entries / layout.shape[0]
        chunks += 2 * size * min(1.0, layout.chunk / layout.shape[0])
    return {"allowed": 2 * own + chunks}


def scan_gene(url: str, name: str, gene: str) -> dict[str, Any]:
    """Read the whole CSR matrix with anndata and take one column."""
    import anndata as ad
    import zarr

    from tisseract.atlas.store import open_store

    section = open_store(url).section(name)
    column = section.panel.find(gene)
    path = Path(url) / section.entry.prefix / "tables" / "table" / "X"
    meter = Meter()
    matrix = ad.io.sparse_dataset(zarr.open_group(path, mode="r")).to_memory()
    vector = matrix[:, [column]].toarray()[:, 0]
    return meter.read(n=int(np.count_nonzero(vector)))


def spatialdata_region(url: str, name: str, box: str) -> dict[str, Any]:
    """Open the section with spatialdata and ask for the same box."""
    import spatialdata as sd

    from tisseract.atlas.store import open_store

    path = Path(url) / open_store(url).section(name).entry.prefix
    low_high = json.loads(box)
    meter = Meter()
    found = sd.bounding_box_query(
        sd.read_zarr(path),
        axes=("x", "y"),
        min_coordinate=low_high[:2],
        max_coordinate=low_high[2:],
        target_coordinate_system="microns",
    )
    return meter.read(n=found["table"].n_obs)


# Runs where tiledbsoma is installed, which need not be where tisseract is: tiledbsoma 2.3 fails on
# the layers of anndata 0.13, so give it `pip install tiledbsoma 'anndata>=0.12,<0.13'`.
SOMA_REGION = """
import json, sys, time
from pathlib import Path
import tiledbsoma, anndata, numpy as np
def status(field):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1e3
path, box = sys.argv[1], json.loads(sys.argv[2])
Path("/proc/self/clear_refs").write_text("5")
base, wall, cpu = status("VmRSS"), time.perf_counter(), time.process_time()
with tiledbsoma.Experiment.open(path) as experiment:
    asked = f"x >= {box[0]} and x <= {box[2]} and y >= {box[1]} and y <= {box[3]}"
    query = experiment.axis_query("RNA", obs_query=tiledbsoma.AxisQuery(value_filter=asked))
    adata = query.to_anndata(X_name="data")
print(json.dumps({"n": adata.n_obs, "seconds": time.perf_counter() - wall,
                  "cpu": time.process_time() - cpu, "mb": status("VmHWM") - base}))
"""
SOMA_WRITE = """
import sys, anndata, tiledbsoma.io
tiledbsoma.io.from_anndata(sys.argv[2], anndata.read_h5ad(sys.argv[1]), measurement_name="RNA")
"""


def write_h5ad(url: str, name: str, path: str) -> dict[str, Any]:
    """Write a section for SOMA, with its positions as columns of cells, in the source's order.

    In our order of rows SOMA would prune as we do: it keeps the order it is given, and a source has
    another one.
    """
    import anndata as ad

    from tisseract.atlas.store import open_store

    section = open_store(url).section(name)
    order = np.argsort(section.source_rows())
    adata: Any = ad.AnnData(section.counts()[order])
    adata.obs["x"], adata.obs["y"] = section.positions()[order].T
    adata.obs_names = section.cell_ids().astype(str)[order]
    adata.write_h5ad(path)
    return {"n": adata.n_obs}


def soma_region(python: str, url: str, name: str, box: str, scratch: Path) -> dict[str, Any]:
    """Ask TileDB-SOMA for the same box, by a filter on stored coordinates."""
    place = scratch / "soma"
    if not place.exists():
        child("write_h5ad", url, name, str(scratch / "section.h5ad"))
        wrote = [python, "-c", SOMA_WRITE, str(scratch / "section.h5ad"), str(place)]
        subprocess.run(wrote, check=True, stdout=subprocess.DEVNULL)
    return _last_line([python, "-c", SOMA_REGION, str(place), box])


def child(what: str, *arguments: str) -> dict[str, Any]:
    """Run one measurement in a process of its own."""
    return _last_line([sys.executable, __file__, what, *arguments])


def _last_line(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2_000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    import warnings
    from importlib import import_module

    warnings.simplefilter("ignore")
    for module in OUR_IMPORTS if sys.argv[1].startswith("our") else ():
        import_module(module)
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
