"""What the catalog knows of a section: nothing is read for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .snapshot import SectionEntry

__all__ = ["SectionFacts"]


class SectionFacts:
    """The part of a `Section` that its line in the snapshot answers.

    Parameters
    ----------
    entry : SectionEntry
        The section's line in the snapshot.
    """

    def __init__(self, entry: SectionEntry) -> None:
        self._entry = entry

    @property
    def entry(self) -> SectionEntry:
        """The section's line in the snapshot."""
        return self._entry

    @property
    def name(self) -> str:
        """Name of the section."""
        return self._entry.section

    @property
    def attempt(self) -> str:
        """Attempt that holds it; changes when the section is replaced."""
        return self._entry.attempt

    @property
    def n_obs(self) -> int:
        """Cells."""
        return self._entry.n_obs

    @property
    def n_vars(self) -> int:
        """Genes."""
        return self._entry.n_vars

    @property
    def n_tiles(self) -> int:
        """Tiles."""
        return self._entry.n_tiles

    @property
    def values(self) -> str:
        """What the matrix holds: counts, expected, normalized, log1p or composition."""
        return self._entry.values

    @property
    def um_per_unit(self) -> float | None:
        """Micrometers per source unit; None when unknown, then positions are in source units."""
        return self._entry.um_per_unit

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """xmin, ymin, xmax, ymax of the positions."""
        return self._entry.bounds

    @property
    def metadata(self) -> Mapping[str, str | int | float | bool | None]:
        """Section metadata: timepoint, donor, condition and so on."""
        return self._entry.metadata
