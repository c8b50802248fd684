"""The derived kind `regions`: named polygons of one section, as GeoParquet."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .derived import Provenance, write_provenance
from .errors import Corrupt, MissingKey
from .manifest import digest_bytes
from .snapshot import DerivedEntry

if TYPE_CHECKING:
    from .derived import Home
    from .store import AtlasStore

KIND = "regions"
# Names that a snapshot lists itself; of more, the file is opened to look for one.
LISTED = 64
_LARGEST = 512 * 2**20


@dataclass(frozen=True, slots=True)
class NamedPolygons:
    """Polygons in the coordinates of one section, each with a name; names may repeat."""

    names: tuple[str, ...]
    polygons: tuple[Any, ...]
    """Shapely geometries."""

    def area_of(self) -> dict[str, float]:
        """Area of each name, in squared units, ascending by name; overlaps count once."""
        from .polygons import united

        parts: dict[str, list[Any]] = {}
        for name, polygon in zip(self.names, self.polygons, strict=True):
            parts.setdefault(name, []).append(polygon)
        return {name: float(united(parts[name]).area) for name in sorted(parts)}


def write_regions(
    store: "Home",
    key: str,
    section: str,
    regions: NamedPolygons,
    *,
    ontology: Sequence[tuple[str, str, str]] | None,
    parameters: Mapping[str, Any],
) -> DerivedEntry:
    """Write and seal the regions of one section; not committed.

    Parameters
    ----------
    store
        Opened for writing.
    key, section
        Where they belong.
    regions
        What to write.
    ontology
        Rows of name, id and parent's name ("" without), or None.
    parameters
        For the provenance.
    """
    areas = regions.area_of()
    text = None if ontology is None else json.dumps([list(row) for row in ontology]) + "\n"
    info: dict[str, Any] = {
        "n_regions": len(areas),
        "ontology": None if text is None else digest_bytes(text.encode()),
    }
    if len(areas) <= LISTED:
        info["regions"] = [[name, area] for name, area in areas.items()]
    inputs = {f"section:{section}": store.section(section).attempt}
    with store.new_attempt(f"derived/{KIND}/{key}/{section}") as attempt:
        (attempt.path / "regions.parquet").write_bytes(_encoded(regions))
        if text is not None:
            (attempt.path / "ontology.json").write_text(text, encoding="utf-8")
        write_provenance(store, Provenance(inputs, parameters), attempt.path)
        receipt = attempt.seal()
    return DerivedEntry(
        KIND,
        key,
        section,
        receipt.attempt,
        receipt.digest,
        receipt.nbytes,
        inputs=inputs,
        info=info,
    )


def _encoded(regions: NamedPolygons) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq
    import shapely

    geometry = {"encoding": "WKB", "crs": None, "geometry_types": ["Polygon", "MultiPolygon"]}
    geo = {"primary_column": "geometry", "columns": {"geometry": geometry}, "version": "1.1.0"}
    columns = [
        pa.array(regions.names, pa.string()),
        pa.array(shapely.to_wkb(list(regions.polygons)), pa.binary()),
    ]
    schema = pa.schema(
        [("name", pa.string()), ("geometry", pa.binary())], metadata={"geo": json.dumps(geo)}
    )
    target = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), target, compression="zstd")
    return target.getvalue()


def read_regions(store: "AtlasStore", entry: DerivedEntry) -> NamedPolygons:
    """Read the regions of one section, checked: one request of the whole file.

    Raises
    ------
    Corrupt
        The file is missing or damaged, or holds what is no valid polygon with a name.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    import shapely

    from .polygons import checked

    try:
        data = store.storage.get(f"{entry.prefix}/regions.parquet", max_bytes=_LARGEST)
        table = pq.read_table(pa.BufferReader(data), columns=["name", "geometry"])
        names = table.column("name").to_pylist()
        found = shapely.from_wkb(table.column("geometry").to_numpy(zero_copy_only=False))
        polygons = tuple(checked(one, f" (row {i + 1})") for i, one in enumerate(found))
    except MissingKey as error:
        raise _corrupt(entry, "its file is missing") from error
    except (
        pa.ArrowException, OSError, ValueError, TypeError, KeyError, shapely.errors.ShapelyError,
    ) as error:  # fmt: skip
        raise _corrupt(entry, f"its file is damaged ({error})") from error
    if not all(isinstance(name, str) for name in names):
        raise _corrupt(entry, "its file has rows without a name")
    return NamedPolygons(tuple(names), polygons)


def read_ontology(store: "AtlasStore", entry: DerivedEntry) -> list[tuple[str, str, str]]:
    """Rows of name, id and parent of the ontology written with some regions; [] without one."""
    if entry.info.get("ontology") is None:
        return []
    try:
        data = store.storage.get(f"{entry.prefix}/ontology.json", max_bytes=_LARGEST)
        return [(str(name), str(code), str(parent)) for name, code, parent in json.loads(data)]
    except MissingKey as error:
        raise _corrupt(entry, "its ontology is missing") from error
    except (ValueError, TypeError) as error:
        raise _corrupt(entry, "its ontology is damaged") from error


def region_areas(store: "AtlasStore", entry: DerivedEntry) -> dict[str, float]:
    """Area of each region of one section; reads nothing where the snapshot lists them."""
    listed = entry.info.get("regions")
    if listed is None:
        return read_regions(store, entry).area_of()
    return {str(name): float(area) for name, area in listed}


def _corrupt(entry: DerivedEntry, why: str) -> Corrupt:
    return Corrupt(
        f"{entry.name!r} cannot be read, {why}; run `tisseract verify`, then annotate it again"
    )
