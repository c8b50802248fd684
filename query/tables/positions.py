"""Where the cells of an answer lie: in micrometers, source units, and the frame it was asked in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.frames import Matrix
from ..cells.fetch import read_positions
from ..cells.rows import RunArray, count
from ..filters.columns import Column
from ..geometry.by_section import PlacesBySection
from ..geometry.framed import Framed, transform
from ..geometry.touching import Touching

if TYPE_CHECKING:
    from ...atlas.section import Section
    from ..cells.question import Question
    from ..cells.selection import Selection

__all__ = [
    "AskedFrame",
    "frame_of",
    "position_names",
    "position_readers",
    "positions_of",
    "read_position_columns",
    "without_positions",
]

type Reader = Callable[["Section", RunArray], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class AskedFrame:
    """The common frame that a question's place is given in."""

    name: str
    matrices: Mapping[str, Matrix]
    """Section to frame, by section."""

    @property
    def key(self) -> str:
        """Name of the positions in `obsm`."""
        return f"spatial_{self.name}"

    def read(self, section: "Section", runs: RunArray) -> NDArray[np.float64]:
        """Positions of some rows in the frame, (m, 2) float64; NaN in sections it lacks."""
        if section.name not in self.matrices:
            return np.full((count(runs), 2), np.nan)
        return transform(self.matrices[section.name], read_positions(section, runs))


def frame_of(question: "Question") -> AskedFrame | None:
    """Tell the frame that a question asks in; None where its place is in sections' coordinates."""
    if not isinstance(question.place, PlacesBySection):
        return None
    matrices: dict[str, Matrix] = {}
    names: set[str] = set()
    for section, place in question.place.places:
        inner = place.place if isinstance(place, Touching) else place
        if isinstance(inner, Framed) and inner.frame:
            matrices[section] = inner.matrix
            names.add(inner.frame)
    return AskedFrame(names.pop(), matrices) if len(names) == 1 else None


def position_readers(question: "Question") -> dict[str, Reader]:
    """Name the positions that an answer has in `obsm`, each with what reads rows of it."""
    frame = frame_of(question)
    own: dict[str, Reader] = {"spatial": read_positions}
    return own if frame is None else own | {frame.key: frame.read}


def positions_of(selection: "Selection") -> dict[str, NDArray[np.float64]]:
    """Read the positions that an answer has in `obsm`, (n, 2) float64, in its order."""
    parts = selection.parts()
    return {
        name: np.concatenate([*(read(section, runs) for section, runs in parts), np.zeros((0, 2))])
        for name, read in position_readers(selection.question).items()
    }


def position_names(selection: "Selection") -> dict[str, tuple[str, str]]:
    """Columns of positions that a table of cells has: by kind (`um`, `source`, `frame`)."""
    entries = selection.store.snapshot.sections
    here = list(selection.runs) or selection.sections or selection.store.section_names
    known = {entries[name].um_per_unit is not None for name in here}
    found = {}
    if True in known:
        found["um"] = ("x_um", "y_um")
    if False in known:
        found["source"] = ("x_source", "y_source")
    frame = frame_of(selection.question)
    if frame is not None:
        name = f"frame:{frame.name}" if frame.name in ("um", "source") else frame.name
        found["frame"] = (f"x_{name}", f"y_{name}")
    return found


def without_positions(columns: Sequence[Column], taken: set[str]) -> list[Column]:
    """Spell columns that share a name with a position with their source, as `obs:x_um`."""
    return [
        replace(column, name=f"{column.source}:{column.key}") if column.name in taken else column
        for column in columns
    ]


def read_position_columns(
    selection: "Selection", wanted: Mapping[str, tuple[str, str]]
) -> dict[str, NDArray[np.float64]]:
    """Read positions as columns, in the order of the answer.

    Parameters
    ----------
    selection
        The answer.
    wanted
        Of `position_names`.

    Returns
    -------
    dict
        (n,) float64 each; NaN where a section has no such position. Reads one array.
    """
    frame = frame_of(selection.question)
    parts: dict[str, list[Any]] = {kind: [np.zeros((0, 2))] for kind in wanted}
    for section, runs in selection.parts():
        own = "um" if section.um_per_unit is not None else "source"
        for kind, found in parts.items():
            if kind == "frame" and frame is not None:
                found.append(frame.read(section, runs))
            elif kind == own:
                found.append(read_positions(section, runs))
            else:
                found.append(np.full((count(runs), 2), np.nan))
    columns = {}
    for kind, (x, y) in wanted.items():
        columns[x], columns[y] = np.concatenate(parts[kind]).T
    return columns
