"""Gene maps: a small table that says what the names in a file stand for."""

from __future__ import annotations

import csv
from pathlib import Path

from ..atlas.errors import Fault, InputError
from ..atlas.genes import GeneName
from .reader import faults_of

__all__ = ["read_gene_map"]

_COLUMNS = {
    "name": ("name", "given", "gene", "feature"),
    "gene_id": ("gene_id", "id", "ensembl", "ensembl_id", "identifier"),
    "symbol": ("symbol", "gene_symbol", "gene_name"),
    "aliases": ("aliases", "alias"),
}


def read_gene_map(path: Path) -> dict[str, GeneName]:
    r"""Read a gene map.

    Parameters
    ----------
    path : Path
        CSV or TSV with a header: `name` (as in the file), `gene_id` and/or `symbol`, and optionally
        `aliases` separated by `|`.

    Raises
    ------
    InputError
        If it cannot be read, lacks columns, or maps one name twice; every fault at once.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "map.csv"
    >>> _ = path.write_text("name,gene_id,symbol\nsox2,ENSMUSG00000074637,Sox2\n")
    >>> read_gene_map(path)["sox2"].symbol
    'Sox2'
    >>> folder.cleanup()
    """
    with (
        faults_of(path, "a gene map", parsing=True),
        path.open(encoding="utf-8-sig", newline="") as file,
    ):
        lines = list(csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ","))
    header = [name.strip().casefold() for name in lines[0]] if lines else []
    at = {
        role: next((header.index(name) for name in names if name in header), None)
        for role, names in _COLUMNS.items()
    }
    if at["name"] is None or (at["gene_id"] is None and at["symbol"] is None):
        raise InputError(
            Fault(
                str(path),
                "expected the columns `name` and `gene_id` or `symbol`, but got "
                f"{', '.join(header) or 'an empty file'}",
            )
        )

    def cell(line: list[str], role: str) -> str:
        column = at[role]
        return line[column].strip() if column is not None and column < len(line) else ""

    found: dict[str, GeneName] = {}
    faults = []
    for number, line in enumerate(lines[1:], 2):
        name = cell(line, "name")
        if not name:
            continue
        aliases = tuple(filter(None, (one.strip() for one in cell(line, "aliases").split("|"))))
        entry = GeneName(cell(line, "gene_id"), cell(line, "symbol"), aliases)
        if found.setdefault(name, entry) != entry:
            faults.append(
                Fault(f"{path} line {number}", f"expected one row for {name!r}, but got another")
            )
    if faults:
        raise InputError(faults)
    return found
