"""Stereo-seq GEF: HDF5 with square bins (`geneExp`) or with cells (`cellBin`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import Fault, InputError
from ..guard import Hdf5Node, open_hdf5
from .stereoseq_molecules import Molecules

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Gef",
    "SquareGef",
    "attributes",
    "dataset",
    "field_names",
    "gene_lists",
    "open_gef",
    "open_square",
    "require_stored",
    "require_whole",
]

_BINS = re.compile(r"bin([1-9]\d{0,8})", re.ASCII)
_ROWS = 1 << 18
_MOST_GENES = 1 << 22
_KNOWN_VERSIONS = range(1, 5)
_MOST_VALUES = 64  # of an attribute
_SMALL = 2**20
_MOST_PACKED = 1100  # deflate shrinks no more than a thousandfold


@dataclass(frozen=True, slots=True)
class Gef:
    """What the head of a GEF file says."""

    path: Path
    """The file."""
    bins: tuple[int, ...]
    """Sizes of its square bins."""
    has_cells: bool
    """Whether it has cells."""
    facts: dict[str, object]
    """Attributes of the file."""
    notes: tuple[str, ...]
    """What is unusual."""


def open_gef(path: Path) -> Gef:
    """Read the head of a GEF file.

    Raises
    ------
    InputError
        It is no HDF5 file, reaches out of itself, or holds neither bins nor cells.
    """
    import h5py

    with open_hdf5(path, "a GEF file") as file:
        squares = file.get("geneExp")
        named = map(_BINS.fullmatch, squares if isinstance(squares, h5py.Group) else ())
        bins = [
            int(found[1])
            for found in named
            if found is not None and _holds(squares, found[0], ("expression", "gene"))
        ]
        cells = _holds(file, "cellBin", ("cell", "cellExp", "gene"))
        if not bins and not cells:
            raise InputError(
                Fault(
                    str(path),
                    "expected geneExp/bin<N>/{expression,gene} or cellBin/{cell,cellExp,gene}, "
                    f"but got {', '.join(list(file)[:8]) or 'an empty file'}",
                )
            )
        facts = attributes(file)
    version = facts.get("version")
    notes: tuple[str, ...] = ()
    if version is not None and version not in _KNOWN_VERSIONS:
        notes = (f"GEF version {version} is newer than those known (1 to 4); read like version 4",)
    return Gef(path, tuple(sorted(bins)), cells, facts, notes)


def attributes(node: Any) -> dict[str, object]:
    """Attributes of an object, JSON-ready: single numbers as such, text decoded."""
    found: dict[str, object] = {}
    for name in node.attrs:
        value: Any = node.attrs[name]
        if not isinstance(value, np.ndarray) or value.size <= _MOST_VALUES:
            found[name] = _plain(value)
    return found


def _plain(value: Any) -> object:
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.ravel()[0]
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, bytes):
        return value.split(b"\0")[0].decode("utf-8", "replace")
    return value if isinstance(value, (int, float)) else str(value)


def _holds(group: Any, name: str, parts: tuple[str, ...]) -> bool:
    return all(dataset(group, f"{name}/{part}") is not None for part in parts)


def dataset(group: Any, name: str) -> Any:
    """Return a dataset of a group, None where there is none."""
    import h5py

    found = group.get(name)
    return found if isinstance(found, h5py.Dataset) else None


def field_names(node: Any, wanted: set[str], what: str) -> tuple[str, ...]:
    """Fields of a compound dataset.

    Raises
    ------
    InputError
        It is no one-dimensional compound, or lacks some of the wanted fields.
    """
    names = tuple(getattr(node, "dtype", np.dtype("u1")).names or ())
    shape = getattr(node, "shape", ())
    if len(shape) != 1 or not wanted <= set(names):
        raise InputError(
            Fault(
                what,
                f"expected a list with the fields {', '.join(sorted(wanted))}, but got "
                f"{', '.join(names) or 'no fields'} of shape {shape}",
            )
        )
    return names


def require_whole(node: Any, names: tuple[str, ...], what: str) -> None:
    """Refuse fields of a compound that are no whole numbers.

    Raises
    ------
    InputError
        Naming them.
    """
    wrong = [name for name in names if node.dtype[name].kind not in "iu"]
    if wrong:
        raise InputError(
            Fault(what, f"expected whole numbers in {', '.join(wrong)}, but got {node.dtype}")
        )


def require_stored(node: Any, what: str) -> None:
    """Refuse a dataset that claims far more values than the file holds.

    Raises
    ------
    InputError
        Reading it would go on for hours, or fill the memory, with nothing but zeros.
    """
    size = int(node.size) * int(node.dtype.itemsize)
    held = int(node.id.get_storage_size())
    if size > _SMALL and size > _MOST_PACKED * held:
        raise InputError(
            Fault(
                what,
                f"expected the values of {node.size:,} entries, but got {held:,} bytes for "
                f"{size:,}; the file is damaged: copy it again",
            )
        )


def gene_lists(genes: Any, what: str) -> tuple[list[str], list[str] | None]:
    """Read identifiers, and names where the file has both.

    Versions up to 3 call the one column `gene` or `geneName`; version 4 has `geneID`, `geneName`.
    """
    names = genes.dtype.names
    if genes.size > _MOST_GENES:
        raise InputError(Fault(what, f"expected genes, but got a list of {genes.size:,}"))
    texts = {
        one: _words(genes[one], what) for one in ("geneID", "geneName", "gene") if one in names
    }
    ids = texts.get("geneID") or texts.get("gene") or texts.get("geneName")
    if not ids:
        raise InputError(
            Fault(what, f"expected the field geneID, gene or geneName, but got {', '.join(names)}")
        )
    return ids, texts["geneName"] if "geneID" in texts and "geneName" in texts else None


def _words(column: NDArray[Any], what: str) -> list[str]:
    try:
        return [
            word.decode("utf-8") if isinstance(word, bytes) else str(word)
            for word in column.tolist()
        ]
    except UnicodeDecodeError as error:
        raise InputError(
            Fault(what, f"expected names in UTF-8, but got {error.object!r}")
        ) from error


@dataclass(frozen=True, slots=True)
class SquareGef:
    """Square bins of a GEF file, listed gene by gene.

    Memory: some 262,000 rows, and 8 bytes a gene.
    """

    path: Path
    """The file."""
    size: int
    """Edge of its bins in spots."""
    n_rows: int
    """Entries."""
    ids: tuple[str, ...]
    """Genes."""
    names: tuple[str, ...] | None
    """Their names, where the file has identifiers and names."""
    starts: NDArray[np.int64]
    """(genes + 1,) first entry of each gene."""
    facts: dict[str, object]
    """Attributes of the entries: minX, minY, maxX, maxY, maxExp, resolution."""
    has_exons: bool
    """Whether molecules from exons are counted apart."""

    def n_genes(self) -> int:
        """Genes."""
        return len(self.ids)

    def batches(self) -> Iterator[Molecules]:
        """Stream the entries.

        Raises
        ------
        InputError
            An entry that is none; names the dataset and the row.
        """
        where = f"{self.path}:geneExp/bin{self.size}/expression"
        with Hdf5Node(self.path, f"geneExp/bin{self.size}")() as group:
            for start in range(0, self.n_rows, _ROWS):
                stop = min(start + _ROWS, self.n_rows)
                rows = group["expression"][start:stop]
                exon = group["exon"][start:stop].astype(np.int64) if self.has_exons else None
                gene = np.searchsorted(self.starts, np.arange(start, stop), side="right") - 1
                yield Molecules(
                    rows["x"].astype(np.int64),
                    rows["y"].astype(np.int64),
                    gene,
                    rows["count"].astype(np.int64),
                    exon,
                ).check(where, start)


def open_square(gef: Gef, size: int) -> SquareGef:
    """Open the coarsest bins of a file that bins of a size can be put together from.

    Raises
    ------
    InputError
        None of its bins divides the size, or its parts disagree.
    """
    fits = [one for one in gef.bins if size % one == 0]
    if not fits:
        raise InputError(
            Fault(
                str(gef.path),
                f"expected bins that make up bins of {size}, but got bins of "
                f"{', '.join(map(str, gef.bins)) or 'none'}; set reader_kwargs bin_size to a "
                "multiple of one of them",
            )
        )
    own = fits[-1]
    place = f"geneExp/bin{own}"
    with open_hdf5(gef.path, "a GEF file", checked=True) as file:
        group = file[place]
        where = f"{gef.path}:{place}"
        field_names(group["expression"], {"x", "y", "count"}, f"{where}/expression")
        require_whole(group["expression"], ("x", "y", "count"), f"{where}/expression")
        field_names(group["gene"], {"offset", "count"}, f"{where}/gene")
        require_whole(group["gene"], ("offset", "count"), f"{where}/gene")
        for part in ("expression", "gene"):
            require_stored(group[part], f"{where}/{part}")
        genes = group["gene"][:]
        n_rows = int(group["expression"].shape[0])
        starts = _starts(genes, n_rows, f"{where}/gene")
        ids, names = gene_lists(genes, f"{where}/gene")
        exon = dataset(group, "exon")
        exons = exon is not None and exon.shape == (n_rows,) and exon.dtype.kind in "iu"
        facts = attributes(group["expression"])
    return SquareGef(
        gef.path, own, n_rows, tuple(ids), None if names is None else tuple(names), starts, facts,
        exons,
    )  # fmt: skip


def _starts(genes: NDArray[Any], n_rows: int, what: str) -> NDArray[np.int64]:
    """First entry of each gene; they must take up all entries, one after the other."""
    starts = np.concatenate([genes["offset"].astype(np.int64), [n_rows]])
    apart = np.diff(starts)
    if starts[0] != 0 or (apart < 0).any() or (apart != genes["count"]).any():
        raise InputError(
            Fault(
                what,
                f"expected genes that take up {n_rows:,} entries one after the other, but got "
                "offsets and counts that disagree; the file is damaged",
            )
        )
    return starts
