"""Simulated Xenium outputs read like spatialdata-io reads them; every difference is named here.

Differences, all on purpose:

- spatialdata-io leaves out controls (`gex_only`) and proteins; here they are tables of their own.
- Its coordinates are pixels of the morphology image; here they are micrometers.
- It keeps `UNASSIGNED` or -1 as the cell of transcripts outside cells; here the cell is missing.
- Its cell boundaries are named by id; here they have the order of the table.
- It leaves out the nuclei of releases that write two nuclei of a cell as one ring without a label;
  here the ring is cut where it closes.
- It numbers the channel of images of 1.x; here it is called DAPI.
- It takes transforms of masks to be the identity; here they are those of `cells.zarr.zip`.
- It knows no cut images, and places them at the origin; here they are registered or left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ...contracts import ids_of, matrix_of
from .tissue import SimTissue
from .xenium_bundle import write_xenium
from .xenium_checks import column, molecules, opened, outlines, plane_of, rings

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

TISSUE = SimTissue(300, n_genes=40, mean_counts=25, seed=8)
PIXEL = 0.7


@pytest.mark.parametrize(
    ("version", "stains", "proteins"),
    [("1", 1, 0), ("1.4", 1, 0), ("2", 4, 0), ("3", 1, 0), ("4", 4, 2)],
)
def test_same_as_spatialdata_io(tmp_path: Path, version: str, stains: int, proteins: int) -> None:
    peer_reader = pytest.importorskip("spatialdata_io")
    path = write_xenium(
        tmp_path / "out", TISSUE, version=version, stains=stains, proteins=proteins,
        pixel_um=PIXEL, he=True, compression="zlib",
    )  # fmt: skip
    peer, raw = peer_reader.xenium(path), opened(path)
    same_table(peer.tables["table"], raw)
    same_molecules(peer.points["transcripts"].compute(), molecules(raw), version)
    same_shapes(peer.shapes, raw)
    same_rasters(peer, raw)


def same_table(table: Any, raw: Any) -> None:
    assert table.obs["cell_id"].astype(str).tolist() == ids_of(raw)
    assert table.var["gene_ids"].tolist() == raw.panel.name.tolist()
    assert table.var_names.tolist() == raw.panel.symbol.tolist()
    np.testing.assert_allclose(table.obsm["spatial"], raw.positions)
    genes = np.setdiff1d(
        np.arange(raw.counts.n_vars), np.concatenate([a.columns for a in raw.apart.values()])
    )
    assert (matrix_of(raw)[:, genes] != table.X).nnz == 0
    for name in set(table.obs) - {"cell_id", "region"}:
        theirs = table.obs[name].to_numpy()
        if theirs.dtype.kind in "iuf":
            np.testing.assert_allclose(column(raw, name).astype(float), theirs.astype(float))
        else:
            assert column(raw, name).tolist() == table.obs[name].astype(object).tolist()


def same_molecules(theirs: pd.DataFrame, ours: pd.DataFrame, version: str) -> None:
    assert set(theirs) == set(ours)
    theirs = theirs.set_index("transcript_id").sort_index()
    ours = ours.set_index("transcript_id").sort_index()
    for name in ours:
        if name == "cell_id":
            nobody = -1 if version == "1" else "UNASSIGNED"
            words = [w.decode() if isinstance(w, bytes) else w for w in theirs[name]]
            known = [None if word == nobody else str(word) for word in words]
            assert ours[name].astype(object).fillna("-").tolist() == [w or "-" for w in known]
        elif ours[name].dtype.kind in "iufb":
            np.testing.assert_allclose(ours[name], theirs[name])
        else:
            words = [w.decode() if isinstance(w, bytes) else w for w in theirs[name]]
            own = [w.decode() if isinstance(w, bytes) else w for w in ours[name]]
            assert own == words


def same_shapes(shapes: Any, raw: Any) -> None:
    cells = shapes["cell_boundaries"]
    assert [str(one) for one in cells.index] == ids_of(raw)
    ours = rings(raw)
    for row, shape in enumerate(cells.geometry):
        np.testing.assert_array_equal(np.asarray(shape.exterior.coords), ours[row])
    nuclei, found = shapes["nucleus_boundaries"], outlines(raw)
    assert [a.wkb for a in nuclei.geometry] == [b.wkb for b in found["geometry"]]
    names = nuclei.get("cell_id", nuclei.index)
    assert [str(one) for one in names] == found["cell_id"].tolist()


def same_rasters(peer: Any, raw: Any) -> None:
    assert set(peer.images) == set(raw.images)
    assert set(peer.labels) == set(raw.labels)
    for name, image in raw.images.items():
        theirs = peer.images[name]["scale0"]["image"]
        with image.open() as pixels:
            assert tuple(theirs.shape) == pixels.shape
            names = [str(c) for c in theirs.coords["c"].to_numpy()]
            assert ["DAPI" if one == "0" else one for one in names] == list(pixels.channels)
        np.testing.assert_array_equal(theirs.to_numpy()[0], plane_of(image))
        _same_place(peer.images[name], image, name)
    for name, labels in raw.labels.items():
        theirs = peer.labels[name]["scale0"]["image"]
        np.testing.assert_array_equal(theirs.to_numpy(), plane_of(labels))
        _same_place(peer.labels[name], labels, name)


def _same_place(element: Any, image: Any, name: str) -> None:
    """Their pixels of the morphology image are our micrometers."""
    from spatialdata.transformations import get_transformation

    theirs = get_transformation(element, "global").to_affine_matrix(("x", "y"), ("x", "y"))
    ours = np.vstack([image.affine, [0, 0, 1]])
    np.testing.assert_allclose(ours, np.diag([PIXEL, PIXEL, 1]) @ theirs, rtol=1e-6, err_msg=name)
