"""Ask by columns; `query.geometry.ask` asks by place."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ...atlas.errors import InvalidArgument, SectionNotFound, UnitUnknown, near
from ..filters.cell_ids import among_cells
from ..filters.columns import Columns
from ..filters.expression import Test, as_predicate
from ..filters.gene_columns import warn_unfit
from ..filters.parser import parse
from ..filters.predicate import Predicate, conjunction
from ..filters.sugar import lower
from ..geometry.by_section import PlacesBySection
from ..geometry.places import Box, Circle, Place, Polygon
from .question import Question
from .selection import Selection

if TYPE_CHECKING:
    from ...atlas.store import AtlasStore

# Sections that a message lists; of more it offers near ones.
_LISTED = 30


def select(
    store: "AtlasStore",
    obs: str | Predicate | Test | None = None,
    genes: str | Sequence[str] | None = None,
    *,
    cells: Iterable[str] | None = None,
    section: object = None,
    timepoint: object = None,
    domain: object = None,
    region: Place | PlacesBySection | None = None,
    units: str = "um",
    domain_key: str | None = None,
    **sugar: object,
) -> "Selection":
    """Ask for cells; nothing is read until an answer is wanted.

    Parameters
    ----------
    store
        The atlas.
    obs
        A filter string, such as `"cell_type in ['Neuron'] and n_counts > 200"`; the same as
        `tisseract.col("n_counts") > 200` or with `narwhals.col`; or a predicate.
        Names are section metadata, obs columns or domain keys. A missing value satisfies no
        comparison, neither `==` nor `!=` (as in SQL); ask for it by `is null`.
    genes
        Identifiers, symbols or aliases to hand out, any number; None is all.
    cells
        Names `{section}:{cell id}`, as the index of an answer has them, any number. Names that
        no cell has find nothing, with an `UnknownCellsWarning`.
    section, timepoint, domain
        A value, a list, or `slice(first, last)` with both ends, for timepoints in order of
        time. None is no filter; None in a list means missing: `donor=[None]`.
    region
        A `Box`, `Circle` or `polygon`, in the coordinates of one section; name the section.
    units
        Of `region`: `um`, or `source` for a section whose unit is unknown.
    domain_key
        Which labels `domain` means; needed where there are several.
    **sugar
        Any further column by its name, as for `section`: `donor=None` is no filter either.

    Returns
    -------
    Selection
        Cells in catalog order of sections, then in row order.

    Raises
    ------
    QuerySyntax, ColumnNotFound, SectionNotFound, InvalidArgument
        The question does not parse, or names what this snapshot does not have; near matches
        are offered.
    UnitUnknown
        A region in micrometers of a section whose unit is unknown.
    """
    if region is not None and not isinstance(region, Box | Circle | Polygon | PlacesBySection):
        raise InvalidArgument(
            f"a Box, Circle or polygon is wanted for region=, but got {type(region).__name__}; "
            "write Box(xmin, ymin, xmax, ymax), or ask atlas.region(section, bbox=...)"
        )
    if units not in ("um", "source"):
        raise InvalidArgument(f"units='um' or 'source' is wanted, but got {units!r}")
    columns = Columns(store, domain_key)
    parts: list[Predicate] = []
    if isinstance(obs, str):
        parts.append(parse(obs))
    elif obs is not None:
        parts.append(as_predicate(obs))
    check_sections(store, section)
    named = {"section": section, "timepoint": timepoint, "domain": domain}
    wanted = {name: value for name, value in named.items() if value is not None} | sugar
    parts += [lower(name, value, columns) for name, value in wanted.items()]
    predicate = conjunction(parts)
    if cells is not None:
        predicate = conjunction([predicate, among_cells(store, cells)])
    columns.check(predicate)
    by_section = isinstance(region, PlacesBySection)
    alone = region is not None and not by_section
    if alone and section is None and len(store.section_names) > 1:
        raise InvalidArgument(
            "a section is wanted with a region, whose coordinates are those of one section, "
            f"but got none; name section= as one of {len(store.section_names)}"
        )
    names = (genes,) if isinstance(genes, str) else genes
    question = Question(predicate, region, None if names is None else tuple(names), domain_key)
    selection = Selection(store, question)
    if alone:
        for name in selection.sections:
            check_unit(store.snapshot.sections[name].um_per_unit, name, units)
    warn_unfit(selection)
    if names is not None:
        # Panels are small and shared: an unknown gene is told now, not when the answer is read.
        _ = selection.genes
    return selection


def check_unit(um_per_unit: float | None, section: str, units: str) -> None:
    """Refuse a place in another unit than the section's own."""
    if um_per_unit is None and units == "um":
        raise UnitUnknown(
            f"micrometers are wanted, but got section {section!r} of unknown unit; give the "
            "region in the units of its source with units='source', or ingest it with um_per_unit"
        )
    if um_per_unit is not None and units == "source":
        raise InvalidArgument(
            f"units='um' is wanted for section {section!r}, whose unit is known, but got 'source'"
        )


def check_sections(store: "AtlasStore", section: object) -> None:
    """Refuse the name of a section that this snapshot does not have."""
    names = [section] if isinstance(section, str) else section
    if isinstance(names, list | tuple | set | frozenset):
        for name in names:
            if isinstance(name, str) and not store.has_section(name):
                raise SectionNotFound(
                    f"a section of this snapshot is wanted, but got {name!r}."
                    f"{_listed(name, store.section_names)}"
                )


def _listed(name: str, known: Sequence[str]) -> str:
    """Near names, and all of them where they are few."""
    hint = near(name, known)
    if len(known) < _LISTED and "There are" not in hint:
        hint += f" The sections are {', '.join(map(repr, known))}."
    return hint
