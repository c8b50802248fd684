"""Small committed atlases for tests of software built on tisseract."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .handle import Atlas

__all__ = ["small_atlas"]


def small_atlas(folder: str | Path, *, n_cells: int = 2000, seed: int = 0) -> Atlas:
    """Make and open a small atlas of simulated tissue, with known truth, in an empty folder.

    Parameters
    ----------
    folder
        Where to write; gets `raw/` (h5ad files and their sheet) and `small.atlas`.
    n_cells
        Cells in all eight sections (four timepoints of two embryos) together.
    seed
        Equal seeds make equal cells.

    Returns
    -------
    Atlas
        Opened for writing; `obs` has the truth in `true_domain` and `true_cell_type`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     atlas = small_atlas(folder, n_cells=800)
    ...     len(atlas.section_names), atlas.query(timepoint="E10.5").n_obs > 0
    (8, True)
    """
    from .handle import open as open_atlas
    from .ingest.pipeline import ingest
    from .simulator import SimulationPlan, simulate

    root = Path(folder)
    result = simulate(SimulationPlan(seed=seed, n_cells=n_cells), root / "raw")
    ingest(result.sheet, root / "small.atlas", n_workers=1)
    return open_atlas(root / "small.atlas", read_only=False)
