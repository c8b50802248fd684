"""The tissue that is looked for, described like a window."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...atlas.errors import InvalidArgument, StaleDerived
from ..cells.rows import count
from .describe import walk
from .features import Embedded, Features
from .opened import Index
from .parameters import PLAIN
from .scoring import Description
from .shares import ShareColumn

if TYPE_CHECKING:
    from ...atlas.store import AtlasStore
    from ..cells.selection import Selection


def features_of(store: "AtlasStore", index: Index, sections: Sequence[str]) -> Features:
    """Give what the cells of an index are described by, for some of its sections."""
    if index.parameters.space != PLAIN:
        return Embedded(store, index.parameters.space, index.width)
    return index.projection().over(store, sections)


def share_columns(store: "AtlasStore", index: Index) -> tuple[ShareColumn, ...]:
    """Columns of which the index keeps shares."""
    return tuple(
        ShareColumn.of(store, name, [], index.values[name]) for name in index.parameters.columns
    )


def require_sections(store: "AtlasStore", index: Index, sections: Sequence[str]) -> None:
    """Refuse sections whose windows are not in the index, or do not hold any more.

    Raises
    ------
    StaleDerived
    InvalidArgument
    """
    again = f"run `tisseract index {store.url} --key {index.key}` (and the options of then), "
    again += f"or atlas.build_index({index.key!r})"
    stale = [name for name in sections if name in index.stale]
    if stale:
        raise StaleDerived(
            f"windows made from what the atlas holds now are wanted, but what index {index.key!r} "
            f"has of {', '.join(stale[:5])} was made from what was replaced since; {again}"
        )
    missing = [name for name in sections if name not in index.rows]
    if missing:
        raise InvalidArgument(
            f"sections of index {index.key!r} are wanted, but {', '.join(missing[:5])} "
            f"{'is' if len(missing) == 1 else 'are'} not in it; {again}"
        )


def describe_example(
    store: "AtlasStore", index: Index, like: "Selection", words: str = "similar"
) -> Description:
    """Describe the cells of a selection; every cell counts the same, whatever its section.

    Raises
    ------
    InvalidArgument
        Fewer cells than a window of the index must hold, or a section that is not indexed.
    StaleDerived
        Windows of its section were made from what was replaced since.

    Notes
    -----
    Memory: one block of 8,192 cells with their counts.
    """
    runs = like.runs
    n = sum(count(part) for part in runs.values())
    least = index.parameters.min_cells
    if n < least:
        raise InvalidArgument(
            f"at least {least} cells are wanted for {words}, but the selection has {n}: "
            f"{like.question}; widen it"
        )
    require_sections(store, index, list(runs))
    features = features_of(store, index, list(runs))
    columns = share_columns(store, index)
    total, square = np.zeros(features.width), np.zeros(features.width)
    shares = [np.zeros(len(column.values)) for column in columns]
    for name, part in runs.items():
        center = index.center(name)
        for _, values, codes in walk(store, store.section(name), part, features, columns):
            centered = values - center
            total += centered.sum(axis=0)
            square += (centered * centered).sum(axis=0)
            for i, code in enumerate(codes):
                shares[i] += np.bincount(code[code >= 0], minlength=len(shares[i]))
    mean = total / n
    spread = np.sqrt(np.maximum(square / n - mean * mean, 0.0))
    return Description(mean, spread, tuple(sums / n for sums in shares), n)
