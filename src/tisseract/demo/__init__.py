"""The guided tour: raw files in, answers out, with the real commands in between."""

from .real import real_tour
from .report import TourReport
from .simulated import simulated_tour

__all__ = ["TourReport", "real_tour", "simulated_tour"]
