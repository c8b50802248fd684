"""Reader of Slide-seq pucks: positions of the beads, and a table of genes by beads or an mtx."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, override

from ...atlas.errors import InputError
from ..source import StringValues
from .bead_match import fill_mtx, fill_radius, match_beads
from .beads import Beads, bead_unit, read_beads
from .folder import Folder
from .gene_rows import open_gene_rows
from .listed_genes import fill_genes
from .mtx_beads import MtxParts
from .vendor import Survey, VendorReader

if TYPE_CHECKING:
    from ..reader import ReadOptions

__all__ = ["SlideSeqReader"]

_POSITIONS = (
    "*bead_locations*.csv",
    "*beadlocations*.csv",
    "*bead_locations*.csv.gz",
    "*bead_locations*.txt*",
    "*barcode_locations*",
    "*barcode_matching*",
)
_TABLES = (
    "*digital_expression*.txt.gz",
    "*digital_expression*.txt",
    "*digital_expression*.tsv.gz",
    "*digital_expression*.csv*",
    "*mappeddge*.csv*",
    "*.dge.txt*",
)
_MATRICES = (
    "*matrix.mtx.gz", "*matrix.mtx", "*/*matrix.mtx.gz", "*/*matrix.mtx", "*.mtx*", "*/*.mtx*",
)  # fmt: skip


class SlideSeqReader(VendorReader):
    """A folder with `*bead_locations.csv` and `*digital_expression.txt.gz` (or mtx) of one puck.

    The files do not say the unit. Without `um_per_unit`, 0.65 um is assumed (pixels of the
    microscope that pucks are read with), if that puts beads of 10 um side by side.

    reader_kwargs: `panel` (`complete` when genes that are not listed were not measured).
    """

    format: str = "slideseq"
    technology: str = "Slide-seq"
    known_options: ClassVar[frozenset[str]] = frozenset({"panel"})

    @override
    def recognizes(self, path: Path) -> bool:
        """Whether a folder has positions of beads beside a matrix; never raises."""
        try:
            folder = Folder.of(path, 2)
        except InputError:
            return False
        matched = folder.all("*matchedbeadlocation*.csv")
        return bool(folder.all(*_POSITIONS) and folder.all(*_TABLES, *_MATRICES) and not matched)

    @override
    def files(self, path: Path, options: ReadOptions) -> tuple[Path, ...]:
        """Return positions, matrix with its lists, gene map."""
        positions, table, mtx = _located(Folder.of(path, 2))
        extra = (options.gene_map,) if options.gene_map else ()
        return (positions, *((table,) if table else mtx.files if mtx else ()), *extra)

    @override
    def survey(self, path: Path, options: ReadOptions) -> Survey:
        """Read positions and names; the matrix is passed over once for the names of its genes."""
        survey = Survey(path)
        folder = Folder.of(path, 2)
        survey.faults.faults.extend(folder.faults)
        if folder.faults:
            return survey  # nothing outside the folder is opened
        positions, table, mtx = _located(folder)
        beads = None
        with survey.faults.part():
            beads = read_beads(positions)
        with survey.faults.part():
            if table is not None:
                _fill_table(survey, table, beads, options)
            else:
                assert mtx is not None
                fill_mtx(survey, mtx, beads, options)
        if beads is not None:
            with survey.faults.part():
                survey.unit = bead_unit(
                    beads.positions,
                    options,
                    0.65,
                    "pixels of 0.65 um, as in Slide-seqV2",
                    str(path),
                )
                fill_radius(survey)
        return survey


def _fill_table(survey: Survey, path: Path, beads: Beads | None, options: ReadOptions) -> None:
    """Fill what a table of genes by beads holds; without positions, genes alone."""
    found = open_gene_rows(path)
    if beads is not None:
        cells = StringValues.from_strings(list(found.cells))
        survey.counts = found.counts(match_beads(survey, beads, cells, str(path)))
    fill_genes(survey, found.genes, None, options, str(path))


def _located(folder: Folder) -> tuple[Path, Path | None, MtxParts | None]:
    """Positions, and a table of genes by beads or an mtx with its lists."""
    positions = folder.need("positions of the beads", *_POSITIONS)
    table = folder.find(*_TABLES)
    if table is not None:
        return positions, table, None
    matrix = folder.need("counts", *_TABLES, *_MATRICES)
    return positions, None, MtxParts.beside(folder, matrix)
