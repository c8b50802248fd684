"""Which row groups of points a place touches, as values that print themselves."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...atlas.memory import format_bytes
from ..geometry.places import Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...atlas.points import PointsInfo
    from ...atlas.points_read import StoredPoints

# Text in memory, an Arrow string or a Python one: cell ids are short.
_TEXT_BYTES = 32
_WIDTHS = {"double": 8, "int64": 8, "uint64": 8, "float": 4, "int32": 4, "uint32": 4, "bool": 1}
# Decoded row groups, codecs, what Arrow keeps.
_FIXED_BYTES = 48 * 2**20
_SHOWN = 12


@dataclass(frozen=True, slots=True, eq=False)
class SectionPoints:
    """Row groups of one section that may hold answers; never leaves out one that does."""

    section: str
    points: "StoredPoints"
    """The points element."""
    groups: NDArray[np.int64]
    """(k,) row groups, ascending."""
    inside: NDArray[np.bool_]
    """(k,) whether all points of the group lie in the place."""
    features: frozenset[str] | None = None
    """Genes asked for, as the element names them; None is all."""

    @property
    def n_bound(self) -> int:
        """Points in these groups, at most as many as the genes have."""
        rows = int(self.points.rows[self.groups].sum())
        if self.features is None:
            return rows
        return min(rows, sum(self.points.features[name] for name in self.features))

    @property
    def n_inside(self) -> int:
        """Points in groups that lie wholly in the place."""
        return int(self.points.rows[self.groups[self.inside]].sum())

    @property
    def nbytes(self) -> int:
        """Bytes of these groups as stored, all columns."""
        return int(self.points.nbytes[self.groups].sum())

    @property
    def n_files(self) -> int:
        """Files that are opened."""
        return len(np.unique(self.groups // self.points.info.groups_per_part))


@dataclass(frozen=True, slots=True, eq=False)
class PointsPlan:
    """What a question for transcripts reads; printing it is `Transcripts.explain()`."""

    query: str
    """The question in words."""
    sections: tuple[SectionPoints, ...]
    """Sections that may hold answers, in catalog order."""
    pruned: tuple[tuple[str, str], ...]
    """Sections left alone, each with the reason."""
    bytes_per_row: int
    """Estimate of a point in memory."""

    @property
    def n_bound(self) -> int:
        """The answer has at most so many points; known without reading any."""
        return sum(one.n_bound for one in self.sections)

    @property
    def read_bytes(self) -> int:
        """Stored bytes of the row groups; columns not asked for are left out in reading."""
        return sum(one.nbytes for one in self.sections)

    @property
    def peak_bytes(self) -> int:
        """Estimate of the memory the whole answer takes: the table, and it once more."""
        return 2 * self.n_bound * self.bytes_per_row + _FIXED_BYTES

    def __str__(self) -> str:
        lines = [f"transcripts: {self.query}", self._totals()]
        lines += [_told(one) for one in self.sections[:_SHOWN]]
        lines += [f"  {name}: left out, {why}" for name, why in self.pruned[:_SHOWN]]
        more = max(0, len(self.sections) - _SHOWN) + max(0, len(self.pruned) - _SHOWN)
        return "\n".join([*lines, *([f"  and {more:,} more sections"] if more else [])])

    def _totals(self) -> str:
        return (
            f"at most {self.n_bound:,} points, at most {format_bytes(self.read_bytes)} to read, "
            f"peak memory {format_bytes(self.peak_bytes)}"
        )


def _told(one: SectionPoints) -> str:
    return (
        f"  {one.section}: {len(one.groups):,} of {one.points.info.n_groups:,} row groups "
        f"({int(one.inside.sum()):,} wholly inside) in {one.n_files} files, at most "
        f"{one.n_bound:,} of {one.points.info.n_points:,} points"
    )


def plan_section(
    section: str, points: "StoredPoints", place: Place | None, features: frozenset[str] | None
) -> SectionPoints:
    """Choose the row groups of a section that a place touches and that may hold the genes."""
    groups = np.flatnonzero(points.rows > 0)
    if features is not None and not features:
        groups = groups[:0]
    inside = np.ones(len(groups), bool)
    if place is not None and len(groups):
        touched, inside = place.cover(points.bounds[groups])
        groups, inside = groups[touched], inside[touched]
    return SectionPoints(section, points, groups, inside, features)


def row_bytes(info: "PointsInfo", columns: "Sequence[str]") -> int:
    """Estimate of one row of some columns in memory, the section's name included."""
    kinds = [info.columns[name] for name in columns]
    return 4 + sum(4 if k.startswith("dictionary") else _WIDTHS.get(k, _TEXT_BYTES) for k in kinds)
