"""How a committed graph is built again: the command with the parameters on record."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..serial.stored import split_key

if TYPE_CHECKING:
    from ...snapshot import DerivedEntry

__all__ = ["rebuilding", "stale_words"]

_FLAGS = ("symmetrize", "set_diag")
_VALUES = ("n_rings", "percentile", "transform", "where")


def stale_words(entry: DerivedEntry, stale: Sequence[str], url: str) -> str:
    """Say that a graph is stale, why, and how to build it again.

    Parameters
    ----------
    entry : DerivedEntry
        The graph.
    stale : sequence of str
        Its inputs that changed, as `Snapshot.stale_inputs` lists them.
    url : str
        Where the atlas is.
    """
    key, neighbor = split_key(entry)
    where = f"section {entry.section!r}" + (f" to {neighbor!r}" if neighbor else "")
    inputs = " and ".join(
        f"section {name.removeprefix('section:')!r}" if name.startswith("section:") else repr(name)
        for name in stale
    )
    return (
        f"graph {key!r} of {where} is wanted as of now, but got a stale one: {inputs} was replaced "
        f"or removed since it was built; build it again{rebuilding(entry, url)}"
    )


def rebuilding(entry: DerivedEntry, url: str) -> str:
    """Spell the command that builds a graph again, behind a colon; or what it takes instead.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> info = {"kind": "knn", "parameters": {"n_neighs": 6, "where": "n > 3"}}
    >>> rebuilding(SimpleNamespace(kind="graph", key="k", section="S1", info=info), "b.atlas")
    ": tisseract graph b.atlas --knn 6 --where 'n > 3' --key-added k --section S1"
    """
    parameters: Mapping[str, Any] = entry.info.get("parameters", {})
    key, neighbor = split_key(entry)
    if "transform_to" in parameters or (neighbor and "transform" in parameters):
        return ", with transforms= as before"
    if "mask" in parameters and "where" not in parameters:
        return ", with mask= as before"
    words = ["tisseract", "graph", url, *_options(str(entry.info.get("kind")), parameters)]
    if neighbor:
        words.append("--z")
    words += ["--key-added", key, "--section", entry.section]
    if neighbor:
        words += ["--section", neighbor]
    return f": {shlex.join(words)}"


def _options(kind: str, parameters: Mapping[str, Any]) -> list[str]:
    words: list[str] = []
    kind = kind.removeprefix("z-")
    if kind == "knn":
        words += ["--knn", str(parameters.get("n_neighs"))]
    elif kind == "delaunay":
        words.append("--delaunay")
    elif kind == "grid":
        words += ["--grid", str(parameters.get("lattice", "auto"))]
    radius = parameters.get("radius")
    if radius is not None:
        ends = radius if isinstance(radius, list) else [radius]
        words += ["--radius", ":".join(map(str, ends))]
    for name in _VALUES:
        if parameters.get(name) is not None:
            words += [f"--{name.replace('_', '-')}", str(parameters[name])]
    return words + [f"--{name.replace('_', '-')}" for name in _FLAGS if parameters.get(name)]
