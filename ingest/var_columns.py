"""Genes of an AnnData var frame: which columns say identifier, symbol and type."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..atlas.errors import Fault, InputError, near
from ..atlas.genes import Panel
from .frame import column_names, index_name, read_strings
from .gene_map import read_gene_map
from .reader import ReadOptions

__all__ = ["genome_organism", "read_panel"]

_GENE_ID_COLUMNS = ("gene_ids", "gene_id", "ensembl_id", "ensembl", "feature_id", "ensemblid")
_SYMBOL_COLUMNS = (
    "gene_symbols",
    "gene_symbol",
    "symbol",
    "symbols",
    "gene_name",
    "gene_names",
    "feature_name",
)
_TYPE_COLUMNS = ("feature_types", "feature_type")
_REFERENCES = {"grch": "human", "hg19": "human", "hg38": "human", "grcm": "mouse", "mm10": "mouse"}


def genome_organism(genomes: Iterable[str]) -> str:
    """Tell the organism of reference genomes, "" when unknown or several.

    Examples
    --------
    >>> genome_organism(["GRCh38", "GRCh38-2020-A"]), genome_organism(["GRCh38", "mm10"])
    ('human', '')
    """
    said = {
        organism
        for genome in genomes
        for reference, organism in _REFERENCES.items()
        if genome.casefold().startswith(reference)
    }
    return said.pop() if len(said) == 1 else ""


def read_panel(var: Any, options: ReadOptions, where: str) -> Panel:
    """Read the genes: names from the index, identifiers, symbols and types from known columns.

    Raises
    ------
    InputError
        If the genes are ambiguous, or a column named in reader_kwargs is missing.
    """
    kwargs = options.reader_kwargs
    columns = column_names(var)

    def column(option: str, usual: tuple[str, ...]) -> list[str] | None:
        asked = kwargs.get(option)
        if asked is not None and str(asked) not in columns:
            raise InputError(
                Fault(
                    f"{where}:var",
                    f"expected the column {asked!r} ({option}), but got {', '.join(columns)}."
                    f"{near(asked, columns)}",
                )
            )
        folded = {name.casefold(): name for name in columns}
        found = str(asked) if asked else next((folded[n] for n in usual if n in folded), None)
        return read_strings(var, found) if found else None

    genomes = set(read_strings(var, "genome")) if "genome" in columns else set()
    gene_map = read_gene_map(options.gene_map) if options.gene_map else None
    panel = str(kwargs.get("panel", "partial"))
    if panel not in {"partial", "complete"}:
        raise InputError(
            Fault(where, f"expected reader_kwargs panel partial or complete, but got {panel!r}")
        )
    return Panel.of(
        read_strings(var, index_name(var)),
        organism=options.organism or genome_organism(genomes),
        gene_ids=column("gene_id_column", _GENE_ID_COLUMNS),
        symbols=column("symbol_column", _SYMBOL_COLUMNS),
        feature_types=column("feature_type_column", _TYPE_COLUMNS),
        gene_map=gene_map,
        completeness="complete" if panel == "complete" else "partial",
        zero_padded=bool(kwargs.get("zero_padded", False)),
        where=f"{where}:var",
    )
