"""How sound the sections of an atlas are: figures, flags, and one page about all of them."""

from .figures import SectionFigures, collect, quality_table
from .flags import Cohort, Flag, Limits, flags
from .report import ReportFacts, write_report

__all__ = [
    "Cohort",
    "Flag",
    "Limits",
    "ReportFacts",
    "SectionFigures",
    "collect",
    "flags",
    "quality_table",
    "write_report",
]
