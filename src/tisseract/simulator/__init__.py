"""A developing tissue with known truth, of any size, written as h5ad files and a sample sheet.

Nothing here is biology: every file says that it is simulated. The tissue is hard as real tissue
is (cell types shared between domains, batch effects, unequal depth, unequal gene panels), yet small
enough to explain on one page (docs/demo.md).
"""

from .plan import SectionPlan, SimulationPlan
from .write import SimulationResult, simulate

__all__ = ["SectionPlan", "SimulationPlan", "SimulationResult", "simulate"]
