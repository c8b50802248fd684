"""Names that are no genes, but features of a table beside them: controls, proteins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...atlas.errors import GeneNotFound

if TYPE_CHECKING:
    from ...atlas.store import AtlasStore

__all__ = ["telling_apart"]

# A fault is told soon also in an atlas of thousands of sections.
_LOOKED_AT = 32


@contextmanager
def telling_apart(store: AtlasStore, sections: Sequence[str], name: str) -> Iterator[None]:
    """Say of a name that is not found as a gene where it stands beside the genes.

    Looks into the first sections alone, and reads names of features there.

    Raises
    ------
    GeneNotFound
        The one that was raised within, or one that names section and table.
    """
    try:
        yield
    except GeneNotFound as error:
        for section in sections[:_LOOKED_AT]:
            handle = store.section(section)
            for table in handle.apart_names:
                if name in handle.apart(table, []).names:
                    raise GeneNotFound(
                        f"a gene is wanted, but got {name!r}, which is of the table {table!r} "
                        f"beside the genes of section {section!r}; read it with "
                        f"atlas.section({section!r}).apart({table!r})"
                    ) from error
        raise
