"""The columns of a sample sheet: their names, their other names, and what they hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "COLUMNS",
    "SPLIT_PLACEHOLDER",
    "Column",
    "canonical",
    "names_time_column",
    "placeholder_faults",
    "resembles",
]

ColumnUse = Literal["identity", "reading", "time", "metadata", "extra-file"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column that the sheet knows by name."""

    name: str
    """The name used everywhere else."""
    aliases: tuple[str, ...]
    """Other headers that mean the same."""
    use: ColumnUse
    """`metadata` is stored as it is; the others steer the reading."""
    help: str
    """One line for `check-samples --help` and the documentation."""


COLUMNS: tuple[Column, ...] = (
    Column("sample", ("sample_id", "section"), "identity", "name of the section; required"),
    Column(
        "data_path",
        ("path", "spaceranger_dir", "spatial_path"),
        "identity",
        "file or folder, relative to the sheet; required",
    ),
    Column("format", (), "reading", "reader; guessed from the files when empty"),
    Column("technology", (), "metadata", "the assay, such as visium or merfish"),
    Column(
        "values",
        (),
        "reading",
        "what the matrix holds: counts | expected | normalized | log1p | composition",
    ),
    Column(
        "um_per_unit",
        (),
        "reading",
        "micrometres per coordinate unit: a number | lattice:PITCH | unknown",
    ),
    Column("y_axis", (), "reading", "direction of the source's y axis: down | up"),
    Column("split_by", (), "reading", "obs column with one section per value, or none"),
    Column("organism", (), "metadata", "such as mouse; part of a gene's identity"),
    Column("gene_map", (), "reading", "CSV of gene identifiers and symbols, relative to the sheet"),
    Column("timepoint", (), "time", "free label, such as E12.5"),
    Column("time_value", (), "time", "number behind the label"),
    Column("time_unit", ("timepoint_unit",), "time", "unit of time_value"),
    Column("timepoint_order", (), "time", "rank of the label when labels do not order themselves"),
    Column("donor", (), "metadata", "animal or patient"),
    Column("condition", (), "metadata", "treatment, genotype, disease"),
    Column("tissue", (), "metadata", "organ or region"),
    Column("batch", (), "metadata", "run, slide or chip"),
    Column("z_um", (), "metadata", "height of the section in micrometres"),
    Column("section_index", (), "metadata", "number of the section in its series"),
    Column("image", (), "reading", "image file, relative to the sheet"),
    Column("layer", (), "reading", "where the matrix lies in an h5ad: X, raw, or a layer's name"),
    Column("spatial_key", (), "reading", "obsm key of the coordinates"),
    Column("reader_kwargs", (), "reading", "JSON object of further reader options"),
    Column(
        "annotation",
        (),
        "extra-file",
        "named regions: GeoJSON, selections of Xenium Explorer, QuPath, lists of cells (Loupe)",
    ),
    Column(
        "transform",
        (),
        "extra-file",
        "affine into a common frame: JSON or CSV of numbers, or a CSV of landmarks",
    ),
    Column("labels", (), "extra-file", "table of cell ids and labels, joined by id"),
)

_CANONICAL = {name: column.name for column in COLUMNS for name in (column.name, *column.aliases)}

SPLIT_PLACEHOLDER = "{split}"
"""Stands for the value of `split_by` in any text cell."""

# Words that people use for a column that the sheet calls otherwise. They stay metadata: `time` may
# well be the hour of dissection.
_SYNONYMS = {
    word: name
    for name, words in {
        "technology": ("tech", "assay", "platform", "method"),
        "um_per_unit": (
            "um_per_px",
            "um_per_pixel",
            "microns_per_pixel",
            "mpp",
            "pixel_size",
            "scale",
            "unit",
            "units",
        ),
        "organism": ("species", "animal", "host"),
        "timepoint": ("time", "time_point", "tp", "stage", "age", "timepoint_label"),
        "donor": ("patient", "patient_id", "donor_id", "subject", "mouse_id", "animal_id"),
        "tissue": ("organ", "region"),
        "condition": ("treatment", "genotype", "disease"),
        "values": ("value", "matrix_values", "normalization"),
        "split_by": ("split", "section_column", "split_column"),
        "data_path": ("file", "filename", "file_path"),
        "z_um": ("z", "depth_um"),
        "layer": ("matrix",),
        "format": ("reader", "file_format", "type"),
    }.items()
    for word in words
}
_TIME_COLUMNS = {"timepoint_column", "time_column", "timepoint_key", "time_key", "timepoint_by"}
_PLACEHOLDER = re.compile(r"\{[^{}]*\}")


def fold(header: str) -> str:
    """Header in lower case with underscores for blanks and hyphens."""
    return "_".join(header.strip().lower().replace("-", " ").split())


def canonical(header: str) -> str | None:
    """Name of the known column a header means, or None.

    Examples
    --------
    >>> canonical("Sample ID"), canonical("spaceranger_dir"), canonical("slide")
    ('sample', 'data_path', None)
    """
    return _CANONICAL.get(fold(header))


def resembles(header: str) -> str | None:
    """Known header that an unknown one is a misspelling or another word of, or None.

    Examples
    --------
    >>> resembles("um_per_unt"), resembles("slide"), resembles("batch2")
    ('um_per_unit', None, None)
    >>> resembles("species")
    'organism'
    """
    from difflib import get_close_matches

    folded = fold(header)
    if folded in _SYNONYMS:
        return _SYNONYMS[folded]
    if folded.rstrip("0123456789_") in _CANONICAL:  # batch2 beside batch is a second column
        return None
    found = get_close_matches(folded, _CANONICAL, n=1, cutoff=0.84)
    return found[0] if found else None


def names_time_column(header: str) -> bool:
    """Whether a header seems to name the obs column that holds the timepoint.

    Examples
    --------
    >>> names_time_column("timepoint_column"), names_time_column("time")
    (True, False)
    """
    return fold(header) in _TIME_COLUMNS


def placeholder_faults(cells: Mapping[str, str], split_by: str | None) -> list[str]:
    """Tell which cells will not get the value of the split that they seem to want.

    Parameters
    ----------
    cells : mapping of str to str
        Text of the row, by column.
    split_by : str, optional
        The obs column that makes several sections of the row.

    Examples
    --------
    >>> placeholder_faults({"timepoint": "{day}"}, "day")[0]
    "timepoint: '{day}' would be stored as it stands; did you mean '{split}' (the value of 'day')?"
    >>> placeholder_faults({"timepoint": "day {split}"}, "day")
    []
    """
    splits = split_by not in (None, "none")
    faults = []
    for column, text in cells.items():
        found = _PLACEHOLDER.findall(text)
        strange = [one for one in found if one != SPLIT_PLACEHOLDER]
        if SPLIT_PLACEHOLDER in found and not splits:
            faults.append(
                f"{column}: {text!r} takes the value of `split_by`, but the row has none; set "
                "`split_by` to an obs column"
            )
        elif (strange and (splits or column == "timepoint")) or (
            splits and column == "timepoint" and text == split_by
        ):
            meant = f" (the value of {split_by!r})" if splits else ""
            faults.append(
                f"{column}: {text!r} would be stored as it stands; did you mean "
                f"{SPLIT_PLACEHOLDER!r}{meant}?"
            )
    return faults
