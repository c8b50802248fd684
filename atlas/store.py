"""An atlas opened at one snapshot: what it holds, and the way to add to it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from . import schema
from .attempt import Attempt, new_attempt
from .catalog import commit, read_snapshot
from .errors import (
    AlreadyExists,
    AtlasExists,
    AtlasNotFound,
    Corrupt,
    DerivedNotFound,
    MissingKey,
    ReadOnly,
    SectionNotFound,
    StaleDerived,
    near_or_all,
)
from .keys import ATLAS_KEY, PROBE
from .manifest import parse_json
from .probe import probe
from .snapshot import Change, DerivedEntry, Snapshot, derived_name
from .storage import Storage, open_storage

if TYPE_CHECKING:
    import pandas as pd

    from .section import Section
    from .strict import StrictGroup

__all__ = ["AtlasStore", "create_store", "open_store"]

_LARGEST_HEADER = 2**20


class AtlasStore:
    """An atlas at one snapshot; what it shows never changes until `refresh` or `commit`.

    Safe to read from several threads. Pickles as its URL and version, and reopens there.

    Attributes
    ----------
    storage : Storage
        Root of the atlas.
    snapshot : Snapshot
        State that this handle shows.
    """

    def __init__(self, storage: Storage, snapshot: Snapshot, *, pinned: bool = False) -> None:
        self.storage = storage
        self._snapshot = snapshot
        self._pinned = pinned
        self._opened: dict[str, Section] = {}

    @classmethod
    def open(
        cls,
        url: str | Path,
        *,
        version: int | None = None,
        storage_options: Mapping[str, Any] | None = None,
        read_only: bool = True,
    ) -> Self:
        """Open an atlas; see `open_store`."""
        storage = open_storage(url, storage_options, read_only=read_only)
        _check_header(storage)
        return cls(storage, read_snapshot(storage, version), pinned=version is not None)

    @classmethod
    def create(
        cls,
        url: str | Path,
        storage_options: Mapping[str, Any] | None = None,
        *,
        single_writer: bool = False,
    ) -> Self:
        """Create an atlas; see `create_store`."""
        storage = open_storage(url, storage_options, read_only=False)
        _create(storage, single_writer=single_writer)
        return cls.open(url, storage_options=storage_options, read_only=False)

    @property
    def snapshot(self) -> Snapshot:
        """State that this handle shows."""
        return self._snapshot

    @property
    def url(self) -> str:
        """Where the atlas is."""
        return self.storage.url

    @property
    def version(self) -> int:
        """Number of the snapshot; 0 before the first commit."""
        return self.snapshot.number

    @property
    def read_only(self) -> bool:
        """Whether `commit` is refused: opened for reading, or at an older version."""
        return self.storage.read_only or self._pinned

    @property
    def section_names(self) -> list[str]:
        """Names of all sections, sorted."""
        return sorted(self.snapshot.sections)

    @property
    def sections(self) -> pd.DataFrame:
        """One row a section: the sample sheet's columns, then sizes and units; index `section`.

        `area_um2` is the area of the bounding box; missing where the unit is not known.
        """
        from .section_table import section_table

        return section_table(self.snapshot)

    def has_section(self, name: str) -> bool:
        """Tell whether the snapshot holds a section."""
        return name in self.snapshot.sections

    def section(self, name: str) -> Section:
        """Open a section; the same object each time, so that its metadata is read once.

        Raises
        ------
        SectionNotFound
        """
        from .section import Section

        entry = self.snapshot.sections.get(name)
        if entry is None:
            raise SectionNotFound(
                f"a section of {self.url} (version {self.version}) is wanted, but got {name!r}."
                f"{near_or_all(name, self.snapshot.sections)}"
            )
        opened = self._opened.get(entry.attempt)
        if opened is not None and opened.entry != entry:
            self._opened.pop(entry.attempt, None)
            opened = None
        if opened is None:
            # Two threads may both make it; setdefault gives all of them the one that came first.
            opened = self._opened.setdefault(entry.attempt, Section(self.storage, entry))
        return opened

    def derived(self, kind: str, key: str, section: str) -> DerivedEntry:
        """Find derived data whose inputs are still what it was computed from.

        Raises
        ------
        DerivedNotFound
            None of this name; the message offers near ones.
        StaleDerived
            An input, near or far, was replaced or removed since.
        """
        entry = self.snapshot.derived.get(derived_name(kind, key, section))
        if entry is None:
            raise self._no_derived(kind, key, section)
        stale = self.snapshot.stale_inputs(entry)
        if stale:
            from .stale import stale_words

            raise StaleDerived(stale_words(entry, stale, self.url))
        return entry

    def _no_derived(self, kind: str, key: str, section: str) -> DerivedNotFound:
        here = [entry for entry in self.snapshot.derived.values() if entry.kind == kind]
        keys = {entry.key for entry in here}
        wanted = f"{kind} {key!r} of section {section!r} is wanted"
        if key not in keys:
            between = (
                e.key.partition("..")[0]
                for e in self.snapshot.derived.values()
                if e.kind == "zgraph"
            )
            if kind == "graph" and key in between:
                return DerivedNotFound(
                    f"{wanted}, but {key!r} is a graph between sections; open it with "
                    f"atlas.z_graph(section, neighbor, {key!r})"
                )
            hint = near_or_all(key, keys) or f" There is no {kind} at all yet; compute one."
            return DerivedNotFound(f"{wanted}, but got no {kind} of this key.{hint}")
        if section not in self.snapshot.sections:
            hint = near_or_all(section, self.snapshot.sections)
            return DerivedNotFound(f"{wanted}, but got no section of this name.{hint}")
        others = [entry.section for entry in here if entry.key == key]
        return DerivedNotFound(
            f"{wanted}, but got it for other sections only; compute it for this one."
            f"{near_or_all(section, others)}"
        )

    def derived_group(self, kind: str, key: str, section: str) -> StrictGroup:
        """Open derived data as a Zarr group; a missing chunk is an error, never zeros.

        Raises
        ------
        DerivedNotFound, StaleDerived
        """
        from .strict import open_strict

        entry = self.derived(kind, key, section)
        return open_strict(self.storage, entry.prefix)

    def derived_keys(self, kind: str) -> dict[str, list[str]]:
        """List the keys of a kind, each with its sections, both sorted."""
        found: dict[str, list[str]] = {}
        for entry in self.snapshot.derived.values():
            if entry.kind == kind:
                found.setdefault(entry.key, []).append(entry.section)
        return {key: sorted(found[key]) for key in sorted(found)}

    def is_stale(self, kind: str, key: str, section: str) -> bool:
        """Tell whether derived data is there, but an input of it was replaced or removed since."""
        entry = self.snapshot.derived.get(derived_name(kind, key, section))
        return entry is not None and bool(self.snapshot.stale_inputs(entry))

    def new_attempt(self, parent: str, *, suffix: str = "", scratch: Path | None = None) -> Attempt:
        """Open a fresh place to write into; see `tisseract.atlas.attempt.new_attempt`."""
        self.require_writing("a new attempt")
        return new_attempt(self.storage, parent, suffix=suffix, scratch=scratch)

    def commit(self, change: Change, message: str) -> Snapshot:
        """Commit a change and show the snapshot that holds it.

        Raises
        ------
        ReadOnly
            Opened for reading, or at an older version.
        CommitConflict, CommitUncertain
            See `tisseract.atlas.catalog.commit`.
        """
        self.require_writing()
        self._snapshot = commit(self.storage, change, message)
        return self._snapshot

    def require_writing(self, what: str = "a commit") -> None:
        """Raise `ReadOnly` unless this handle may commit."""
        if self._pinned and not self.storage.read_only:
            raise ReadOnly(
                f"the newest version is wanted for writing, but got {self.url} opened at version "
                f"{self.version}; open it without a version"
            )
        self.storage.forbid_writing(what)

    def refresh(self) -> Self:
        """Show the newest snapshot, also where an older version was asked for."""
        self._snapshot = read_snapshot(self.storage)
        self._pinned = False
        return self

    def frozen(self) -> Self:
        """Make a copy that goes on showing this snapshot, whatever this handle does later."""
        copy = type(self)(self.storage, self._snapshot, pinned=True)
        # Attempts never change: both may open each other's sections.
        copy._opened = self._opened
        return copy

    def __reduce__(self) -> tuple[object, ...]:
        return _reopen, (type(self), self.storage, self.version, self._pinned)

    def __repr__(self) -> str:
        snapshot = self.snapshot
        n_obs = sum(entry.n_obs for entry in snapshot.sections.values())
        return (
            f"{type(self).__name__}({self.url!r}, version {snapshot.number}: "
            f"{len(snapshot.sections)} sections, {n_obs:,} cells, {len(snapshot.derived)} derived)"
        )


def _reopen[S: AtlasStore](kind: type[S], storage: Storage, version: int, pinned: bool) -> S:
    return kind(storage, read_snapshot(storage, version), pinned=pinned)


def _check_header(storage: Storage) -> None:
    try:
        data = storage.get(ATLAS_KEY, max_bytes=_LARGEST_HEADER)
    except MissingKey:
        raise AtlasNotFound(
            f"an atlas is wanted, but got none at {storage.url}; "
            "`tisseract ingest SHEET ATLAS` makes one"
        ) from None
    what = f"{ATLAS_KEY} of {storage.url}"
    header = parse_json(data, what)
    schema.check_format(header, schema.ATLAS_FORMAT, what)
    if header.get("writers") not in ("many", "single"):
        raise Corrupt(f"writers 'many' or 'single' is wanted in {what}, but got something else")


def _create(storage: Storage, *, single_writer: bool) -> None:
    if storage.exists(ATLAS_KEY):
        raise AtlasExists(
            f"a place without an atlas is wanted, but got {storage.url}, which holds one; open it"
        )
    # A creation that was killed may have left its probes.
    if any(not key.startswith(f"{PROBE}/") for key, _ in storage.list()):
        raise AtlasExists(
            f"an empty place is wanted for a new atlas, but got {storage.url}, which holds other "
            "files; name a folder of its own"
        )
    if not single_writer:
        probe(storage)
    body = {
        "format": schema.ATLAS_FORMAT,
        "format_version": schema.FORMAT_VERSION,
        "requires": [],
        "atlas": uuid.uuid4().hex,
        "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "writers": "single" if single_writer else "many",
    }
    data = json.dumps(body, indent=1).encode()
    try:
        storage.put_if_absent(ATLAS_KEY, data)
    except AlreadyExists:
        if storage.get(ATLAS_KEY) != data:  # another was first; ours would have a lost answer
            raise AtlasExists(
                f"a place without an atlas is wanted, but got {storage.url}, where another "
                "process has just created one; open it"
            ) from None


def create_store(
    url: str | Path,
    storage_options: Mapping[str, Any] | None = None,
    *,
    single_writer: bool = False,
) -> AtlasStore:
    """Create an empty atlas.

    Parameters
    ----------
    url : str or Path
        A folder that is not there or empty, or a bucket's prefix without objects.
    storage_options : mapping, optional
        As fsspec takes them.
    single_writer : bool
        Accept a storage whose conditional writes do not hold; two writers at once then lose
        commits.

    Returns
    -------
    AtlasStore
        Opened for writing, at version 0.

    Raises
    ------
    AtlasExists
        An atlas or other files are there.
    StorageUnsupported
        The storage ignores conditional writes.

    Examples
    --------
    >>> create_store("memory://create").version
    0
    """
    return AtlasStore.create(url, storage_options, single_writer=single_writer)


def open_store(
    url: str | Path,
    *,
    version: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
    read_only: bool = True,
) -> AtlasStore:
    """Open an atlas, at its newest snapshot or at a numbered one.

    Parameters
    ----------
    url : str or Path
        Where the atlas is.
    version : int, optional
        Snapshot to show; such a handle cannot commit.
    storage_options : mapping, optional
        As fsspec takes them.
    read_only : bool
        Refuse every write.

    Returns
    -------
    AtlasStore

    Raises
    ------
    AtlasNotFound, SnapshotNotFound, FormatUnsupported, Corrupt, AccessDenied
    """
    return AtlasStore.open(
        url, version=version, storage_options=storage_options, read_only=read_only
    )
