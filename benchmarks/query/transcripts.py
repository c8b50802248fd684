"""Transcripts of a polygon, beside spatialdata on the same store.

    python benchmarks/query/transcripts.py                       # 10 million, and spatialdata
    python benchmarks/query/transcripts.py --points 100000000 --no-peer

Points are simulated at a fixed density, so that ten times as many fill ten times the area and a
polygon has the same answer. Each measurement is a process of its own: imports first, then the
clock. Time is that of the processor, memory what the process grew by over its imports, bytes what
it read (`/proc/self/io`).
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

DENSITY = 0.16  # transcripts a square micrometer, as Xenium breast
GENES = 300
CELLS = 20_000
BATCH = 1 << 18


def polygon() -> Any:
    """Draw a star of some 160,000 square micrometers: about 25,000 transcripts."""
    import shapely

    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radius = np.where(np.arange(24) % 2, 190.0, 260.0)
    points = np.stack([900 + radius * np.cos(angle), 1100 + radius * np.sin(angle)], axis=1)
    return shapely.Polygon(points)


def simulate(folder: Path, n_points: int, memory_limit: int = 2**30) -> dict[str, Any]:
    """Write an atlas of one section of `n_points` transcripts; returns time and peak memory."""
    from tisseract.atlas.panel import Panel
    from tisseract.atlas.points import PointsSource
    from tisseract.atlas.snapshot import Change, SectionEntry
    from tisseract.atlas.store import create_store
    from tisseract.ingest.partition import write_section
    from tisseract.ingest.read_memory import ReadMemory
    from tisseract.ingest.source import ArrayColumn, MatrixCounts, RawSection

    side = math.sqrt(n_points / DENSITY)
    rng = np.random.default_rng(0)
    from scipy import sparse

    counts = sparse.random_array((CELLS, GENES), density=0.2, rng=rng, format="csr")
    counts.data = np.ceil(counts.data * 3).astype(np.float32)
    panel = Panel.of([f"Gene{i}" for i in range(GENES)], organism="mouse")
    source = PointsSource(
        lambda: batches(n_points, side),
        feature_key="gene",
        instance_key="cell_id",
        bounds=(0.0, 0.0, side, side),
        n_rows=n_points,
    )
    raw = RawSection(
        positions=rng.random((CELLS, 2)) * side,
        instance_ids=ArrayColumn.of([f"cell-{i}" for i in range(CELLS)]),
        obs={},
        panel=panel,
        counts=MatrixCounts(sparse.csr_matrix(counts)),
        um_per_unit=1.0,
        points={"transcripts": source},
        reading=ReadMemory(points=1),
    )
    start, before = time.process_time(), _fresh_peak()
    store = create_store(str(folder))
    store.storage.put_if_absent(f"panels/{panel.digest}.parquet", panel.to_parquet())
    with store.new_attempt("sections/s1", suffix=".zarr") as attempt:
        summary = write_section(raw, attempt.path, memory_limit=memory_limit)
        receipt = attempt.seal()
    shared = {name: getattr(summary, name) for name in _FACTS}
    entry = SectionEntry(
        section="s1",
        attempt=receipt.attempt,
        digest=receipt.digest,
        nbytes=receipt.nbytes,
        fingerprint="simulated",
        **shared,
    )
    store.commit(Change(add_sections=[entry]), "simulate")
    return {
        "seconds": time.process_time() - start,
        "mb": _status("VmHWM") - before,
        "stored_mb": receipt.nbytes / 2**20,
    }


_FACTS = (
    *("n_obs", "n_vars", "nnz", "n_tiles", "tile_cells", "panel", "values", "um_per_unit"),
    *("bounds", "metadata", "columns"),
)


def batches(n_points: int, side: float) -> Iterator[Any]:
    """Transcripts in the order of genes, as some vendors have them: no order in space."""
    import pyarrow as pa

    genes = pa.array([f"Gene{i}" for i in range(GENES)])
    for start in range(0, n_points, BATCH):
        n = min(BATCH, n_points - start)
        rng = np.random.default_rng(start)
        codes = np.sort(rng.integers(0, GENES, n)).astype(np.int16)
        cells = rng.integers(0, CELLS, n)
        names = pa.array(np.char.add("cell-", cells.astype("U8")).astype(object), pa.string())
        yield pa.RecordBatch.from_pydict(
            {
                "x": pa.array(rng.random(n) * side),
                "y": pa.array(rng.random(n) * side),
                "gene": pa.DictionaryArray.from_arrays(pa.array(codes), genes),
                "cell_id": names,
                "qv": pa.array((rng.random(n) * 40).astype(np.float32)),
            }
        )


def _io() -> int:
    with Path("/proc/self/io").open(encoding="ascii") as file:
        return int(dict(line.split(": ") for line in file.read().splitlines())["rchar"])


def _status(field: str) -> float:
    """Resident memory, now or at its highest, in MB."""
    with Path("/proc/self/status").open(encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field)) / 1e3


def _fresh_peak() -> float:
    """Forget the highest memory so far; return what is resident, in MB.

    `ru_maxrss` would be inherited from the process that started this one.
    """
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def _measured(work: Any) -> dict[str, Any]:
    """Run once; time, growth of memory, bytes read."""
    before = _fresh_peak()
    io, wall, cpu = _io(), time.perf_counter(), time.process_time()
    n, checksum = work()
    return {
        "seconds": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
        "mb": _status("VmHWM") - before,
        "bytes": _io() - io,
        "n": n,
        "checksum": checksum,
    }


def ours(atlas: str) -> dict[str, Any]:
    """Open the atlas and read the transcripts of the polygon into a data frame."""
    import geopandas  # noqa: F401 - imports are no part of the measurement, theirs neither
    import pandas as pd  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import shapely

    import tisseract as ts
    from tisseract.query.points import transcripts  # noqa: F401

    star = polygon()
    shapely.prepare(star)

    def work() -> tuple[int, float]:
        found = ts.open(atlas).region("s1", polygon=star).transcripts().to_pandas()
        return len(found), float(found["x"].sum())

    return _measured(work)


def spatialdata(store: str) -> dict[str, Any]:
    """Open the section with spatialdata and ask it for the same."""
    import warnings

    import spatialdata as sd
    from spatialdata.models import PointsModel  # noqa: F401

    warnings.simplefilter("ignore")
    star = polygon()

    def work() -> tuple[int, float]:
        points = sd.read_zarr(store, selection=("points",))["transcripts"]
        found = sd.polygon_query(points, polygon=star, target_coordinate_system="microns").compute()
        return len(found), float(found["x"].sum())

    return _measured(work)


def run(
    folder: Path, n_points: int = 10_000_000, *, peer: bool = True, repeat: int = 3
) -> dict[str, Any]:
    """Simulate, ingest and ask, each in a process of its own; the median of ours is kept.

    Returns
    -------
    dict
        `ingest`, `ours` and `spatialdata`: `seconds` (CPU), `mb`, `bytes`, `n`; `speedup` and
        `memory_ratio` where the peer ran.
    """
    atlas = folder / f"transcripts-{n_points}"
    results: dict[str, Any] = {"n_points": n_points}
    if not (atlas / "atlas.json").exists():
        results["ingest"] = _child("simulate", str(atlas), str(n_points))
    asked = sorted((_child("ours", str(atlas)) for _ in range(repeat)), key=_seconds)
    results["ours"] = asked[len(asked) // 2]
    if peer:
        store = next((atlas / "sections" / "s1").glob("*.zarr"))
        theirs = results["spatialdata"] = _child("spatialdata", str(store))
        if theirs["n"] != results["ours"]["n"]:
            raise SystemExit(f"answers differ: {theirs['n']} and {results['ours']['n']}")
        results["speedup"] = theirs["seconds"] / results["ours"]["seconds"]
        results["memory_ratio"] = results["ours"]["mb"] / theirs["mb"]
    return results


def _seconds(result: dict[str, Any]) -> float:
    return float(result["seconds"])


def _child(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, "--child", *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--child", nargs="+")
    given = parser.parse_args()
    if given.child:
        what, path, *rest = given.child
        if what == "simulate":
            answer = simulate(Path(path), int(rest[0]))
        else:
            answer = ours(path) if what == "ours" else spatialdata(path)
        sys.stdout.write(json.dumps(answer) + "\n")
        return
    with tempfile.TemporaryDirectory() as scratch:
        found = run(given.folder or Path(scratch), given.points, peer=not given.no_peer)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
