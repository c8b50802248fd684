"""Cells of a CosMx export: rows of counts and of metadata brought together by their keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ...atlas.errors import Fault, InputError
from ..source import StringValues
from .cosmx_frame import FovFrame, Positions, fit_frame
from .cosmx_keys import CellKeys, cell_names, packed, whole
from .cosmx_table import PIXELS, columns_of, key_columns, numbers_by_role, paired

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .table import Table

__all__ = ["Cells", "Metadata", "frame_of", "match", "read_metadata", "read_places"]

_ROLES = {
    "lx": ("CenterX_local_px",),
    "ly": ("CenterY_local_px",),
    "gx": ("CenterX_global_px",),
    "gy": ("CenterY_global_px",),
    "area": ("Area",),
    "um2": ("Area.um2",),
}
# What tells of the run rather than of a cell, and is one word in the whole file.
_RUN = (
    "version", "Run_name", "Run_Tissue_name", "tissue", "Panel", "panel", "assay_type", "slide_ID",
    "slide_ID_numeric", "cellSegmentationSetName", "cellSegmentationSetId", "ISH.concentration",
)  # fmt: skip
_FIT_ROWS = 1_000_000
_FIT_POINTS = 500  # of a FOV; local and global pixels of points are exact
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is read of a metadata file at once; the rest is lazy."""

    fov: NDArray[np.int64]
    """(n,) FOV."""
    cell: NDArray[np.int64]
    """(n,) number in the FOV."""
    local: NDArray[np.float64] | None
    """(n, 2) pixels in the FOV."""
    whole: NDArray[np.float64] | None
    """(n, 2) global pixels."""
    area_px: NDArray[np.float64] | None
    """(n,)"""
    area_um2: NDArray[np.float64] | None
    """(n,)"""
    prefix: str
    """What the vendor's names put before FOV and number; "" without such names."""
    named_by: str
    """Column with the vendor's unique names, "" if none."""
    run: dict[str, object] = field(default_factory=dict)
    """Words that hold for the whole run."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells that have both counts and metadata, in the order of the counts."""

    rows: NDArray[np.int64]
    """(n,) rows of the counts, ascending."""
    of: NDArray[np.int64]
    """(n,) rows of the metadata."""
    keys: NDArray[np.int64]
    """(n,) packed FOV and number."""
    ids: StringValues
    """(n,) names."""
    notes: tuple[str, ...]
    """What was left out."""


def read_metadata(table: Table) -> Metadata:
    """Read keys, places and areas of the cells, in one pass.

    Memory: 64 bytes a cell while it is read, 48 after.

    Raises
    ------
    InputError
        No FOV, no number, or ones that are no whole numbers.
    """
    names = key_columns(table, **_ROLES)
    values = numbers_by_role(table, names)
    fov = whole(values["fov"], f"{table.path}:{names['fov']}")
    cell = whole(values["cell"], f"{table.path}:{names['cell']}")
    named_by, prefix = _vendor_names(table, fov, cell)
    return Metadata(
        fov,
        cell,
        paired(values, "lx", "ly"),
        paired(values, "gx", "gy"),
        values.get("area"),
        values.get("um2"),
        prefix,
        named_by,
        _run_facts(table),
    )


def _vendor_names(table: Table, fov: NDArray[np.int64], cell: NDArray[np.int64]) -> tuple[str, str]:
    """Column whose words are one prefix, the FOV and the number: `c_1_12_345`; and the prefix."""
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pa.large_string()
    for name in ("cell", "cell_id"):
        if name not in table.names or not fov.size:
            continue
        start, prefix = 0, ""
        for batch in table.batches([name], {name: text}):
            words, stop = batch.column(0), start + batch.num_rows
            if start == 0:
                first = str(words[0].as_py() or "")
                prefix = first.removesuffix(f"{fov[0]}_{cell[0]}")
                if prefix == first:
                    break
            made = cell_names(fov[start:stop], cell[start:stop], prefix)
            if len(made) != len(words) or not pc.all(pc.equal(words, made)).as_py():
                break
            start = stop
        if start == fov.size:
            return name, prefix
    return "", ""


def _run_facts(table: Table) -> dict[str, object]:
    """Words of the first rows that tell of the run."""
    import pyarrow as pa

    names = [name for name in _RUN if name in table.names]
    if not names:
        return {}
    for batch in table.batches(names, dict.fromkeys(names, pa.string())):
        facts: dict[str, object] = {}
        for name, column in zip(names, batch.columns, strict=True):
            words = [str(word).strip() for word in column.unique().to_pylist() if word is not None]
            if words and len(words) <= _SHOWN:
                facts[name] = words[0] if len(words) == 1 else words
        return facts
    return {}


def match(keys: CellKeys, meta: Metadata, where: str, other: str) -> Cells:
    """Bring counts and metadata together.

    Parameters
    ----------
    keys : CellKeys
        Of the counts.
    meta : Metadata
        Of the cells.
    where, other : str
        The two files, for messages.

    Raises
    ------
    InputError
        A cell twice in a file, or no cell that is in both.
    """
    rows = np.flatnonzero(keys.cell > 0)
    wanted = packed(keys.fov[rows], keys.cell[rows])
    given = packed(meta.fov, meta.cell)
    _refuse_twice(wanted, where)
    order = np.argsort(given, kind="stable")
    inside = order[(given[order] & (2**32 - 1)) > 0]
    _refuse_twice(given[inside], other)
    at = np.searchsorted(given[inside], wanted)
    found = np.zeros(wanted.size, bool)
    if inside.size:
        at = np.minimum(at, inside.size - 1)
        found = given[inside[at]] == wanted
    if not found.any():
        raise InputError(
            Fault(
                other,
                f"expected the cells of {where}, but none of its {inside.size} cells is one of the "
                f"{wanted.size} there; the files are of different samples",
            )
        )
    kept = wanted[found]
    names = cell_names(kept >> 32, kept & (2**32 - 1), meta.prefix)
    return Cells(
        rows[found],
        inside[at[found]],
        kept,
        StringValues.from_strings(names),
        tuple(_left_out(keys, meta, wanted.size, inside.size, int(found.sum()))),
    )


def _left_out(keys: CellKeys, meta: Metadata, counted: int, described: int, n: int) -> list[str]:
    notes = []
    outside = int((keys.cell == 0).sum())
    if outside:
        notes.append(
            f"rows of cell_ID 0 ({outside}) hold what lies outside cells: "
            f"{keys.outside_counts:.0f} counts are in no cell"
        )
    if counted > n:
        notes.append(f"{counted - n} cells without metadata left out: they have no place")
    if described > n:
        notes.append(f"{described - n} cells of the metadata without counts left out")
    notes.append(
        f"cell ids are the vendor's ({meta.named_by})"
        if meta.named_by
        else "cell ids are <fov>_<cell_ID>: cell_ID alone repeats in every FOV"
    )
    return notes


def _refuse_twice(keys: NDArray[np.int64], where: str) -> None:
    order = np.sort(keys)
    twice = order[1:][order[1:] == order[:-1]]
    if twice.size:
        first = int(twice[0])
        raise InputError(
            Fault(
                where,
                f"expected every cell once, but got {twice.size} again, such as fov {first >> 32} "
                f"cell_ID {first & (2**32 - 1)}; several slides in one file: export them apart",
            )
        )


def read_places(table: Table, notes: list[str]) -> Positions:
    """FOV positions under any of their headers; FOVs that stand there twice are left out.

    Raises
    ------
    InputError
        No FOV column, or no coordinates.
    """
    names = columns_of(
        table,
        fov=["fov", "fov_id"],
        gx=["x_global_px", "x_px"],
        gy=["y_global_px", "y_px"],
        mx=["x_global_mm", "x_mm"],
        my=["y_global_mm", "y_mm"],
    )
    placed = any({x, y} <= set(names) for x, y in (("gx", "gy"), ("mx", "my")))
    if "fov" not in names or not placed:
        raise InputError(
            Fault(
                str(table.path),
                "expected columns fov, x_global_px, y_global_px (or FOV, X_mm, Y_mm), but got "
                + ", ".join(table.names[:12]),
            )
        )
    values = numbers_by_role(table, names)
    fov = whole(values["fov"], f"{table.path}:{names['fov']}")
    both = (paired(values, "gx", "gy"), paired(values, "mx", "my"))
    _, first, count = np.unique(fov, return_index=True, return_counts=True)
    good = np.zeros(fov.size, bool)
    good[first[count == 1]] = True
    if (count > 1).any():
        notes.append(
            f"{table.path.name}: {int((count > 1).sum())} FOVs stand there several times, as of "
            "several slides; their places are not taken from it"
        )
    for pair in both:
        if pair is not None:
            good &= np.isfinite(pair).all(axis=1)
    kept = [None if pair is None else pair[good] for pair in both]
    return Positions(fov[good], kept[0], kept[1])


def frame_of(table: Table, what: str, *, every: bool) -> FovFrame | None:
    """Frame by the points of a table that have local and global pixels; None without both.

    Memory: 20 KB a FOV, whatever the size of the table.

    Parameters
    ----------
    table : Table
        Vertices or transcripts.
    what : str
        What they are, for the provenance.
    every : bool
        Whether all rows are read, so that no FOV is missed; else the first million.
    """
    import pyarrow as pa

    names = columns_of(table, fov=["fov"], **PIXELS)
    if len(names) < 5:
        return None
    wanted = list(names.values())
    kept, seen, rows = [np.empty((0, len(wanted)))], dict[int, int](), 0
    for batch in table.batches(wanted, dict.fromkeys(wanted, pa.float64())):
        values = np.stack([column.to_numpy(zero_copy_only=False) for column in batch.columns], 1)
        fov = whole(values[:, 0], f"{table.path}:{names['fov']}")
        kept.append(values[_first_of_each(fov, seen)])
        rows += batch.num_rows
        if not every and rows >= _FIT_ROWS:
            break
    points = np.concatenate(kept)
    fov, local, glob = points[:, 0].astype(np.int64), points[:, 1:3], points[:, 3:]
    return fit_frame(fov, local, glob, what, str(table.path))


def _first_of_each(fov: NDArray[np.int64], seen: dict[int, int]) -> NDArray[np.int64]:
    """Rows of the first points of each FOV; counts what was seen."""
    order = np.argsort(fov, kind="stable")
    fovs, start, count = np.unique(fov[order], return_index=True, return_counts=True)
    before = np.array([seen.get(one, 0) for one in fovs.tolist()], np.int64)
    seen.update(zip(fovs.tolist(), (before + count).tolist(), strict=True))
    number = np.arange(fov.size) + np.repeat(before - start, count)
    return np.asarray(order[number < _FIT_POINTS])
