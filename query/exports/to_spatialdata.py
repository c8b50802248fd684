"""A selection as one plain SpatialData object."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.memory import parse_bytes, refuse_above
from ..cells.empty import EmptyAnswerWarning, nothing_found
from ..cells.rows import RunArray, rows_of, within
from ..expression.choice import settle
from ..expression.mixture import told_apart, warn_mixed
from ..geometry.by_section import place_of
from ..points.elements import outlines_of, points_of, rasters_of
from ..tables.obs import obs_table, stale_note
from ..tables.positions import frame_of
from ..telling import tell
from .embeddings import choose_embeddings, join_derived
from .graphs import graph_bytes, selected_graph
from .to_anndata import WAYS_OUT, aligned, describe, stack

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from ...atlas.section import Section
    from ...atlas.store import AtlasStore
    from ..cells.selection import Selection

REGION_KEY = "spatialdata_region"
INSTANCE_KEY = "spatialdata_instance"


def to_spatialdata(
    selection: "Selection",
    *,
    graph: str | None = None,
    embeddings: bool | str | Sequence[str] = False,
    confidence: bool = False,
    memory_limit: str | int | None = None,
) -> "SpatialData":
    """Read a selection into one SpatialData object that any scverse tool opens.

    Parameters
    ----------
    selection
        What to read.
    graph
        Name of committed graphs, to go into the table as squidpy has them; see `to_anndata`.
    embeddings, confidence
        What goes into `obsm["X_<key>"]` and `obs["<key>_confidence"]` of the table; see
        `to_anndata`.
    memory_limit
        Refuse above this estimate (images, labels and
        points are lazy and not counted).

    Returns
    -------
    SpatialData
        One `table` over all sections, counts as stored, domain labels joined in obs; for each
        section the shapes of its selected cells, its points (lazy) and further shapes in the
        place, and its images and labels, cropped to the box of the place. One section keeps its
        element names and its coordinate system (`microns`, or `source_units` where the unit is
        unknown); several get `{section}_{element}` and a system each, `{section}_microns` or
        `{section}_source_units`.
        Without any cell there is the empty table alone, and an `EmptyAnswerWarning`.

    Raises
    ------
    BudgetExceeded
        Estimated above the limit.
    """
    import anndata as ad
    import spatialdata as sd
    from spatialdata.models import TableModel

    limit = parse_bytes(memory_limit)
    what = f"a SpatialData of up to {selection.n_obs_bound:,} cells x {selection.n_vars:,} genes"
    edges = 0 if graph is None else graph_bytes(selection, graph)
    found = choose_embeddings(selection, list(selection.runs), embeddings)
    more = edges + 2 * selection.n_obs * found.row_bytes
    refuse_above(limit, selection.plan.peak_bytes + more, what, WAYS_OUT)
    choice, _ = settle(
        selection.genes.restricted(list(selection.runs), np.ones(len(selection.genes), bool)),
        list(selection.runs),
        asked=selection.question.genes is not None,
        join="outer",
        missing=None,
    )
    parts = selection.parts()
    several = len(parts) > 1
    shapes: dict[str, Any] = {}
    images: dict[str, Any] = {}
    labels: dict[str, Any] = {}
    points: dict[str, Any] = {}
    region: list[str] = []
    entries = [section.entry for section, _ in parts]
    warn_mixed(entries)
    if not parts and selection.question.place is None:  # of a place it is told when found
        tell(nothing_found(selection), EmptyAnswerWarning)
    ids = told_apart(obs_table(selection), entries)
    start = 0
    for section, runs in parts:
        name = f"{section.name}_cells" if several else "cells"
        n = int((runs[:, 1] - runs[:, 0]).sum())
        shapes[name] = _shapes(
            selection.store, section, runs, ids.index[start : start + n], several
        )
        images |= _images(selection, section, several, "images")
        labels |= _images(selection, section, several, "labels")
        head, system = f"{section.name}_" if several else "", _system(section, several)
        found_points = points_of(selection, section, system)
        points |= {f"{head}{key}": one for key, one in found_points.items()}
        outlines = outlines_of(selection, section, system, memory_limit)
        shapes |= {f"{head}{key}": one for key, one in outlines.items()}
        region += [name] * n
        start += n
    varm: dict[str, Any] = {"measured": choice.presence()}
    table = ad.AnnData(
        X=stack([aligned(section, runs, choice) for section, runs in parts], len(choice)),
        obs=_annotated(ids, region),
        var=choice.var(),
        obsm={"spatial": _positions(parts)} | _framed(selection),
        varm=varm,
        uns={"tisseract": describe(selection) | stale_note(ids)},
    )
    join_derived(selection, table, found, confidence=confidence)
    if graph is not None:
        selected_graph(selection, graph).add_to(table, graph)
    if parts:
        table = TableModel.parse(
            table,
            region=list(dict.fromkeys(region)) if several else region[0],
            region_key=REGION_KEY,
            instance_key=INSTANCE_KEY,
        )
    return sd.SpatialData(
        images=images, labels=labels, points=points, shapes=shapes, tables={"table": table}
    )


def _annotated(obs: Any, region: list[str]) -> Any:
    import pandas as pd

    # Names with a colon are fine for AnnData, not for an element of a SpatialData store.
    obs = obs.rename(columns={name: name.replace(":", "_") for name in obs.columns})
    obs[REGION_KEY] = pd.Categorical(region)
    obs[INSTANCE_KEY] = obs.index.to_numpy()
    return obs


def _framed(selection: "Selection") -> dict[str, Any]:
    """Positions in the frame that the question asks in, if it asks in one."""
    frame = frame_of(selection.question)
    if frame is None:
        return {}
    parts = [frame.read(section, runs) for section, runs in selection.parts()]
    return {frame.key: np.concatenate([*parts, np.zeros((0, 2))])}


def _positions(parts: "list[tuple[Section, RunArray]]") -> Any:
    from ..cells.fetch import read_positions

    found = [read_positions(section, runs) for section, runs in parts]
    return np.concatenate([*found, np.zeros((0, 2))])


def _system(section: "Section", several: bool) -> str:
    system = "microns" if section.um_per_unit is not None else "source_units"
    return f"{section.name}_{system}" if several else system


def _shapes(
    store: "AtlasStore", section: "Section", runs: RunArray, ids: Any, several: bool
) -> Any:
    """Make the cells' circles or polygons, indexed by cell id as the table names them."""
    import geopandas as gpd
    import shapely
    from spatialdata.models import ShapesModel
    from spatialdata.transformations import Identity

    table = _shape_rows(store, section, runs)
    geometry = shapely.from_wkb(table.column("geometry").to_numpy(zero_copy_only=False))
    columns = (
        {"radius": table.column("radius").to_numpy()} if "radius" in table.schema.names else {}
    )
    frame = gpd.GeoDataFrame(columns, geometry=geometry, index=ids.to_numpy())
    return ShapesModel.parse(frame, transformations={_system(section, several): Identity()})


def _shape_rows(store: "AtlasStore", section: "Section", runs: RunArray) -> Any:
    """Rows of the shapes' GeoParquet; only row groups that hold some are decoded."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    key = f"{section.entry.prefix}/shapes/cells/shapes.parquet"
    path = store.storage.local_path(key)
    source = str(path) if path is not None else pa.BufferReader(store.storage.get(key))
    with pq.ParquetFile(source) as file:
        counts = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        sizes = np.asarray(counts, np.int64)
        ends = np.cumsum(sizes)
        rows = rows_of(runs)
        groups = np.unique(np.searchsorted(ends, rows, side="right"))
        names = [n for n in ("geometry", "radius") if n in file.schema_arrow.names]
        table = file.read_row_groups(groups.tolist(), columns=names)
        wide = np.stack([ends[groups] - sizes[groups], ends[groups]], axis=1)
    return table.take(pa.array(within(rows, wide)))


def _images(selection: "Selection", section: "Section", several: bool, kind: str) -> dict[str, Any]:
    """Images or labels of a section, lazy, cropped to the region's box.

    spatialdata 0.8 opens local stores only: from a bucket come full resolutions alone.
    """
    import spatialdata as sd
    from spatialdata.transformations import get_transformation, set_transformation

    path = selection.store.storage.local_path(section.entry.prefix)
    if path is None:
        crops = rasters_of(selection, section, kind, _system(section, several))
        return {f"{section.name}_{key}" if several else key: one for key, one in crops.items()}
    if not (path / kind).is_dir():
        return {}
    found = getattr(sd.read_zarr(path, selection=(kind,)), kind)
    system, place = _system(section, False), place_of(selection.question, section.name)
    images: dict[str, Any] = {}
    for name in list(found):
        image = found[name]
        if place is not None:
            xmin, ymin, xmax, ymax = place.bounds
            image = sd.bounding_box_query(
                image,
                axes=("x", "y"),
                min_coordinate=[xmin, ymin],
                max_coordinate=[xmax, ymax],
                target_coordinate_system=system,
            )
        if image is None:
            continue
        if several:
            transformation = get_transformation(image, system)
            set_transformation(image, {_system(section, True): transformation}, set_all=True)
        images[f"{section.name}_{name}" if several else name] = image
    return images
