"""Region queries on real tissue: bytes read, time and memory, beside spatialdata.

    python benchmarks/bench_region.py ATLAS [--regions 40] [--sections NAME ...] [--peer] [--json F]

For each section, random boxes and polygons of aspect at most 4 that hold at least 2,000 cells
(half of the section where it has fewer than 4,000), some 20,000 at most, are read by
`region(...).to_anndata()`.

**Bytes read** are counted by the kernel for this process (`rchar` of `/proc/self/io`: every byte
that any read call returned, whichever library made it), all imports done beforehand.

**Bytes returned** are, summed over every array that was read, the array's compressed bytes divided
by its length, times the elements returned. Arrays: `X/data` and `X/indices` (elements: non-zeros
of the returned rows), `X/indptr`, `obsm/spatial`, `obs/_index` and the values, codes and masks of
every obs column (elements: returned rows). Compressed bytes are the sizes of the files of the
array's shards, indexes included; categories and statistics are not counted as returned.

**Cold** is a handle just opened for each query (catalog, section index, tile table and shard
indexes are read again); **warm** asks again through a handle that has them in memory.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

DEFAULT = ("iss", "seqfish_embryo1-2", "seqfish_embryo2-2", "merfish-1", "dlpfc_151673")
MIN_CELLS, MAX_CELLS, MAX_ASPECT = 2_000, 20_000, 4.0


def bytes_read() -> int:
    """Bytes that read calls of this process have returned so far."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return int(lines[0].split()[1])


def places(section: Any, n: int, seed: int) -> list[tuple[str, Any]]:
    """Random compact places of enough cells: boxes and irregular polygons in turn."""
    rng = np.random.default_rng(seed)
    points = section.positions()
    least = min(MIN_CELLS, len(points) // 2)
    found: list[tuple[str, Any]] = []
    for _ in range(200 * n):
        if len(found) == n:
            break
        center = points[rng.integers(len(points))]
        share = rng.uniform(least, min(MAX_CELLS, len(points))) / len(points)
        span = np.sqrt(np.prod(np.ptp(points, axis=0)) * share)
        aspect = MAX_ASPECT ** rng.uniform(-0.5, 0.5)
        half = np.array([span * aspect, span / aspect]) / 2
        if len(found) % 2:
            angle = np.sort(rng.uniform(0, 2 * np.pi, 12))
            radius = rng.uniform(0.7, 1.2, 12)[:, None]
            ring = center + np.stack([np.cos(angle), np.sin(angle)], axis=1) * half * radius
            place = {"polygon": ring}
            inside = _inside(ring, points)
        else:
            low, high = center - half, center + half
            place = {"bbox": (*low, *high)}
            inside = int(((points >= low) & (points <= high)).all(axis=1).sum())
        if inside >= least:
            found.append((next(iter(place)), next(iter(place.values()))))
    return found


def _inside(ring: Any, points: Any) -> int:
    import shapely

    shape = shapely.Polygon(ring)
    if not shape.is_valid:
        return 0
    shapely.prepare(shape)
    return int(shapely.intersects_xy(shape, points[:, 0], points[:, 1]).sum())


def returned_bytes(root: Path, section: Any, n_rows: int, nnz: int) -> float:
    """Compressed bytes of what was returned, as this module's docstring defines them."""
    table = root / section.entry.prefix / "tables" / "table"

    def size(array: Path) -> int:
        return sum(file.stat().st_size for file in (array / "c").rglob("*") if file.is_file())

    total = sum(size(table / "X" / part) for part in ("data", "indices"))
    total *= nnz / max(section.entry.nnz, 1)
    rows = [table / "X" / "indptr", table / "obsm" / "spatial", table / "obs" / "_index"]
    for name in section.obs_columns:
        folder = table / "obs" / name
        parts = [folder, folder / "codes", folder / "values", folder / "mask"]
        rows += [part for part in parts if (part / "c").exists()]
    return float(total + sum(size(array) for array in rows) * n_rows / section.n_obs)


def measure(url: str, name: str, n: int, seed: int) -> dict[str, Any]:
    """Amplification and time of one section, cold and warm."""
    import warnings

    from tisseract.atlas.store import open_store
    from tisseract.query import region

    warnings.simplefilter("ignore")
    store = open_store(url)
    section = store.section(name)
    units = "um" if section.um_per_unit is not None else "source"
    asked = places(section, n, seed)
    results: dict[str, list[float]] = {k: [] for k in ("cold", "warm", "cold_s", "warm_s", "n")}
    for kind, value in asked[:1]:
        region(store, name, units=units, **{kind: value}).to_anndata()
    for kind, value in asked:
        fresh = None
        for state in ("cold", "warm"):
            before, start = bytes_read(), time.perf_counter()
            fresh = open_store(url) if fresh is None else fresh
            adata = region(fresh, name, units=units, **{kind: value}).to_anndata()
            seconds, got = time.perf_counter() - start, bytes_read() - before
            wanted = returned_bytes(Path(url), section, adata.n_obs, adata.X.nnz)
            results[state].append(got / wanted)
            results[f"{state}_s"].append(seconds)
        results["n"].append(adata.n_obs)
    return {
        "section": name,
        "cells": section.n_obs,
        "regions": len(asked),
        "median_cells": float(np.median(results["n"])) if asked else 0,
        **{
            f"{state}_{label}": float(np.quantile(results[state], q)) if asked else np.nan
            for state in ("cold", "warm", "cold_s", "warm_s")
            for label, q in (("median", 0.5), ("p95", 0.95))
        },
    }


_PEER = """
import json, resource, sys, time, warnings
warnings.simplefilter("ignore")
import spatialdata as sd
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
path, system, box = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
start = time.perf_counter()
sdata = sd.read_zarr(path)
out = sd.bounding_box_query(sdata, axes=("x", "y"), min_coordinate=box[:2], max_coordinate=box[2:],
                            target_coordinate_system=system)
n = out["table"].n_obs
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base
print(json.dumps({"n": n, "seconds": time.perf_counter() - start, "mib": peak / 1024}))
"""
_OURS = """
import json, resource, sys, time, warnings
warnings.simplefilter("ignore")
import anndata, shapely
from tisseract.atlas.store import open_store
from tisseract.query import region
import tisseract.query.to_anndata, tisseract.atlas.section, tisseract.atlas.derived
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
url, name, units, box = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
start = time.perf_counter()
adata = region(open_store(url), name, bbox=box, units=units).to_anndata()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base
print(json.dumps({"n": adata.n_obs, "seconds": time.perf_counter() - start, "mib": peak / 1024}))
"""


def peer(url: str, name: str, seed: int) -> dict[str, Any]:
    """Time and memory of one box, each in a process of its own: ours and spatialdata's."""
    from tisseract.atlas.store import open_store

    store = open_store(url)
    section = store.section(name)
    known = section.um_per_unit is not None
    box = next(value for kind, value in places(section, 2, seed) if kind == "bbox")
    text = json.dumps([float(v) for v in box])
    path = str(Path(url) / section.entry.prefix)
    ours = _run(_OURS, url, name, "um" if known else "source", text)
    theirs = _run(_PEER, path, "microns" if known else "source_units", text)
    return {"section": name, "ours": ours, "spatialdata": theirs}


def _run(code: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("atlas")
    parser.add_argument("--regions", type=int, default=40)
    parser.add_argument("--sections", nargs="*")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    from tisseract.atlas.store import open_store

    store = open_store(options.atlas)
    largest = sorted(store.section_names, key=lambda s: -store.snapshot.sections[s].n_obs)
    chosen = options.sections or [s for s in DEFAULT if store.has_section(s)] or largest[:5]
    rows = []
    print("section                cells  regions  cells/region  bytes read / bytes returned")
    print(
        "                                                     cold med p95   warm med p95   warm ms"
    )
    for name in chosen:
        row = measure(options.atlas, name, options.regions, options.seed)
        rows.append(row)
        print(
            f"{name:20s} {row['cells']:8,} {row['regions']:7d} {row['median_cells']:12,.0f}"
            f"      {row['cold_median']:7.2f} {row['cold_p95']:5.2f}"
            f"   {row['warm_median']:7.2f} {row['warm_p95']:5.2f}"
            f"  {1e3 * row['warm_s_median']:7.0f}"
        )
    peers = [peer(options.atlas, name, options.seed) for name in chosen] if options.peer else []
    for row in peers:
        ours, theirs = row["ours"], row["spatialdata"]
        print(
            f"{row['section']:20s} box of {ours['n']:,} cells: {ours['seconds']:.3f} s, "
            f"{ours['mib']:.0f} MiB; spatialdata {theirs['n']:,} cells, {theirs['seconds']:.2f} s, "
            f"{theirs['mib']:.0f} MiB"
        )
    if options.json:
        options.json.write_text(json.dumps({"regions": rows, "peer": peers}, indent=1))


if __name__ == "__main__":
    main()
