"""Opening an atlas of a thousand sections: requests, bytes, seconds.

Opening reads the header and one snapshot, so that sections are entries of the catalog here: seven
obs columns, and a graph, an embedding and labels each, with ids and digests of their own.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

KINDS = (("graph", "spatial"), ("embedding", "gnn"), ("domains", "gnn_12"))


def digest() -> str:
    """Make a digest like any other."""
    return f"sha256:{uuid.uuid4().hex}{uuid.uuid4().hex}"


def simulate(path: Path, n_sections: int) -> None:
    """Write an atlas that holds its catalog alone."""
    from tisseract.atlas.snapshot import Change, DerivedEntry, SectionEntry
    from tisseract.atlas.store import create_store

    names = [f"domain {k}" for k in range(12)]
    columns: dict[str, Any] = {
        column: {"kind": "numeric", "min": 0.5, "max": 99.25} for column in "abcdef"
    }
    columns["cell_type"] = {"kind": "categorical", "n_categories": 12, "categories": names}
    sections, derived = [], []
    for number in range(n_sections):
        name = f"E{number // 40}_s{number:04d}"
        sections.append(
            SectionEntry(
                section=name,
                attempt=uuid.uuid4().hex,
                digest=digest(),
                n_obs=5_000 + number,
                n_vars=300,
                nnz=300_000 + number,
                nbytes=10**6 + number,
                n_tiles=4,
                tile_cells=4_096,
                panel="0" * 64,
                values="counts",
                um_per_unit=1.0,
                bounds=(0.0, 0.0, 700.0 + number, 700.0),
                fingerprint=digest(),
                metadata={"section": name, "timepoint": f"E{number // 40}", "donor": f"m{number}"},
                columns=columns,
            )
        )
        inputs = {f"section:{name}": sections[-1].attempt}
        for kind, key in KINDS:
            info = {"params": {"n_neighs": 10}, "categories": names}
            attempt = uuid.uuid4().hex
            entry = DerivedEntry(kind, key, name, attempt, digest(), 10**6, inputs, info=info)
            derived.append(entry)
            inputs = inputs | {entry.name: attempt}
    create_store(path).commit(Change(add_sections=sections, add_derived=derived), "simulated")


def measure(n_sections: int = 1_000) -> dict[str, Any]:
    """Open it, counting."""
    from tisseract.atlas.storage_local import LocalStorage
    from tisseract.atlas.store import open_store

    with tempfile.TemporaryDirectory() as folder:
        simulate(Path(folder) / "atlas", n_sections)
        reads: list[int] = []
        plain = {verb: getattr(LocalStorage, verb) for verb in ("get", "get_range", "entries")}

        def counting(verb: str) -> Any:
            def counted(*arguments: Any, **options: Any) -> Any:
                found = plain[verb](*arguments, **options)
                reads.append(len(found) if isinstance(found, bytes) else 0)
                return found

            return counted

        for verb in plain:
            setattr(LocalStorage, verb, counting(verb))
        start = time.process_time()
        store = open_store(Path(folder) / "atlas")
        seconds = time.process_time() - start
        for verb, method in plain.items():
            setattr(LocalStorage, verb, method)
        return {
            "sections": len(store.section_names),
            "derived": len(store.snapshot.derived),
            "requests": len(reads),
            "bytes": sum(reads),
            "cpu_ms": 1e3 * seconds,
        }
