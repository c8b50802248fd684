"""Queries beside their peers, in one run: regions, genes, transcripts, similar tissue, opening.

    python benchmarks/bench_query.py [--atlas PATH] [--large PATH] [--parts region,gene,...]

Without `--atlas`, 1 M cells x 300 genes are simulated in a scratch folder (60 non-zeros a cell).
`--large` names an atlas of more cells: what is ours is measured there, too, and the ratio printed;
its largest section is asked. `--soma PYTHON` names an interpreter that has tiledbsoma.

Parts: `region` (5,000 cells of a box, to AnnData; spatialdata's `read_zarr` and
`bounding_box_query`, TileDB-SOMA's filter on stored coordinates), `gene` (one vector; a scan of the
CSR matrix by anndata), `open` (an atlas of 1,000 sections), `transcripts` (a polygon on 10 M
points) and `similar` (search over 1,000 sections), both from `benchmarks/query/`.

Every time is that of a fresh process, after imports, from opening the atlas to the answer; files
are in the cache of the system. Bars are printed beside what was measured.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent / "query"))
places, thousand = import_module("places"), import_module("thousand")

REPEATS, REGIONS, CELLS = 5, 40, 5_000


def largest(url: str) -> str:
    """Name the section with most cells."""
    from tisseract.atlas.store import open_store

    entries = open_store(url).snapshot.sections
    return max(sorted(entries), key=lambda name: entries[name].n_obs)


def gene_of(url: str, name: str) -> str:
    """Name a gene of middling abundance."""
    from tisseract.atlas.store import open_store

    section = open_store(url).section(name)
    order = np.argsort(section.totals.nnz)
    return str(section.panel.name[order[len(order) // 2]])


def median(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Take the run of middling time."""
    return sorted(results, key=lambda found: float(found["seconds"]))[len(results) // 2]


def region(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Regions of 5,000 cells, ours at both sizes, and the peers'."""
    url, name = options.atlas, largest(options.atlas)
    asked = places.boxes(url, name, CELLS, REGIONS)
    texts = [json.dumps(box) for box in asked[:REPEATS]]
    found: dict[str, Any] = {
        "ours": median([places.child("our_region", url, name, box) for box in texts]),
        "reads": places.child("our_regions", url, name, json.dumps(asked)),
    }
    if options.large:
        big = largest(options.large)
        there = [json.dumps(box) for box in places.boxes(options.large, big, CELLS, REPEATS)]
        runs = [places.child("our_region", options.large, big, box) for box in there]
        found["ours_large"] = median(runs)
    if not options.no_peers:
        found["spatialdata"] = places.child("spatialdata_region", url, name, texts[0])
    if options.soma:
        found["soma"] = median(
            [places.soma_region(options.soma, url, name, box, scratch) for box in texts[:3]]
        )
    return found


def gene(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """One gene over all cells, ours at both sizes, and a scan."""
    del scratch
    url, name = options.atlas, largest(options.atlas)
    chosen = gene_of(url, name)
    found: dict[str, Any] = {
        "ours": median([places.child("our_gene", url, name, chosen) for _ in range(REPEATS)])
    }
    if options.large:
        big = largest(options.large)
        there = gene_of(options.large, big)
        runs = [places.child("our_gene", options.large, big, there) for _ in range(REPEATS)]
        found["ours_large"] = median(runs)
    if not options.no_peers:
        found["scan"] = places.child("scan_gene", url, name, chosen)
    return found


def opening(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Open an atlas of a thousand sections."""
    del options, scratch
    found: dict[str, Any] = thousand.measure()
    return found


def transcripts(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Ask for a polygon on ten million transcripts."""
    found: dict[str, Any] = import_module("transcripts").run(scratch, peer=not options.no_peers)
    return found


def similar(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Search for similar tissue over a thousand sections."""
    del options, scratch
    found: dict[str, Any] = import_module("similar").measure()
    return found


PARTS: dict[str, Callable[[argparse.Namespace, Path], dict[str, Any]]] = {
    "region": region,
    "gene": gene,
    "open": opening,
    "transcripts": transcripts,
    "similar": similar,
}


def ratio(found: dict[str, Any], peer: str, fact: str) -> float | None:
    """How many times what we take a peer takes."""
    return found[peer][fact] / found["ours"][fact] if peer in found else None


def bars(results: dict[str, dict[str, Any]]) -> list[tuple[str, float | None, str]]:
    """Every bar of this run: what, measured, wanted."""
    rows: list[tuple[str, float | None, str]] = []
    if found := results.get("region"):
        reads = found["reads"]
        rows += [
            ("region: CPU of spatialdata", ratio(found, "spatialdata", "cpu"), ">= 50 x"),
            ("region: time of spatialdata", ratio(found, "spatialdata", "seconds"), ">= 50 x"),
            ("region: CPU of SOMA", ratio(found, "soma", "cpu"), ">= 15 x"),
            ("region: time of SOMA", ratio(found, "soma", "seconds"), ">= 15 x"),
            ("region: MB above imports", found["ours"]["mb"], "< 100"),
            ("region: data requests, most of 40", reads["data_requests"][1], "<= 24"),
            ("region: bytes, median", reads["bytes_read_per_returned"][0], "<= 3 x"),
            ("region: bytes, 95 of 100", reads["bytes_read_per_returned"][1], "<= 4 x"),
            ("region: time at the large atlas", ratio(found, "ours_large", "seconds"), "<= 1.5 x"),
        ]
    if found := results.get("gene"):
        ours = found["ours"]
        rows += [
            ("gene: CPU of a CSR scan", ratio(found, "scan", "cpu"), ">= 50 x"),
            ("gene: time of a CSR scan", ratio(found, "scan", "seconds"), ">= 50 x"),
            ("gene: bytes of 2 vectors and 2 chunks", ours["bytes"] / ours["allowed"], "<= 1 x"),
            ("gene: time at the large atlas", ratio(found, "ours_large", "seconds"), "<= 1.5 x"),
        ]
    if found := results.get("open"):
        rows += [
            ("open 1,000 sections: requests", found["requests"], "<= 4"),
            ("open 1,000 sections: MB", found["bytes"] / 1e6, "<= 2"),
        ]
    if found := results.get("transcripts"):
        rows += [
            ("transcripts: CPU of spatialdata", found.get("speedup"), ">= 20 x"),
            ("transcripts: memory of spatialdata's", found.get("memory_ratio"), "<= 0.1 x"),
        ]
    if found := results.get("similar"):
        for size in ("100 um", "200 um", "400 um"):
            rows += [
                (f"similar, {size}: exact, ms", found[size]["exact"]["p50_ms"], "< 200"),
                (f"similar, {size}: graph, ms", found[size]["graph"]["p50_ms"], "< 200"),
                (f"similar, {size}: recall at 20", found[size]["recall_at_20"], ">= 0.95"),
            ]
    return [row for row in rows if row[1] is not None]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--atlas", help="default: simulate")
    parser.add_argument("--large", help="an atlas of more cells")
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--genes", type=int, default=300)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--soma", help="interpreter that has tiledbsoma")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        chosen = options.parts.split(",")
        if options.atlas is None and {"region", "gene"} & set(chosen):
            from tissue_atlas import write_tissue

            write_tissue(scratch, options.cells, options.genes, "S0", 0)
            options.atlas = str(scratch / "atlas")
        for part in chosen:
            results[part] = PARTS[part](options, scratch)
            print(part, json.dumps(results[part]), flush=True)
    print(f"\n{platform.platform()}")
    for what, measured, wanted in bars(results):
        print(f"{what:44s} {measured:9.2f}   wanted {wanted}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
