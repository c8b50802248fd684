"""Genes as the transcripts of a section name them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...atlas.errors import GeneNotFound, InvalidArgument, near

if TYPE_CHECKING:
    from ...atlas.points_read import StoredPoints
    from ...atlas.section import Section


def features_of(section: "Section", points: "StoredPoints", genes: Sequence[str]) -> frozenset[str]:
    """Names under which a section's transcripts carry some genes; those it lacks are left out.

    A gene may be named as the transcripts do, or by identifier, symbol or alias of the panel.

    Raises
    ------
    InvalidArgument
        No column of the transcripts names a gene.
    """
    if not points.info.feature_key:
        raise InvalidArgument(
            f"transcripts with a gene each are wanted, but {points.info.name!r} of section "
            f"{section.name!r} name none; leave genes= out"
        )
    found: set[str] = set()
    for gene in genes:
        if gene in points.features:
            found.add(gene)
            continue
        try:
            at = section.panel.find(gene)
        except GeneNotFound:
            continue
        panel = section.panel
        spelled = {str(panel.name[at]), str(panel.gene_id[at]), str(panel.symbol[at])}
        found |= spelled & set(points.features)
    return frozenset(found)


def told_of_genes(genes: Sequence[str], elements: "Sequence[tuple[Section, StoredPoints]]") -> None:
    """Refuse genes that no section measured, with near names; one without points is no fault.

    Raises
    ------
    GeneNotFound
        Names the genes.
    """
    lost = [
        gene
        for gene in genes
        if not any(
            features_of(section, points, [gene]) or _measured(section, gene)
            for section, points in elements
        )
    ]
    if lost and elements:
        known = {name for _, points in elements for name in points.features}
        hints = "".join(near(gene, known) for gene in lost[:3])
        raise GeneNotFound(
            f"genes of the transcripts are wanted, but got {', '.join(map(repr, lost))}.{hints}"
        )


def _measured(section: "Section", gene: str) -> bool:
    try:
        section.panel.find(gene)
    except GeneNotFound:
        return False
    return True
