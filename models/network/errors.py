"""What can go wrong while a network learns."""

from ...atlas.errors import BudgetExceeded, TisseractError

__all__ = ["DeviceMemoryError", "TrainingDivergedError"]


class TrainingDivergedError(TisseractError, FloatingPointError):
    """The loss became nan or infinite; the message names the batch."""

    kind = "training-diverged"


class DeviceMemoryError(BudgetExceeded):
    """The device has no memory left for a batch; the message names what makes it smaller."""

    kind = "device-memory"
