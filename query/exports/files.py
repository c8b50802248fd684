"""Write a selection to a file: the form is told by its ending."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...atlas.errors import AlreadyExists, InvalidArgument
from ...atlas.keys import ATLAS_KEY
from ..appearing import put, removed

if TYPE_CHECKING:
    from ..cells.selection import Selection

FORMATS = {
    ".h5ad": "h5ad",
    ".zarr": "spatialdata",
    ".csv": "csv",
    ".parquet": "parquet",
    ".png": "figure",
    ".pdf": "figure",
    ".svg": "figure",
}


def export(
    selection: "Selection",
    path: str | Path,
    *,
    to: str | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Path:
    """Write a selection to a file or folder.

    Parameters
    ----------
    selection
        What to write.
    path
        Where; `.h5ad` is AnnData, `.zarr` SpatialData, `.csv` and `.parquet` the table of cells,
        `.png`, `.pdf` and `.svg` the cells where they lie, with a table beside it as `.csv`.
    to
        The form, where the ending does not say it: h5ad, spatialdata, csv, parquet.
    overwrite
        Replace the file, or the SpatialData folder, of this name; only once the new one is
        complete. No other folder is replaced. A folder takes two renames: killed between them,
        old and new lie beside the name, and nothing under it.
    **options
        For `to_anndata`, `to_spatialdata`, `to_pandas` or `tisseract.pl.spatial`.

    Returns
    -------
    Path
        What was written. It appears under its name only when complete.

    Raises
    ------
    AlreadyExists
        Something is there and `overwrite` is false, or it is a folder that is no SpatialData;
        nothing has been read then.
    InvalidArgument
        A form that is not known, or a place that is the atlas, in it, or around it.
    BudgetExceeded
        Estimated above `memory_limit`.
    """
    target = Path(path)
    form = form_of(target, to)
    if target.exists() and not overwrite:
        raise AlreadyExists(
            f"a new file is wanted, but got {target}, which exists; name another or overwrite it"
        )
    check_place(target, selection.store.storage.local_path(), folder=form == "spatialdata")
    if form == "figure":
        return _figure(selection, target, options, overwrite=overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.stem}.{uuid.uuid4().hex}{target.suffix}")
    try:
        _WRITERS[form](selection, partial, options)
        put(partial, target)
    finally:
        removed(partial)
    return target


def form_of(path: Path, to: str | None = None) -> str:
    """Tell the form of a file, by name or by its ending.

    >>> form_of(Path("all.h5ad")), form_of(Path("out"), "spatialdata")
    ('h5ad', 'spatialdata')
    """
    form = to if to is not None else FORMATS.get(path.suffix.lower())
    forms = dict.fromkeys(FORMATS.values())
    if form not in forms:
        raise InvalidArgument(
            f"a file ending in {', '.join(FORMATS)} or one of {', '.join(forms)} is wanted, "
            f"but got {to or path.name!r}"
        )
    return str(form)


def check_place(target: Path, atlas: Path | None, *, folder: bool) -> None:
    """See that writing here harms neither an atlas nor a folder of another kind.

    Parameters
    ----------
    target
        Where an answer is to go.
    atlas
        Folder of the atlas asked, if it is a local one.
    folder
        Whether the answer is one, not a file.

    Raises
    ------
    InvalidArgument
        In an atlas, or around the one asked.
    AlreadyExists
        A folder is there that is no SpatialData, or that a file would replace.
    """
    place = target.resolve()
    inside = next((f for f in (place, *place.parents) if (f / ATLAS_KEY).is_file()), None)
    if inside is None and atlas is not None and place in atlas.resolve().parents:
        inside = atlas
    if inside is not None:
        raise InvalidArgument(
            f"a place outside the atlas {inside} is wanted, but got {target}; name another"
        )
    ours = folder and target.suffix.lower() == ".zarr" and _is_spatialdata(target)
    if ours or not target.is_dir():
        return
    known = ", or a SpatialData folder (.zarr) to replace," if folder else ""
    raise AlreadyExists(
        f"a new name{known} is wanted, but got {target}, which is another folder; name another, "
        "or remove it yourself"
    )


def _is_spatialdata(folder: Path) -> bool:
    try:
        root = json.loads((folder / "zarr.json").read_bytes())
    except (OSError, ValueError):
        return False
    attributes = root.get("attributes") if isinstance(root, dict) else None
    return isinstance(attributes, dict) and "spatialdata_attrs" in attributes


def _figure(
    selection: "Selection", target: Path, options: dict[str, Any], *, overwrite: bool
) -> Path:
    """Draw cells where they lie, colored by what was asked for, and write their table beside it."""
    from ..plots.canvas import check_targets, save
    from ..plots.spatial import spatial

    check_targets(target, overwrite=overwrite)
    if "color" not in options:
        genes, keys = selection.question.genes, selection.columns.domain_keys
        options = options | {"color": list(genes) if genes else keys[0] if keys else None}
    return save(spatial(selection, **options), target, overwrite=overwrite)


def _h5ad(selection: "Selection", path: Path, options: dict[str, Any]) -> None:
    from .h5ad_stream import write_h5ad
    from .prepare import Options

    write_h5ad(selection, path, Options(**options))


def _spatialdata(selection: "Selection", path: Path, options: dict[str, Any]) -> None:
    selection.to_spatialdata(**options).write(path)


def _csv(selection: "Selection", path: Path, options: dict[str, Any]) -> None:
    selection.to_pandas(**options).to_csv(path, index_label="cell")


def _parquet(selection: "Selection", path: Path, options: dict[str, Any]) -> None:
    table = selection.to_pandas(**options)
    table.index.name = "cell"
    table.to_parquet(path)


type Writer = Callable[["Selection", Path, dict[str, Any]], None]
_WRITERS: dict[str, Writer] = {
    "h5ad": _h5ad,
    "spatialdata": _spatialdata,
    "csv": _csv,
    "parquet": _parquet,
}
