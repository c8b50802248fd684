"""Which genes an answer has, where they stand in each section, and where they were measured."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import GeneNotFound, InvalidArgument
from ...atlas.gene_names import is_accession, organism_of
from ..telling import tell
from .apart import telling_apart

if TYPE_CHECKING:
    import pandas as pd

    from ...atlas.genes import GeneUnion, Panel
    from ...atlas.section import Section
    from ...atlas.store import AtlasStore

type Join = Literal["inner", "outer"]
type Missing = Literal["error", "nan", "drop_sections", "zero"]
JOINS = ("inner", "outer")
MISSING = ("error", "nan", "drop_sections", "zero")

# Sections named in a message.
_NAMED = 5


class UnmeasuredWarning(UserWarning):
    """Some zeros of an answer mean "not measured"; the answer says which."""


@dataclass(frozen=True, slots=True, eq=False)
class GeneChoice:
    """The genes of an answer, in order; one name stands for one gene."""

    name: NDArray[np.object_]
    """(g,) unique names: as asked for, else the identifier."""
    gene_id: NDArray[np.object_]
    """(g,) identifiers without version, or symbols where none is known."""
    symbol: NDArray[np.object_]
    """(g,) symbols, empty where unknown."""
    organism: NDArray[np.object_]
    """(g,)"""
    feature_type: NDArray[np.object_]
    """(g,)"""
    columns: Mapping[str, NDArray[np.int64]]
    """Matrix column of each gene in each section (g,), -1 where its panel does not list it."""
    measured: Mapping[str, NDArray[np.bool_]]
    """Whether each gene was measured in each section (g,)."""
    nameless: frozenset[str] = frozenset()
    """Sections that list identifiers without any symbol: a symbol alone cannot be found there."""

    def __len__(self) -> int:
        return len(self.name)

    @property
    def complete(self) -> bool:
        """Whether every gene was measured in every section."""
        return all(bool(measured.all()) for measured in self.measured.values())

    def restricted(
        self, sections: Sequence[str], keep: NDArray[np.bool_] | None = None
    ) -> "GeneChoice":
        """Make the same choice over fewer sections or genes; `keep` is (g,) bool, None is all."""
        chosen = slice(None) if keep is None else keep
        return GeneChoice(
            self.name[chosen],
            self.gene_id[chosen],
            self.symbol[chosen],
            self.organism[chosen],
            self.feature_type[chosen],
            {section: self.columns[section][chosen] for section in sections},
            {section: self.measured[section][chosen] for section in sections},
            self.nameless & set(sections),
        )

    def unmatched(self, row: int) -> list[str]:
        """Sections in which a gene known by symbol alone could not be looked up."""
        if is_accession(str(self.gene_id[row])):
            return []
        return [s for s, columns in self.columns.items() if s in self.nameless and columns[row] < 0]

    def var(self) -> "pd.DataFrame":
        """One row a gene: gene_id, symbol, organism, feature_type, sections it was measured in."""
        import pandas as pd

        n_sections = np.zeros(len(self), np.int64)
        for measured in self.measured.values():
            n_sections += measured
        return pd.DataFrame(
            {
                "gene_id": self.gene_id.astype(object),
                "symbol": self.symbol.astype(object),
                "organism": pd.Categorical(self.organism.astype(str)),
                "feature_type": pd.Categorical(self.feature_type.astype(str)),
                "n_sections_measured": n_sections,
            },
            index=pd.Index(self.name, dtype="str"),
        )

    def presence(self) -> "pd.DataFrame":
        """Boolean table, genes by sections: whether a zero is a measured zero."""
        import pandas as pd

        index = pd.Index(self.name, dtype="str")
        return pd.DataFrame(dict(self.measured), index=index, dtype=bool)


@dataclass(slots=True)
class _Shelf:
    """The last few panels and unions read; both are named by content, so none grows stale."""

    panels: "OrderedDict[str, Panel]"
    unions: "OrderedDict[tuple[str, ...], GeneUnion]"
    measured: "OrderedDict[tuple[tuple[str, ...], str], NDArray[np.bool_]]"

    def panel(self, store: "AtlasStore", section: str) -> "Panel":
        digest = store.snapshot.sections[section].panel
        found = self.panels.get(digest)
        if found is None:
            found = self.panels[digest] = store.section(section).panel
            _trim(self.panels, 64)
        return found

    def union(self, store: "AtlasStore", sections: Sequence[str]) -> "GeneUnion":
        from ...atlas.genes import union

        entries = store.snapshot.sections
        first = {entries[name].panel: name for name in reversed(sections)}
        digests = tuple(dict.fromkeys(entries[name].panel for name in sections))
        found = self.unions.get(digests)
        if found is None:
            found = union({digest: self.panel(store, first[digest]) for digest in digests})
            self.unions[digests] = found
            _trim(self.unions, 8)
        return found


def _trim(shelf: "OrderedDict[Any, Any]", limit: int) -> None:
    while len(shelf) > limit:
        # Another thread may have taken the oldest in between.
        shelf.pop(next(iter(shelf)), None)


_SHELF = _Shelf(OrderedDict(), OrderedDict(), OrderedDict())


def gene_union(store: "AtlasStore", sections: Sequence[str]) -> "GeneUnion":
    """Every gene of some sections, over panels named by their digests.

    A panel is read once for each digest; making the union takes some 30 us a gene and panel, so
    the last few are kept.
    """
    return _SHELF.union(store, sections)


def measured_in(union: "GeneUnion", section: "Section") -> NDArray[np.bool_]:
    """Whether each gene of a union was measured in a section, (g,) bool.

    In a panel padded with zeros a gene without any count was not measured; its totals tell.
    """
    digest = section.entry.panel
    padded = union.zero_padded(digest)
    key = (union.sections, section.entry.digest if padded else digest)
    found = _SHELF.measured.get(key)
    if found is None:
        detected = np.asarray(section.totals.nnz) > 0 if padded else None
        found = np.asarray(union.presence(digest, detected) == "measured", dtype=bool)
        found.flags.writeable = False
        _SHELF.measured[key] = found
        _trim(_SHELF.measured, 512)
    return found


def choose_genes(
    store: "AtlasStore",
    sections: Sequence[str],
    genes: Sequence[str] | None,
    known_in: Sequence[str] | None = None,
) -> GeneChoice:
    """Find the genes of an answer.

    Parameters
    ----------
    store
        The atlas.
    sections
        Sections of the answer.
    genes
        Identifiers, symbols or aliases, in the order wanted, `human:ERBB2` where several
        organisms have one; None is every gene that some of the sections lists, in the order in
        which they first list it.
    known_in
        Sections over which names are looked up: a gene that only other sections have is
        "not measured here", not unknown. Default all of the atlas.

    Raises
    ------
    GeneNotFound, GeneAmbiguous
        A name that no section knows, or that fits several genes.
    """
    lookup = list(sections) if genes is None else list(known_in or store.section_names)
    union = gene_union(store, list(dict.fromkeys([*lookup, *sections])))
    bare: dict[int, list[int]] = {}
    if genes is None:
        rows = np.arange(len(union))
        names = _unique(union.gene_id, union.organism)
    else:
        panels = [store.snapshot.sections[section].panel for section in sections]
        found: dict[int, str] = {}
        for name in map(str, genes):
            with telling_apart(store, sections, name):
                first, *others = _listed_first(union, find_rows(union, name), panels)
            found.setdefault(first, name)
            bare.setdefault(first, []).extend(others)
        rows = np.fromiter(found, np.int64, len(found))
        names = np.array(list(found.values()), dtype=object)
    handles = {name: store.section(name) for name in sections}
    columns, measured = {}, {}
    # Cut at once: all genes of a thousand sections would be some hundred megabytes.
    for name, handle in handles.items():
        listed, known = union.columns(handle.entry.panel), measured_in(union, handle)
        columns[name], measured[name] = np.asarray(listed[rows], np.int64), known[rows]
        for place, others in enumerate(bare.values()):
            for row in others:
                if columns[name][place] < 0 <= listed[row]:
                    columns[name][place], measured[name][place] = listed[row], known[row]
    return GeneChoice(
        names,
        union.gene_id[rows],
        union.symbol[rows],
        union.organism[rows],
        union.feature_type[rows],
        columns,
        measured,
        frozenset(s for s in sections if not has_symbols(store, s)),
    )


def has_symbols(store: "AtlasStore", section: str) -> bool:
    """Whether the panel of a section names any gene by a symbol."""
    # By digest: a section of its own would read the panel that it shares with others again.
    return any(_SHELF.panel(store, section).symbol)


def find_gene(union: "GeneUnion", name: str) -> int:
    """Row of a gene by identifier, symbol or alias, or any of these as `organism:name`.

    Raises
    ------
    GeneNotFound, GeneAmbiguous
    """
    return find_rows(union, name)[0]


def find_rows(union: "GeneUnion", name: str) -> tuple[int, ...]:
    """Row of a gene as `find_gene` has it, then its rows of sections without an organism.

    Raises
    ------
    GeneNotFound, GeneAmbiguous
    """
    prefix, colon, rest = name.partition(":")
    if colon and not union.candidates(name):
        organism = organism_of(prefix)
        if organism and organism in set(union.organism.tolist()):
            return union.rows(rest, organism)
    return union.rows(name)


def _listed_first(
    union: "GeneUnion", rows: tuple[int, ...], panels: Sequence[str]
) -> tuple[int, ...]:
    """Put a row that some of the panels list first, so that it names the gene."""
    listed = [row for row in rows if any(union.columns(panel)[row] >= 0 for panel in panels)]
    return tuple(dict.fromkeys((*listed, *rows)))


def _unique(names: NDArray[np.object_], organism: NDArray[np.object_]) -> NDArray[np.object_]:
    _, inverse, counts = np.unique(names.astype(str), return_inverse=True, return_counts=True)
    chosen = names.copy()
    seen: dict[str, int] = {}
    for row in np.flatnonzero(counts[inverse] > 1).tolist():
        name = f"{names[row]}:{organism[row]}" if organism[row] else str(names[row])
        seen[name] = seen.get(name, 0) + 1
        chosen[row] = name if seen[name] == 1 else f"{name}:{seen[name]}"
    return chosen


def settle(
    choice: GeneChoice, sections: Sequence[str], *, asked: bool, join: Join, missing: Missing | None
) -> tuple[GeneChoice, list[str]]:
    """Apply the rule for genes that some sections have not measured.

    Parameters
    ----------
    choice
        Genes over the sections, or more of them.
    sections
        Sections of the answer; what others lack does not matter.
    asked
        Whether the genes were named by the user.
    join
        For genes that were not named: `outer` all, `inner` those measured in every section.
    missing
        `error` refuses, `drop_sections` leaves sections out, `nan` and `zero` fill in; None is
        `error` for named genes, else `zero` with an `UnmeasuredWarning`.

    Returns
    -------
    tuple
        The genes and the sections that remain.

    Raises
    ------
    GeneNotFound
        Under `error`, when some section lacks a gene; it says which.
    """
    if join not in JOINS:
        raise InvalidArgument(f"join='inner' or 'outer' is wanted, but got {join!r}")
    if missing is not None and missing not in MISSING:
        raise InvalidArgument(
            f"missing= one of {', '.join(MISSING)} is wanted, but got {missing!r}"
        )
    remaining = list(sections)
    choice = choice.restricted(remaining)
    if join == "inner" and not asked:
        keep = np.ones(len(choice), bool)
        for section in sections:
            keep &= choice.measured[section]
        choice = choice.restricted(remaining, keep)
    if choice.complete:
        return choice, remaining
    if missing == "drop_sections":
        remaining = [s for s in sections if bool(choice.measured[s].all())]
        return choice.restricted(remaining), remaining
    if missing == "error" or (missing is None and asked):
        raise GeneNotFound(_lacking(choice, sections))
    if missing is None:
        tell(_warning(choice), UnmeasuredWarning)
    return choice, remaining


def _lacking(choice: GeneChoice, sections: Sequence[str]) -> str:
    parts = []
    for row, name in enumerate(choice.name.tolist()):
        lacking = [section for section in sections if not choice.measured[section][row]]
        if lacking:
            shown = ", ".join(lacking[:_NAMED])
            more = f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
            parts.append(f"{name} is not measured in {len(lacking)}: {shown}{more}")
            nameless = choice.unmatched(row)
            if nameless:
                parts[-1] += f" ({no_symbols(nameless)})"
    shown = "; ".join(parts[:_NAMED])
    more = f"; and {len(parts) - _NAMED} more genes" if len(parts) > _NAMED else ""
    return (
        f"genes measured in all {len(sections)} sections of the answer are wanted, but got "
        f"{shown}{more}; choose missing='nan', 'drop_sections' or 'zero', or other sections"
    )


def no_symbols(sections: Sequence[str]) -> str:
    """Say where a symbol could not be looked up, and what to do.

    >>> no_symbols(["a", "b"])
    'a, b list identifiers without symbols: ask by identifier, or ingest them with a gene_map'
    """
    more = f" and {len(sections) - _NAMED} more" if len(sections) > _NAMED else ""
    return (
        f"{', '.join(sections[:_NAMED])}{more} list identifiers without symbols: ask by "
        "identifier, or ingest them with a gene_map"
    )


def unmatched_warning(choice: GeneChoice) -> str:
    """Say in which sections a gene asked for by symbol could not be looked up, or nothing."""
    parts = [
        f"{name}: {no_symbols(sections)}"
        for row, name in enumerate(choice.name.tolist())
        if (sections := choice.unmatched(row))
    ]
    return "; ".join(parts)


def _warning(choice: GeneChoice) -> str:
    shared = np.ones(len(choice), bool)
    for measured in choice.measured.values():
        shared &= measured
    return (
        f"{len(choice) - int(shared.sum()):,} of {len(choice):,} genes were not measured in every "
        "section; their zeros there mean 'not measured', and varm['measured'] says where. "
        "Choose missing='zero' to accept this, 'nan', join='inner', or genes=[...]"
    )
