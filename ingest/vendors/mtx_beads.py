"""Matrix Market files of genes by beads with a list of names for each side."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ...atlas.errors import Fault, InputError
from ..source import StringValues
from ..spaceranger_files import read_lines
from .folder import Folder
from .long_counts import MtxTriples

__all__ = ["BeadMatrix", "MtxParts", "open_bead_mtx"]

_BARCODES = re.compile(r".*barcodes?\.(tsv|txt|csv)(\.gz)?")
_GENES = re.compile(r".*(genes|features)\.(tsv|txt|csv)(\.gz)?")


@dataclass(frozen=True, slots=True)
class MtxParts:
    """Files of a matrix."""

    matrix: Path
    """.mtx, gzipped or not."""
    barcodes: Path
    """One a line."""
    genes: Path
    """One a line: a name, or an identifier and a symbol."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""
        return self.matrix, self.barcodes, self.genes

    @classmethod
    def beside(cls, folder: Folder, matrix: Path) -> MtxParts:
        """Find the lists in the folder of a matrix.

        Raises
        ------
        InputError
            One is missing, or there are several.
        """
        near = [folder.root / name for name in folder.names]
        near = [one for one in near if one.parent == matrix.parent]
        found = []
        for what, pattern in (("barcodes", _BARCODES), ("genes", _GENES)):
            fits = [one for one in near if pattern.fullmatch(one.name.casefold())]
            if len(fits) != 1:
                listed = ", ".join(one.name for one in fits) or "none"
                raise InputError(
                    Fault(
                        str(matrix.parent),
                        f"expected one list of {what} (*{what}.tsv) beside {matrix.name}, but got "
                        f"{listed}",
                    )
                )
            found.append(fits[0])
        return cls(matrix, found[0], found[1])


@dataclass(frozen=True, slots=True)
class BeadMatrix:
    """A matrix with the names of its rows and columns."""

    barcodes: StringValues
    """(n_obs,)"""
    genes: list[str]
    """(n_vars,) names."""
    ids: list[str] | None
    """(n_vars,) identifiers, where the list has both."""
    counts: MtxTriples
    """Beads by genes."""


def open_bead_mtx(parts: MtxParts) -> BeadMatrix:
    """Open a matrix; reads the names and its header.

    Raises
    ------
    InputError
        A file cannot be read, or they disagree.
    """
    cells = [_cell(line) for line in read_lines(parts.barcodes)]
    rows = [[_cell(word) for word in line.split("\t")] for line in read_lines(parts.genes)]
    both = bool(rows) and all(len(row) > 1 and row[1] for row in rows)
    counts = MtxTriples.of(parts.matrix, len(cells), len(rows))
    return BeadMatrix(
        StringValues.from_strings(cells),
        [row[1] if both else row[0] for row in rows],
        [row[0] for row in rows] if both else None,
        counts,
    )


def _cell(word: str) -> str:
    return word.split("\t", maxsplit=1)[0].strip().strip('"')
