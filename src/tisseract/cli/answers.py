"""Write an answer to a file; the ending of its name decides what it becomes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UsageError
from .options import names

if TYPE_CHECKING:
    import pandas as pd

    from ..query.cells.selection import Selection
    from .output import Output

__all__ = [
    "check_measured",
    "check_place",
    "check_target",
    "table_target",
    "tell_apart",
    "without_dropped",
    "write_answer",
    "write_table",
]

_FORMS = {
    ".h5ad": "AnnData",
    ".zarr": "SpatialData",
    ".csv": "table of cells",
    ".parquet": "table of cells",
    ".png": "figure",
    ".pdf": "figure",
    ".svg": "figure",
}
_FIGURES = (".png", ".pdf", ".svg")


def check_target(where: str, *, overwrite: bool) -> Path:
    """Check the name of an output before anything is computed.

    Raises
    ------
    UsageError
        If the ending names no form, the folder does not exist, or the output does (with
        `overwrite`: as a folder where a file is to go).

    Examples
    --------
    >>> check_target("cells.h5ad", overwrite=True).suffix
    '.h5ad'
    """
    suffix = Path(where).suffix.lower()
    if suffix not in _FORMS:
        known = ", ".join(f"{suffix} ({what})" for suffix, what in _FORMS.items())
        raise UsageError(f"an output ending in one of {known} is wanted, but got {where!r}")
    path = check_place(where, overwrite=overwrite, folder=suffix == ".zarr")
    if suffix in _FIGURES:
        check_place(str(path.with_suffix(".csv")), overwrite=overwrite)
    return path


def check_place(where: str, *, overwrite: bool, folder: bool = False) -> Path:
    """Check that a file (or `folder`) of a name can be written, before anything is computed.

    Raises
    ------
    UsageError
        There is no folder to write it in, or something that is not to be replaced.
    """
    path = Path(where)
    if not path.absolute().parent.is_dir():
        raise UsageError(f"the folder of {where!r} does not exist; create it first")
    if path.exists() and not overwrite:
        raise UsageError(f"{where!r} exists already; pass --overwrite to replace it")
    if path.is_dir() and not folder:
        raise UsageError(f"a file is wanted, but got {where!r}, which is a folder; name another")
    return path


def table_target(
    where: str | None, known: tuple[str, ...] = (".csv", ".parquet"), *, overwrite: bool
) -> Path | None:
    """Check the name of a table, or of what else the endings say; None where nothing is written.

    Raises
    ------
    UsageError
        It has another ending; see `check_place`.
    """
    if where is None:
        return None
    if Path(where).suffix.lower() not in known:
        raise UsageError(f"-o wants a name that ends in {' or '.join(known)}, but got {where!r}")
    return check_target(where, overwrite=overwrite)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table without its index; it appears under its name only when complete."""
    from ..query.appearing import appearing

    plain = table.copy()
    plain.attrs = {}
    with appearing(path) as part:
        if path.suffix.lower() == ".csv":
            plain.to_csv(part, index=False)
        else:
            plain.to_parquet(part, index=False)


def write_answer(
    selection: Selection,
    path: Path,
    *,
    overwrite: bool,
    normalize: str | None = None,
    missing: str | None = None,
    graph: str | None = None,
    embeddings: str | None = None,
    halo_um: float | None = None,
    halo_hops: int | None = None,
    memory_limit: str | None = None,
) -> None:
    """Write a selection; it appears under its name only when complete.

    Raises
    ------
    UsageError
        If an option does not fit the form.
    """
    from ..query import export

    suffix = path.suffix.lower()
    options: dict[str, Any] = {}
    if memory_limit is not None:
        if suffix in _FIGURES:
            raise UsageError(f"--memory-limit goes with data, but got the figure {path.name!r}")
        options["memory_limit"] = memory_limit
    if normalize is not None:
        if suffix != ".h5ad":
            raise UsageError(f"--normalize goes with an .h5ad output, but got {path.name!r}")
        options["normalize"] = normalize
    if missing is not None:
        if suffix in (".zarr", *_FIGURES):
            raise UsageError("--missing goes with .h5ad and tables; SpatialData keeps each panel")
        options["missing"] = missing
    if graph is not None:
        if suffix not in (".h5ad", ".zarr"):
            raise UsageError(f"--graph goes with .h5ad and .zarr, but got {path.name!r}")
        options["graph"] = graph
    if embeddings is not None:
        if suffix not in (".h5ad", ".zarr"):
            raise UsageError(f"--embeddings goes with .h5ad and .zarr, but got {path.name!r}")
        options["embeddings"] = True if embeddings == "all" else names(embeddings)
    options |= _halo(suffix, path, graph, halo_um, halo_hops)
    export(selection, path, overwrite=overwrite, **options)


def _halo(
    suffix: str, path: Path, graph: str | None, um: float | None, hops: int | None
) -> dict[str, Any]:
    """Read the options of a ring of cells around an answer."""
    if um is None and hops is None:
        return {}
    if suffix != ".h5ad":
        raise UsageError(f"--halo-um and --halo-hops go with an .h5ad output, not {path.name!r}")
    if um is not None and hops is not None:
        raise UsageError("one of --halo-um and --halo-hops is wanted, but got both")
    if hops is not None:
        if graph is None:
            raise UsageError("--halo-hops goes with --graph: name the graph whose edges count")
        return {"halo": "graph", "n_hops": hops}
    return {"halo_um": um}


def without_dropped(chosen: Selection, missing: str | None) -> Selection:
    """Leave out sections that lack a gene before they are written, so that they can be told."""
    return chosen.measured() if missing == "drop_sections" else chosen


def check_measured(chosen: Selection, missing: Any) -> None:
    """Refuse named genes that a section lacks where nothing is written, too.

    Raises
    ------
    GeneNotFound
        As writing the answer would.
    """
    if chosen.question.genes is None or missing == "drop_sections":
        return
    from ..query.expression.choice import settle

    settle(chosen.genes, list(chosen.runs), asked=True, join="outer", missing=missing)


def tell_apart(say: Output, chosen: Selection) -> None:
    """Name the tables of controls and proteins, which exports leave out."""
    tables: dict[str, list[str]] = {}
    for section, _ in chosen.parts():
        for name in section.apart_names:
            tables.setdefault(name, []).append(section.name)
    for name, sections in tables.items():
        shown = ", ".join(sections[:5]) + (" ..." if len(sections) > 5 else "")
        say.note(f"note: left out, as they are no genes: {name} of {shown}; see Section.apart")
