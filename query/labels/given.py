"""Tables of labels as users give them: which cells they name, and what kind each column is."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import Fault, InputError, InvalidArgument, near
from ...atlas.memory import refuse_above

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CELL", "SECTION", "Given", "read_given"]

SECTION, CELL = "section", "cell_id"
_NAMED = 3  # examples in a message
# What a table takes in memory for a byte of its file.
_GROWTH = {".csv": 6, ".tsv": 6, ".parquet": 12}
# Labels may be called nan, null or NA: of a CSV only empty cells are missing.
_NA = [""]
_DIGESTED = 2**20


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A table of labels, its ids taken apart."""

    sections: tuple[str, ...]
    """Names of sections that it mentions."""
    code: NDArray[np.int64]
    """(m,) number of each row's section among them."""
    cells: Any
    """(m,) cell id of each row, as Arrow text."""
    columns: "dict[str, pd.Series[Any]]"
    """The columns to keep, (m,) each."""
    source: str
    """Name of the file, or `dataframe`."""
    digest: str | None
    """`sha256:...` of the file."""


def read_given(
    table: "pd.DataFrame | str | Path",
    on: str | None,
    columns: Sequence[str] | None,
    *,
    limit: int,
) -> Given:
    """Read a table of labels and take its ids apart.

    Parameters
    ----------
    table
        A DataFrame, or the path of a CSV, TSV or Parquet file.
    on
        See `annotate`.
    columns
        Those to keep; None is all but the ids.
    limit
        Bytes of memory.

    Raises
    ------
    InvalidArgument
        No such column, or not a table.
    InputError
        Ids that are missing or name no section.
    BudgetExceeded
        The file would not fit.
    """
    digest, source = None, "dataframe"
    if isinstance(table, str | Path):
        path = Path(table)
        source, digest = path.name, _digest(path, limit)
        frame = _read(path, on)
    else:
        frame = table
    if not hasattr(frame, "columns") or not hasattr(frame, "index"):
        raise InvalidArgument(
            f"a DataFrame or the path of a table is wanted, but got {type(table).__name__}"
        )
    names = [str(name) for name in frame.columns]
    if len(set(names)) < len(names):
        raise InvalidArgument(f"columns of different names are wanted, but got {names}")
    ids = _id_columns(names, on)
    sections, code, cells = _ids(frame, ids, source)
    kept = _kept(names, [*ids, SECTION], columns)
    series = {name: frame.iloc[:, names.index(name)].reset_index(drop=True) for name in kept}
    return Given(sections, code, cells, series, source, digest)


def _digest(path: Path, limit: int) -> str:
    suffix = path.suffix.lower()
    if suffix not in _GROWTH:
        raise InvalidArgument(
            f"a table ending in {', '.join(_GROWTH)} is wanted, but got {path.name!r}"
        )
    if not path.is_file():
        raise InvalidArgument(f"a table of labels is wanted, but got {path.name!r}, no such file")
    refuse_above(
        limit,
        _GROWTH[suffix] * path.stat().st_size,
        f"the table {path.name!r} in memory",
        "divide it by sections, keep fewer columns, or give a larger memory_limit",
    )
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_DIGESTED):
            found.update(block)
    return f"sha256:{found.hexdigest()}"


def _read(path: Path, on: str | None) -> "pd.DataFrame":
    import pandas as pd

    try:
        if path.suffix.lower() == ".parquet":
            return pd.read_parquet(path)
        separator = "\t" if path.suffix.lower() == ".tsv" else ","
        names = [str(name) for name in pd.read_csv(path, sep=separator, nrows=0).columns]
        ids = set(_id_columns(names, on)) or set(names[:1])
        # Ids stay text as they are: "007", and a cell that is called NA.
        frame = pd.read_csv(
            path,
            sep=separator,
            dtype=dict.fromkeys(ids, "str"),
            keep_default_na=False,
            na_values={name: [] if name in ids else _NA for name in names},
            low_memory=False,
        )
    except (ValueError, OSError) as error:
        # Parser errors of pandas and Arrow are ValueErrors.
        raise InputError(Fault(path.name, f"a table is wanted, but got: {error}")) from error
    return frame if _id_columns(names, on) else frame.set_index(names[0])


def _id_columns(names: Sequence[str], on: str | None) -> list[str]:
    """Columns that hold the ids; none for the index."""
    if on is None:
        if CELL in names:
            return [SECTION, CELL] if SECTION in names else [CELL]
        return []
    if on == "index":
        return []
    if on not in names:
        raise InvalidArgument(
            f"on='index' or a column of the table is wanted, but got {on!r}.{near(on, names)}"
        )
    return [SECTION, CELL] if on == CELL and SECTION in names else [on]


def _kept(names: Sequence[str], ids: Sequence[str], columns: Sequence[str] | None) -> list[str]:
    wanted = [columns] if isinstance(columns, str) else columns
    kept = [name for name in names if name not in ids] if wanted is None else list(wanted)
    for name in kept:
        if name not in names:
            raise InvalidArgument(
                f"a column of the table is wanted, but got {name!r}.{near(name, names)}"
            )
    if not kept:
        raise InvalidArgument(
            f"a column of labels is wanted beside the ids, but the table has {', '.join(names)}"
        )
    return list(dict.fromkeys(kept))


def _ids(
    frame: "pd.DataFrame", ids: Sequence[str], source: str
) -> tuple[tuple[str, ...], NDArray[np.int64], Any]:
    """Take `{section}:{cell id}` apart, or read the two columns."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    if len(ids) == 2:
        section, cells = (_text(frame[name], name, source) for name in ids)
    else:
        values: Any = frame[ids[0]] if ids else frame.index.to_series()
        whole = _text(values, ids[0] if ids else "index", source)
        at = np.asarray(pc.find_substring(whole, ":"))
        wrong = np.flatnonzero(at < 0)
        if len(wrong):
            raise InputError(
                Fault(
                    source,
                    f"ids {{section}}:{{cell id}} are wanted, but got {len(wrong):,} of "
                    f"{len(whole):,} without a colon, such as {_some(whole, wrong)}; write them "
                    f"so, or give columns {SECTION!r} and {CELL!r}",
                )
            )
        parts = pc.split_pattern(whole, ":", max_splits=1)
        section, cells = pc.list_element(parts, 0), pc.list_element(parts, 1)
    code, names = pd.factorize(np.asarray(section.to_pandas(), dtype=object))
    return tuple(map(str, names)), code.astype(np.int64), cells.cast(pa.large_string())


def _text(values: Any, name: str, source: str) -> Any:
    """Return a column of ids as Arrow text; numbers as they are written."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    if values.dtype.kind == "f":
        raise InputError(
            Fault(source, f"ids as text are wanted in {name!r}, but got numbers with a fraction")
        )
    whole = values.dtype.kind in "iu"
    array = pa.array(values.astype("str") if whole else values, from_pandas=True)
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    if array.null_count:
        missing = int(np.flatnonzero(np.asarray(pc.is_null(array)))[0])
        raise InputError(
            Fault(
                source,
                f"an id in every row is wanted, but got {array.null_count:,} missing in {name!r}, "
                f"the first in row {missing + 1}",
            )
        )
    if len(array) and not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        raise InputError(Fault(source, f"ids as text are wanted in {name!r}, but got {array.type}"))
    return array.cast(pa.large_string())


def _some(texts: Any, rows: NDArray[np.int64]) -> str:
    return ", ".join(repr(texts[int(row)].as_py()) for row in rows[:_NAMED])
