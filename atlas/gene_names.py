"""How genes and organisms are named in files, and what those names stand for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "KNOWN_ORGANISMS",
    "GeneName",
    "is_accession",
    "organism_of",
    "species_of",
    "strip_version",
]

# Ensembl gene ids may carry a version and, for the human Y copies, a suffix after it; accessions
# of the model organism databases carry none. Other names are taken as symbols and kept whole:
# a trailing ".1" belongs to the name there (RP11-34P13.7, CD3.1).
_ENSEMBL = re.compile(r"(ENS(?P<species>[A-Z]{3,4})?G\d{11})(\.\d+)?(?P<suffix>_PAR_Y)?")
_ACCESSION = re.compile(r"FBgn\d{7}|WBGene\d{8}|AT[1-5CM]G\d{5}|ZDB-GENE-[\d-]+", re.ASCII)
_SPECIES = {
    None: "human",
    "MUS": "mouse",
    "RNO": "rat",
    "GAL": "chicken",
    "DAR": "zebrafish",
    "SSC": "pig",
    "MMU": "macaque",
    "XET": "xenopus",
}
KNOWN_ORGANISMS = frozenset(_SPECIES.values())
_ORGANISMS = {
    "homo sapiens": "human",
    "mus musculus": "mouse",
    "rattus norvegicus": "rat",
    "gallus gallus": "chicken",
    "danio rerio": "zebrafish",
    "sus scrofa": "pig",
    "macaca mulatta": "macaque",
    "xenopus tropicalis": "xenopus",
    "drosophila melanogaster": "fly",
}


def strip_version(name: str) -> str:
    """Drop the version of an identifier; names that are no Ensembl gene ids come back unchanged.

    Examples
    --------
    >>> strip_version("ENSMUSG00000064339.1"), strip_version("RP11-34P13.7")
    ('ENSMUSG00000064339', 'RP11-34P13.7')
    >>> strip_version("ENSG00000002586.18_PAR_Y")
    'ENSG00000002586_PAR_Y'
    """
    found = _ENSEMBL.fullmatch(name)
    return found[1] + (found["suffix"] or "") if found else name


def is_accession(name: str) -> bool:
    """Whether a name is a database identifier rather than a symbol.

    Examples
    --------
    >>> is_accession("ENSG00000139618"), is_accession("BRCA2"), is_accession("FBgn0000014")
    (True, False, True)
    """
    return bool(_ENSEMBL.fullmatch(name) or _ACCESSION.fullmatch(name))


def organism_of(name: str) -> str:
    """Name an organism in common English, lower case, from Latin or English.

    Examples
    --------
    >>> organism_of("Mus musculus"), organism_of(" Human "), organism_of("axolotl")
    ('mouse', 'human', 'axolotl')
    """
    plain = " ".join(name.replace("_", " ").split()).casefold()
    return _ORGANISMS.get(plain, plain)


@dataclass(frozen=True, slots=True)
class GeneName:
    """One row of a gene map: what a name in the file stands for."""

    gene_id: str
    """Identifier, "" to keep the name itself."""
    symbol: str = ""
    """Symbol, "" to keep what the file says."""
    aliases: tuple[str, ...] = ()
    """Further names."""


def species_of(names: Sequence[str]) -> str:
    """Tell the organism that all the Ensembl identifiers share, "" if none or several.

    Examples
    --------
    >>> species_of(["ENSMUSG00000074637", "Sox2"])
    'mouse'
    """
    found = {
        _SPECIES.get(match["species"], "") for match in map(_ENSEMBL.fullmatch, names) if match
    }
    return found.pop() if len(found) == 1 else ""
