"""Figures without pyplot: no backend of the user is touched, and no display is needed."""

import io
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...atlas.errors import AlreadyExists, InvalidArgument

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["FORMATS", "check_targets", "new_figure", "save", "source_of", "style", "with_source"]

FORMATS = (".png", ".pdf", ".svg")
_DPI = 200
# Fonts stay text in files, so that a journal's editor can change them.
_STYLE: dict[str, Any] = {
    "font.size": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "svg.hashsalt": "tisseract",
}

_LOOK = ("font", "axes", "xtick", "ytick", "legend", "figure", "lines")


@contextmanager
def style() -> Iterator[None]:
    """Draw in one look, whatever the user's own settings are; they come back afterwards.

    Raises
    ------
    InvalidArgument
        matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ModuleNotFoundError as error:
        raise InvalidArgument(
            "matplotlib is wanted for a figure, but it is not installed; "
            "run pip install 'tisseract[viz]'"
        ) from error
    settings: Any = {
        name: mpl.rcParamsDefault[name] for name in mpl.rcParamsDefault if _is_look(name)
    }
    with mpl.rc_context(settings | _STYLE):
        yield


def _is_look(name: str) -> bool:
    return name.partition(".")[0] in _LOOK


def new_figure(width: float, height: float) -> "Figure":
    """Make a figure of a size in inches that draws itself with Agg, also in notebooks."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    class _Figure(Figure):
        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png", dpi=110)
            return buffer.getvalue()

    figure = _Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def with_source(figure: "Figure", source: "pd.DataFrame", caption: str) -> "Figure":
    """Attach the numbers a figure shows, and what was done to them."""
    figure.source = source  # type: ignore[attr-defined]
    figure.caption = caption  # type: ignore[attr-defined]
    return figure


def source_of(figure: "Figure") -> "pd.DataFrame":
    """Tell the numbers that a figure of this module shows, one row a mark."""
    source: pd.DataFrame = figure.source  # type: ignore[attr-defined]
    return source


def check_targets(path: str | Path, *, overwrite: bool) -> tuple[Path, Path]:
    """Tell where a figure and its numbers go, `.csv` beside it, before anything is drawn.

    Raises
    ------
    InvalidArgument
        The name ends neither in .png, .pdf nor .svg.
    AlreadyExists
        One of the two is there and `overwrite` is false, or is a folder.
    """
    target = Path(path)
    if target.suffix.lower() not in FORMATS:
        raise InvalidArgument(
            f"a figure ending in {', '.join(FORMATS)} is wanted, but got {target.name!r}"
        )
    table = target.with_suffix(".csv")
    for file in (target, table):
        if file.is_dir() or (file.exists() and not overwrite):
            raise AlreadyExists(
                f"a new file is wanted, but got {file}, which exists; name another or overwrite it"
            )
    return target, table


def save(figure: "Figure", path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a figure, and beside it the numbers it shows as CSV.

    Parameters
    ----------
    figure
        Of `tisseract.pl`.
    path
        A name ending in .png, .pdf or .svg.
    overwrite
        Replace both files.

    Returns
    -------
    Path
        The figure. Each file appears under its name only when complete.

    Raises
    ------
    InvalidArgument, AlreadyExists
        See `check_targets`.
    """
    target, table = check_targets(path, overwrite=overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    form = target.suffix.lower()[1:]
    # A date would make two equal figures differ.
    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(form)
    partial = target.with_name(f".{target.stem}.{uuid.uuid4().hex}")
    try:
        with style():
            figure.savefig(partial, format=form, dpi=_DPI, metadata=metadata)
        partial_table = partial.with_suffix(".csv")
        source_of(figure).to_csv(partial_table, index=False)
        partial_table.replace(table)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
        partial.with_suffix(".csv").unlink(missing_ok=True)
    return target
