"""What the steps of reading a Xenium output hand to one another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from .xenium_files import Run, XeniumFiles

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..reader import ReadOptions
    from .vendor import Survey
    from .xenium_images import Place
    from .xenium_zip import CellsZip

__all__ = ["Parts"]


@dataclass(slots=True)
class Parts:
    """What the steps of a survey hand to one another."""

    files: XeniumFiles
    """Where the parts lie."""
    options: ReadOptions
    """What the user says."""
    survey: Survey
    """What is found."""
    on: dict[str, bool] = field(default_factory=dict)
    """Switches by name."""
    min_qv: float | None = None
    """Least quality of transcripts."""
    panel: Literal["partial", "complete"] = "complete"
    """Whether genes that the matrix does not list were measured."""
    run: Run = field(default_factory=lambda: Run({}, None, "", (), ()))
    """What the run says of itself."""
    place: Place | None = None
    """Where the morphology image lies, None where what the user says of it is wrong."""
    zipped: CellsZip | None = None
    """`cells.zarr.zip`."""
    zip_rows: NDArray[np.int64] | None = None
    """Row of each cell of `cells.zarr.zip` in the section, -1 where it has none."""

    @property
    def scale(self) -> float:
        """Stored units a micrometer of the file."""
        return self.survey.unit.um_per_unit or 1.0

    @property
    def flip(self) -> bool:
        """Whether stored y is the negative of the file's."""
        return self.options.y_axis == "up"
