"""Elements beside cells and images: points, label images, further outlines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..atlas.points_write import LEAST_POINTS_BYTES, POINTS_BYTES, write_points
from ..atlas.section_write import group

if TYPE_CHECKING:
    from ..atlas.morton import Frame
    from ..atlas.quadtree import Leaves
    from ..atlas.quality.points import PointTally
    from .source import RawSection

__all__ = ["Elements", "write_points_of", "write_rest"]


@dataclass(slots=True)
class Elements:
    """What the index of the section says of elements."""

    index: dict[str, object] = field(default_factory=dict)
    """Attributes `points`, `labels` and `shapes`; those without an element are left out."""
    layouts: dict[str, dict[str, object]] = field(default_factory=dict)
    """Arrays that describe points."""
    notes: tuple[str, ...] = ()
    """What was left out or changed."""
    tallies: dict[str, PointTally] = field(default_factory=dict)
    """Points of each tile, by element."""

    def joined(self, other: Elements) -> Elements:
        """Return what both say, this one's notes first."""
        return Elements(
            self.index | other.index,
            self.layouts | other.layouts,
            (*self.notes, *other.notes),
            self.tallies | other.tallies,
        )


def write_points_of(
    path: Path,
    raw: RawSection,
    frame: Frame,
    system: str,
    *,
    memory: int,
    scratch: Path,
    leaves: Leaves | None = None,
    check: Callable[[], None] | None = None,
) -> Elements:
    """Write the points of a section, one element after another.

    Parameters
    ----------
    path : Path
        The section's container.
    raw : RawSection
        What the reader found.
    frame : Frame
        Square of the cells, in stored units.
    system : str
        Name of the coordinate system.
    memory : int
        Bytes that may be used, at most 256 MiB of it.
    scratch : Path
        Folder for temporary files.
    leaves : Leaves, optional
        Tiles, whose points are counted.
    check : callable, optional
        Called now and then; what it raises stops the work.
    """
    written = Elements()
    notes: list[str] = []
    limit = max(LEAST_POINTS_BYTES, min(memory, POINTS_BYTES))
    if raw.points:
        group(path / "points")
        group(path / "tisseract" / "points")
    infos: dict[str, object] = {}
    for name, points in raw.points.items():
        one = write_points(
            path,
            name,
            points,
            frame=frame,
            coordinate_system=system,
            memory_limit=limit,
            scratch=scratch,
            leaves=leaves,
            check=check,
        )
        if one.tally is not None:
            written.tallies[name] = one.tally
        infos[name] = one.info.as_json()
        written.layouts |= one.layouts
        notes += [f"points {name!r}: {note}" for note in one.notes]
    written.index = {"points": infos} if infos else {}
    written.notes = tuple(notes)
    return written


def write_rest(path: Path, raw: RawSection, system: str, *, memory: int) -> Elements:
    """Write label images and further outlines of a section, one after another.

    Parameters
    ----------
    path : Path
        The section's container.
    raw : RawSection
        What the reader found.
    system : str
        Name of the coordinate system.
    memory : int
        Bytes that a label image may use.
    """
    from ..atlas.outlines import write_outlines

    notes: list[str] = []
    shapes: list[str] = []
    for name, labels in raw.labels.items():
        labels.write(path, name, coordinate_system=system, memory_limit=memory)
    for name, outlines in raw.outlines.items():
        if write_outlines(path, name, outlines, system):
            shapes.append(name)
        else:
            notes.append(f"shapes {name!r} left out: no whole outline of a cell of the section")
        notes += [f"shapes {name!r}: {note}" for note in outlines.notes]
    lists = {"labels": sorted(raw.labels), "shapes": sorted(shapes)}
    index: dict[str, object] = {key: value for key, value in lists.items() if value}
    return Elements(index=index, notes=tuple(notes))
