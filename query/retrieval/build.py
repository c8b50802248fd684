"""Building an index of windows: sections are described one by one, and committed together."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import InvalidArgument, UnitUnknown
from ...atlas.memory import parse_bytes, refuse_above
from ...atlas.snapshot import Change, SegmentEntry
from ..filters.columns import Columns
from ..filters.masks import derived_keys
from ..filters.parser import parse
from ..filters.predicate import leaves
from .approximate import add_graphs, require_usearch
from .cells import BLOCK_CELLS, spacing, taking_part
from .describe import Described, describe_section
from .features import Embedded, Features, Projected, fit_projection
from .opened import Index, open_index
from .parameters import PLAIN, IndexParameters
from .segment import SegmentWriter
from .shares import ShareColumn

if TYPE_CHECKING:
    import pandas as pd

    from ...atlas.section import Section
    from ...atlas.store import AtlasStore

KIND = "index"
_FIXED_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """All that describing a section needs."""

    parameters: IndexParameters
    features: Features
    columns: tuple[ShareColumn, ...]
    labels: tuple[str, ...]
    """Kind and key of the derived data that says which cells take part, or gives shares."""


def build_index(
    store: "AtlasStore",
    parameters: IndexParameters,
    *,
    key: str,
    sections: Sequence[str] | None = None,
    overwrite: bool = False,
    approximate: bool | None = None,
    memory_limit: str | int | None = None,
    progress: Callable[[str], None] | None = None,
) -> "pd.DataFrame":
    """Describe the windows of sections and commit them as an index.

    Sections that the index holds already, made with the same parameters from what the atlas
    holds now, are left alone; what is added is described by the same features.

    Parameters
    ----------
    store
        The atlas, opened for writing.
    parameters
        How windows are laid and described.
    key
        Name of the index.
    sections
        Default all.
    overwrite
        Make it anew; needed for other parameters.
    approximate
        Whether to add a graph for approximate search; default where there are more windows of
        a size than exact search goes through quickly.
    memory_limit
        Refuse above it.
    progress
        Told each section's name before it is described.

    Returns
    -------
    DataFrame
        One row a section and size that was described: cells that take part, windows.

    Raises
    ------
    ReadOnly
        The atlas was opened for reading.
    UnitUnknown
        Sizes in micrometers, but a section of unknown unit.
    InvalidArgument
        Other parameters than the index has; sections that share no genes; a column that holds
        no labels.
    BudgetExceeded
        The plan's peak is above the limit.
    CommitConflict
        Others changed this index meanwhile.

    Notes
    -----
    Memory: a block of 8,192 cells with their counts, the windows of one section, and for
    `space="plain"` three dense matrices genes x genes.
    """
    store.require_writing("an index")
    if approximate:
        require_usearch()
    names = _checked(store, sections)
    seen = store.snapshot
    known = None if overwrite else open_index(store, key, missing_ok=True)
    if known is not None and (different := known.parameters.differences(parameters)):
        raise InvalidArgument(
            f"the parameters of index {key!r} are wanted, but {', '.join(different)} differ; "
            "build it anew with overwrite=True, or another one with key="
        )
    wanted = [n for n in names if known is None or n not in known.rows]
    _check_units(store, wanted, parameters)
    _check_memory(store, wanted, parameters, memory_limit)
    if not wanted:
        return _report([], parameters)
    work = _prepare(store, wanted, parameters, known)
    old = {} if known is None else dict.fromkeys(segment.name for segment in known.entries)
    entry, described = _write(store, key, wanted, work, approximate=approximate, progress=progress)
    here = [
        name
        for name, segment in seen.segments.items()
        if (segment.kind, segment.key) == (KIND, key) and name not in old
    ]
    # Others may have described theirs by other features: one index would ignore one of the two.
    expect = {f"{KIND}/{key}": (*old, *here)}
    change = Change(add_segments=[entry], remove_segments=here, expect_segments=expect)
    store.commit(change, f"index {key} of {len(wanted)} sections")
    return _report(described, parameters)


def _checked(store: "AtlasStore", sections: Sequence[str] | None) -> list[str]:
    names = list(store.section_names) if sections is None else sorted(dict.fromkeys(sections))
    for name in names:
        store.section(name)
    if not names:
        raise InvalidArgument("sections are wanted for an index, but the atlas has none")
    return names


def _check_units(store: "AtlasStore", names: Sequence[str], parameters: IndexParameters) -> None:
    unknown = [n for n in names if store.snapshot.sections[n].um_per_unit is None]
    if parameters.unit == "um" and unknown:
        raise UnitUnknown(
            f"micrometers are wanted for window_um, but the unit of {', '.join(unknown[:5])}"
            f"{' ...' if len(unknown) > 5 else ''} is unknown; give window_spacings=(2, 4), "
            "multiples of the median distance of neighbors, or ingest with um_per_unit"
        )


def planned_bytes(store: "AtlasStore", names: Sequence[str], parameters: IndexParameters) -> int:
    """Estimate of the peak memory of describing sections."""
    entries = [store.snapshot.sections[name] for name in names]
    if not entries:
        return 0
    density = max(entry.nnz / max(entry.n_obs, 1) for entry in entries)
    block = round(BLOCK_CELLS * density * 24) if parameters.space == PLAIN else 0
    genes = 4 * 8 * parameters.n_genes**2 if parameters.space == PLAIN else 0
    width = 128 if parameters.space != PLAIN else parameters.n_dims
    # A bin holds a cell at least; sums, squares, and the windows made of them.
    bins = 0
    for entry in entries:
        xmin, ymin, xmax, ymax = entry.bounds
        # a spacing is about the side of the square that a cell has to itself
        cell = np.sqrt(max((xmax - xmin) * (ymax - ymin), 1e-12) / max(entry.n_obs, 1))
        unit = 1.0 if parameters.unit == "um" else float(cell)
        sides = [size * unit / 2 for size in parameters.sizes]
        squares = [((xmax - xmin) / s + 2) * ((ymax - ymin) / s + 2) for s in sides]
        bins = max(bins, round(sum(min(part, entry.n_obs) for part in squares)))
    return _FIXED_BYTES + max(block + bins * width * 8 * 6, genes)


def _check_memory(
    store: "AtlasStore",
    names: Sequence[str],
    parameters: IndexParameters,
    memory_limit: str | int | None,
) -> None:
    refuse_above(
        parse_bytes(memory_limit),
        planned_bytes(store, names, parameters),
        f"an index of {len(names)} sections",
        "take larger windows or fewer genes (n_genes=), or give a larger memory_limit",
    )


def _prepare(
    store: "AtlasStore", names: Sequence[str], parameters: IndexParameters, known: Index | None
) -> _Work:
    features: Features
    if parameters.space != PLAIN:
        held = [] if known is None else list(known.rows)
        features = Embedded.of(store, parameters.space, sorted({*names, *held}))
    elif known is None:
        features = fit_projection(store, names, parameters)
    else:
        features = known.projection().over(store, names)
    values = {} if known is None else known.values
    columns = tuple(
        ShareColumn.of(store, name, names, values.get(name)) for name in parameters.columns
    )
    return _Work(parameters, features, columns, tuple(_labels(store, parameters, columns)))


def _labels(
    store: "AtlasStore", parameters: IndexParameters, columns: Sequence[ShareColumn]
) -> list[str]:
    resolver = Columns(store)
    asked = [] if parameters.where is None else leaves(parse(parameters.where))
    named = [resolver.resolve(leaf.column) for leaf in asked]
    return derived_keys([*named, *(column.column for column in columns)])


def _write(
    store: "AtlasStore",
    key: str,
    names: Sequence[str],
    work: _Work,
    *,
    approximate: bool | None,
    progress: Callable[[str], None] | None,
) -> tuple[SegmentEntry, list[dict[str, Any]]]:
    described: list[dict[str, Any]] = []
    with store.new_attempt(f"segments/{KIND}/{key}") as attempt:
        with SegmentWriter(attempt.path) as writer:
            for name in names:
                if progress is not None:
                    progress(name)
                result = _describe(store, store.section(name), work)
                described.append(_append(writer, name, result) | _inputs(store, name, work))
            if isinstance(work.features, Projected):
                writer.append("projection", work.features.weights)
            facts = _facts(work, described)
            writer.finish(facts)
        add_graphs(attempt.path, facts, approximate)
        every = {k: v for one in described for k, v in one["inputs"].items()}
        text = json.dumps(_provenance(store, work.parameters, every), indent=1, sort_keys=True)
        (attempt.path / "provenance.json").write_text(text + "\n", encoding="utf-8")
        receipt = attempt.seal()
    info = {"parameters": work.parameters.to_dict(), "n_sections": len(names)}
    entry = SegmentEntry(KIND, key, receipt.attempt, receipt.digest, receipt.nbytes, every, info)
    return entry, described


def _describe(store: "AtlasStore", section: "Section", work: _Work) -> Described:
    parameters = work.parameters
    scale = 1.0 if parameters.unit == "um" else spacing(section)
    return describe_section(
        store,
        section,
        taking_part(store, section, parameters.where, all_cells=parameters.all_cells),
        work.features,
        work.columns,
        sizes=parameters.sizes,
        scale=scale,
        least=parameters.min_cells,
    )


def _inputs(store: "AtlasStore", name: str, work: _Work) -> dict[str, Any]:
    """Tell what a section's windows come from, and which labels it had none of."""
    derived = store.snapshot.derived
    labels = [f"{key}/{name}" for key in work.labels]
    inputs = {f"section:{name}": store.snapshot.sections[name].attempt}
    inputs |= work.features.inputs(name)
    inputs |= {label: derived[label].attempt for label in labels if label in derived}
    return {"inputs": inputs, "without": [label for label in labels if label not in derived]}


def _append(writer: SegmentWriter, name: str, found: Described) -> dict[str, Any]:
    """Append one section's windows; return what `index.json` says of it."""
    writer.append("center", found.center[None, :])
    for size, windows in enumerate(found.windows):
        writer.append(f"w{size}.grid", windows.grid.astype(np.int32))
        writer.append(f"w{size}.n_cells", windows.n_cells.astype(np.int32))
        writer.append(f"w{size}.mean", _half(windows.mean))
        writer.append(f"w{size}.spread", _half(windows.spread))
        for number, share in enumerate(windows.shares):
            writer.append(f"w{size}.share{number}", share.astype(np.float16))
        moments = [part.sum(axis=0) for part in _moments(windows.mean, windows.spread)]
        writer.append(f"w{size}.moments", np.concatenate(moments)[None, :])
    return {
        "section": name,
        "n_cells": found.n_cells,
        "scale": found.scale,
        "x": found.grids[0].x,
        "y": found.grids[0].y,
        "windows": [len(windows.grid) for windows in found.windows],
    }


def _moments(*parts: Any) -> list[Any]:
    return [moment for part in parts for moment in (part, part * part)]


def _half(values: Any) -> Any:
    return np.clip(values, -65504, 65504).astype(np.float16)


def _facts(work: _Work, described: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    features = work.features
    genes = list(features.genes) if isinstance(features, Projected) else []
    return {
        "parameters": work.parameters.to_dict(),
        "width": features.width,
        "genes": genes,
        "values": {column.column.name: list(column.values) for column in work.columns},
        "sections": list(described),
    }


def _provenance(
    store: "AtlasStore", parameters: IndexParameters, inputs: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "tool": "tisseract",
        "version": version("tisseract"),
        "snapshot": store.version,
        "inputs": dict(inputs),
        "parameters": parameters.to_dict(),
        "seed": None,
        "run": None,
    }


def _report(described: Sequence[Mapping[str, Any]], parameters: IndexParameters) -> "pd.DataFrame":
    import pandas as pd

    rows = [
        (one["section"], size, one["n_cells"], number)
        for one in described
        for size, number in zip(parameters.sizes, one["windows"], strict=True)
    ]
    unit = "window_um" if parameters.unit == "um" else "window_spacings"
    return pd.DataFrame(rows, columns=["section", unit, "n_cells", "n_windows"])
