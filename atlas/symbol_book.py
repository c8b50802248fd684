"""Which identifiers a symbol has in some panels, and by them which genes are one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .gene_names import is_accession
from .panel import Panel

__all__ = ["GeneKey", "SymbolBook"]

GeneKey = tuple[str, str, str, str]
"""Organism, feature type, "id" or "name", identifier or symbol."""


@dataclass(slots=True)
class SymbolBook:
    """Which identifiers each symbol has in any panel, by three ever looser rules."""

    exact: dict[tuple[str, str, str], dict[str, None]] = field(default_factory=dict)
    folded: dict[tuple[str, str, str], dict[str, None]] = field(default_factory=dict)
    alias: dict[tuple[str, str, str], dict[str, None]] = field(default_factory=dict)
    told_apart: set[tuple[str, str, str]] = field(default_factory=set)

    @classmethod
    def over(cls, panels: Iterable[Panel]) -> SymbolBook:
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

    def keys_of(self, panel: Panel) -> list[GeneKey]:
        """One key a gene of the panel, all different."""
        chosen: list[GeneKey] = []
        best: dict[GeneKey, tuple[int, int]] = {}
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

    def doubts(self, panel: Panel, i: int, key: GeneKey) -> tuple[GeneKey, ...]:
        """Keys that a gene may also be, when no single one could be chosen."""
        rule, ids = self.candidates(panel, i)
        if key[2] == "id" or rule == 4:
            return ()
        return tuple((key[0], key[1], "id", gene) for gene in ids)

    def _by_name(self, panel: Panel, i: int) -> GeneKey:
        symbol = str(panel.symbol[i]) or str(panel.gene_id[i])
        scope = (panel.organism, str(panel.feature_type[i]))
        fold = (*scope, symbol.casefold())
        return (*scope, "name", symbol if fold in self.told_apart else symbol.casefold())


def _identified(gene: str, symbol: str) -> bool:
    """Whether the identifier is more than the symbol repeated."""
    return is_accession(gene) or (gene != symbol and bool(symbol))
