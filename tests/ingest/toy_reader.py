"""A reader small enough for tests of the pipeline: sections in `.npz` files, made from a seed.

Also proof that a reader from outside the package works: it is registered, not built in.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tisseract.atlas.errors import Fault, InputError
from tisseract.atlas.genes import Panel
from tisseract.ingest.reader import Inspection, ReadOptions, register
from tisseract.ingest.source import ArrayColumn, MatrixCounts, RawSection


def toy_counts(seed: int, n_obs: int = 60, n_vars: int = 12) -> sparse.csr_matrix:
    rng = np.random.default_rng(seed)
    return sparse.csr_matrix(rng.poisson(0.8, (n_obs, n_vars)).astype(np.float32))


def write_toy(path: Path, seed: int, n_obs: int = 60, n_vars: int = 12) -> Path:
    rng = np.random.default_rng(seed)
    counts = toy_counts(seed, n_obs, n_vars)
    np.savez(
        path,
        positions=rng.uniform(0, 500, (n_obs, 2)),
        data=counts.data,
        indices=counts.indices,
        indptr=counts.indptr,
        n_vars=n_vars,
    )
    return path


class ToyReader:
    """Reads what `write_toy` wrote; `reader_kwargs` make it slow or broken on demand."""

    format = "toy"

    def recognizes(self, path: Path) -> bool:
        return path.suffix == ".npz"

    def files(self, path: Path, options: ReadOptions) -> tuple[Path, ...]:
        return (path,)

    def _load(self, path: Path) -> dict[str, NDArray[np.generic]]:
        try:
            with np.load(path) as file:
                return {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError) as error:
            raise InputError(Fault(str(path), f"not readable ({error})")) from error

    def inspect(self, path: Path, options: ReadOptions) -> Inspection:
        parts = self._load(path)
        n_obs = len(parts["positions"])
        splits: dict[str, int] = {}
        if options.split_by == "half":
            splits = {"left side": n_obs // 2, "right": n_obs - n_obs // 2}
        elif options.split_by == "clash":
            splits = {"a b": n_obs // 2, "a-b": n_obs - n_obs // 2}
        faults = (
            (Fault("inspection", "refused, as asked"),)
            if options.reader_kwargs.get("refuse")
            else ()
        )
        return Inspection(
            "toy",
            path,
            n_obs,
            int(parts["n_vars"]),
            len(parts["data"]),
            technology="simulated",
            um_per_unit=1.0,
            unit_source="as given",
            splits=splits,
            faults=faults,
        )

    def open(self, path: Path, options: ReadOptions) -> RawSection:
        time.sleep(float(str(options.reader_kwargs.get("sleep", 0))))
        if options.reader_kwargs.get("fail"):
            raise InputError(Fault(str(path), "broken, as asked"))
        if options.reader_kwargs.get("bug"):
            raise ZeroDivisionError("a bug in a reader")
        parts = self._load(path)
        positions = np.asarray(parts["positions"], dtype=np.float64)
        shape = (len(positions), int(parts["n_vars"]))
        triple: Any = (parts["data"], parts["indices"], parts["indptr"])
        counts: Any = sparse.csr_matrix(triple, shape)
        rows = np.arange(len(positions))
        if options.split_value is not None:
            rows = (
                rows[: len(rows) // 2] if "left" in options.split_value else rows[len(rows) // 2 :]
            )
        return RawSection(
            positions=positions[rows],
            instance_ids=ArrayColumn.of([f"c{row}" for row in rows]),
            obs={"row": ArrayColumn.of(rows)},
            panel=Panel.of([f"G{i}" for i in range(shape[1])], organism="mouse"),
            counts=MatrixCounts(counts[rows]),
            um_per_unit=1.0,
        )


register(ToyReader())
