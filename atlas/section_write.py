"""The container around a section's arrays: group metadata as SpatialData and AnnData expect it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .codecs import seal
from .section_columns import StringValues
from .section_shards import write_node, write_text

if TYPE_CHECKING:
    from .panel import Panel

__all__ = [
    "INSTANCE_KEY",
    "REGION",
    "REGION_KEY",
    "SECTION_FORMAT",
    "consolidate",
    "coordinate_system",
    "encoded",
    "group",
    "write_container",
    "write_features",
    "write_index",
    "write_strings",
    "write_table_frame",
    "write_var",
]

SECTION_FORMAT = 1
"""Version of the layout under `tisseract/`."""
REGION = "cells"
"""Name of the shapes element that the table annotates."""
REGION_KEY = "spatialdata_region"
"""Obs column that SpatialData wants: the element of each row. Long, so that no column clashes."""
INSTANCE_KEY = "spatialdata_instance"
"""Obs column that SpatialData wants: the row's index in the element; here its row number."""

_TABLE = "table"


def coordinate_system(um_per_unit: float | None) -> str:
    """Name of the coordinate system of a section's elements."""
    return "source_units" if um_per_unit is None else "microns"


def group(folder: Path, **attributes: object) -> None:
    """Write a Zarr group with its attributes."""
    write_node(folder, {"zarr_format": 3, "node_type": "group", "attributes": attributes})


def encoded(kind: str, encoding_version: str = "0.1.0", **more: object) -> dict[str, object]:
    """Attributes that tell AnnData how an element is encoded."""
    return {"encoding-type": kind, "encoding-version": encoding_version, **more}


def write_container(path: Path) -> None:
    """Write the root and element-type groups of a SpatialData 0.2 container."""
    try:
        software = version("spatialdata")
    except PackageNotFoundError:
        software = "0.8.0"
    group(path, spatialdata_attrs={"version": "0.2", "spatialdata_software_version": software})
    group(path / "tables")
    group(path / "shapes")


def write_table_frame(path: Path, shape: tuple[int, int], name: str = _TABLE) -> None:
    """Write the groups of a table around X, obs and var, which are written elsewhere."""
    table = path / "tables" / name
    keys = {"region": REGION, "region_key": REGION_KEY, "instance_key": INSTANCE_KEY}
    extra = {"spatialdata-encoding-type": "ngff:regions_table", "version": "0.2", **keys}
    group(table, **encoded("anndata"), **extra)
    for part in ("layers", "obsm", "obsp", "varm", "varp", "uns", "uns/spatialdata_attrs"):
        group(table / part, **encoded("dict"))
    for key, value in keys.items():
        _write_scalar(table / "uns" / "spatialdata_attrs" / key, value)
    group(table / "X", **encoded("csr_matrix", shape=list(shape)))


def _write_scalar(folder: Path, value: str) -> None:
    """Write a string scalar, as AnnData stores one (shape (), vlen-utf8)."""
    node = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [],
        "data_type": "string",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": []}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": "",
        "codecs": [{"name": "vlen-utf8", "configuration": {}}, {"name": "crc32c"}],
        "attributes": encoded("string", "0.2.0"),
        "storage_transformers": [],
    }
    text = value.encode()
    write_node(folder, node)
    head = np.array([1, len(text)], "<u4").tobytes()
    (folder / "c").write_bytes(seal(head + text))


def write_strings(folder: Path, values: Sequence[str]) -> None:
    """Write strings that are in memory in AnnData's `string-array` encoding."""
    strings = StringValues.from_strings(np.asarray(values, dtype=object))
    write_text(folder, strings, attributes=encoded("string-array", "0.2.0"))


def write_var(path: Path, panel: Panel) -> None:
    """Write var: index = gene names as given; columns gene_id, symbol and feature_type."""
    columns = {
        "gene_id": panel.gene_id.tolist(),
        "symbol": panel.symbol.tolist(),
        "feature_type": panel.feature_type.tolist(),
    }
    write_features(path, _TABLE, panel.name.tolist(), columns)


def write_features(
    path: Path, name: str, index: Sequence[str], columns: Mapping[str, Sequence[str]]
) -> None:
    """Write var of a table: an index and columns of text."""
    var = path / "tables" / name / "var"
    order = {"column-order": list(columns), "_index": "_index"}
    group(var, **encoded("dataframe", "0.2.0"), **order)
    for column, values in {"_index": index, **columns}.items():
        write_strings(var / column, values)


def write_index(path: Path, attributes: Mapping[str, Any]) -> None:
    """Write the root group of the section's own index, last of all its parts.

    Its attributes hold all that opening a section needs: one small object, one request.
    """
    group(path / "tisseract", **attributes)


def consolidate(path: Path) -> None:
    """Gather all metadata into the root's `zarr.json`, as readers of buckets want it."""
    root = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
    nodes = {}
    for file in sorted(path.rglob("zarr.json")):
        name = file.parent.relative_to(path).as_posix()
        if name != ".":
            node = json.loads(file.read_text(encoding="utf-8"))
            node.pop("consolidated_metadata", None)
            nodes[name] = node
    root["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": nodes}
    write_node(path, root)
