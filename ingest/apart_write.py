"""Tables of features that are no genes, beside that of the genes: row-aligned, CSR, no index."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atlas.codecs import Grid, element_grid
from ..atlas.errors import Fault, InputError
from ..atlas.images import check_name
from ..atlas.section_shards import ArrayWriter
from ..atlas.section_write import (
    INSTANCE_KEY,
    REGION_KEY,
    encoded,
    group,
    write_features,
    write_table_frame,
)
from ..atlas.statistics import narrowest
from .bad_entries import cell_name, refusal_apart
from .sort_gather import Layouts, RepeatedGeneError, bucket_parts, layout, load_rows, write_indptr
from .sort_plan import PartitionPlan, return_memory
from .sort_scatter import BadEntryError, scatter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .apart_counts import ApartSpill, SplitCounts
    from .sort_order import RowOrder
    from .sort_scatter import Scattered
    from .source import ApartFeatures, RawSection

__all__ = ["Tables", "check_tables", "write_apart", "write_tables"]


def check_tables(names: Sequence[str]) -> None:
    """Refuse names that SpatialData refuses, and that of the table of genes.

    Raises
    ------
    InvalidArgument
        A name with other letters than SpatialData allows.
    InputError
        `table`.
    """
    for name in names:
        check_name(name)
        if name.lower() == "table":
            wanted = f"expected another name than that of the genes, but got {name!r}"
            raise InputError(Fault("apart", wanted))


@dataclass(slots=True)
class Tables:
    """What the index of the section says of the tables."""

    index: dict[str, object] = field(default_factory=dict)
    """Attribute `apart`, where there is one."""
    layouts: Layouts = field(default_factory=dict)
    """Their arrays."""


def write_tables(
    path: Path,
    raw: RawSection,
    split: SplitCounts | None,
    rows: RowOrder,
    *,
    plan: PartitionPlan,
    scratch: Path,
    pool: Executor,
    advance: Callable[[float], None],
) -> Tables:
    """Write every table that was split off; see `write_apart`.

    Raises
    ------
    InputError
        An entry that may not be stored; names cell and feature.
    """
    tables = Tables()
    if split is None:
        return tables
    infos: dict[str, object] = {}
    rank = rows.rank()
    for k, (name, spill) in enumerate(split.spills.items()):
        return_memory()
        try:
            infos[name], layouts = write_apart(
                path, name, raw.apart[name], spill, rank, plan=plan, scratch=scratch, pool=pool
            )
        except BadEntryError as bad:
            raise refusal_apart(raw, name, bad) from None
        except RepeatedGeneError as repeat:
            cell = cell_name(raw, int(rows.order[repeat.row]))
            wanted = f"expected each feature once a cell, but got one twice in cell {cell}"
            raise InputError(Fault(f"apart {name!r}", wanted)) from None
        tables.layouts |= layouts
        advance((k + 1) / len(split.spills))
    tables.index["apart"] = infos
    return tables


def write_apart(
    path: Path,
    name: str,
    features: ApartFeatures,
    spill: ApartSpill,
    rank: NDArray[np.uint32],
    *,
    plan: PartitionPlan,
    scratch: Path,
    pool: Executor,
) -> tuple[dict[str, object], Layouts]:
    """Write `tables/<name>` from what was spilled; obs of the genes' table must be written.

    Memory is that of sorting the genes: blocks and one bucket.

    Parameters
    ----------
    path : Path
        The section's container.
    name : str
        Name of the table.
    features : ApartFeatures
        Names and types of its columns.
    spill : ApartSpill
        Its entries in source order; whole numbers are stored narrow, others as float32.
    rank : (n,) uint32
        Row that each source row becomes.
    plan : PartitionPlan
        Sizes of blocks and buckets.
    scratch : Path
        Folder for temporary files.
    pool : Executor
        Threads that encode.

    Returns
    -------
    info : dict
        What the index of the section says of the table.
    layouts : dict
        Its arrays.

    Raises
    ------
    BadEntryError, RepeatedGeneError
        An entry that may not be stored; columns are those of the table.
    """
    write_table_frame(path, (rank.size, spill.n_vars), name)
    layouts = _write_var(path, name, features)
    _copy_obs(path, name)
    filled = rank.size * plan.bucket_nnz * 19 // 20
    folder = scratch / f"{spill.path.name}-rows"
    folder.mkdir()
    scattered = scatter(
        spill,
        rank,
        folder,
        bucket_rows=max(1, min(rank.size, filled // max(1, spill.stored))),
        block_bytes=plan.block_bytes,
        whole=spill.whole,
        advance=lambda done: None,
    )
    spill.path.unlink(missing_ok=True)
    dtype = narrowest(scattered.largest) if spill.whole else np.dtype(np.float32)
    layouts |= _write_rows(path, name, scattered, dtype, plan.bucket_nnz, pool)
    return {"n_vars": spill.n_vars, "nnz": scattered.nnz}, layouts


def _write_rows(  # noqa: PLR0917 - private, one caller
    path: Path,
    name: str,
    scattered: Scattered,
    dtype: np.dtype[Any],
    bucket_nnz: int,
    pool: Executor,
) -> Layouts:
    """Sort the buckets one by one and append them."""
    place, nnz = f"tables/{name}/X", scattered.nnz
    grid = element_grid(nnz, scattered.row_nnz.size, max(4, dtype.itemsize))
    with (
        ArrayWriter(path / place / "data", (nnz,), dtype, grid, pool=pool) as data,
        ArrayWriter(path / place / "indices", (nnz,), np.int32, grid, pool=pool) as indices,
    ):
        for bucket, first, stop in bucket_parts(scattered, bucket_nnz):
            _, columns, values = load_rows(scattered, bucket, first, stop)
            data.append(values)
            indices.append(columns)
            del columns, values
            if stop == bucket.stop_row:
                bucket.path.unlink(missing_ok=True)
    layouts = {
        f"{place}/data": layout((nnz,), dtype, grid),
        f"{place}/indices": layout((nnz,), np.dtype(np.int32), grid),
    }
    return layouts | write_indptr(path, f"{place}/indptr", scattered.row_nnz, pool)


def _copy_obs(path: Path, name: str) -> None:
    """Cell ids and the keys of SpatialData, as the table of genes has them."""
    obs = path / "tables" / name / "obs"
    order = {"column-order": [REGION_KEY, INSTANCE_KEY], "_index": "_index"}
    group(obs, **encoded("dataframe", "0.2.0"), **order)
    for column in ("_index", REGION_KEY, INSTANCE_KEY):
        shutil.copytree(path / "tables/table/obs" / column, obs / column)


def _write_var(path: Path, name: str, features: ApartFeatures) -> Layouts:
    """Names, made unique as AnnData wants an index, and as they were given; types."""
    columns = {"name": features.names, "feature_type": features.feature_types}
    write_features(path, name, _unique(features.names), columns)
    n = len(features.names)
    grid = Grid(max(1, n), max(1, n))
    described = {"shape": [n], "dtype": "string", "chunk": grid.chunk, "shard": grid.shard}
    return {f"tables/{name}/var/{one}": dict(described) for one in ("name", "feature_type")}


def _unique(names: Sequence[str]) -> list[str]:
    """Names with -1, -2 … after what repeats.

    >>> _unique(["a", "b", "a", "a-1", "a"])
    ['a', 'b', 'a-2', 'a-1', 'a-3']
    """
    taken, found = set(names), []
    seen: set[str] = set()
    count: dict[str, int] = {}
    for name in names:
        unique = name
        while unique in seen or (unique != name and unique in taken):
            count[name] = count.get(name, 0) + 1
            unique = f"{name}-{count[name]}"
        seen.add(unique)
        found.append(unique)
    return found
