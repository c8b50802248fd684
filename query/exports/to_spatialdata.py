"""A selection as one plain SpatialData object."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.memory import parse_bytes, refuse_above
from ..cells.empty import EmptyAnswerWarning, nothing_found
from ..cells.rows import RunArray, count, rows_of, within
from ..expression.choice import settle
from ..expression.mixture import told_apart, warn_mixed
from ..geometry.by_section import place_of
from ..points.elements import outlines_of, points_of, rasters_of
from ..tables.obs import obs_table, stale_note
from ..tables.positions import positions_of
from ..telling import tell
from .embeddings import choose_embeddings, join_derived
from .graphs import graph_bytes, selected_graph
from .to_anndata import WAYS_OUT, aligned, describe, stack

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from ...atlas.section import Section
    from ...atlas.store import AtlasStore
    from ..cells.selection import Selection
    from ..expression.choice import GeneChoice

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
    import spatialdata as sd
    from spatialdata.models import TableModel

    sections = list(selection.runs)
    limit = parse_bytes(memory_limit)
    what = f"a SpatialData of up to {selection.n_obs_bound:,} cells x {selection.n_vars:,} genes"
    edges = 0 if graph is None else graph_bytes(selection, graph)
    found = choose_embeddings(selection, sections, embeddings)
    more = edges + 2 * selection.n_obs * found.row_bytes
    refuse_above(limit, selection.plan.peak_bytes + more, what, WAYS_OUT)
    choice, _ = settle(
        selection.genes,
        sections,
        asked=selection.question.genes is not None,
        join="outer",
        missing=None,
    )
    parts = selection.parts()
    entries = [section.entry for section, _ in parts]
    warn_mixed(entries)
    if not parts and selection.question.place is None:  # of a place it is told when found
        tell(nothing_found(selection), EmptyAnswerWarning)
    obs = told_apart(obs_table(selection), entries)
    elements = _Elements(selection, several=len(parts) > 1)
    start = 0
    for section, runs in parts:
        stop = start + count(runs)
        elements.add(section, runs, obs.index[start:stop], memory_limit)
        start = stop
    table = _table(selection, choice, obs, elements.region)
    join_derived(selection, table, found, confidence=confidence)
    if graph is not None:
        selected_graph(selection, graph).add_to(table, graph)
    if parts:
        regions = list(dict.fromkeys(elements.region))
        table = TableModel.parse(
            table,
            region=regions if len(regions) > 1 else regions[0],
            region_key=REGION_KEY,
            instance_key=INSTANCE_KEY,
        )
    return sd.SpatialData(
        images=elements.images,
        labels=elements.labels,
        points=elements.points,
        shapes=elements.shapes,
        tables={"table": table},
    )


@dataclass(slots=True)
class _Elements:
    """What lies beside the table, by name; with the section in it where there are several."""

    selection: "Selection"
    several: bool
    images: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, Any] = field(default_factory=dict)
    points: dict[str, Any] = field(default_factory=dict)
    shapes: dict[str, Any] = field(default_factory=dict)
    region: list[str] = field(default_factory=list)
    """Element of the shape of each cell."""

    def add(
        self, section: "Section", runs: RunArray, ids: Any, memory_limit: str | int | None
    ) -> None:
        """Add the elements of one section, whose cells are named by ids."""
        selection, several = self.selection, self.several
        head, system = f"{section.name}_" if several else "", _system(section, several)
        cells = f"{head}cells"
        self.shapes[cells] = _shapes(selection.store, section, runs, ids, several)
        self.region += [cells] * len(ids)
        self.images |= _images(selection, section, several, "images")
        self.labels |= _images(selection, section, several, "labels")
        points = points_of(selection, section, system)
        self.points |= {f"{head}{name}": one for name, one in points.items()}
        outlines = outlines_of(selection, section, system, memory_limit)
        self.shapes |= {f"{head}{name}": one for name, one in outlines.items()}


def _table(selection: "Selection", choice: "GeneChoice", obs: Any, region: list[str]) -> Any:
    """Read counts, obs and positions; every section keeps its panel."""
    import anndata as ad

    obsm: dict[str, Any] = {**positions_of(selection)}
    varm: dict[str, Any] = {"measured": choice.presence()}
    return ad.AnnData(
        X=stack([aligned(s, runs, choice) for s, runs in selection.parts()], len(choice)),
        obs=_annotated(obs, region),
        var=choice.var(),
        obsm=obsm,
        varm=varm,
        uns={"tisseract": describe(selection) | stale_note(obs)},
    )


def _annotated(obs: Any, region: list[str]) -> Any:
    import pandas as pd

    # Names with a colon are fine for AnnData, not for an element of a SpatialData store.
    obs = obs.rename(columns={name: name.replace(":", "_") for name in obs.columns})
    obs[REGION_KEY] = pd.Categorical(region)
    obs[INSTANCE_KEY] = obs.index.to_numpy()
    return obs


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
