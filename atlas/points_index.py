"""What lies beside the rows of a points element: its attributes and the section's own index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .points import PointsSource, index_path
from .section_shards import write_array
from .section_write import group

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["write_element", "write_index"]


def write_element(folder: Path, source: PointsSource, axes: Sequence[str], system: str) -> None:
    """Write the attributes of the points element at `folder`.

    Parameters
    ----------
    folder : Path
        The element, `points/<name>` of the container.
    source : PointsSource
        Names the columns of the gene and of the cell.
    axes : sequence of str
        Columns of the coordinates.
    system : str
        Coordinate system that the points lie in, `microns` or `source_units`.
    """
    unit = "micrometer" if system == "microns" else "unit"
    described = [{"name": axis, "type": "space", "unit": unit} for axis in axes]
    transformation = {
        "type": "identity",
        "input": {"name": "".join(axes), "axes": described},
        "output": {"name": system, "axes": described},
    }
    keys = {"feature_key": source.feature_key, "instance_key": source.instance_key}
    group(
        folder,
        **{
            "encoding-type": "ngff:points",
            "axes": list(axes),
            "coordinateTransformations": [transformation],
            "spatialdata_attrs": {"version": "0.2"} | {k: v for k, v in keys.items() if v},
        },
    )


def write_index(
    section: Path,
    name: str,
    feature_counts: Mapping[str, int],
    *,
    bounds: Sequence[NDArray[np.float64]],
    rows: Sequence[int],
    nbytes: Sequence[int],
) -> dict[str, dict[str, object]]:
    """Write the index of `points/<name>`: box, first row and size of each row group, and genes.

    Parameters
    ----------
    section : Path
        Root folder of the container.
    name : str
        Element name.
    feature_counts : mapping of str to int
        Points of each gene, in order of the genes' numbers.
    bounds : sequence of (4,) float64
        xmin, ymin, xmax, ymax of each row group.
    rows, nbytes : sequence of int
        Points and compressed bytes of each row group.

    Returns
    -------
    dict
        The arrays of the index, for the section's list.
    """
    path = index_path(name)
    group(
        section / path,
        features=list(feature_counts),
        feature_counts=list(feature_counts.values()),
    )
    arrays: dict[str, NDArray[Any]] = {
        "bounds": np.stack(bounds),
        "ptr": np.concatenate([[0], np.cumsum(rows)]).astype(np.int64),
        "nbytes": np.asarray(nbytes, np.int64),
    }
    layouts: dict[str, dict[str, object]] = {}
    for key, values in arrays.items():
        write_array(section / path / key, values)
        n = max(1, values.shape[0])
        shape, dtype = list(values.shape), values.dtype.name
        layouts[f"{path}/{key}"] = {"shape": shape, "dtype": dtype, "chunk": n, "shard": n}
    return layouts
