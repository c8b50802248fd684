"""Attach named polygons to a section: from GeoJSON, a GeoDataFrame or a mapping."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...atlas.errors import Fault, InputError, InvalidArgument, near
from ...atlas.geojson import Named, all_checked, named_features
from ...atlas.keys import check_name
from ...atlas.regions import KIND, write_regions
from ...atlas.snapshot import Change
from .given import factor, loaded, polygon, read_text, refuse_pixels
from .ontology import read_ontology_table

if TYPE_CHECKING:
    from ...atlas.store import AtlasStore


def annotate_regions(
    store: "AtlasStore",
    section: str,
    regions: object,
    *,
    name: str = "name",
    key: str = "regions",
    um_per_unit: float | None = None,
    ontology: object = None,
    overwrite: bool = False,
) -> int:
    """Commit named polygons of one section.

    Parameters
    ----------
    store
        Opened for writing.
    section
        The section they lie on.
    regions
        GeoJSON (mapping, text or path), a GeoDataFrame, or a mapping of names to polygons.
    name
        Property, or column, that holds the name; a dot leads into nested properties, as
        `classification.name` of QuPath, which is also taken where a feature has no `name`.
    key
        Name of this annotation; regions of one key are found together on all sections.
    um_per_unit
        Micrometers per unit of the polygons, for files in pixels (QuPath, Xenium Explorer);
        without it they are in the section's own coordinates. Never guessed: GeoJSON that bears
        the marks of these programs is refused without it.
    ontology
        A table (DataFrame, CSV path or mapping child to parent) with columns `name` or `id`, and
        `parent`; see `read_ontology_table`.
    overwrite
        Replace regions of this section and key; those of a replaced section always are.

    Returns
    -------
    int
        Number of polygons committed.

    Raises
    ------
    InputError
        All faults of the file at once; nothing is committed.
    InvalidArgument
        Not regions at all, or some are there already.
    CommitConflict
        Others committed regions of this section and key meanwhile.
    SectionNotFound, ReadOnly

    Notes
    -----
    All polygons are held in memory. Names may repeat: a place is the union of its polygons.
    """
    check_name(key, "key")
    handle = store.section(section)
    store.storage.forbid_writing(f"regions {key!r} of section {section!r}")
    seen = store.snapshot
    there = f"{KIND}/{key}/{section}" in store.snapshot.derived
    if there and not overwrite and not store.is_stale(KIND, key, section):
        raise InvalidArgument(
            f"a section without regions {key!r} is wanted, but got {section!r}, which has some; "
            "pass another key=, or overwrite=True to replace them"
        )
    scale = _scale(um_per_unit, handle.um_per_unit, section)
    tree = None if ontology is None else read_ontology_table(ontology)
    known = None if tree is None else {part for row in tree for part in row[:2] if part}
    given = loaded(regions)
    if um_per_unit is None:
        refuse_pixels(given, {section: handle.um_per_unit})
    found = all_checked(_named(given, name), name, None if scale == 1.0 else _times(scale), known)
    entry = write_regions(
        store,
        key,
        section,
        found,
        ontology=tree,
        parameters={"name": name, "um_per_unit": um_per_unit, "ontology": tree is not None},
    )
    change = Change(add_derived=[entry], expect={} if overwrite else seen.attempts_at([entry]))
    store.commit(change, f"annotate {section} with {len(found.names)} regions")
    return len(found.names)


def _scale(um_per_unit: object, known: float | None, section: str) -> float:
    if um_per_unit is None:
        return 1.0
    scale = factor(um_per_unit)
    if known is None:
        raise InvalidArgument(
            f"a section of known unit is wanted with um_per_unit=, but got {section!r}; give the "
            "polygons in its source units without um_per_unit, or ingest it with one"
        )
    return scale


def _times(scale: float) -> Callable[[Any], Any]:
    return lambda xy: xy * scale


def _named(regions: object, column: str) -> Named:
    """Yield every region of the input, whichever form it has."""
    if isinstance(regions, str | Path):
        text = read_text(regions)
        try:
            regions = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidArgument(f"GeoJSON of regions is wanted, but got {error}") from error
    if isinstance(regions, list):  # QuPath writes bare lists of features
        regions = {"type": "FeatureCollection", "features": regions}
    if isinstance(regions, Mapping):
        if isinstance(regions.get("type"), str):
            return named_features(regions, column)
        return _from_mapping(regions)
    geometry = getattr(regions, "geometry", None)
    if geometry is None or not hasattr(regions, "columns"):
        raise InvalidArgument(
            "GeoJSON, a GeoDataFrame or a mapping of names to polygons is wanted, but got "
            f"{type(regions).__name__}"
        )
    return _from_frame(regions, column)


def _from_mapping(regions: Mapping[Any, Any]) -> Named:
    faults: list[Fault] = []
    for name, value in regions.items():
        try:
            geometry = polygon(value).geometry
        except InvalidArgument as error:
            faults.append(Fault(f"region {str(name)[:80]!r}", str(error)))
            continue
        yield f"region {str(name)[:80]!r}", name, geometry
    if faults:
        raise InputError(faults, "regions")


def _from_frame(frame: Any, column: str) -> Named:
    if column not in frame.columns:
        raise InvalidArgument(
            f"a column {column!r} with names is wanted, but got none."
            f"{near(column, frame.columns)} Name it with name="
        )
    for i, (name, geometry) in enumerate(zip(frame[column], frame.geometry, strict=True)):
        yield f"row {i + 1}", name, geometry
