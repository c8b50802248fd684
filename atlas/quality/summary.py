"""The quality of a section in some hundred numbers: what the catalog keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from ..errors import Corrupt
from .histogram import Distribution, finite, whole

__all__ = ["LONGEST_NOTE", "QcSummary", "TranscriptCounts"]

LONGEST_NOTE = 400
"""Characters kept of a note."""

_MOST_NOTES = 5
_MOST_POINTS = 64
_LARGEST_PREVIEW = 256
_UM2_PER_MM2 = 1e6


def _short(note: str) -> str:
    return note if len(note) <= LONGEST_NOTE else f"{note[: LONGEST_NOTE - 4].rstrip()} ..."


@dataclass(frozen=True, slots=True)
class TranscriptCounts:
    """Transcripts of one points element."""

    n: int
    """All of them."""
    outside: int | None
    """Those that belong to no cell; None where the source does not say."""
    off_tiles: int
    """Those that lie in no tile's square, so that the tiles' numbers leave them out."""

    @property
    def outside_fraction(self) -> float | None:
        """Share of all transcripts that belong to no cell."""
        return self.outside / self.n if self.outside is not None and self.n else None


@dataclass(frozen=True, slots=True)
class QcSummary:
    """What was counted of a section; what is None was not recorded, or is not known.

    Examples
    --------
    >>> QcSummary.of(None) is None
    True
    """

    n_obs: int
    """Cells (spots, bins)."""
    counts: Distribution
    """Sum of the stored values of each cell over all genes; control features are no genes."""
    genes: Distribution
    """Genes with a value above zero in each cell."""
    duplicated: int
    """Cells at exactly the position of another one that comes before them."""
    controls: float | None = None
    """Sum of the control features over all cells."""
    area: Distribution | None = None
    """Area of each cell in square micrometers."""
    area_from: str = ""
    """`boundaries`, or the obs column that the areas are from."""
    box_um2: float | None = None
    """Sum of the areas of the tiles' tight boxes in square micrometers; None without a unit."""
    transcripts: Mapping[str, TranscriptCounts] = field(default_factory=dict)
    """By points element."""
    images: int | None = None
    """Images stored with the section."""
    preview: tuple[int, int] | None = None
    """Height and width in pixels of the stored picture of the section."""
    notes: tuple[str, ...] = ()
    """First notes of reading and writing; of long ones the beginning, with a mark."""
    n_notes: int = 0
    """Notes in the provenance."""
    software: str = ""
    """Version of tisseract that counted."""

    @property
    def empty(self) -> int:
        """Cells without a value above zero."""
        return self.genes.zeros

    @property
    def empty_fraction(self) -> float | None:
        """Share of the cells without a value above zero."""
        return self.empty / self.n_obs if self.n_obs else None

    @property
    def duplicated_fraction(self) -> float | None:
        """Share of the cells at the position of an earlier one."""
        return self.duplicated / self.n_obs if self.n_obs else None

    @property
    def control_fraction(self) -> float | None:
        """Control counts by all counts; None without control features, or without counts."""
        total = self.counts.total + (self.controls or 0.0)
        return self.controls / total if self.controls is not None and total > 0 else None

    @property
    def cells_per_mm2(self) -> float | None:
        """Cells per square millimeter of the tiles' tight boxes; None without a unit."""
        return self.n_obs / self.box_um2 * _UM2_PER_MM2 if self.box_um2 else None

    @property
    def n_transcripts(self) -> int | None:
        """Transcripts of all points elements; None where there are none."""
        return sum(one.n for one in self.transcripts.values()) if self.transcripts else None

    @property
    def outside_fraction(self) -> float | None:
        """Share of transcripts outside cells, of the elements that tell."""
        known = [one for one in self.transcripts.values() if one.outside is not None]
        n = sum(one.n for one in known)
        return sum(one.outside or 0 for one in known) / n if n else None

    def as_json(self) -> dict[str, Any]:
        """Plain values for a catalog; what is not known is left out."""
        found: dict[str, Any] = {
            "n_obs": self.n_obs,
            "counts": self.counts.as_json(),
            "genes": self.genes.as_json(),
            "duplicated": self.duplicated,
            "controls": self.controls,
            "area": self.area.as_json() if self.area else None,
            "area_from": self.area_from or None,
            "box_um2": self.box_um2,
            "transcripts": {
                name: [one.n, one.outside, one.off_tiles]
                for name, one in list(self.transcripts.items())[:_MOST_POINTS]
            }
            or None,
            "images": self.images,
            "preview": list(self.preview) if self.preview else None,
            "notes": [_short(note) for note in self.notes[:_MOST_NOTES]] or None,
            "n_notes": self.n_notes or None,
            "software": self.software or None,
        }
        return {name: value for name, value in found.items() if value is not None}

    @classmethod
    def of(cls, value: Mapping[str, Any] | None) -> Self | None:
        """Read what a catalog says of a section; None where it says nothing.

        Raises
        ------
        Corrupt
            Names what is out of shape.
        """
        if not value:
            return None
        get = value.get
        area, preview, notes = get("area"), get("preview"), get("notes", [])
        if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
            raise Corrupt(f"a list of notes is wanted in a summary of quality, got {notes!r:.60}")
        return cls(
            n_obs=whole(get("n_obs")),
            counts=Distribution.of(get("counts")),
            genes=Distribution.of(get("genes")),
            duplicated=whole(get("duplicated")),
            controls=_optional(finite, get("controls")),
            area=None if area is None else Distribution.of(area),
            area_from=str(get("area_from", "")),
            box_um2=_optional(finite, get("box_um2")),
            transcripts=_transcripts(get("transcripts", {})),
            images=_optional(whole, get("images")),
            preview=None if preview is None else _preview(preview),
            notes=tuple(notes[:_MOST_NOTES]),
            n_notes=whole(get("n_notes", 0)),
            software=str(get("software", "")),
        )


def _optional(check: Any, value: object) -> Any:
    return None if value is None else check(value)


def _transcripts(value: object) -> dict[str, TranscriptCounts]:
    if not isinstance(value, Mapping) or len(value) > _MOST_POINTS:
        raise Corrupt(f"transcripts by element are wanted, but got {value!r:.60}")
    found = {}
    for name, one in value.items():
        if not isinstance(one, list) or len(one) != 3:
            raise Corrupt(f"three numbers of transcripts are wanted, but got {one!r:.60}")
        found[str(name)] = TranscriptCounts(whole(one[0]), _optional(whole, one[1]), whole(one[2]))
    return found


def _preview(value: object) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise Corrupt(f"height and width of a picture are wanted, but got {value!r:.60}")
    height, width = map(whole, value)
    if not (0 < height <= _LARGEST_PREVIEW and 0 < width <= _LARGEST_PREVIEW):
        raise Corrupt(f"a picture of at most {_LARGEST_PREVIEW} pixels is wanted, got {value!r}")
    return height, width
