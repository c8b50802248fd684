"""Quality of a section: counted while it is written, kept in its index and in the catalog."""

from .histogram import Distribution, LogHistogram, bin_edge
from .measure import Measured, StoredRows, measure
from .points import PointTally
from .section import SectionQuality, section_quality
from .summary import QcSummary, TranscriptCounts

__all__ = [
    "Distribution",
    "LogHistogram",
    "Measured",
    "PointTally",
    "QcSummary",
    "SectionQuality",
    "StoredRows",
    "TranscriptCounts",
    "bin_edge",
    "measure",
    "section_quality",
]
