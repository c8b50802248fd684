"""Genes of matrices whose features are all genes, listed because they were seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .panel_option import completeness
from .vendor import features_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..reader import ReadOptions
    from .vendor import Survey

__all__ = ["fill_genes"]


def fill_genes(
    survey: Survey,
    names: Sequence[str],
    ids: Sequence[str] | None,
    options: ReadOptions,
    where: str,
) -> None:
    """Fill the panel; genes that are not listed were measured or not, unless options say so.

    Raises
    ------
    InputError
        Genes that repeat, or an option of no meaning.
    """
    survey.panel = features_of(
        names,
        [""] * len(names),
        options=options,
        where=where,
        gene_ids=ids,
        completeness=completeness(options, str(survey.path), "partial"),
    ).panel
