"""Colors of labels: the same label has the same color wherever it is drawn."""

import re
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["MISSING", "OTHER", "natural_order", "palette_of"]

# Okabe and Ito 2008, told apart with every common color vision; black is kept for lines.
_OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
# The same hues darker and lighter: lightness tells apart what hue does not.
_DARK = ("#003F63", "#8A5F00", "#00543D", "#7A3A60", "#1F6F9E", "#7D3700", "#8F871C")
_LIGHT = ("#7FC4EC", "#F7CF7F", "#7FD3B9", "#E9C3D6", "#B9DFF6", "#F0A87A", "#F8F3A8")
_COLORS = (*_OKABE_ITO, *_DARK, *_LIGHT)

MISSING = "#D9D9D9"
"""Cells without a value."""
OTHER = "#9A9A9A"
"""Labels beyond those that can be told apart."""


def palette_of(
    labels: Sequence[str], counts: Sequence[int], given: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Give each label a color.

    Parameters
    ----------
    labels
        Every label of the atlas, so that an answer with fewer of them keeps their colors.
    counts
        Cells drawn of each; of more labels than colors, the most frequent get one.
    given
        Colors by label, of the user.

    Returns
    -------
    dict
        Colors, in the order of the labels; labels left gray share `OTHER`.

    Examples
    --------
    >>> palette_of(["a", "b"], [5, 3])
    {'a': '#0072B2', 'b': '#E69F00'}
    """
    own = dict(given or {})
    if len(labels) <= len(_COLORS):
        return {name: own.get(name, _COLORS[i]) for i, name in enumerate(labels)}
    ranked = sorted(range(len(labels)), key=lambda i: (-counts[i], i))
    shown = sorted(ranked[: len(_COLORS)])
    colors = {labels[i]: _COLORS[rank] for rank, i in enumerate(shown)}
    return {name: own.get(name, colors.get(name, OTHER)) for name in labels}


def natural_order(labels: Iterable[str]) -> list[str]:
    """Sort text such that numbers in it count as numbers.

    >>> natural_order(["10", "9", "layer 2", "layer 10"])
    ['9', '10', 'layer 2', 'layer 10']
    """

    def key(label: str) -> list[tuple[int, int, str]]:
        parts = re.split(r"(\d+)", label)
        return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part]

    return sorted(labels, key=lambda label: (key(label.casefold()), label))
