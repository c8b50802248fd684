"""Write a simulation as h5ad files and a sample sheet, a block of cells at a time."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..atlas.errors import InvalidArgument
from .batch import Instrument
from .expression import CELL_TYPES, Programs, draw_counts, draw_types
from .plan import SectionPlan, SimulationPlan
from .tissue import DOMAINS, Tissue, permute

__all__ = ["NOTICE", "SimulationResult", "simulate"]

NOTICE = (
    "SIMULATED by tisseract: no real tissue, no real gene; for trying and testing software only"
)
_CHUNK = 262_144  # elements; an HDF5 chunk of 1 MB at four bytes


@dataclass(frozen=True, slots=True)
class SimulationResult:
    """Where a simulation lies.

    Attributes
    ----------
    sheet : Path
        The sample sheet, ``samples.csv``.
    files : tuple of Path
        One h5ad file per section, in the order of the plan.
    nnz : int
        Non-zero counts in all files together.
    """

    sheet: Path
    files: tuple[Path, ...]
    nnz: int


def simulate(
    plan: SimulationPlan, folder: str | Path, *, progress: Callable[[str], None] | None = None
) -> SimulationResult:
    """Write `plan` into `folder` as one h5ad file per section and ``samples.csv``.

    Parameters
    ----------
    plan : SimulationPlan
        What to simulate.
    folder : str or Path
        Created if absent; files of the same names must not exist.
    progress : callable, optional
        Called with one line per section.

    Returns
    -------
    SimulationResult
        Paths and the number of non-zero counts.

    Raises
    ------
    InvalidArgument
        If a file to be written exists already.

    Notes
    -----
    Memory is about ``40 * block_cells * n_genes`` bytes, whatever the number of cells.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = simulate(SimulationPlan(n_cells=800, n_genes=40), folder)
    ...     len(result.files), result.sheet.name
    (8, 'samples.csv')
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = tuple(folder / f"{section.name}.h5ad" for section in plan.sections)
    sheet = folder / "samples.csv"
    existing = [path.name for path in (*files, sheet) if path.exists()]
    if existing:
        raise InvalidArgument(
            f"a simulation needs new files, but {folder} already holds {', '.join(existing[:3])}"
            f"{' and more' if len(existing) > 3 else ''}; choose another folder or remove them"
        )
    programs = Programs.of(plan)
    nnz = 0
    for section, path in zip(plan.sections, files, strict=True):
        if progress is not None:
            progress(f"simulating {section.name}: {section.n_cells:,} cells")
        nnz += _write_section(plan, section, programs, path)
    _write_sheet(plan, sheet)
    return SimulationResult(sheet, files, nnz)


@dataclass(frozen=True, slots=True)
class _Block:
    start: int
    xy: npt.NDArray[np.float64]
    domain: npt.NDArray[np.int64]
    cell_type: npt.NDArray[np.int64]
    gradient: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]


def _blocks(plan: SimulationPlan, section: SectionPlan, programs: Programs) -> Iterator[_Block]:
    tissue = Tissue.of(plan, section)
    instrument = Instrument.of(plan, section)
    table = programs.log_mean[:, :, instrument.panel] + instrument.log_effect[instrument.panel]
    table = table + programs.clock[instrument.panel] * (section.progress - 0.5)
    slope = programs.gradient[instrument.panel]
    profile = np.exp(table)
    # the depth refers to the mean cell, so that a cell type with many transcripts keeps more counts
    profile *= plan.counts_per_cell * instrument.depth / profile.sum(axis=2).mean()
    profile = profile.astype(np.float32)
    key = plan.seed * 1_000_003 + section.index
    for number, start in enumerate(range(0, section.n_cells, plan.block_cells)):
        rng = np.random.default_rng([plan.seed, 5, section.index, number])
        cells = np.arange(start, min(start + plan.block_cells, section.n_cells), dtype=np.int64)
        if plan.order == "random":
            cells = permute(cells, section.n_cells, key)
        xy = tissue.positions(cells, rng)
        domain = tissue.domains(xy)
        cell_type = draw_types(domain, rng)
        gradient = tissue.gradient(xy, domain)
        mean = profile[cell_type, domain]
        on = np.flatnonzero(slope)
        centered = np.where(gradient > 0, gradient - 0.5, 0.0)
        mean[:, on] *= np.exp(centered[:, None] * slope[on]).astype(np.float32)
        mean *= rng.lognormal(0, 0.3, (len(cells), 1)).astype(np.float32)
        counts = draw_counts(mean, plan.dispersion, rng)
        yield _Block(start, xy, domain, cell_type, gradient, counts)


def _write_section(
    plan: SimulationPlan, section: SectionPlan, programs: Programs, path: Path
) -> int:
    instrument = Instrument.of(plan, section)
    partial = path.with_suffix(".h5ad.partial")
    try:
        with h5py.File(partial, "w") as file:
            columns = _Columns.create(file, plan, section)
            for block in _blocks(plan, section, programs):
                columns.append(block)
            nnz = columns.finish()
            _write_var(file, instrument.panel, programs.symbols)
            _write_uns(file, plan, section, instrument)
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
    return nnz


class _Columns:
    """The growing arrays of one open file; rows arrive in order."""

    def __init__(self, file: h5py.File, plan: SimulationPlan, section: SectionPlan) -> None:
        n, filters = section.n_cells, {}
        if plan.compression == "gzip":
            filters = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
        matrix = _group(file, "X", "csr_matrix", "0.1.0")
        matrix.attrs["shape"] = np.array([n, plan.n_genes], dtype=np.int64)
        growing: dict[str, Any] = {"shape": (0,), "maxshape": (None,), "chunks": (_CHUNK,)}
        self.data = matrix.create_dataset("data", dtype="f4", **growing, **filters)
        self.indices = matrix.create_dataset("indices", dtype="i4", **growing, **filters)
        self.indptr = matrix.create_dataset("indptr", shape=(n + 1,), dtype="i8")
        obs = _group(file, "obs", "dataframe", "0.2.0")
        obs.attrs["_index"] = "cell_id"
        order = ["true_domain", "true_cell_type", "true_gradient", "simulated"]
        obs.attrs.create("column-order", order, dtype=h5py.string_dtype())
        self.cell_id = obs.create_dataset("cell_id", shape=(n,), dtype=h5py.string_dtype())
        _encode(self.cell_id, "string-array", "0.2.0")
        self.domain = _categorical(obs, "true_domain", DOMAINS, n)
        self.cell_type = _categorical(obs, "true_cell_type", CELL_TYPES, n)
        self.gradient = obs.create_dataset("true_gradient", shape=(n,), dtype="f4")
        _encode(self.gradient, "array", "0.2.0")
        flag = obs.create_dataset("simulated", data=np.ones(n, dtype=bool))
        _encode(flag, "array", "0.2.0")
        obsm = _group(file, "obsm", "dict", "0.1.0")
        self.spatial = obsm.create_dataset("spatial", shape=(n, 2), dtype="f8")
        _encode(self.spatial, "array", "0.2.0")
        self.section, self.nnz = section, 0

    @classmethod
    def create(cls, file: h5py.File, plan: SimulationPlan, section: SectionPlan) -> _Columns:
        _encode(file, "anndata", "0.1.0")
        for name in ("layers", "obsp", "varm", "varp"):
            _group(file, name, "dict", "0.1.0")
        return cls(file, plan, section)

    def append(self, block: _Block) -> None:
        start, stop = block.start, block.start + len(block.xy)
        rows, columns = np.nonzero(block.counts)
        per_row = np.bincount(rows, minlength=len(block.xy))
        new = self.nnz + len(rows)
        self.data.resize((new,))
        self.indices.resize((new,))
        self.data[self.nnz :] = block.counts[rows, columns].astype(np.float32)
        self.indices[self.nnz :] = columns.astype(np.int32)
        self.indptr[start + 1 : stop + 1] = self.nnz + np.cumsum(per_row)
        self.nnz = new
        self.spatial[start:stop] = block.xy
        self.domain[start:stop] = block.domain
        self.cell_type[start:stop] = block.cell_type
        self.gradient[start:stop] = block.gradient
        width = len(str(self.section.n_cells))
        self.cell_id[start:stop] = np.array(
            [f"cell_{i:0{width}d}" for i in range(start + 1, stop + 1)], dtype=object
        )

    def finish(self) -> int:
        self.indptr[0] = 0
        return self.nnz


def _encode(node: h5py.Dataset | h5py.Group, kind: str, version: str) -> None:
    node.attrs["encoding-type"] = kind
    node.attrs["encoding-version"] = version


def _group(parent: h5py.Group, name: str, kind: str, version: str) -> h5py.Group:
    group = parent.create_group(name)
    _encode(group, kind, version)
    return group


def _strings(parent: h5py.Group, name: str, values: list[str]) -> None:
    data = parent.create_dataset(
        name, data=np.array(values, dtype=object), dtype=h5py.string_dtype()
    )
    _encode(data, "string-array", "0.2.0")


def _categorical(parent: h5py.Group, name: str, categories: tuple[str, ...], n: int) -> Any:
    group = _group(parent, name, "categorical", "0.2.0")
    group.attrs["ordered"] = False
    _strings(group, "categories", list(categories))
    codes = group.create_dataset("codes", shape=(n,), dtype="i1")
    _encode(codes, "array", "0.2.0")
    return codes


def _write_var(file: h5py.File, panel: npt.NDArray[np.int64], symbols: tuple[str, ...]) -> None:
    var = _group(file, "var", "dataframe", "0.2.0")
    var.attrs["_index"] = "gene_id"
    var.attrs.create("column-order", ["symbol"], dtype=h5py.string_dtype())
    _strings(var, "gene_id", [f"TSIM{gene + 1:06d}" for gene in panel.tolist()])
    _strings(var, "symbol", [symbols[gene] for gene in panel.tolist()])


def _write_uns(
    file: h5py.File, plan: SimulationPlan, section: SectionPlan, instrument: Instrument
) -> None:
    uns = _group(file, "uns", "dict", "0.1.0")
    simulation = _group(uns, "simulation", "dict", "0.1.0")
    facts: dict[str, str | int | float] = {
        "notice": NOTICE,
        "seed": plan.seed,
        "section": section.name,
        "run": f"run{section.run + 1}",
        "depth": instrument.depth,
    }
    for name, value in facts.items():
        text = isinstance(value, str)
        node = simulation.create_dataset(
            name, data=value, dtype=h5py.string_dtype() if text else None
        )
        _encode(node, "string" if text else "numeric-scalar", "0.2.0")


def _write_sheet(plan: SimulationPlan, path: Path) -> None:
    rows: list[dict[str, str | float]] = [
        {
            "sample": section.name,
            "data_path": f"{section.name}.h5ad",
            "format": "h5ad",
            "technology": "simulated",
            "timepoint": section.timepoint,
            "time_value": section.time_days,
            "time_unit": "day",
            "donor": f"{section.timepoint}_embryo{section.embryo}",
            "tissue": "simulated tissue",
            "organism": "simulated",
            "batch": f"run{section.run + 1}",
            "values": "counts",
            "um_per_unit": 1,
            "simulated": "yes",
        }
        for section in plan.sections
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
