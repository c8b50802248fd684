"""Names a query may use: section metadata, obs columns and derived labels, resolved at once.

A bare name means, in this order, section metadata that some section has a value for, an obs
column, a domain key, an annotation. `meta:name`, `obs:name`, `domains:key` and `annotations:key`
say which; `confidence:key` is how sure the labels of a domain key are; `counts:gene` and
`log1p:gene` are what a cell has of a gene; `cell:id` is its name, `{section}:{id}`.
`domain` stands for the only domain key, where there is one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ...atlas.errors import ColumnNotFound, InvalidArgument, near
from . import cell_ids, gene_columns
from .predicate import Compare, In, Leaf, Null, Predicate, Scalar, StringTest, leaves

if TYPE_CHECKING:
    from ...atlas.store import AtlasStore

type Source = Literal["meta", "obs", "domains", "annotations", "confidence", "gene", "cell"]

# Beyond this many, a message points at values() instead of listing them.
_LISTED = 30


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the atlas; sections that lack it hold missing values."""

    name: str
    """As the user spells it."""
    source: Source
    key: str
    """Name within its source."""
    kinds: frozenset[str]
    """Kinds it has in its sections: numeric, categorical, string, boolean."""
    values: frozenset[str] | None
    """All text it takes, where the catalog lists it; None where it does not."""
    order: tuple[str, ...] | None = None
    """Its text in ascending order, where it has one: timepoints in time, ordered categories where
    all sections agree."""
    optional: bool = False
    """Taken along unasked, so that stale labels count as missing instead of raising."""
    unit: str = ""
    """Of a gene: counts or log1p."""
    places: tuple[tuple[str, int, bool], ...] = ()
    """Of a gene: panels that list it, each with the matrix column and whether zeros pad it."""
    nameless: frozenset[str] = frozenset()
    """Of a gene known by symbol alone: panels of identifiers without symbols, which may have it."""

    @property
    def is_text(self) -> bool:
        """Whether it holds text in some section."""
        return bool(self.kinds & {"categorical", "string"})


class Columns:
    """Every column of one snapshot, by name.

    Reads the catalog only; nothing in it depends on the number of cells.
    """

    def __init__(self, store: "AtlasStore", domain_key: str | None = None) -> None:
        self._store = store
        self._entries = store.snapshot.sections
        self.domain_keys = tuple(sorted(store.derived_keys("domains")))
        self.annotation_keys = tuple(sorted(store.derived_keys("annotation")))
        kinds = ("domains", "annotation")
        self._derived = [e for e in store.snapshot.derived.values() if e.kind in kinds]
        if domain_key is not None and domain_key not in self.domain_keys:
            raise ColumnNotFound(
                f"a domain key is wanted, but got {domain_key!r}."
                + near(domain_key, self.domain_keys)
                + ("" if self.domain_keys else " This snapshot has no domains.")
            )
        self._domain_key = domain_key
        self._known: dict[str, Column] = {}

    @property
    def metadata(self) -> tuple[str, ...]:
        """Names of section metadata that some section has a value for."""
        names = {
            name: None
            for entry in self._entries.values()
            for name, value in entry.metadata.items()
            if value is not None
        }
        return tuple(names)

    @property
    def obs(self) -> tuple[str, ...]:
        """Names of the obs columns of all sections."""
        return tuple({name: None for e in self._entries.values() for name in e.columns})

    def obs_of(self, sections: Iterable[str]) -> tuple[str, ...]:
        """Names of the obs columns of some sections, in the order in which they first have them."""
        wanted = set(sections)
        return tuple({n: None for s, e in self._entries.items() if s in wanted for n in e.columns})

    def resolve(self, name: str) -> Column:
        """Find a column.

        Raises
        ------
        ColumnNotFound
            No such column; near names are offered.
        """
        if name not in self._known:
            self._known[name] = self._find(name)
        return self._known[name]

    def _find(self, name: str) -> Column:
        found = self._of_source(name) or self._of_name(name)
        if found is not None:
            return found
        if name == "timepoint":
            raise ColumnNotFound(
                "sections with a timepoint are wanted, but got a snapshot in which none has one; "
                "fill in the column timepoint of the sample sheet and ingest it with overwrite"
            )
        gene_columns.refuse_bare_gene(self._store, name)
        known = (*self.metadata, *self.obs, *self.domain_keys, *self.annotation_keys)
        raise ColumnNotFound(
            f"a column of sections or cells is wanted, but got {name!r}.{near(name, known)}"
        )

    def _of_source(self, name: str) -> Column | None:
        """Find a column whose name says where it is from: `obs:n_counts`, `counts:Sox2`."""
        source, _, key = name.partition(":")
        if source == "meta" and key in self.metadata:
            return self._from_metadata(name, key)
        if source == "obs" and key in self.obs:
            return self._from_obs(name, key)
        if source == "obs" and (renamed := self._stored(key)) is not None:
            return self._from_obs(name, renamed)
        if source == "domains" and key in self.domain_keys:
            return self._from_domains(name, key)
        if source == "confidence" and key in self.domain_keys:
            return Column(name, "confidence", key, frozenset({"numeric"}), None)
        if source == "annotations" and key in self.annotation_keys:
            return self._from_annotations(name, key)
        if source in gene_columns.UNITS and key:
            places, nameless = gene_columns.gene_places(self._store, key)
            kinds = frozenset({"numeric"})
            return Column(
                name, "gene", key, kinds, None, unit=source, places=places, nameless=nameless
            )
        return None

    def _of_name(self, name: str) -> Column | None:
        """Find a column by its name alone: metadata, then obs, then labels."""
        if name == cell_ids.COLUMN:
            return Column(name, "cell", name, frozenset({"string"}), None)
        if name == "section" or name in self.metadata:
            return self._from_metadata(name, name)
        if name in self.obs:
            return self._from_obs(name, name)
        if (renamed := self._stored(name)) is not None:
            return self._from_obs(name, renamed)
        if name in self.domain_keys:
            return self._from_domains(name, name)
        if name in self.annotation_keys:
            return self._from_annotations(name, name)
        return self._from_domains(name, self.domain()) if name == "domain" else None

    def _stored(self, source: str) -> str | None:
        """Name under which a column of this name in the source is stored, where it was changed.

        Raises
        ------
        InvalidArgument
            Sections store it under several names.
        """
        found = {
            name
            for entry in self._entries.values()
            for name, info in entry.columns.items()
            if info.get("source") == source
        }
        if len(found) > 1:
            raise InvalidArgument(
                f"one obs column is wanted, but got {source!r}, which sections store as "
                f"{' and '.join(sorted(found))}; name one of these"
            )
        return found.pop() if found else None

    def holds_integers(self, column: Column) -> bool:
        """Whether an obs column is of whole numbers in every section; reads their metadata."""
        having = [name for name, e in self._entries.items() if column.key in e.columns]
        kinds = (self._store.section(name).obs_columns[column.key] for name in having)
        return all(str(info.get("dtype", "")).startswith(("int", "uint")) for info in kinds)

    def span(self, column: Column) -> float:
        """Largest minus smallest value of a numeric obs column, by the catalog."""
        infos = [e.columns[column.key] for e in self._entries.values() if column.key in e.columns]
        known = [info for info in infos if info.get("min") is not None]
        if not known:
            return 0.0
        return float(max(info["max"] for info in known) - min(info["min"] for info in known))

    def domain(self) -> str:
        """Tell the domain key that `domain` stands for.

        Raises
        ------
        InvalidArgument
            There are none or several, and none was chosen.
        """
        if self._domain_key is not None:
            return self._domain_key
        if len(self.domain_keys) == 1:
            return self.domain_keys[0]
        if not self.domain_keys:
            raise InvalidArgument(
                "domains are wanted, but this snapshot has none; make them with find_domains"
            )
        raise InvalidArgument(
            f"one domain key is wanted, but got {len(self.domain_keys)}: "
            f"{', '.join(self.domain_keys)}; name it with domain_key="
        )

    def _from_metadata(self, name: str, key: str) -> Column:
        values = [
            section_value(section, entry.metadata, key) for section, entry in self._entries.items()
        ]
        known = [value for value in values if value is not None]
        kinds = frozenset(_kind_of(value) for value in known)
        text = frozenset(str(value) for value in known)
        order = timepoint_order(self._entries.values()) if key == "timepoint" else None
        return Column(name, "meta", key, kinds, text if "categorical" in kinds else None, order)

    def _from_obs(self, name: str, key: str) -> Column:
        infos = [e.columns[key] for e in self._entries.values() if key in e.columns]
        return self._from_infos(name, "obs", key, infos)

    def _from_annotations(self, name: str, key: str) -> Column:
        infos = [e.info for e in self._derived if (e.kind, e.key) == ("annotation", key)]
        return self._from_infos(name, "annotations", key, infos)

    @staticmethod
    def _from_infos(
        name: str, source: Source, key: str, infos: "list[Mapping[str, Any]]"
    ) -> Column:
        listed = [info.get("categories") for info in infos if info["kind"] != "numeric"]
        complete = bool(listed) and all(values is not None for values in listed)
        values = frozenset(str(v) for part in listed for v in part or ()) if complete else None
        kinds = frozenset(str(info["kind"]) for info in infos)
        order = None
        if all(info.get("ordered") and info.get("categories") is not None for info in infos):
            orders = {tuple(map(str, info["categories"])) for info in infos}
            order = orders.pop() if len(orders) == 1 else None
        return Column(name, source, key, kinds, values, order)

    def _from_domains(self, name: str, key: str) -> Column:
        listed = [
            e.info.get("categories") for e in self._derived if (e.kind, e.key) == ("domains", key)
        ]
        complete = all(values is not None for values in listed)
        values = frozenset(str(v) for part in listed for v in part or ()) if complete else None
        return Column(name, "domains", key, frozenset({"categorical"}), values)

    def check(self, predicate: Predicate) -> dict[str, Column]:
        """Resolve every column of a predicate and see that its tests make sense.

        Returns
        -------
        dict
            Column by the name used in the predicate.

        Raises
        ------
        ColumnNotFound
            A name that no section has.
        InvalidArgument
            A value of the wrong kind, or text that the column never takes.
        """
        found: dict[str, Column] = {}
        for leaf in leaves(predicate):
            column = self.resolve(leaf.column)
            _check_leaf(leaf, column)
            found[leaf.column] = column
        return found


def section_value(section: str, metadata: Mapping[str, Any], key: str) -> Scalar | None:
    """Value of a section's metadata, `None` where missing; `section` is its own name."""
    value = section if key == "section" else metadata.get(key)
    if isinstance(value, float) and value != value:  # noqa: PLR0124 - NaN is missing
        return None
    return value


def timepoint_order(entries: Iterable[Any]) -> tuple[str, ...] | None:
    """Timepoint labels in order of time, or None where the catalog does not say it.

    By `timepoint_order`, else by `time_value` where all labels share one unit, else by the labels
    themselves where all are plain numbers.
    """
    facts: dict[str, set[tuple[object, object, object]]] = {}
    for entry in entries:
        meta = entry.metadata
        if meta.get("timepoint") is not None:
            facts.setdefault(str(meta["timepoint"]), set()).add(
                (meta.get("timepoint_order"), meta.get("time_value"), meta.get("time_unit"))
            )
    every = [fact for known in facts.values() for fact in known]
    if all(order is not None for order, _, _ in every):
        rank = {label: min(float(str(f[0])) for f in known) for label, known in facts.items()}
    elif all(value is not None for _, value, _ in every) and len({u for *_, u in every}) == 1:
        rank = {label: min(float(str(f[1])) for f in known) for label, known in facts.items()}
    else:
        try:
            rank = {label: float(label) for label in facts}
        except ValueError:
            return None
    return tuple(sorted(rank, key=lambda label: (rank[label], label)))


def _kind_of(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "numeric" if isinstance(value, int | float) else "categorical"


def _check_leaf(leaf: Leaf, column: Column) -> None:
    if isinstance(leaf, Null):
        return
    if isinstance(leaf, StringTest):
        if not column.is_text:
            raise InvalidArgument(
                f"text is wanted for .{leaf.test}, but got column {leaf.column!r}, which is "
                f"{_or(column.kinds)}"
            )
        return
    values = leaf.values if isinstance(leaf, In) else (leaf.value,)
    for value in values:
        _check_value(leaf, column, value)
    if isinstance(leaf, Compare) and leaf.op not in ("==", "!=") and isinstance(leaf.value, str):
        _check_order(leaf, column)


def _check_value(leaf: Leaf, column: Column, value: Scalar) -> None:
    if isinstance(value, str) and not column.is_text:
        raise InvalidArgument(
            f"a number is wanted for column {leaf.column!r}, which is {_or(column.kinds)}, "
            f"but got the text {value!r}"
        )
    if not isinstance(value, str) and not column.kinds & {"numeric", "boolean"}:
        raise InvalidArgument(
            f"text is wanted for column {leaf.column!r}, but got {value!r}; "
            f"write it in quotes: {str(value)!r}.{_allowed(str(value), column)}"
        )
    if isinstance(value, str) and column.values is not None and value not in column.values:
        numeric = bool(column.kinds & {"numeric", "boolean"})
        if not numeric:
            raise InvalidArgument(
                f"a value of column {leaf.column!r} is wanted, but got {value!r}."
                f"{_allowed(value, column)}"
            )


def _check_order(leaf: Compare, column: Column) -> None:
    if column.order is None:
        reason = (
            "the timepoints have no order: give the sample sheet a time_value for each"
            if column.key == "timepoint"
            else "text has no order that its sections share: use ==, in or .startswith"
        )
        raise InvalidArgument(f"a number is wanted after {leaf.op}, but got {leaf}; {reason}")


def _allowed(value: str, column: Column) -> str:
    if column.values is None:
        return ""
    hint = near(value, column.values)
    if len(column.values) < _LISTED:
        listed = ", ".join(map(repr, column.order or sorted(column.values)))
        return f"{hint} It takes {listed}." if " There are" not in hint else hint
    return f"{hint} atlas.values({column.name!r}) lists all {len(column.values)}."


def _or(kinds: frozenset[str]) -> str:
    return " or ".join(sorted(kinds)) or "empty"
