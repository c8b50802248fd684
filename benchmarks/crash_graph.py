"""Kill a graph build at random instants; what was finished is used, nothing is half there.

    python benchmarks/crash_graph.py --kills 60 --seed 0

Each trial forks from a server that has everything imported, says that it is ready, builds the
graphs of several sections in many small blocks, and is killed (SIGKILL) a random moment after a
random block: mostly while blocks are built, and once an atlas while graphs are sealed and
committed.
After every kill:

- `verify` finds nothing, and a graph is either absent or whole;
- the next run of the same call builds exactly the blocks that had no receipt. Between the end of
  the records and the commit there is a moment, `given_up`, in which a kill costs whole sections.

At the end every graph has the same sparse matrix, number by number, as after an undisturbed
build, and once gc has run nothing is left but what the snapshots name.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import multiprocessing
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from crash_campaign import PRELOAD, write_inputs

from tisseract.atlas.garbage import gc
from tisseract.atlas.graph import build_graphs, open_graph
from tisseract.atlas.store import AtlasStore, open_store
from tisseract.atlas.verify import verify
from tisseract.ingest.pipeline import ingest

KEY = "spatial"
TILE_CELLS = 64
BLOCK_ROWS = 150
KILLS_PER_ATLAS = 5  # then it is let run to its end


@dataclass
class GraphCampaign:
    """What a campaign found; `half`, `wasted`, `different` and `left` must stay empty."""

    kills: int = 0
    finished: int = 0
    n_blocks: int = 0
    blocks_at_kill: list[int] = field(default_factory=list)
    adopted: int = 0
    given_up: int = 0
    half: list[str] = field(default_factory=list)
    wasted: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing was half visible, built twice, different or left over."""
        return not (self.half or self.wasted or self.different or self.left)


def small_blocks(delay: float = 0.0, tell: Any = None) -> None:
    """Make this process cut sections into many blocks, each a moment's work."""
    plan: Any = importlib.import_module("tisseract.atlas.graph.planning.plan")
    blocks: Any = importlib.import_module("tisseract.atlas.graph.building.block_task")
    plain = blocks.write_pieces

    def write(*args: Any, **options: Any) -> Any:
        receipt = plain(*args, **options)
        time.sleep(delay)
        if tell is not None:
            tell()
        return receipt

    plan._BLOCK_ROWS = BLOCK_ROWS
    blocks.write_pieces = write


def child(atlas: str, delay: float, options: dict[str, Any], pipe: Connection) -> None:
    """Build in a process of its own, reporting each block that is computed."""
    once = threading.Lock()

    def tell() -> None:
        with once:
            pipe.send("block")

    with tempfile.TemporaryDirectory() as warm:  # kernels are loaded before the clock starts
        sheet = write_inputs(Path(warm) / "inputs", 1, 40)
        ingest(sheet, Path(warm) / "atlas")
        build_graphs(open_store(Path(warm) / "atlas", read_only=False), **options)
    small_blocks(delay, tell)
    pipe.send("ready")
    build_graphs(open_store(atlas, read_only=False), key_added=KEY, **options)
    pipe.send("end")


def matrices(store: AtlasStore) -> dict[str, Any]:
    """Logical matrix of every section that has a graph."""
    sections = store.derived_keys("graph").get(KEY, [])
    return {name: open_graph(store, KEY, name).to_csr() for name in sections}


def same(found: Any, wanted: Any) -> bool:
    """Compare two sparse matrices by their arrays."""
    return all(
        np.array_equal(getattr(found, name), getattr(wanted, name))
        for name in ("indptr", "indices", "data")
    )


def receipts(atlas: Path) -> int:
    """Count finished blocks of attempts that can be gone on with."""
    plans = atlas.glob("derived/graph/*/*/*/.building/plan.json")
    return sum(1 for note in plans for _ in note.parent.glob("blocks.*.json"))


def given_up(atlas: Path) -> int:
    """Count attempts that a kill met between the end of their records and the commit."""
    used = {entry.prefix for entry in open_store(atlas).snapshot.entries()}
    manifests = atlas.glob("derived/graph/*/*/*.manifest.json")
    found = [path.with_name(path.name.removesuffix(".manifest.json")) for path in manifests]
    return sum(
        str(path.relative_to(atlas)) not in used and not (path / ".building" / "plan.json").exists()
        for path in found
    )


class Trial:
    """One atlas, killed until its graphs are complete."""

    def __init__(
        self, atlas: Path, delay: float, options: dict[str, Any], result: GraphCampaign
    ) -> None:
        self.atlas, self.delay, self.options, self.result = atlas, delay, options, result
        self.computed = 0
        self.sealing_seconds = 0.0

    def run(self, context: Any, kill_at: tuple[int, float] | None) -> bool:
        """Run once, killed so many blocks and seconds later; True when it came to its end."""
        here, there = context.Pipe(duplex=False)
        args = (str(self.atlas), self.delay, self.options, there)
        process = context.Process(target=child, args=args)
        process.start()
        there.close()
        self.computed = 0
        try:
            assert here.poll(120), "the build did not start within two minutes"
            here.recv()
            n_blocks, wait = (10**9, 0.0) if kill_at is None else kill_at
            ended = self._drain(here, n_blocks, 300)
            ended = ended or self._drain(here, 10**9, wait)
            process.kill()
            process.join()
            ended = ended or self._drain(here, 10**9, 0.05)
            assert ended or process.exitcode == -9, f"the build failed ({process.exitcode})"
        finally:
            here.close()
        return ended

    def _drain(self, pipe: Connection, n_blocks: int, seconds: float) -> bool:
        """Listen until so many blocks are built in all, or for so long; True at the end."""
        until = time.perf_counter() + seconds
        last = time.perf_counter()
        # The last message may be cut off by the kill.
        with contextlib.suppress(EOFError, OSError):
            while self.computed < n_blocks and pipe.poll(max(0.0, until - time.perf_counter())):
                if pipe.recv() == "end":
                    self.sealing_seconds = time.perf_counter() - last
                    return True
                self.computed += 1
                last = time.perf_counter()
        return False

    def check(self, expected: Mapping[str, Any]) -> None:
        """Check what stands there after a kill or at the end."""
        store = open_store(self.atlas)
        report = verify(store)
        if not report.ok or report.warnings:
            self.result.half.append(str(report))
        for name, matrix in matrices(store).items():
            if not same(matrix, expected[name]):
                self.result.half.append(f"{name}: another matrix")

    def finish(self, expected: Mapping[str, Any]) -> None:
        """Compare a complete atlas with the undisturbed one, then clear what the kills left."""
        store = open_store(self.atlas, read_only=False)
        found = matrices(store)
        for name in sorted(set(found) | set(expected)):
            if name not in found or not same(found[name], expected[name]):
                self.result.different.append(name)
        self.result.given_up += given_up(self.atlas)
        gc(store, dry_run=False, grace=0)
        used = {entry.prefix for entry in store.snapshot.entries()}
        used |= {entry.manifest for entry in store.snapshot.entries()}
        for key, _ in store.storage.list("derived"):
            if not any(key == u or key.startswith(f"{u}/") for u in used):
                self.result.left.append(key)
        self.result.left += [path.name for path in (self.atlas / ".scratch").iterdir()]
        self.check(expected)
        self.result.finished += 1


def campaign(
    folder: Path,
    *,
    kills: int,
    seed: int = 0,
    n_sections: int = 3,
    n_obs: int = 1500,
    delay: float = 0.02,
    options: dict[str, Any] | None = None,
) -> GraphCampaign:
    """Kill `kills` times; see the module."""
    start = time.perf_counter()
    result = GraphCampaign()
    options = {"n_neighs": 6} if options is None else options
    rng = np.random.default_rng(seed)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOAD, "tisseract.atlas.graph", "crash_graph"])
    plain = folder / "plain.atlas"
    ingest(write_inputs(folder / "inputs", n_sections, n_obs), plain, tile_cells=TILE_CELLS)
    undisturbed = Trial(folder / "undisturbed.atlas", delay, options, result)
    shutil.copytree(plain, undisturbed.atlas)
    assert undisturbed.run(context, None)
    result.n_blocks, sealing = undisturbed.computed, undisturbed.sealing_seconds
    expected = matrices(open_store(undisturbed.atlas))
    assert len(expected) == n_sections
    number = 0
    while result.kills < kills:
        trial = Trial(folder / f"{number}.atlas", delay, options, result)
        shutil.copytree(plain, trial.atlas)
        number += 1
        _until_complete(trial, context, kills, sealing, rng, expected)
        trial.finish(expected)
        shutil.rmtree(trial.atlas)
    result.seconds = time.perf_counter() - start
    return result


def _until_complete(
    trial: Trial,
    context: Any,
    kills: int,
    sealing: float,
    rng: np.random.Generator,
    expected: Mapping[str, Any],
) -> None:
    result, killed, complete = trial.result, 0, False
    while not complete:
        before = receipts(trial.atlas)
        built = len(matrices(open_store(trial.atlas))) > 0
        remaining = result.n_blocks - before
        # The last comes at the end, where the graphs are sealed and committed.
        late = killed == KILLS_PER_ATLAS - 1
        at = remaining if late else int(rng.integers(remaining // 2 + 1))
        kill_at = (at, float(rng.uniform(0, sealing if late else 0.01)))
        enough = result.kills >= kills or killed >= KILLS_PER_ATLAS
        complete = trial.run(context, None if enough else kill_at)
        result.adopted += before
        if trial.computed > result.n_blocks - before or (complete and built and trial.computed):
            result.wasted.append(f"{trial.computed} blocks built where {before} were finished")
        if not complete:
            result.kills += 1
            killed += 1
            result.blocks_at_kill.append(receipts(trial.atlas))
            trial.check(expected)


def main() -> None:
    """Run a campaign and print what it found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sections", type=int, default=3)
    parser.add_argument("--cells", type=int, default=1500)
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
        f"{result.kills} kills in {result.seconds:.0f} s: {len(result.half)} graphs half visible, "
        f"{len(result.wasted)} runs that built a finished block, {result.adopted} blocks used "
        f"again, {result.finished} atlases resumed to completion, {len(result.different)} graphs "
        f"different, {len(result.left)} objects left after gc"
    )
    raise SystemExit(0 if result.ok else 1)


if __name__ == "__main__":
    main()
