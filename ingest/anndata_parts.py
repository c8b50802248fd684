"""Parts of an AnnData tree, on HDF5 or Zarr: matrix, genes, positions, obs, splits.

Each function takes opened nodes, reads as little as it can, and raises InputError with a place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..atlas.errors import Fault, InputError, near
from ..atlas.morton import LARGEST_COORDINATE
from .frame import (
    column_names,
    iter_duplicates,
    kinds,
    n_rows,
    read_column,
)
from .matrix import MatrixFacts, matrix_facts
from .missing import complete_numbers, missing, name_rows
from .reader import ReadOptions
from .several import judge, several_message, worth_reading
from .source import ColumnKind, StringValues
from .split import encode

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "check_ids",
    "check_one_section",
    "check_positions",
    "locate_matrix",
    "obs_kinds",
    "read_positions",
    "split_codes",
]

_MAX_VARS = 5_000_000
_SHOWN = 5


def _keys(node: Any) -> list[str]:
    return list(node) if hasattr(node, "keys") else []


def locate_matrix(root: Any, layer: str | None, where: str) -> tuple[str, str, MatrixFacts]:
    """Find the matrix: its key, the key of its var frame, and its header.

    Raises
    ------
    InputError
        If there is none of that name, or it is no matrix.
    """
    wanted = layer or "X"
    layers = _keys(root["layers"]) if "layers" in root else []
    raw = _keys(root["raw"]) if "raw" in root else []
    if wanted in {"raw", "raw.X", "raw/X"}:
        key, var = "raw/X", "raw/var"
        there = "X" in raw and "var" in raw
    elif wanted == "X":
        key, var, there = "X", "var", "X" in root
    else:
        key, var, there = f"layers/{wanted}", "var", wanted in layers
    if not there:
        choices = ["X"] * ("X" in root) + ["raw"] * ("X" in raw) + layers
        raise InputError(
            Fault(
                where,
                f"expected the matrix in layer {wanted!r}, but got {', '.join(choices) or 'none'};"
                f" set `layer`.{near(wanted, choices)}",
            )
        )
    try:
        facts = matrix_facts(root[key])
    except (ValueError, KeyError, IndexError) as error:
        raise InputError(Fault(f"{where}:{key}", f"expected counts, but {error}")) from error
    n_obs, n_vars = n_rows(root["obs"]), n_rows(root[var])
    if (facts.n_obs, facts.n_vars) != (n_obs, n_vars):
        raise InputError(
            Fault(
                f"{where}:{key}",
                f"expected {n_obs} cells x {n_vars} genes as in obs and var, but got "
                f"{facts.n_obs} x {facts.n_vars}; export the file again",
            )
        )
    if n_obs == 0 or n_vars == 0 or n_vars > _MAX_VARS:
        raise InputError(
            Fault(
                f"{where}:{key}",
                f"expected at least one cell and 1 to {_MAX_VARS} genes, "
                f"but got {n_obs} x {n_vars}",
            )
        )
    return key, var, facts


def read_positions(
    root: Any, options: ReadOptions, where: str
) -> tuple[NDArray[np.float64], str, list[str]]:
    """Read x and y of every cell: positions, where they were, and notes.

    Raises
    ------
    InputError
        If they are missing, of another shape, or not finite.
    """
    named = options.reader_kwargs.get("position_columns")
    notes: list[str] = []
    if named is not None:
        positions, place = _from_obs(root["obs"], named, where)
    else:
        positions, place = _from_obsm(root, options.spatial_key or "spatial", where, notes)
    n = n_rows(root["obs"])
    if len(positions) != n:
        raise InputError(
            Fault(
                f"{where}:{place}", f"expected {n} positions, one a cell, but got {len(positions)}"
            )
        )
    check_positions(positions, f"{where}:{place}")
    return positions, place, notes


def check_positions(
    positions: NDArray[np.float64], where: str, rows: NDArray[np.int64] | None = None
) -> None:
    """Refuse positions that are not finite, or too large to be told apart.

    Parameters
    ----------
    positions : ndarray (n, 2)
        Of cells.
    where : str
        File and place, for messages.
    rows : ndarray (n,), optional
        Number of each in the file; from 0 by default.

    Raises
    ------
    InputError
        Naming rows.
    """
    # NaN is not below the limit either.
    bad = np.flatnonzero(~(np.abs(positions) <= LARGEST_COORDINATE).all(axis=1))
    if bad.size:
        raise InputError(
            Fault(
                where,
                f"expected finite positions below {LARGEST_COORDINATE:g}, but got "
                f"{positions[bad[0]].tolist()} in {name_rows(bad if rows is None else rows[bad])}; "
                "remove these cells",
            )
        )


def _from_obs(obs: Any, named: object, where: str) -> tuple[NDArray[np.float64], str]:
    names = [str(n) for n in named] if isinstance(named, (list, tuple)) else []
    present = kinds(obs)
    if len(names) != 2 or any(present.get(name) != "numeric" for name in names):
        raise InputError(
            Fault(
                f"{where}:obs",
                "expected reader_kwargs position_columns to name two numeric columns, x then y, "
                f"but got {named!r}",
            )
        )
    values = [
        complete_numbers(read_column(obs, name), f"{where}:obs/{name}", "a position")
        for name in names
    ]
    return np.column_stack(values), f"obs {names[0]}, {names[1]}"


def _from_obsm(
    root: Any, key: str, where: str, notes: list[str]
) -> tuple[NDArray[np.float64], str]:
    obsm = root["obsm"] if "obsm" in root else None  # noqa: SIM401 - not every root has `get`
    compound = obsm is not None and hasattr(obsm, "shape")  # anndata before 0.7
    keys = [] if obsm is None else list(obsm.dtype.names or ()) if compound else _keys(obsm)
    if key not in keys:
        raise InputError(
            Fault(
                f"{where}:obsm/{key}",
                f"expected positions there, but got obsm with {', '.join(keys) or 'nothing'}; set "
                "`spatial_key`, or reader_kwargs position_columns to two obs columns."
                f"{near(key, keys) if keys else ''}",
            )
        )
    assert obsm is not None
    node = obsm.fields(key) if compound else obsm[key]
    if not compound and hasattr(node, "keys"):  # a data frame
        names = _xy_columns(node, f"{where}:obsm/{key}")
        arrays = [
            complete_numbers(read_column(node, name), f"{where}:obsm/{key}/{name}", "a position")
            for name in names
        ]
        return np.column_stack(arrays), f"obsm/{key}: {names[0]}, {names[1]}"
    values = node[:] if compound or len(node.shape) != 2 else node[:, : min(3, node.shape[1])]
    values = np.asarray(values)
    if values.ndim != 2 or values.shape[1] < 2 or values.dtype.kind not in "iuf":
        raise InputError(
            Fault(
                f"{where}:obsm/{key}",
                f"expected two columns of numbers, but got {values.dtype} of shape {values.shape}",
            )
        )
    if values.shape[1] > 2:
        varies = "which varies: split planes first" if np.ptp(values[:, 2]) > 0 else "left out"
        notes.append(
            f"obsm/{key} has a third column (z), {varies}; the first two are taken as x and y"
        )
    return np.ascontiguousarray(values[:, :2], dtype=np.float64), f"obsm/{key}"


def _xy_columns(frame: Any, where: str) -> tuple[str, str]:
    """Columns of a data frame that hold x and y: those of that name, else the only two."""
    names = column_names(frame)
    named = [[name for name in names if name.casefold() == axis] for axis in "xy"]
    chosen = [found[0] for found in named if len(found) == 1]
    if len(chosen) != 2 and len(names) == 2 and not any(named):
        chosen = list(names)
    if len(chosen) != 2 or any(kinds(frame)[name] != "numeric" for name in chosen):
        raise InputError(
            Fault(
                where,
                "expected numeric columns x and y, or two numeric columns, but got "
                f"{', '.join(names) or 'none'}; rename them, or name two obs columns with "
                "reader_kwargs position_columns",
            )
        )
    return chosen[0], chosen[1]


def obs_kinds(obs: Any, options: ReadOptions, where: str) -> dict[str, ColumnKind]:
    """Kinds of the obs columns that will be kept.

    Raises
    ------
    InputError
        Naming every column that cannot be read, pickled objects above all.
    """
    given = options.reader_kwargs.get("drop_columns", ())
    dropped = {str(n) for n in given} if isinstance(given, (list, tuple)) else {str(given)}
    found = kinds(obs)
    faults = [
        Fault(
            f"{where}:obs",
            f"expected a column named in drop_columns, but got {name!r}.{near(name, found)}",
        )
        for name in sorted(dropped - set(found))
    ]
    faults += [
        Fault(
            f"{where}:obs/{name}",
            "expected numbers, strings, booleans or categories, but got objects or arrays, which "
            "are not read; drop the column with reader_kwargs drop_columns",
        )
        for name, kind in found.items()
        if kind is None and name not in dropped
    ]
    if faults:
        raise InputError(faults)
    return {name: kind for name, kind in found.items() if kind and name not in dropped}


def check_ids(ids: StringValues, where: str, hint: str = "") -> None:
    """Refuse cell ids that are missing, empty or given twice.

    Parameters
    ----------
    ids : StringValues, (n,)
        In row order.
    where : str
        For messages.
    hint : str
        What else helps where ids are repeated.

    Raises
    ------
    InputError
        With the first of them.
    """
    repeated = list(iter_duplicates(ids))
    empty = np.flatnonzero((np.diff(ids.offsets) == 0) | missing(ids))
    faults = []
    if repeated:
        faults.append(
            Fault(
                where,
                f"expected every cell id once, but got {len(repeated)} given several times: "
                f"{', '.join(map(repr, repeated[:_SHOWN]))}; make them unique"
                + (f", {hint}" if hint else ""),
            )
        )
    if empty.size:
        faults.append(
            Fault(where, f"expected a cell id in every row, but got none in {name_rows(empty)}")
        )
    if faults:
        raise InputError(faults)


def check_one_section(obs: Any, positions: NDArray[np.float64], where: str) -> None:
    """Refuse a file that looks like several sections.

    Raises
    ------
    InputError
        Naming the columns that show it.
    """
    columns: dict[str, NDArray[np.integer]] = {}
    for name, kind in kinds(obs).items():
        n_categories = None
        if kind == "categorical" and hasattr(obs, "keys") and hasattr(obs[name], "keys"):
            n_categories = int(obs[name]["categories"].shape[0])
        if worth_reading(name, kind, n_categories):
            columns[name] = encode(read_column(obs, name))[0]
    evidence = judge(positions, columns)
    if evidence:
        raise InputError(Fault(where, several_message(evidence)))


def split_codes(obs: Any, split_by: str, where: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Codes and values of the column that splits a file.

    Raises
    ------
    InputError
        If there is no such column, or it leaves cells without a value.
    """
    present = kinds(obs)
    if present.get(split_by) is None:
        raise InputError(
            Fault(
                f"{where}:obs",
                f"expected the column {split_by!r} of `split_by`, but got "
                f"{', '.join(present) or 'no columns'}.{near(split_by, present)}",
            )
        )
    codes, labels = encode(read_column(obs, split_by))
    missing = int((codes < 0).sum())
    if missing:
        raise InputError(
            Fault(
                f"{where}:obs/{split_by}",
                f"expected a value for every cell, but got {missing} cells without one; no cell is "
                "left out silently: remove them from the file, or give them a value",
            )
        )
    return codes, labels
