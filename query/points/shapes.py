"""Shapes of the selected cells, and of other elements in the place."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import Corrupt, InvalidArgument, MissingKey, near
from ...atlas.memory import parse_bytes, refuse_above
from ..cells.rows import count, pairs_of
from ..geometry.by_section import Nowhere, place_of
from ..geometry.cell_shapes import CellShapes
from ..geometry.places import Place
from ..geometry.touching import touch_circles, touch_outlines

if TYPE_CHECKING:
    import geopandas as gpd

    from ...atlas.section import Section
    from ..cells.selection import Selection

# A boundary of some 25 vertices as well-known binary, as a shapely object, and its id.
_SHAPE_BYTES = 1200
_WAYS_OUT = "ask for a smaller place, or section by section"


def cell_shapes(selection: "Selection", memory_limit: str | int | None) -> "gpd.GeoDataFrame":
    """Read the circles or boundaries of the selected cells; only row groups that hold some.

    Raises
    ------
    BudgetExceeded
        Estimated above the limit, before a shape is read.
    """
    import geopandas as gpd
    import pandas as pd
    import shapely

    limit = parse_bytes(memory_limit)
    what = f"shapes of up to {selection.n_obs_bound:,} cells"
    refuse_above(limit, selection.n_obs_bound * _SHAPE_BYTES, what, _WAYS_OUT)
    frames = []
    for section, runs in selection.parts():
        shapes, pairs = CellShapes(section, selection.store.storage), pairs_of(runs)
        columns: dict[str, Any] = {"section": pd.Categorical([section.name] * count(runs))}
        if shapes.circles:
            geometry = shapely.points(section.positions(pairs))
            columns["radius"] = shapes.radii(pairs)
        else:
            geometry = shapes.outlines(pairs)
        ids = [f"{section.name}:{one}" for one in section.cell_ids(pairs)]
        frames.append(gpd.GeoDataFrame(columns, geometry=geometry, index=pd.Index(ids)))
    return _joined(frames)


def _joined(frames: list[Any]) -> "gpd.GeoDataFrame":
    import geopandas as gpd
    import pandas as pd

    if not frames:
        empty = {"section": pd.Categorical([])}
        return gpd.GeoDataFrame(empty, geometry=gpd.GeoSeries([]), index=pd.Index([], dtype=object))
    if len(frames) == 1:
        return gpd.GeoDataFrame(frames[0])
    # A section gives one frame for each of its row groups.
    sections = list(dict.fromkeys(s for frame in frames for s in frame["section"].cat.categories))
    for frame in frames:
        frame["section"] = frame["section"].cat.set_categories(sections)
    return gpd.GeoDataFrame(pd.concat(frames), geometry="geometry")


def other_shapes(
    selection: "Selection", name: str, memory_limit: str | int | None
) -> "gpd.GeoDataFrame":
    """Read shapes of another element that meet the place (share a point with it), streamed.

    Where the selection has no place, all of them. Filters on cells do not matter here.

    Raises
    ------
    InvalidArgument
        No section has such an element.
    BudgetExceeded
        What was found has outgrown the limit.
    """
    limit = parse_bytes(memory_limit)
    frames = []
    sections = [selection.store.section(n) for n in selection.possible]
    known = sorted({one for section in sections for one in section.elements.get("shapes", ())})
    if sections and name not in known:
        raise InvalidArgument(
            f"shapes of an element are wanted, but got {name!r}.{near(name, ['cells', *known])} "
            f"There are: {', '.join(['cells', *known])}"
        )
    found = 0
    for section in sections:
        place = place_of(selection.question, section.name)
        if isinstance(place, Nowhere) or name not in section.elements.get("shapes", ()):
            continue
        for frame in _frames(selection, section, name, place):
            found += len(frame)
            refuse_above(limit, found * _SHAPE_BYTES, f"more than {found:,} shapes", _WAYS_OUT)
            frames.append(frame)
    return _joined(frames)


def _frames(selection: "Selection", section: "Section", name: str, place: Place | None) -> Any:
    """Shapes of one section that meet the place, row group by row group."""
    import geopandas as gpd
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq
    import shapely

    from ...atlas.points_read import RangeFile

    storage = selection.store.storage
    key = f"{section.entry.prefix}/shapes/{name}/shapes.parquet"
    try:
        path = storage.local_path(key)
        source: Any = (
            str(path)
            if path is not None
            else pa.PythonFile(RangeFile(storage, key, storage.size(key)), mode="r")
        )
        with pq.ParquetFile(source, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                frame = file.read_row_group(group).to_pandas()
                geometry = np.asarray(shapely.from_wkb(frame.pop("geometry")))
                radius = frame["radius"].to_numpy() if "radius" in frame else None
                keep = (
                    np.ones(len(frame), bool) if place is None else _meets(place, geometry, radius)
                )
                if keep.any():
                    frame = frame[keep]
                    owner = pd.Categorical([section.name] * len(frame))
                    frame.insert(0, "section", owner)
                    yield gpd.GeoDataFrame(frame, geometry=geometry[keep])
    except (MissingKey, FileNotFoundError, pa.ArrowInvalid, OSError) as error:
        raise Corrupt(
            f"shapes {name!r} of section {section.name!r} cannot be read ({error}); run "
            "`tisseract verify` and ingest it again"
        ) from error


def _meets(place: Place, geometry: Any, radius: Any) -> Any:
    import shapely

    if radius is not None:
        return touch_circles(place, shapely.get_coordinates(geometry), radius)
    return touch_outlines(place, geometry)
