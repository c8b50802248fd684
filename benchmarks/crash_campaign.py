"""Kill an ingest of several sections at random instants; nothing may be lost or half there.

    python benchmarks/crash_campaign.py --kills 60 --seed 0

Builds of graphs are killed by `crash_graph.py`.

One long-lived fork server has everything imported; each trial forks from it, warms up, says that
it is ready, ingests, and is killed (SIGKILL) after a random part of the time that an undisturbed
run takes. After every kill:

- every section in the catalog is whole: each file of it has the size and digest of its manifest;
- every section whose commit was reported before the kill is in the catalog, under the same attempt;
- the next run of the same call resumes.

At the end each atlas holds the same sections as an undisturbed run, with equal fingerprints, equal
catalog entries and equal contents, file by file; attempt ids aside.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from tisseract.atlas.errors import AtlasNotFound
from tisseract.atlas.garbage import gc
from tisseract.atlas.manifest import read_manifest
from tisseract.atlas.store import AtlasStore, open_store
from tisseract.atlas.verify import verify

PRELOAD = [
    "tisseract.ingest.pipeline",
    "tisseract.ingest.h5ad",
    "tisseract.ingest.spaceranger",
    "tisseract.ingest.spatialdata_zarr",
    "tisseract.ingest.partition",
    "tisseract.atlas.store",
    "tisseract.atlas.sparse_kernels",
    "h5py",
    "numba",
    "pyarrow.parquet",
    "scipy.spatial",
]

KILLS_PER_ATLAS = 8  # then it is let run to its end, which is the other half of the claim


@dataclass
class Campaign:
    """What a campaign found; `lost`, `half` and `different` must stay empty."""

    kills: int = 0
    finished: int = 0
    before_atlas: int = 0
    acknowledged: int = 0
    committed_at_kill: list[int] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    half: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    orphans_removed: int = 0
    seconds: float = 0.0
    undisturbed_seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing was lost, half visible or different."""
        return not (self.lost or self.half or self.different)


def write_inputs(folder: Path, n_sections: int, n_obs: int) -> Path:
    """Small h5ad files of several sizes, and their sheet."""
    folder.mkdir(parents=True)
    lines = ["sample,data_path,um_per_unit,timepoint,donor"]
    for i in range(n_sections):
        write_h5ad(folder / f"s{i}.h5ad", seed=i, n_obs=n_obs * (1 + i % 3))
        lines.append(f"s{i},s{i}.h5ad,0.5,E{8 + i},d{i % 2}")
    sheet = folder / "samples.csv"
    sheet.write_text("\n".join(lines) + "\n")
    return sheet


def write_h5ad(path: Path, seed: int, n_obs: int, n_vars: int = 40) -> None:
    """Write a small h5ad with h5py alone: importing anndata would take longer than a trial."""
    import h5py
    from scipy import sparse

    rng = np.random.default_rng(seed)
    counts = sparse.csr_matrix(rng.poisson(0.7, (n_obs, n_vars)).astype(np.float32))
    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        matrix = file.create_group("X")
        matrix.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        matrix.attrs["shape"] = counts.shape
        for name in ("data", "indices", "indptr"):
            matrix[name] = getattr(counts, name)
        for axis, names in (
            ("obs", [f"c{seed}_{i}" for i in range(n_obs)]),
            ("var", [f"Gene{i}" for i in range(n_vars)]),
        ):
            frame = file.create_group(axis)
            frame.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.2.0"})
            frame.attrs["_index"] = "_index"
            frame.attrs["column-order"] = np.array([], dtype="S1")
            frame["_index"] = names
            frame["_index"].attrs.update(
                {"encoding-type": "string-array", "encoding-version": "0.2.0"}
            )
        file["obsm/spatial"] = rng.uniform(0, 1000, (n_obs, 2))
        file["obsm/spatial"].attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})


def child(sheet: str, atlas: str, pipe: Connection) -> None:
    """Ingest in a process of its own, reporting each commit after it is acknowledged."""
    from tisseract.ingest.pipeline import ingest
    from tisseract.ingest.progress import Progress

    def tell(event: Progress) -> None:
        if event.kind == "done":
            pipe.send(("done", event.section))

    # Loading compiled kernels takes longer than a section: without this most kills would hit it.
    with tempfile.TemporaryDirectory() as warm:
        ingest(write_inputs(Path(warm) / "inputs", 1, 20), Path(warm) / "atlas")
    pipe.send(("ready", ""))
    ingest(sheet, atlas, n_workers=2, commit_seconds=0.05, progress=tell)
    pipe.send(("end", ""))


def content_digest(store: AtlasStore, section: str) -> str:
    """Digest of every file of a section, by name and content; independent of the attempt."""
    entry = store.snapshot.sections[section]
    manifest = read_manifest(store.storage, entry.manifest, entry.digest)
    rows = sorted((key.key, key.size, key.sha256) for key in manifest.keys)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def catalog(atlas: Path) -> dict[str, dict[str, Any]]:
    """Say what an atlas holds, attempt ids aside."""
    store = open_store(atlas)
    found = {}
    for name, entry in store.snapshot.sections.items():
        facts = asdict(entry)
        for own in ("attempt", "digest"):
            del facts[own]
        found[name] = {**facts, "content": content_digest(store, name)}
    return found


class Trial:
    """One atlas, killed until it is complete."""

    def __init__(self, sheet: Path, atlas: Path, result: Campaign) -> None:
        self.sheet, self.atlas, self.result = sheet, atlas, result
        self.attempts: dict[str, str] = {}
        self.acknowledged: set[str] = set()
        self.run_seconds = 0.0

    def run(self, context: Any, kill_after: float | None) -> bool:
        """Run once; True when it came to its end."""
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=child, args=(str(self.sheet), str(self.atlas), there))
        process.start()
        there.close()
        try:
            assert here.poll(120), "the ingest did not start within two minutes"
            here.recv()
            begin = time.perf_counter()
            if kill_after is None:
                process.join(300)
                self.run_seconds = time.perf_counter() - begin
            else:
                process.join(kill_after)
                process.kill()
            process.join()
            ended = self._drain(here)
            assert ended or process.exitcode == -9, f"the ingest failed ({process.exitcode})"
        finally:
            here.close()
        return ended

    def _drain(self, pipe: Connection) -> bool:
        ended = False
        # The last message may be cut off by the kill; what it said was not acknowledged.
        with contextlib.suppress(EOFError, OSError):
            while pipe.poll(0.05):
                kind, section = pipe.recv()
                ended = ended or kind == "end"
                if kind == "done":
                    self.acknowledged.add(section)
        return ended

    def check(self) -> int:
        """Check what stands there after a kill; the number of committed sections."""
        try:
            store = open_store(self.atlas)
        except AtlasNotFound:
            self.result.before_atlas += 1
            self.result.lost += sorted(self.acknowledged)
            return 0
        present = store.snapshot.sections
        report = verify(store)
        if not report.ok:
            self.result.half.append(str(report))
        for name, attempt in self.attempts.items():
            if name not in present or present[name].attempt != attempt:
                self.result.lost.append(name)
        self.result.lost += sorted(self.acknowledged - set(present))
        self.result.acknowledged += len(self.acknowledged)
        self.attempts = {name: entry.attempt for name, entry in present.items()}
        return len(present)

    def finish(self, expected: Mapping[str, Mapping[str, Any]]) -> None:
        """Compare a complete atlas with the undisturbed one, then clear what the kills left."""
        found = catalog(self.atlas)
        for name in sorted(set(found) | set(expected)):
            if found.get(name) != expected.get(name):
                self.result.different.append(name)
        store = open_store(self.atlas, read_only=False)
        self.result.orphans_removed += len(gc(store, dry_run=False, grace=0).orphans)
        used = {entry.prefix for entry in store.snapshot.sections.values()}
        used |= {entry.manifest for entry in store.snapshot.sections.values()}
        for key, _ in store.storage.list("sections"):
            if not any(key == u or key.startswith(f"{u}/") for u in used):
                self.result.half.append(f"left after gc: {key}")
        if not verify(open_store(self.atlas)).ok:
            self.result.half.append(f"{self.atlas} is damaged after gc")
        self.result.finished += 1


def campaign(
    folder: Path, *, kills: int, seed: int = 0, n_sections: int = 8, n_obs: int = 200
) -> Campaign:
    """Kill `kills` times; see the module."""
    start = time.perf_counter()
    result = Campaign()
    rng = np.random.default_rng(seed)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    sheet = write_inputs(folder / "inputs", n_sections, n_obs)
    undisturbed = Trial(sheet, folder / "undisturbed.atlas", result)
    assert undisturbed.run(context, None)
    result.undisturbed_seconds = undisturbed.run_seconds
    expected = catalog(undisturbed.atlas)
    assert len(expected) == n_sections
    number = 0
    while result.kills < kills:
        trial = Trial(sheet, folder / f"{number}.atlas", result)
        number += 1
        complete, killed = False, 0
        while not complete:
            # The whole remaining life of the run, and in one trial of six only its first moments,
            # where the atlas itself is created.
            left = 0.2 + len(expected) - len(trial.attempts)
            span = 0.1 if rng.random() < 1 / 6 else result.undisturbed_seconds * left / n_sections
            enough = result.kills >= kills or killed >= KILLS_PER_ATLAS
            complete = trial.run(context, None if enough else float(rng.uniform(0, span)))
            if not complete:
                result.kills += 1
                killed += 1
                result.committed_at_kill.append(trial.check())
        trial.check()
        trial.finish(expected)
        shutil.rmtree(trial.atlas)
    result.seconds = time.perf_counter() - start
    return result


def main() -> None:
    """Run a campaign and print what it found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sections", type=int, default=8)
    parser.add_argument("--cells", type=int, default=200)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = campaign(
            Path(folder),
            kills=args.kills,
            seed=args.seed,
            n_sections=args.sections,
            n_obs=args.cells,
        )
    print(json.dumps(asdict(result), indent=1))
    print(
        f"{result.kills} kills in {result.seconds:.0f} s: {len(result.half)} half sections "
        f"visible, {len(result.lost)} committed sections lost, {result.finished} atlases resumed "
        f"to completion, {len(result.different)} sections different from an undisturbed run"
    )
    raise SystemExit(0 if result.ok else 1)


if __name__ == "__main__":
    main()
