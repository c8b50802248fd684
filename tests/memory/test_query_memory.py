"""Lazy queries of a large section: memory above the imports, until an answer is wanted."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from tisseract.atlas.store import create_store

from ..sections import add_section, make_raw

pytestmark = [pytest.mark.slow, pytest.mark.memory]

N_OBS = 500_000
# Of the 500 MB that 10 M cells may take: what grows with cells has a twentieth, what does not
# (indexes, one batch of tiles) has 45 MB.
ALLOWED = 70 * 2**20

LAZY = """
import json, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
import anndata, dask.array, numba, pandas, pyarrow.parquet, scipy.sparse, shapely, xarray
import tisseract.query.lazy.arrays, tisseract.query.exports.to_anndata
from tisseract.atlas.store import open_store
from tisseract.query import select, region

def status(field):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024

gene = sys.argv[2]
store = open_store(sys.argv[1])
name = store.section_names[0]
ask = {
    "everything": lambda: select(store),
    "gene": lambda: select(store, f"counts:{gene} > 1"),
    "log": lambda: select(store, f"log1p:{gene} > 2.5"),
    "half": lambda: region(store, name, bbox=(-1e9, -1e9, float(sys.argv[3]), 1e9)),
}
Path("/proc/self/clear_refs").write_text("5")
base, peaks = status("VmRSS"), {}
for what, question in ask.items():
    selection = question()
    str(selection.explain()), repr(selection), selection.n_obs
    selection.to_dask(), selection.to_xarray(block_bytes="16 MiB")
    next(iter(selection.batches(1_000)))
    peaks[what] = status("VmHWM") - base
print(json.dumps(peaks))
"""


def measured(atlas: Path, gene: str, middle: float) -> dict[str, int]:
    """Peak above the imports after each question, in a fresh process."""
    command = [sys.executable, "-c", LAZY, str(atlas), gene, str(middle)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_lazy_queries_stay_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    counts = sparse.random(N_OBS, 4, 0.5, "csr", rng=rng, dtype=np.float32)
    counts.data = rng.integers(1, 5, counts.nnz).astype(np.float32)
    positions = rng.random((N_OBS, 2)) * 7_000
    raw = make_raw(
        n_obs=N_OBS,
        counts=counts,
        positions=positions,
        um_per_unit=1.0,
        obs={},
        genes=["A", "B", "C", "D"],
    )
    add_section(create_store(tmp_path / "atlas"), "s", raw, tile_cells=4_096)
    peaks = measured(tmp_path / "atlas", "B", 3_500.0)
    assert max(peaks.values()) <= ALLOWED, peaks
