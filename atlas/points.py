"""Points of a section (transcripts): what a reader hands over, and what the index says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .errors import Corrupt, InvalidArgument

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["GROUPS_PER_PART", "PointsInfo", "PointsSource", "index_path", "part_path"]

GROUPS_PER_PART = 64
"""Row groups of a file: its footer stays below some 100 KiB, however many points there are."""


@dataclass(frozen=True, slots=True)
class PointsSource:
    """Points that are streamed once, in the coordinates of the section.

    Every reader fills one: `batches` is called once and yields Arrow record batches of one schema,
    with float columns `x` and `y` (and `z`, if there is one); all other columns are kept.
    """

    batches: Callable[[], Iterator[pa.RecordBatch]]
    """Yields the points, some thousands to a million at a time, none twice."""
    feature_key: str = ""
    """Column of text or categories that names the gene; "" when there is none."""
    instance_key: str = ""
    """Column that names the cell; "" when there is none."""
    cell_column: str = ""
    """Obs column whose values `instance_key` holds; "" for the cell ids."""
    bounds: tuple[float, float, float, float] | None = None
    """xmin, ymin, xmax, ymax; None takes the frame of the cells, which sorts well where the
    points lie among the cells, and correctly anywhere."""
    n_rows: int | None = None
    """Number of points, where it is known."""
    notes: tuple[str, ...] = ()
    """What was left out or changed; goes into the provenance."""


@dataclass(frozen=True, slots=True)
class PointsInfo:
    """What the index of a section says of one points element."""

    name: str
    """Element name."""
    n_points: int
    """Rows."""
    n_groups: int
    """Row groups over all files."""
    groups_per_part: int
    """Row groups of each file but the last."""
    part_bytes: tuple[int, ...]
    """Size of each file."""
    feature_key: str
    """Column that names the gene, or ""."""
    instance_key: str
    """Column that names the cell, or ""."""
    cell_column: str
    """Obs column whose values `instance_key` holds; "" for the cell ids."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Arrow type of each column, in order."""

    def as_json(self) -> dict[str, object]:
        """Plain values for the index; the name is the key it is found under."""
        return {
            "n_points": self.n_points,
            "n_groups": self.n_groups,
            "groups_per_part": self.groups_per_part,
            "part_bytes": list(self.part_bytes),
            "feature_key": self.feature_key,
            "instance_key": self.instance_key,
            "cell_column": self.cell_column,
            "columns": dict(self.columns),
        }

    @classmethod
    def of(cls, name: str, value: object) -> PointsInfo:
        """Check and take over what an index says.

        Raises
        ------
        Corrupt
            Something is missing, or numbers disagree.
        """
        try:
            found: dict[str, Any] = dict(value)  # type: ignore[call-overload]
            info = cls(
                name,
                int(found["n_points"]),
                int(found["n_groups"]),
                int(found["groups_per_part"]),
                tuple(int(size) for size in found["part_bytes"]),
                str(found["feature_key"]),
                str(found["instance_key"]),
                str(found["cell_column"]),
                {str(key): str(kind) for key, kind in found["columns"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Corrupt(
                f"its index must describe the points {name!r}, but got {value!r:.80}"
            ) from error
        parts = -(-info.n_groups // max(1, info.groups_per_part))
        if info.groups_per_part < 1 or info.n_points < 0 or parts != len(info.part_bytes):
            raise Corrupt(f"its index disagrees with itself on the points {name!r}")
        return info


def part_path(name: str, part: int) -> str:
    """Path of one file of a points element in its section.

    >>> part_path("transcripts", 2)
    'points/transcripts/points.parquet/part.2.parquet'
    """
    return f"points/{name}/points.parquet/part.{part}.parquet"


def index_path(name: str) -> str:
    """Path of the index of a points element in its section.

    >>> index_path("transcripts")
    'tisseract/points/transcripts'
    """
    return f"tisseract/points/{name}"


def check_name(name: str) -> None:
    """Refuse names that SpatialData refuses.

    Raises
    ------
    InvalidArgument
        If the name is none of an element.
    """
    import re

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise InvalidArgument(
            "expected a points name of letters, digits, '_', '.' and '-' that starts with a "
            f"letter or digit, but got {name!r}"
        )
