"""Tables of features that are no genes: what the index says of them, and reading their rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import ColumnNotFound, Corrupt, near
from .section_matrix import SparseArrays

if TYPE_CHECKING:
    from scipy import sparse

    from .quadtree import Runs
    from .section_arrays import ArrayLayout, RowArray

__all__ = ["ApartCounts", "ApartInfo", "read_apart"]


class ApartCounts(NamedTuple):
    """Rows of a table beside that of the genes."""

    counts: sparse.csr_matrix
    """(m, k) float32 stored values."""
    names: tuple[str, ...]
    """(k,) names of the features as the source gave them."""
    feature_types: tuple[str, ...]
    """(k,) what each is, in the words of the source."""


@dataclass(frozen=True, slots=True)
class ApartInfo:
    """One table, as the index of the section describes it."""

    n_obs: int
    """Rows: the cells of the section."""
    n_vars: int
    """Features."""
    nnz: int
    """Stored entries."""

    @classmethod
    def of(
        cls, name: str, value: Mapping[str, Any], layouts: Mapping[str, ArrayLayout], n_obs: int
    ) -> ApartInfo:
        """Check what an index says of a table.

        Raises
        ------
        Corrupt
            Numbers that are none, or arrays of another shape.
        """
        n_vars, nnz = (value.get(key) for key in ("n_vars", "nnz"))
        for number in (n_vars, nnz):
            if not isinstance(number, int) or isinstance(number, bool) or number < 0:
                raise Corrupt(f"table {name!r} must have numbers of columns and entries")
        wanted: dict[str, tuple[tuple[Any, ...], str | None]] = {
            "X/indptr": ((n_obs + 1,), "int64"),
            "X/indices": ((nnz,), "int32"),
            "X/data": ((nnz,), None),
            "var/name": ((n_vars,), "string"),
            "var/feature_type": ((n_vars,), "string"),
        }
        for part, (shape, dtype) in wanted.items():
            found = layouts.get(f"tables/{name}/{part}")
            if found is None or found.shape != shape or (dtype or found.dtype) != found.dtype:
                raise Corrupt(
                    f"table {name!r} must have {shape} values at {part}, but got "
                    f"{found and (found.shape, found.dtype)}"
                )
        assert isinstance(n_vars, int)
        assert isinstance(nnz, int)
        return cls(n_obs, n_vars, nnz)


def read_apart(  # noqa: PLR0917 - one caller
    tables: Mapping[str, ApartInfo],
    name: str,
    runs: Runs,
    section: str,
    array: Callable[[str], RowArray],
    corrupt: Callable[[str], Corrupt],
) -> ApartCounts:
    """Read rows of a table; runs must be sorted and disjoint.

    Raises
    ------
    ColumnNotFound
        No such table.
    Corrupt
        What is stored contradicts itself.
    """
    info = tables.get(name)
    if info is None:
        known = f" It has {', '.join(tables)}." if tables else ""
        raise ColumnNotFound(
            f"section {section!r} must have a table {name!r} beside its genes, but has none."
            f"{near(name, tables)}{known}"
        )
    place = f"tables/{name}"
    arrays = SparseArrays(array, f"{place}/X", (info.n_obs, info.n_vars), info.nnz, corrupt)
    names, types = (
        tuple(map(str, array(f"{place}/var/{part}").read().tolist()))
        for part in ("name", "feature_type")
    )
    return ApartCounts(arrays.rows(runs), names, types)
