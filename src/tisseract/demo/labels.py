"""Domain labels of an atlas as arrays, and how they agree with a known truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ..handle import Atlas

__all__ = ["SectionLabels", "agreement", "read_labels"]


@dataclass(frozen=True, slots=True)
class SectionLabels:
    """Positions and labels of one section, for drawing.

    Attributes
    ----------
    section, timepoint : str
        Names.
    time_value : float
        Place in time; NaN if unknown.
    xy : ndarray, shape (n, 2)
        Micrometers, or source units where `in_um` is false; y down.
    codes : ndarray of int, shape (n,)
        Domain of each cell, -1 for none.
    in_um : bool
        Whether the unit is known.
    """

    section: str
    timepoint: str
    time_value: float
    xy: npt.NDArray[np.float64]
    codes: npt.NDArray[np.int16]
    in_um: bool


def read_labels(atlas: Atlas, key: str) -> tuple[list[SectionLabels], list[str]]:
    """Read positions and labels of every section that has them: O(cells) memory."""
    from ..atlas.derived_read import read_domains

    found: list[SectionLabels] = []
    categories: list[str] = []
    for name in atlas.derived_keys("domains").get(key, []):
        section = atlas.section(name)
        labels = read_domains(atlas, key, name)
        categories = list(labels.categories)
        value = section.metadata.get("time_value")
        found.append(
            SectionLabels(
                section=name,
                timepoint=str(section.metadata.get("timepoint") or ""),
                time_value=float(value) if isinstance(value, int | float) else float("nan"),
                xy=np.asarray(section.positions()),
                codes=labels.codes,
                in_um=section.um_per_unit is not None,
            )
        )
    found.sort(key=lambda item: (np.nan_to_num(item.time_value, nan=np.inf), item.section))
    return found, categories


def agreement(atlas: Atlas, keys: list[str], truth: str) -> dict[str, dict[str, float]]:
    """Compare labels with a column of truth: adjusted Rand index of each section."""
    from ..atlas.derived_read import read_domains
    from ..models.metrics.agreement import ari

    scores: dict[str, dict[str, float]] = {key: {} for key in keys}
    for name in atlas.section_names:
        known = atlas.section(name).obs(columns=[truth])[truth].astype(str).to_numpy()
        for key in keys:
            codes = read_domains(atlas, key, name).codes
            scores[key][name] = float(ari(known, codes))
    return scores
