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
6. A section without an organism lists genes of its own. A name means them there, and the gene of
   the one organism that has it elsewhere: neither hides the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from .errors import GeneAmbiguous, GeneNotFound, SectionNotFound, near
from .gene_names import GeneName, is_accession, organism_of, strip_version
from .panel import Completeness, Panel
from .symbol_book import GeneKey, SymbolBook

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
            if rule == "exact" and rows:
                # Where no organism or no accession is known an identifier may be a bare symbol.
                known = {bool(self.organism[r]) for r in rows}
                symbols = self._index["symbol"].get(name, ())
                rows = (*rows, *(r for r in symbols if bool(self.organism[r]) not in known))
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
        return self.rows(name, organism)[0]

    def rows(self, name: str, organism: str = "") -> tuple[int, ...]:
        """Row of a gene as `find` has it, then its rows of sections without an organism.

        No section lists two of them.

        Raises
        ------
        GeneNotFound, GeneAmbiguous
            As `find`.

        Examples
        --------
        >>> genes = union({"a": Panel.of(["Sox2"], organism="mouse"), "b": Panel.of(["Sox2"])})
        >>> genes.rows("Sox2"), genes.rows("Sox2", "mouse")
        ((0, 1), (0,))
        """
        rows = self.candidates(name, organism)
        known = tuple(r for r in rows if self.organism[r])
        bare = tuple(r for r in rows if not self.organism[r])
        alike = len({self.feature_type[r] for r in rows}) == 1
        if alike and len(known) <= 1 and len(bare) <= 1:
            return (*known, *bare)
        if not rows:
            names = [*self.gene_id.tolist(), *filter(None, self.symbol.tolist())]
            raise GeneNotFound(
                f"expected a gene of some section, but got {name!r}.{near(name, names)}"
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
    book = SymbolBook.over(distinct.values())
    keys = {digest: book.keys_of(panel) for digest, panel in distinct.items()}
    genes: dict[GeneKey, _Gene] = {}
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


def _assemble(
    panels: Mapping[str, Panel],
    genes: Mapping[GeneKey, _Gene],
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
