"""What the sheet attaches to a section: regions, frames and labels, checked, then written with it.

::

    annotation, transform, labels ── read_attachments ──▶ Attachments ── check ──▶ faults
                                                              └── write_attachments ──▶ entries,
                                                                  committed with their section
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..atlas.attempt import Attempt, new_attempt
from ..atlas.derived import Home, Provenance
from ..atlas.errors import Fault, InputError
from ..atlas.regions import NamedPolygons, write_regions
from ..atlas.section_columns import CategoricalValues, StringValues
from .annotate_frames import FittedFrame, read_transform
from .annotate_labels import CellLabels, labels_bytes, read_labels_file
from .annotate_regions import (
    Ground,
    cell_regions,
    names_cells,
    read_region_file,
    regions_bytes,
)
from .annotate_sheet import AttachedFile
from .reader import FaultList
from .split import encode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..atlas.section import Section
    from ..atlas.snapshot import DerivedEntry, SectionEntry
    from ..atlas.storage import Storage
    from .samples import SampleRow
    from .source import RawSection

__all__ = [
    "Attachments",
    "attached_bytes",
    "attached_digest",
    "attached_of",
    "read_attachments",
    "write_attachments",
]

_RESERVED = frozenset({"section", "domain", "timepoint"})
_KEY = "regions"


@dataclass(frozen=True, slots=True)
class Attachments:
    """Everything that one section gets beside its own data, in its stored coordinates."""

    regions: Mapping[str, NamedPolygons] = field(default_factory=dict)
    """Outlines by the key they are found under."""
    around: tuple[tuple[str, str, CellLabels], ...] = ()
    """Key, column and cells of regions that are named by their cells."""
    frames: tuple[FittedFrame, ...] = ()
    labels: tuple[CellLabels, ...] = ()
    sources: tuple[str, ...] = ()
    """Names of the files."""

    def check(self, raw: RawSection, metadata: Mapping[str, object]) -> list[Fault]:
        """Tell what does not fit a section; its ids and positions are read, nothing else."""
        faults = FaultList()
        where = stored_positions(raw)
        ids = raw.instance_ids.read()
        assert isinstance(ids, StringValues)
        for key, found in self.regions.items():
            with faults.part():
                _refuse_elsewhere(found, where, key)
        for key, column, labels in self.around:
            with faults.part():
                _drawn(labels, column, ids, where, key)
        taken = {*raw.obs, *metadata, *_RESERVED}
        for labels in self.labels:
            with faults.part():
                labels.rows(ids, labels.source)
            for name in sorted(taken & set(labels.columns)):
                faults.add(
                    labels.source,
                    f"expected new names, but got a column {name!r}, which the section has "
                    'already; give a "prefix"',
                )
        return faults.faults


def attached_of(row: SampleRow) -> tuple[AttachedFile, ...]:
    """Files of all three columns of a row."""
    return (*row.annotation, *row.transform, *row.labels)


def attached_bytes(row: SampleRow, split_value: str | None) -> int:
    """Memory that reading and writing what a row attaches to one section takes, at most.

    Of files that cannot be read it is 0: reading them tells what is wrong.
    """
    total = 0
    for one in (*row.annotation, *row.labels):
        with FaultList().part():
            path = one.path(split_value)
            tabled = one.column == "labels" or names_cells(path)
            total += labels_bytes(path) if tabled else regions_bytes(path)
    return total


def attached_digest(row: SampleRow, split_value: str | None) -> str:
    """Digest of the files and how they are read; "" for a row without any."""
    found = []
    for one in attached_of(row):
        data = ""
        if one.name:
            with one.path(split_value).open("rb") as file:
                data = hashlib.file_digest(file, "sha256").hexdigest()
        found.append([one.column, dict(one.options), data])
    return hashlib.sha256(json.dumps(found, default=str).encode()).hexdigest() if found else ""


def read_attachments(row: SampleRow, split_value: str | None, ground: Ground) -> Attachments:
    """Read everything that a row attaches to one section.

    Parameters
    ----------
    row : SampleRow
        The row.
    split_value : str, optional
        Value of the split that makes the section; stands for `{split}` in paths.
    ground : Ground
        Unit and y axis of the section.

    Raises
    ------
    InputError
        Every fault of every file.
    """
    faults = FaultList()
    regions: dict[str, list[NamedPolygons]] = {}
    around: list[tuple[str, str, CellLabels]] = []
    frames: list[FittedFrame] = []
    labels: list[CellLabels] = []
    for one in attached_of(row):
        with faults.part():
            path = one.path(split_value) if one.name else None
            if one.column == "transform":
                frame = read_transform(path, one.options, ground, one.name or "transform")
                frames.append(frame)
                continue
            assert path is not None
            key = str(one.options.get("key") or _KEY)
            if one.column == "labels":
                labels.append(read_labels_file(path, one.options))
            elif names_cells(path):
                found = read_labels_file(path, {"missing": "ok"})
                column = str(one.options.get("name") or next(iter(found.columns)))
                around.append((key, column, found))
            else:
                regions.setdefault(key, []).append(read_region_file(path, one.options, ground))
    faults.faults += _repeated(frames, labels)
    faults.raise_all(row.path)
    joined = {
        key: NamedPolygons(
            tuple(name for part in parts for name in part.names),
            tuple(shape for part in parts for shape in part.polygons),
        )
        for key, parts in regions.items()
    }
    sources = tuple(Path(one.name).name for one in attached_of(row) if one.name)
    return Attachments(joined, tuple(around), tuple(frames), tuple(labels), sources)


def _repeated(frames: list[FittedFrame], labels: list[CellLabels]) -> Iterator[Fault]:
    names = [frame.frame for frame in frames]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield Fault("transform", f"expected one transform into frame {name!r}, but got several")
    columns = [name for one in labels for name in one.columns]
    for name in sorted({name for name in columns if columns.count(name) > 1}):
        yield Fault("labels", f"expected every column once, but got {name!r} twice")


def stored_positions(raw: RawSection) -> NDArray[np.float64]:
    """(n, 2) positions as they are stored: micrometers where known, y down."""
    scale = raw.um_per_unit or 1.0
    factors = np.array([scale, -scale if raw.y_axis == "up" else scale])
    return np.asarray(raw.positions * factors, np.float64)


def _refuse_elsewhere(found: NamedPolygons, positions: NDArray[np.float64], key: str) -> None:
    """Refuse regions none of which comes near a cell: their unit or y axis is another."""
    boxes = np.array([shape.bounds for shape in found.polygons])
    low, high = positions.min(axis=0), positions.max(axis=0)
    near = (boxes[:, :2] <= high).all(axis=1) & (boxes[:, 2:] >= low).all(axis=1)
    if not near.any():
        cells = np.round([*low, *high], 1).tolist()
        span = np.round([*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)], 1).tolist()
        raise InputError(
            Fault(
                f"annotation {key!r}",
                f"expected regions on the cells, which lie in {cells} (x, y, micrometers where "
                f"known), but got all in {span}; set um_per_unit or y_axis",
            )
        )


def _drawn(
    labels: CellLabels, column: str, ids: StringValues, positions: NDArray[np.float64], key: str
) -> NamedPolygons:
    """Regions around the cells that a table names."""
    if column not in labels.columns:
        raise InputError(
            Fault(
                labels.source,
                f"expected a column {column!r}, but got {', '.join(labels.columns)}; set `name`",
            )
        )
    rows = labels.rows(ids, labels.source)
    codes, names = encode(labels.columns[column])
    if isinstance(labels.columns[column], CategoricalValues):
        names = tuple(map(str, names))
    try:
        return cell_regions(positions, np.append(codes, -1)[rows], names, f"annotation {key!r}")
    except InputError as error:
        named = [Fault(f"{labels.source}: {f.location}", f.message) for f in error.faults]
        raise InputError(named) from error


@dataclass(frozen=True, slots=True)
class _Pending:
    """An atlas as seen by what is written with a section that is not committed yet."""

    storage: Storage
    opened: Section
    version: int

    def section(self, name: str) -> Section:
        assert name == self.opened.name
        return self.opened

    def new_attempt(self, parent: str) -> Attempt:
        return new_attempt(self.storage, parent)


def write_attachments(
    storage: Storage, entry: SectionEntry, attachments: Attachments, version: int
) -> tuple[DerivedEntry, ...]:
    """Write and seal everything attached to a sealed section; nothing is committed.

    Parameters
    ----------
    storage : Storage
        Opened for writing.
    entry : SectionEntry
        The section, not committed yet.
    attachments : Attachments
        In its stored coordinates.
    version : int
        Snapshot that the ingest looked at, for the provenance.
    """
    from ..atlas.annotations import write_annotation
    from ..atlas.frames import write_frame
    from ..atlas.label_values import spread
    from ..atlas.section import Section

    section, name = Section(storage, entry), entry.section
    home: Home = _Pending(storage, section, version)
    inputs = {f"section:{name}": entry.attempt}
    parameters = {"sources": list(attachments.sources), "by": "ingest"}
    written = [
        write_frame(home, one.frame, name, one.matrix, one.facts) for one in attachments.frames
    ]
    regions = dict(attachments.regions)
    if attachments.around or attachments.labels:
        ids = StringValues.from_strings(section.cell_ids([(0, section.n_obs)]))
        for key, column, cells in attachments.around:
            drawn = _drawn(cells, column, ids, section.positions(), key)
            before = regions.get(key, NamedPolygons((), ()))
            regions[key] = NamedPolygons(
                before.names + drawn.names, before.polygons + drawn.polygons
            )
        for labels in attachments.labels:
            rows = labels.rows(ids, labels.source)
            facts = {**parameters, "source": labels.source}
            written += [
                write_annotation(
                    home, column, name, spread(values, rows), Provenance(inputs, facts)
                )
                for column, values in labels.columns.items()
            ]
    written += [
        write_regions(home, key, name, found, ontology=None, parameters=parameters)
        for key, found in regions.items()
    ]
    return tuple(written)
