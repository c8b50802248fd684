"""Ask for the cells of a place, however the place is described."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...atlas.errors import (
    ColumnNotFound,
    DerivedNotFound,
    InvalidArgument,
    QuerySyntax,
    UnitUnknown,
)
from ...atlas.regions import KIND
from ..cells.selection import Selection
from ..cells.verbs import check_sections, check_unit, select
from ..filters.expression import Test
from ..telling import tell
from .by_section import PlacesBySection, warn_stale_places
from .frames import UnregisteredWarning, framed_places
from .given import loaded, place, refuse_pixels
from .near import NearCells
from .places import Place
from .regions import NamedRegion, named_places
from .touching import Touching

if TYPE_CHECKING:
    from ...atlas.store import AtlasStore

_NAMED = 10


def region(
    store: "AtlasStore",
    section: str | Sequence[str] | None = None,
    *,
    bbox: Sequence[float] | None = None,
    polygon: object = None,
    circle: Sequence[float] | None = None,
    name: str | Sequence[str] | None = None,
    region_key: str | None = None,
    descendants: bool = False,
    near: Selection | str | Test | None = None,
    within_um: float | None = None,
    coordinate_system: str | None = None,
    predicate: str = "centroid",
    units: str = "um",
    um_per_unit: float | None = None,
    frame: str | None = None,
    **query: Any,
) -> Selection:
    """Ask for the cells of one place: a shape, a named region, or what is near other cells.

    Parameters
    ----------
    store
        The atlas.
    section
        The section whose coordinates a shape is in; for a named region, other cells or a frame
        one section or several, None is all that have it.
    bbox
        (xmin, ymin, xmax, ymax).
    polygon
        A shapely (Multi)Polygon, GeoJSON, WKT, a file of either, or vertices (n, 2).
    circle
        (x, y, radius).
    name
        Region or regions attached to sections by `annotate_regions`.
    region_key
        Key of these annotations, where there are several.
    descendants
        Also all parts of the named regions, by their ontology.
    near
        Other cells, as a `Selection`, a filter such as `"cell_type == 'tumor'"` or, where it is no
        filter, the name of a region: asks for the
        cells within `within_um` of any of them in the same section, themselves included.
    within_um
        The distance for `near`, in micrometers (in source units with `units="source"`).
    coordinate_system
        A registered frame that `bbox`, `polygon` or `circle` is in: one shape through all of its
        sections. None, `microns` and `source_units` mean the section's own. `frame` is the same.
    predicate
        `centroid`: cells whose recorded position lies in the place; `intersects`: cells whose
        stored circle or boundary touches it. The place includes its edge either way.
    units
        `um`, or `source` for a section whose unit is unknown.
    um_per_unit
        Micrometers per unit of the shape, for one in pixels. GeoJSON of QuPath or Xenium Explorer,
        which write pixels, is refused without it where sections are in micrometers.
    frame
        As `coordinate_system`.
    **query
        As for `select`.

    Returns
    -------
    Selection

    Raises
    ------
    UnitUnknown
        The section's unit is unknown and `units` is `um`.
    InvalidArgument
        No or several places, an invalid place, a unit or predicate that is not known.
    DerivedNotFound
        No region or frame of this name; near matches are offered.

    Notes
    -----
    Sections that a frame does not know are left out, and told by an `UnregisteredWarning`; those
    that were replaced since their regions or affines were given are left out with a
    `StalePlacesWarning`, or raise `StaleDerived` where `section` names them. `.explain()`
    lists every section that lacks the place.
    """
    if predicate not in ("centroid", "intersects"):
        raise InvalidArgument(
            f"predicate='centroid' or 'intersects' is wanted, but got {predicate!r}"
        )
    coordinate_system = _one_frame(coordinate_system, frame)
    given = {"bbox": bbox, "polygon": polygon, "circle": circle, "name": name, "near": near}
    kind = _kind(given, within_um, coordinate_system, um_per_unit, units)
    chosen = _sections(store, section)
    framed = coordinate_system not in (None, "microns", "source_units")
    places: PlacesBySection
    if kind == "name":
        places = named_places(
            store, name or (), key=region_key, descendants=descendants, sections=chosen
        )
    elif kind == "near":
        places = _near(
            store,
            _others(store, near, chosen, query.get("domain_key"), region_key),
            within_um,
            chosen,
            units=units,
        )
    else:
        if polygon is not None:
            polygon = _in_micrometers(store, polygon, chosen, um_per_unit)
        where = place(bbox=bbox, polygon_like=polygon, circle=circle, um_per_unit=um_per_unit)
        if framed:
            places = framed_places(store, str(coordinate_system), where, chosen)
        elif predicate == "centroid":
            return select(store, section=section, region=where, units=units, **query)
        else:
            places = _of_one(store, where, chosen, units)
    if predicate == "intersects":
        places = _touching(store, places)
    found = select(store, section=section, region=places, units=units, **query)
    if framed or places.stale:
        everywhere = Selection(found.store, replace(found.question, place=None)).sections
        warn_stale_places(places, everywhere)
        if framed:
            _tell_unregistered(everywhere, places, str(coordinate_system))
    return found


def _one_frame(coordinate_system: str | None, frame: str | None) -> str | None:
    if frame is not None and coordinate_system not in (None, frame):
        raise InvalidArgument(
            f"coordinate_system= or frame= is wanted, but got {coordinate_system!r} and {frame!r}"
        )
    return frame if coordinate_system is None else coordinate_system


def _in_micrometers(
    store: "AtlasStore", polygon: object, chosen: list[str] | None, um_per_unit: float | None
) -> object:
    """Read a polygon, and refuse one in pixels whose size is not told."""
    found = loaded(polygon)
    if um_per_unit is None:
        entries = store.snapshot.sections
        names = store.section_names if chosen is None else chosen
        refuse_pixels(found, {name: entries[name].um_per_unit for name in names})
    return found


def _kind(
    given: Mapping[str, object],
    within_um: object,
    frame: str | None,
    um_per_unit: object,
    units: str,
) -> str:
    """Tell by which argument the place is given; refuse those that do not go together."""
    kinds = [kind for kind, value in given.items() if value is not None]
    if len(kinds) != 1:
        raise InvalidArgument(
            "exactly one of bbox=, polygon=, circle=, name= and near= is wanted, but got "
            f"{', '.join(kinds) or 'none'}"
        )
    kind = kinds[0]
    if (kind == "near") != (within_um is not None):
        raise InvalidArgument(
            f"near= and within_um= are wanted together, but got within_um={within_um!r} "
            f"{'with' if kind == 'near' else 'without'} near="
        )
    if frame is not None and kind in ("name", "near"):
        raise InvalidArgument(
            f"bbox=, polygon= or circle= is wanted with coordinate_system=, but got {kind}=, "
            "which needs no frame"
        )
    if kind == "name" and not given["name"]:
        raise InvalidArgument("the name of a region is wanted, but got an empty one")
    if um_per_unit is not None and (kind in ("name", "near") or units != "um"):
        raise InvalidArgument(
            "um_per_unit= is wanted with bbox=, polygon= or circle= of sections in micrometers, "
            f"but got it with {kind}= and units={units!r}"
        )
    return kind


def _sections(store: "AtlasStore", section: object) -> list[str] | None:
    """Check the sections that were named and put them into a list; None is all."""
    check_sections(store, section)
    if section is None:
        return None
    if isinstance(section, str):
        return [section]
    if isinstance(section, list | tuple | set | frozenset):
        return [str(one) for one in section]
    raise InvalidArgument(
        f"a section or a list of sections is wanted, but got {type(section).__name__}"
    )


def _of_one(
    store: "AtlasStore", where: Place, chosen: list[str] | None, units: str
) -> PlacesBySection:
    """Give a shape to the one section whose coordinates it is in."""
    names = list(store.section_names) if chosen is None else chosen
    if len(names) != 1:
        raise InvalidArgument(
            "one section is wanted with a shape, whose coordinates are those of one section, "
            f"but got {len(names)}; name section="
        )
    check_unit(store.snapshot.sections[names[0]].um_per_unit, names[0], units)
    return PlacesBySection.of({names[0]: where}, str(where), "is another section")


def _near(
    store: "AtlasStore",
    near: object,
    within: object,
    chosen: list[str] | None,
    *,
    units: str,
) -> PlacesBySection:
    if not isinstance(near, Selection):
        raise InvalidArgument(
            f"a Selection or a filter string is wanted for near=, but got {type(near).__name__}"
        )
    if isinstance(within, bool) or not isinstance(within, int | float):
        raise InvalidArgument(f"a distance is wanted for within_um=, but got {within!r}")
    names = [n for n in near.sections if chosen is None or n in chosen]
    for name in names:
        check_unit(_entry(store, near, name).um_per_unit, name, units)
    places = {name: NearCells.of(near, name, within) for name in names}
    unit = "um" if units == "um" else "source units"
    words = f"within {within:g} {unit} of ({near.question})"
    return PlacesBySection.of(places, words, "holds none of the other cells")


def _others(
    store: "AtlasStore",
    near: object,
    chosen: list[str] | None,
    domain_key: str | None,
    region_key: str | None,
) -> object:
    """Find cells by a filter; what is none may be the name of a region."""
    if not isinstance(near, str | Test):
        return near
    try:
        return select(store, near, section=chosen, domain_key=domain_key)
    except (ColumnNotFound, QuerySyntax, UnitUnknown):
        if not isinstance(near, str) or not store.derived_keys(KIND):
            raise
        try:
            return region(store, chosen, name=near, region_key=region_key)
        except (DerivedNotFound, InvalidArgument):
            pass
        raise


def _entry(store: "AtlasStore", near: Selection, section: str) -> Any:
    """Find the section in this snapshot; the other cells must be of the same attempt at it."""
    here = store.snapshot.sections.get(section)
    there = near.store.snapshot.sections[section]
    if here is None or here.attempt != there.attempt:
        raise InvalidArgument(
            f"other cells of this snapshot are wanted for near=, but got cells of section "
            f"{section!r} as it was before; ask for them again"
        )
    return here


def _touching(store: "AtlasStore", places: PlacesBySection) -> PlacesBySection:
    found: dict[str, Place] = {}
    for name, one in places.places:
        inner = one.polygon if isinstance(one, NamedRegion) else one
        found[name] = Touching(inner, store.section(name), store.storage)
    return replace(places, places=tuple(found.items()), words=f"touching {places.words}")


def _tell_unregistered(everywhere: list[str], places: PlacesBySection, frame: str) -> None:
    """Warn of sections that the filter leaves but the frame does not know."""
    known = {*places.sections, *places.stale}
    absent = [name for name in everywhere if name not in known]
    if absent:
        more = f" and {len(absent) - _NAMED} more" if len(absent) > _NAMED else ""
        tell(
            f"left out, as they are not registered in frame {frame!r}: "
            f"{', '.join(absent[:_NAMED])}{more}",
            UnregisteredWarning,
        )
