"""Reading derived arrays: embeddings, domain labels and their counts by tile.

How they are written, and what lies on disk, is in `derived`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .collected import refuse_collected
from .errors import Corrupt, MissingKey
from .manifest import parse_json
from .section_arrays import RowArray, zarr_layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .snapshot import DerivedEntry
    from .storage import Storage
    from .store import AtlasStore

__all__ = ["DomainLabels", "read_domains", "read_embedding", "read_tile_histogram"]

_NODE_BYTES = 2**20

type Runs = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class DomainLabels:
    """Domain of each cell: a code into `categories`, -1 where it has none, and how sure.

    Attributes
    ----------
    codes : ndarray (m,) int16
    categories : tuple of str
        Names, the same for all sections of one key.
    confidence : ndarray (m,) float32
        Posterior probability of the label, in [0, 1].
    """

    codes: NDArray[np.int16]
    categories: tuple[str, ...]
    confidence: NDArray[np.float32]

    @property
    def names(self) -> NDArray[np.object_]:
        """Label of each cell as text, `(m,)`; "" where it has none."""
        return np.asarray([*self.categories, ""], dtype=object)[self.codes]


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One committed attempt; every chunk of its arrays must be there."""

    storage: Storage
    entry: DerivedEntry
    n_obs: int

    @classmethod
    def open(cls, store: AtlasStore, kind: str, key: str, section: str) -> _Attempt:
        entry = store.derived(kind, key, section)
        return cls(store.storage, entry, store.snapshot.sections[section].n_obs)

    def node(self, name: str = "") -> Mapping[str, Any]:
        """Zarr metadata of the group, or of an array in it."""
        key = "/".join(filter(None, (self.entry.prefix, name, "zarr.json")))
        try:
            return parse_json(self.storage.get(key, max_bytes=_NODE_BYTES), key)
        except MissingKey as error:
            refuse_collected(self.storage, key)
            raise Corrupt(
                f"{key} is wanted in {self.entry.name!r}, but is missing; run `tisseract verify`, "
                "then compute it again"
            ) from error

    def categories(self) -> tuple[str, ...]:
        """Names of the labels."""
        attributes = self.node().get("attributes")
        found = attributes.get("categories") if isinstance(attributes, dict) else None
        if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
            raise Corrupt(
                f"a list of categories is wanted in {self.entry.name!r}, but got {found!r:.80}; "
                "run `tisseract verify`, then compute it again"
            )
        return tuple(found)

    def read(
        self, name: str, runs: Runs | None, ndim: int, n_rows: int | None = None
    ) -> NDArray[Any]:
        """Rows of an array that has one a cell, unless told otherwise."""
        wanted = self.n_obs if n_rows is None else n_rows
        label = f"array {name} of {self.entry.name}"
        layout = zarr_layout(self.node(name), label)
        if len(layout.shape) != ndim or layout.shape[0] != wanted or layout.dtype == "string":
            raise Corrupt(
                f"{wanted} rows of numbers are wanted in {label}, but got shape {layout.shape} "
                f"of {layout.dtype}; run `tisseract verify`, then compute it again"
            )
        return RowArray(self.storage, f"{self.entry.prefix}/{name}", layout, label).read(runs)


def read_embedding(
    store: AtlasStore, key: str, section: str, runs: Runs | None = None
) -> NDArray[np.float32]:
    """Read rows of an embedding.

    Parameters
    ----------
    store : AtlasStore
    key, section : str
    runs : sequence of (start, stop), optional
        Row runs, sorted and disjoint; all rows when left out.

    Returns
    -------
    ndarray (m, d) float32

    Raises
    ------
    DerivedNotFound, StaleDerived
        There is none, or what it was computed from was replaced.
    Corrupt
        A chunk is missing or damaged, or there is not one row a cell.
    """
    values = _Attempt.open(store, "embedding", key, section).read("values", runs, 2)
    return values.astype(np.float32, copy=False)


def read_domains(
    store: AtlasStore, key: str, section: str, runs: Runs | None = None
) -> DomainLabels:
    """Read the domain labels of rows.

    Parameters
    ----------
    store : AtlasStore
    key, section : str
    runs : sequence of (start, stop), optional
        Row runs, sorted and disjoint; all rows when left out.

    Returns
    -------
    DomainLabels

    Raises
    ------
    DerivedNotFound, StaleDerived
        There are none, or what they were computed from was replaced.
    Corrupt
        It does not hold labels, a chunk is missing or damaged, or a label has no category.
    """
    attempt = _Attempt.open(store, "domains", key, section)
    categories = attempt.categories()
    codes = attempt.read("codes", runs, 1).astype(np.int16, copy=False)
    if codes.size and not -1 <= int(codes.min()) <= int(codes.max()) < len(categories):
        raise Corrupt(
            f"codes in -1..{len(categories) - 1} are wanted in domains {key!r} of section "
            f"{section!r}, but got {int(codes.min())}..{int(codes.max())}; run `tisseract verify`"
        )
    return DomainLabels(
        codes,
        categories,
        attempt.read("confidence", runs, 1).astype(np.float32, copy=False),
    )


def read_tile_histogram(
    store: AtlasStore, key: str, section: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Read how many cells of each label each tile has, and the labels.

    Returns
    -------
    counts : ndarray (T, K) int64
    categories : tuple of str, (K,)

    Raises
    ------
    DerivedNotFound, StaleDerived, Corrupt
    """
    attempt = _Attempt.open(store, "domains", key, section)
    categories = attempt.categories()
    n_tiles = store.snapshot.sections[section].n_tiles
    counts = attempt.read("tile_hist", None, 2, n_tiles)
    if counts.shape[1] != len(categories):
        raise Corrupt(
            f"{len(categories)} categories are wanted in tile_hist of {attempt.entry.name!r}, but "
            f"got {counts.shape[1]}; run `tisseract verify`, then compute it again"
        )
    return counts.astype(np.int64, copy=False), categories
