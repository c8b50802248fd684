"""Transcripts of a Xenium output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ..reader import faults_of
from .column_values import require_column
from .table import filled_table
from .transcripts import transcripts

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from ...atlas.points import PointsSource
    from .table import Table
    from .xenium_parts import Parts

__all__ = ["add_points"]

_NOBODY = ("UNASSIGNED", "-1", "")


def add_points(parts: Parts) -> None:
    """Transcripts with every column."""
    survey, files = parts.survey, parts.files
    if not parts.on["transcripts"]:
        return
    table = filled_table(files.transcripts, survey.notes)
    if table is None:
        zipped = any(name.endswith("transcripts.zarr.zip") for name in files.folder.names)
        survey.missing.append(
            "no transcripts.parquet or .csv.gz in the folder: transcripts are not written"
            + ("; transcripts.zarr.zip is not read" if zipped else "")
        )
        return
    source = transcripts(
        table,
        x="x_location",
        y="y_location",
        z="z_location" if "z_location" in table.names else None,
        gene="feature_name",
        cell="cell_id" if "cell_id" in table.names else None,
        no_cell=_NOBODY,
        scale=parts.scale,
        flip=parts.flip,
        types=_text_types(table),
    )
    if parts.min_qv is not None:
        source = _of_quality(source, table, parts.min_qv)
    survey.points["transcripts"] = source


def _text_types(table: Table) -> dict[str, Any]:
    """Types of text columns whose first block may mislead."""
    if table.path.suffix == ".parquet":
        return {}
    import pyarrow as pa

    known = {
        "transcript_id": pa.uint64(),
        "feature_name": pa.string(),
        "fov_name": pa.string(),
        "qv": pa.float64(),
        "nucleus_distance": pa.float64(),
        "codeword_category": pa.string(),
    }
    return {name: kind for name, kind in known.items() if name in table.names}


def _of_quality(source: PointsSource, table: Table, least: float) -> PointsSource:
    """Points of at least some quality."""
    require_column(table.path, table.names, "qv")
    return replace(
        source,
        batches=partial(_good_batches, source, table.path, least),
        notes=(*source.notes, f"transcripts of a quality (qv) below {least:g} left out, as asked"),
    )


def _good_batches(source: PointsSource, path: Path, least: float) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    import pyarrow.compute as pc

    for batch in source.batches():
        with faults_of(path, "numbers as qv", parsing=True):
            quality = batch.column("qv").cast(pa.float64())
        yield batch.filter(pc.greater_equal(quality, pa.scalar(least)))
