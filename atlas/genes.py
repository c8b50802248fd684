"""Genes across sections: one list, and for each section what it says about each gene.

The rule by which names from different sections become one gene, within one organism:

1. A gene given with an identifier (an accession such as ENSG..., or an id column beside symbols)
   is that identifier, without version. Its symbols in other sections become aliases.
2. A gene given by symbol alone takes the identifier that this symbol has in some section:
   the same spelling first, then whatever the case, then an alias. Exactly one must fit.
3. If several fit, the symbol stays a gene of its own and is *ambiguous*: looking it up raises
   `GeneAmbiguous` with the candidates, and for those candidates the section's presence is unknown.
4. Symbols without any identifier unify by spelling, then whatever the case, unless some panel
   itself tells two spellings apart.
5. Features of different types (a gene and an antibody) never unify; nor do organisms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from .errors import GeneAmbiguous, GeneNotFound, SectionNotFound, near
from .gene_names import GeneName, is_accession, organism_of, strip_version
from .panel import Completeness, Panel

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = [
    "Completeness",
    "GeneName",
    "GeneUnion",
    "Panel",
    "Presence",
    "is_accession",
    "organism_of",
    "strip_version",
    "union",
]

Presence = Literal["measured", "absent", "unknown"]
"""Measured; known not to be in the panel; or not listed where lists may be incomplete."""

# (organism, feature type, "id" or "name", identifier or symbol)
_Key = tuple[str, str, str, str]


@dataclass(slots=True)
class _Gene:
    """One gene while the union is built."""

    symbol: str = ""
    names: dict[str, None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class GeneUnion:
    """All genes of some sections, and where each stands in each panel."""

    organism: NDArray[np.object_]
    """(g,) str."""
    gene_id: NDArray[np.object_]
    """(g,) str: identifier, or the symbol where none is known."""
    symbol: NDArray[np.object_]
    """(g,) str, "" when unknown."""
    aliases: tuple[tuple[str, ...], ...]
    """Other names that sections use."""
    feature_type: NDArray[np.object_]
    """(g,) str."""
    ambiguous: Mapping[str, tuple[int, ...]]
    """Symbols that fit several identifiers, with the rows they fit."""
    _sections: Mapping[str, Panel]
    _columns: Mapping[str, NDArray[np.int32]]
    _doubtful: Mapping[str, NDArray[np.int64]]
    _index: Mapping[str, Mapping[str, tuple[int, ...]]]

    def __len__(self) -> int:
        return self.gene_id.size

    def __repr__(self) -> str:
        return f"GeneUnion({len(self)} genes, {len(self._sections)} sections)"

    @property
    def sections(self) -> tuple[str, ...]:
        """Names that its sections, or panels, were given under."""
        return tuple(self._sections)

    def columns(self, section: str) -> NDArray[np.int32]:
        """(g,) matrix column of each gene in a section, -1 where the panel lacks it.

        Raises
        ------
        SectionNotFound
            If the union was not made over this section.
        """
        if section not in self._sections:
            raise SectionNotFound(
                f"expected a section of this union, but got {section!r}."
                f"{near(section, self._sections)}"
            )
        return self._columns[self._sections[section].digest]

    def zero_padded(self, section: str) -> bool:
        """Whether an all-zero gene of a section may be padding that was never measured."""
        self.columns(section)
        return self._sections[section].zero_padded

    def presence(
        self, section: str, detected: NDArray[np.bool_] | None = None
    ) -> NDArray[np.object_]:
        """(g,) "measured", "absent" or "unknown" for each gene in a section.

        Parameters
        ----------
        section : str
            Name of a section.
        detected : array, (n_vars,) bool, optional
            Whether a column has any non-zero; where the panel is zero padded, an all-zero gene
            counts as unknown.

        Examples
        --------
        >>> panels = {"a": Panel.of(["Sox2", "Pax6"], completeness="complete"),
        ...           "b": Panel.of(["sox2", "Gad1"])}
        >>> genes = union(panels)
        >>> genes.symbol.tolist(), genes.presence("a").tolist()
        (['Sox2', 'Pax6', 'Gad1'], ['measured', 'measured', 'absent'])
        >>> genes.presence("b").tolist()
        ['measured', 'unknown', 'measured']
        """
        columns = self.columns(section)
        panel = self._sections[section]
        listed = columns >= 0
        missing = "absent" if panel.completeness == "complete" else "unknown"
        answer = np.where(listed, "measured", missing).astype(object)
        answer[(self.organism != panel.organism) & ~listed] = "absent"
        answer[self._doubtful[panel.digest]] = "unknown"
        if detected is not None and panel.zero_padded:
            answer[np.flatnonzero(listed)[~detected[columns[listed]]]] = "unknown"
        return answer

    def candidates(self, name: str, organism: str = "") -> tuple[int, ...]:
        """Rows that a name may mean: by identifier, symbol, whatever the case, then alias."""
        asked = (
            ("exact", strip_version(name)),
            ("symbol", name),
            ("folded", name.casefold()),
            ("alias", name.casefold()),
        )
        for rule, key in asked:
            rows = self._index[rule].get(key, ())
            # A symbol that stayed a gene of its own stands for all it might be.
            rows = tuple(dict.fromkeys((*rows, *self.ambiguous.get(name, ()))))
            if organism:
                rows = tuple(r for r in rows if self.organism[r] == organism_of(organism))
            if rows:
                return rows
        return ()

    def find(self, name: str, organism: str = "") -> int:
        """Row of a gene by identifier, symbol or alias.

        Raises
        ------
        GeneNotFound
            If no section has such a gene; near names are offered.
        GeneAmbiguous
            If the name fits several genes; they are listed.

        Examples
        --------
        >>> genes = union({"a": Panel.of(["ENSG00000139618"], symbols=["BRCA2"]),
        ...                "b": Panel.of(["BRCA2"], organism="human")})
        >>> len(genes), genes.find("brca2"), genes.columns("b").tolist()
        (1, 0, [0])
        """
        rows = self.candidates(name, organism)
        if len(rows) == 1:
            return rows[0]
        if not rows:
            known = [*self.gene_id.tolist(), *filter(None, self.symbol.tolist())]
            raise GeneNotFound(
                f"expected a gene of some section, but got {name!r}.{near(name, known)}"
            )
        listed = ", ".join(
            f"{self.gene_id[r]} ({self.symbol[r] or self.gene_id[r]}, "
            f"{self.organism[r] or 'organism unknown'})"
            for r in rows
        )
        organisms = {self.organism[r] for r in rows} - {""}
        also = f", or name the organism: '{min(organisms)}:{name}'" if len(organisms) > 1 else ""
        raise GeneAmbiguous(
            f"expected one gene, but got {name!r}, which fits {len(rows)}: {listed}; "
            f"ask by identifier{also}"
        )

    def table(self) -> pd.DataFrame:
        """One row a gene: gene_id, symbol, organism, feature_type and how many sections have it.

        Memory is one row a gene; presence per section is `presence`.
        """
        import pandas as pd

        counts = np.zeros(len(self), dtype=np.int64)
        for panel in self._sections.values():
            counts += self._columns[panel.digest] >= 0
        return pd.DataFrame(
            {
                "gene_id": self.gene_id,
                "symbol": self.symbol,
                "organism": self.organism,
                "feature_type": self.feature_type,
                "n_sections": counts,
            }
        )


def union(panels: Mapping[str, Panel]) -> GeneUnion:
    """Join the panels of sections into one list of genes, by the rule at the top of this module.

    Parameters
    ----------
    panels : mapping of str to Panel
        Panel of each section; equal panels are worked on once.

    Returns
    -------
    GeneUnion
        Genes in the order in which sections first list them. Memory: 4 bytes x genes for each
        *distinct* panel.

    Examples
    --------
    >>> genes = union({"a": Panel.of(["ENSMUSG00000074637.7"], symbols=["Sox2"]),
    ...                "b": Panel.of(["sox2"], organism="mouse")})
    >>> genes.gene_id.tolist(), genes.aliases
    (['ENSMUSG00000074637'], (('ENSMUSG00000074637.7', 'sox2'),))
    """
    distinct = {panel.digest: panel for panel in panels.values()}
    book = _SymbolBook.over(distinct.values())
    keys = {digest: book.keys_of(panel) for digest, panel in distinct.items()}
    genes: dict[_Key, _Gene] = {}
    for digest, panel in distinct.items():
        for i, key in enumerate(keys[digest]):
            gene = genes.setdefault(key, _Gene())
            gene.symbol = gene.symbol or str(panel.symbol[i])
            for name in (panel.name[i], panel.symbol[i], *panel.aliases[i]):
                if name:
                    gene.names.setdefault(str(name))
    row = {key: r for r, key in enumerate(genes)}
    columns: dict[str, NDArray[np.int32]] = {}
    doubtful: dict[str, NDArray[np.int64]] = {}
    ambiguous: dict[str, tuple[int, ...]] = {}
    for digest, panel in distinct.items():
        where = np.full(len(row), -1, dtype=np.int32)
        where[[row[key] for key in keys[digest]]] = np.arange(len(panel), dtype=np.int32)
        columns[digest] = where
        unsure: set[int] = set()
        for i, key in enumerate(keys[digest]):
            fits = book.doubts(panel, i, key)
            if fits:
                rows = tuple(row[fit] for fit in fits if fit in row)
                ambiguous[str(panel.symbol[i])] = rows
                unsure.update(r for r in rows if where[r] < 0)
        doubtful[digest] = np.asarray(sorted(unsure), dtype=np.int64)
    return _assemble(dict(panels), genes, columns, doubtful, ambiguous)


@dataclass(slots=True)
class _SymbolBook:
    """Which identifiers each symbol has in any panel, by three ever looser rules."""

    exact: dict[tuple[str, str, str], dict[str, None]] = field(default_factory=dict)
    folded: dict[tuple[str, str, str], dict[str, None]] = field(default_factory=dict)
    alias: dict[tuple[str, str, str], dict[str, None]] = field(default_factory=dict)
    told_apart: set[tuple[str, str, str]] = field(default_factory=set)

    @classmethod
    def over(cls, panels: Iterable[Panel]) -> _SymbolBook:
        """Read all (identifier, symbol) pairs of the panels."""
        book = cls()
        for panel in panels:
            spellings: dict[tuple[str, str, str], str] = {}
            for i in range(len(panel)):
                gene, symbol = str(panel.gene_id[i]), str(panel.symbol[i])
                scope = (panel.organism, str(panel.feature_type[i]))
                fold = (*scope, symbol.casefold())
                if symbol and spellings.setdefault(fold, symbol) != symbol:
                    book.told_apart.add(fold)
                if not _identified(gene, symbol):
                    continue
                if symbol:
                    book.exact.setdefault((*scope, symbol), {})[gene] = None
                    book.folded.setdefault(fold, {})[gene] = None
                for name in panel.aliases[i]:
                    book.alias.setdefault((*scope, name.casefold()), {})[gene] = None
        return book

    def candidates(self, panel: Panel, i: int) -> tuple[int, tuple[str, ...]]:
        """Rule (0 own identifier, 1 spelling, 2 case, 3 alias, 4 none) and the identifiers."""
        gene, symbol = str(panel.gene_id[i]), str(panel.symbol[i])
        if _identified(gene, symbol):
            return 0, (gene,)
        scope = (panel.organism, str(panel.feature_type[i]))
        fold = (*scope, symbol.casefold())
        for rule, found in enumerate(
            (self.exact.get((*scope, symbol)), self.folded.get(fold), self.alias.get(fold)), 1
        ):
            if found:
                return rule, tuple(found)
        return 4, ()

    def keys_of(self, panel: Panel) -> list[_Key]:
        """One key a gene of the panel, all different."""
        chosen: list[_Key] = []
        best: dict[_Key, tuple[int, int]] = {}
        for i in range(len(panel)):
            rule, ids = self.candidates(panel, i)
            scope = (panel.organism, str(panel.feature_type[i]))
            key = (*scope, "id", ids[0]) if len(ids) == 1 else self._by_name(panel, i)
            chosen.append(key)
            if key not in best or rule < best[key][0]:
                best[key] = (rule, i)
        # Two genes of one panel cannot be one gene: the surer claim wins, the other keeps its name.
        return [
            key if best[key][1] == i else (key[0], key[1], "name", str(panel.gene_id[i]))
            for i, key in enumerate(chosen)
        ]

    def doubts(self, panel: Panel, i: int, key: _Key) -> tuple[_Key, ...]:
        """Keys that a gene may also be, when no single one could be chosen."""
        rule, ids = self.candidates(panel, i)
        if key[2] == "id" or rule == 4:
            return ()
        return tuple((key[0], key[1], "id", gene) for gene in ids)

    def _by_name(self, panel: Panel, i: int) -> _Key:
        symbol = str(panel.symbol[i]) or str(panel.gene_id[i])
        scope = (panel.organism, str(panel.feature_type[i]))
        fold = (*scope, symbol.casefold())
        return (*scope, "name", symbol if fold in self.told_apart else symbol.casefold())


def _identified(gene: str, symbol: str) -> bool:
    """Whether the identifier is more than the symbol repeated."""
    return is_accession(gene) or (gene != symbol and bool(symbol))


def _assemble(
    panels: Mapping[str, Panel],
    genes: Mapping[_Key, _Gene],
    columns: Mapping[str, NDArray[np.int32]],
    doubtful: Mapping[str, NDArray[np.int64]],
    ambiguous: Mapping[str, tuple[int, ...]],
) -> GeneUnion:
    """Turn the built parts into arrays and lookup tables."""
    ids = [key[3] if key[2] == "id" else gene.symbol or key[3] for key, gene in genes.items()]
    symbols = [gene.symbol for gene in genes.values()]
    aliases = tuple(
        tuple(name for name in gene.names if name not in {symbol, gene_id})
        for gene, symbol, gene_id in zip(genes.values(), symbols, ids, strict=True)
    )
    index: dict[str, dict[str, tuple[int, ...]]] = {
        "exact": {},
        "symbol": {},
        "folded": {},
        "alias": {},
    }

    def enter(rule: str, name: str, r: int) -> None:
        if name:
            rows = index[rule].get(name, ())
            index[rule][name] = rows if r in rows else (*rows, r)

    for r, (gene_id, symbol) in enumerate(zip(ids, symbols, strict=True)):
        enter("exact", gene_id, r)
        enter("symbol", symbol, r)
        enter("folded", gene_id.casefold(), r)
        enter("folded", symbol.casefold(), r)
        for name in aliases[r]:
            enter("alias", name.casefold(), r)
    return GeneUnion(
        np.asarray([key[0] for key in genes], dtype=object),
        np.asarray(ids, dtype=object),
        np.asarray(symbols, dtype=object),
        aliases,
        np.asarray([key[1] for key in genes], dtype=object),
        dict(ambiguous),
        dict(panels),
        dict(columns),
        dict(doubtful),
        index,
    )
