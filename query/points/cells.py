"""Which cells transcripts must belong to, where a selection filters cells."""

from typing import TYPE_CHECKING

from ...atlas.errors import InvalidArgument
from ..cells.rows import as_runs, pairs_of

if TYPE_CHECKING:
    import pyarrow as pa

    from ..cells.selection import Selection
    from .plan import SectionPoints


def needs_cells(selection: "Selection") -> bool:
    """Whether a selection filters cells, and not sections alone."""
    return any(column.source != "meta" for column in selection.tested)


def cells_of(selection: "Selection", one: "SectionPoints") -> "pa.Array":
    """Names, as the transcripts have them, of the selected cells of one section; 40 bytes a cell.

    Raises
    ------
    InvalidArgument
        The transcripts do not say which cell they belong to.
    """
    import pyarrow as pa

    info = one.points.info
    if not info.instance_key:
        raise InvalidArgument(
            f"transcripts that name their cell are wanted for a filter on cells, but {info.name!r} "
            f"of section {one.section!r} name none; ask by place alone"
        )
    section = selection.store.section(one.section)
    runs = pairs_of(selection.runs.get(one.section, as_runs([])))
    if not runs:
        return pa.array([], pa.string())
    if info.cell_column in section.obs_columns:
        frame = section.obs(runs, columns=[info.cell_column], index=False)
        return pa.array(list(frame[info.cell_column].dropna().astype(str)), pa.string())
    return pa.array(list(section.cell_ids(runs)), pa.string())
