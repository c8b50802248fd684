"""The curve of a training as a PNG."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import UsageError
from .output import Output
from .record import record_path

if TYPE_CHECKING:
    from ..models.network.history import TrainingHistory

__all__ = ["curve_place", "draw_curve"]

_LACKING = "drawing the curve needs matplotlib: pip install 'tisseract[viz]'"
_WINDOW = 25  # steps of a running mean: single batches differ more than the curve falls


def curve_place(url: str, wanted: str | None, run_json: str | None, output: Output) -> Path | None:
    """Say where the curve goes, before anything is trained; None for nowhere.

    Raises
    ------
    UsageError
        A curve is asked for that cannot be drawn or put there.
    """
    named = wanted is not None
    if wanted == "-" or (not named and run_json == "-"):
        return None
    lacking = importlib.util.find_spec("matplotlib") is None
    if not named:
        record = record_path(url, "train", run_json)
        if lacking:
            output.detail(f"note: no curve; {_LACKING}")
        return None if lacking or record is None else _beside(record)
    path = Path(str(wanted))
    if path.suffix.lower() != ".png":
        raise UsageError(f"--curve wants a name that ends in .png, or '-', but got {wanted!r}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"the folder of {wanted!r} does not exist; create it first")
    if lacking:
        raise UsageError(f"--curve: {_LACKING}")
    return path


def _beside(record: Path) -> Path:
    name = record.name.removesuffix(".json").removesuffix(".run")
    return record.with_name(f"{name}.curve.png")


def draw_curve(history: TrainingHistory, path: Path, title: str, output: Output) -> bool:
    """Draw loss and its terms over steps; a file that cannot be written is a note, not a failure.

    Returns
    -------
    bool
        Whether the file is there.
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a window, whatever the user's backend is
    axes = figure.add_subplot()
    lines = {"loss": history.loss, **(history.terms if len(history.terms) > 1 else {})}
    for name, values in lines.items():
        steps = np.arange(1, len(values) + 1)
        window = min(_WINDOW, len(values))
        smooth = np.convolve(values, np.ones(window) / window, mode="valid")
        (line,) = axes.plot(steps[window - 1 :], smooth, label=name, linewidth=1.5)
        axes.plot(steps, values, color=line.get_color(), alpha=0.25, linewidth=0.6)
    axes.set(xlabel="step", ylabel="loss", title=title)
    axes.legend(frameon=False, fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        output.note(f"the curve could not be written: {error}")
        return False
    output.detail(f"curve: {path}")
    return True
