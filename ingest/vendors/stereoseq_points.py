"""What each spot of a Stereo-seq chip caught, as points of a section."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ...atlas.points import PointsSource

if TYPE_CHECKING:
    import pyarrow as pa

    from .stereoseq_molecules import Molecules

__all__ = ["Caught", "molecule_points"]


@dataclass(frozen=True, slots=True)
class Caught:
    """What single spots caught, to be streamed."""

    batches: Callable[[], Iterator[Molecules]]
    """Streams the molecules."""
    genes: tuple[str, ...]
    """Names by number."""
    named: bool = False
    """Whether cells of the molecules are those of the section."""


def molecule_points(caught: Caught, unit: float, sign: float) -> PointsSource:
    """Points with the columns gene, count, and exon and cell where the file has them.

    Parameters
    ----------
    caught : Caught
        What is streamed.
    unit : float
        Stored units a spot.
    sign : float
        -1 where y points up.
    """
    return PointsSource(
        partial(_tables, caught, unit, sign),
        feature_key="gene",
        instance_key="cell" if caught.named else "",
    )


def _tables(caught: Caught, unit: float, sign: float) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    words = pa.array(caught.genes, pa.string())
    for batch in caught.batches():
        columns: dict[str, Any] = {
            "x": pa.array(batch.x * unit),
            "y": pa.array(batch.y * (sign * unit)),
            "gene": pa.DictionaryArray.from_arrays(pa.array(batch.gene.astype("int32")), words),
            "count": pa.array(batch.count.astype("uint32")),
        }
        if batch.exon is not None:
            columns["exon"] = pa.array(batch.exon.astype("uint32"))
        if batch.cell is not None:
            outside = batch.cell < 0
            columns["cell"] = pa.array(batch.cell, mask=outside).cast(pa.string())
        yield pa.RecordBatch.from_pydict(columns)
