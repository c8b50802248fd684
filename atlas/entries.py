"""Entries of a snapshot: what it says of one section, one piece of derived data, one run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, override

from .keys import attempt_prefix, manifest_key

__all__ = ["DerivedEntry", "RunEntry", "SectionEntry", "SegmentEntry", "derived_name"]


def derived_name(kind: str, key: str, section: str) -> str:
    """Name of derived data in a snapshot.

    Examples
    --------
    >>> derived_name("graph", "spatial", "E12_s03")
    'graph/spatial/E12_s03'
    """
    return f"{kind}/{key}/{section}"


class _AttemptEntry(ABC):
    """What an entry says is held by one attempt."""

    __slots__ = ()

    attempt: str

    @property
    @abstractmethod
    def parent(self) -> str:
        """Folder of all attempts."""

    @property
    def prefix(self) -> str:
        """Prefix of the attempt's objects; of a section, its SpatialData store."""
        return attempt_prefix(self.parent, self.attempt)

    @property
    def manifest(self) -> str:
        """Key of the manifest."""
        return manifest_key(self.parent, self.attempt)


@dataclass(frozen=True, slots=True)
class SectionEntry(_AttemptEntry):
    """One section: where it is, and what pruning needs to know before opening it.

    Attributes
    ----------
    section : str
        Name.
    attempt, digest : str
        Attempt that holds it; digest of its manifest.
    n_obs, n_vars, nnz, nbytes : int
        Cells, genes, stored non-zeros, bytes of all objects.
    n_tiles, tile_cells : int
        Tiles; largest number of cells of a tile.
    panel : str
        Digest of the gene panel.
    values : str
        counts, expected, normalized, log1p or composition.
    um_per_unit : float, optional
        Micrometers per source unit; None when unknown.
    bounds : tuple of float
        (xmin, ymin, xmax, ymax) in micrometers, in source units when `um_per_unit` is None.
    fingerprint : str
        Digest of the input, so that a repeated ingest finds it done.
    metadata : mapping
        section, timepoint, donor, ... and every further column of the sample sheet.
    columns : mapping
        obs column -> kind, and min and max or the categories.
    qc : mapping
        Quality of the section, as `atlas.quality.QcSummary` writes it; empty where it was not
        counted.
    """

    section: str
    attempt: str
    digest: str
    n_obs: int
    n_vars: int
    nnz: int
    nbytes: int
    n_tiles: int
    tile_cells: int
    panel: str
    values: str
    um_per_unit: float | None
    bounds: tuple[float, float, float, float]
    fingerprint: str
    metadata: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    qc: Mapping[str, Any] = field(default_factory=dict)

    @property
    @override
    def parent(self) -> str:
        """Folder of all attempts at this section."""
        return f"sections/{self.section}"


@dataclass(frozen=True, slots=True)
class DerivedEntry(_AttemptEntry):
    """Data derived from a section and aligned with its rows.

    Attributes
    ----------
    kind : str
        graph, embedding, domains, annotation, regions, frame, topics, summary or index.
    key : str
        Name given by the user, such as `key_added`.
    section : str
        Section it belongs to.
    attempt, digest : str
        Attempt that holds it; digest of its manifest.
    nbytes : int
        Bytes of all objects.
    inputs : mapping
        `section:<name>` or `<kind>/<key>/<section>` -> the attempt it was computed from.
    run : str, optional
        Run whose weights were used.
    info : mapping
        Parameters and small facts.
    """

    kind: str
    key: str
    section: str
    attempt: str
    digest: str
    nbytes: int
    inputs: Mapping[str, str] = field(default_factory=dict)
    run: str | None = None
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name in the snapshot: `<kind>/<key>/<section>`."""
        return derived_name(self.kind, self.key, self.section)

    @property
    @override
    def parent(self) -> str:
        """Folder of all attempts at it."""
        return f"derived/{self.name}"


@dataclass(frozen=True, slots=True)
class SegmentEntry(_AttemptEntry):
    """Small results of many sections in one attempt, so that they are not a request each.

    Attributes
    ----------
    kind : str
        summary.
    key : str
        Name of the results; several segments may share one.
    attempt, digest : str
        Attempt that holds it; digest of its manifest.
    nbytes : int
        Bytes of all objects.
    inputs : mapping
        `section:<name>` or `<kind>/<key>/<section>` -> the attempt it was computed from, of all
        its sections. What is stale for one section is not for the others.
    info : mapping
        Parameters and small facts.
    """

    kind: str
    key: str
    attempt: str
    digest: str
    nbytes: int
    inputs: Mapping[str, str] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name in the snapshot: `<kind>/<key>/<attempt>`."""
        return f"{self.kind}/{self.key}/{self.attempt}"

    @property
    @override
    def parent(self) -> str:
        """Folder of all attempts at this key."""
        return f"segments/{self.kind}/{self.key}"


@dataclass(frozen=True, slots=True)
class RunEntry(_AttemptEntry):
    """One training: weights, configuration, provenance.

    Attributes
    ----------
    run : str
        Name.
    attempt, digest : str
        Attempt that holds it; digest of its manifest.
    nbytes : int
        Bytes of all objects.
    model : str
        Kind of model.
    inputs : mapping
        `section:<name>`, `<kind>/<key>/<section>` or `run:<name>` -> the attempt it was trained on.
    info : mapping
        Parameters and small facts.
    """

    run: str
    attempt: str
    digest: str
    nbytes: int
    model: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    @override
    def parent(self) -> str:
        """Folder of all attempts at it."""
        return f"models/{self.run}"
