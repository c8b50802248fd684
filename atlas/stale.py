"""What is told of derived data whose inputs were replaced: why, and what makes it again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .snapshot import DerivedEntry

__all__ = ["remaking", "stale_words"]

# Verbs for what users gave: only they can give it again.
_VERBS = {
    "annotation": "atlas.annotate(table, key={key!r})",
    "regions": "atlas.annotate_regions({section!r}, regions, key={key!r})",
    "frame": "atlas.register({key!r}, {{{section!r}: affine}})",
    "summary": "atlas.summarize(..., key_added={key!r})",
    "index": "atlas.build_index({key!r})",
}


def stale_words(entry: DerivedEntry, stale: Sequence[str], url: str) -> str:
    """Say what was replaced, and by which command the results are made again.

    Parameters
    ----------
    entry : DerivedEntry
        The derived data.
    stale : sequence of str
        Its inputs that changed, as `Snapshot.stale_inputs` lists them.
    url : str
        Where the atlas is.
    """
    if entry.kind in ("graph", "zgraph"):
        from .graph.disk import recipe

        return recipe.stale_words(entry, stale, url)
    again = remaking(entry, url)
    inputs = ", ".join(stale[:5]) + (" ..." if len(stale) > 5 else "")
    return (
        f"{entry.kind} {entry.key!r} of section {entry.section!r} made from what the atlas "
        f"holds now is wanted, but {inputs} was replaced or removed since; compute "
        f"it again{again and ': '}{again}"
    )


def remaking(entry: DerivedEntry, url: str) -> str:
    """Spell the command or verb that makes derived data again; empty where none is known.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> remaking(SimpleNamespace(kind="frame", key="ccf", section="S1"), "b.atlas")
    "atlas.register('ccf', {'S1': affine})"
    """
    if entry.kind in _VERBS:
        return _VERBS[entry.kind].format(key=entry.key, section=entry.section)
    words: list[str] = []
    if entry.kind == "embedding" and entry.run is not None:
        words = ["embed", url, "--run", entry.run]
    elif entry.kind == "domains":
        method, number = entry.info.get("method"), entry.info.get("n_domains")
        # coarser labels come out beside finer ones, under another key
        if method is not None and not entry.key.endswith(f"_{number}"):
            words = ["domains", url, "--method", str(method), "--n-domains", str(number)]
    shown = shlex.join(["tisseract", *words, "--key-added", entry.key, "--overwrite"])
    return f"{shown} (and the options of then)" if words else ""
