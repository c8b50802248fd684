"""What a tour found, as a value that prints itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["TourReport"]

_WORDS = {
    "domain_plain": "plain (smoothed over neighbors)",
    "domain_gnn": "gnn (trained graph network)",
    "domain_expression": "the same clustering without neighbors",
}


@dataclass(frozen=True, slots=True)
class TourReport:
    """Outcome of a tour.

    Attributes
    ----------
    folder, atlas : str
        Where everything lies.
    simulated : bool
        Whether the data is simulated; if so there is a truth to agree with.
    seed : int
        Seed of everything random.
    n_sections, n_obs : int
        Size of the atlas.
    agreement : mapping of str to mapping of str to float
        Adjusted Rand index with the truth: labels -> section -> value; empty without truth.
    figures : tuple of str
        Files drawn.
    seconds : float
        Wall time.
    peak_rss_bytes : int
        Peak resident memory of the process.
    """

    folder: str
    atlas: str
    simulated: bool
    seed: int
    n_sections: int
    n_obs: int
    agreement: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    figures: tuple[str, ...] = ()
    seconds: float = 0.0
    peak_rss_bytes: int = 0

    @property
    def mean_agreement(self) -> dict[str, float]:
        """Mean over sections of the adjusted Rand index, per set of labels.

        Examples
        --------
        >>> TourReport("d", "a", True, 0, 2, 9, {"x": {"s": 0.5, "t": 1.0}}).mean_agreement
        {'x': 0.75}
        """
        return {key: sum(values.values()) / len(values) for key, values in self.agreement.items()}

    def __str__(self) -> str:
        lines = []
        if self.agreement:
            lines.append("agreement with the truth (adjusted Rand index, mean over sections; 1 is")
            lines.append("perfect, 0 is chance):")
            for key, value in self.mean_agreement.items():
                lowest = min(self.agreement[key].values())
                words = _WORDS.get(key, key)
                lines.append(f"  {words:<40} {value:.3f}  (lowest section {lowest:.3f})")
        elif not self.simulated:
            lines.append("no truth is known for this data, so no agreement is given")
        lines += [f"figure  {path}" for path in self.figures]
        lines.append(
            f"{self.n_obs:,} cells in {self.n_sections} sections, {self.seconds:.0f} s, "
            f"peak memory {self.peak_rss_bytes / 2**20:.0f} MiB"
        )
        return "\n".join(lines)
