"""MERSCOPE: the real crop against independent counts and its own images; spatialdata-io; damage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import shapely
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from tisseract.atlas.image_sources import LazyImage
from tisseract.ingest.reader import ReadOptions
from tisseract.ingest.source import RawSection

from ...contracts import ids_of, matrix_of
from .merscope_bundle import KINDS, MerscopeStyle, blank_names, write_merscope
from .mutants import run_mutants, wanted
from .test_merscope import READER, molecules, opened
from .test_merscope_parts import affine_of, pixels_of, rings_of
from .tissue import SimTissue


@pytest.fixture(scope="module")
def crop(real_data: Path) -> Path:
    return real_data / "vendor/merscope_crop"


@pytest.mark.real
def test_totals_of_the_crop_are_those_of_pandas(crop: Path) -> None:
    raw, table = opened(crop), pd.read_csv(crop / "cell_by_gene.csv", index_col=0)
    counts = matrix_of(raw)
    assert counts.shape == table.shape == (1058, 88)
    assert ids_of(raw) == table.index.astype(str).tolist()
    blank = table.columns.str.startswith("Blank-")
    assert raw.panel.gene_id.tolist() == table.columns[~blank].tolist()
    assert raw.apart["controls"].names == tuple(table.columns[blank])
    assert (counts.toarray() == table.to_numpy()).all()
    metadata = pd.read_csv(crop / "cell_metadata.csv").set_index("EntityID").loc[table.index]
    np.testing.assert_array_equal(raw.positions, metadata[["center_x", "center_y"]])
    spots = pd.read_csv(crop / "detected_transcripts.csv")
    read = molecules(raw)
    assert len(read) == len(spots) == 11135
    assert read["gene"].value_counts().to_dict() == spots["gene"].value_counts().to_dict()
    np.testing.assert_array_equal(
        read[["x", "y", "z"]], spots[["global_x", "global_y", "global_z"]]
    )


@pytest.mark.real
def test_outlines_of_the_crop_lie_around_their_cells(crop: Path) -> None:
    raw = opened(crop)
    rings = rings_of(raw)
    assert len(rings) == 1058
    shapes = np.array([shapely.Polygon(rings[row]) for row in range(1058)])
    centers = shapely.get_coordinates(shapely.centroid(shapes))
    # The crop cut outlines at its frame, but kept the centers of whole cells.
    low, high = np.array([6510.0, 1210.0]), np.array([6790.0, 1490.0])
    inner = ((raw.positions > low) & (raw.positions < high)).all(axis=1)
    assert inner.sum() == 883
    assert np.abs(centers - raw.positions)[inner].max() < 0.1


@pytest.mark.real
def test_both_kinds_of_boundaries_of_the_crop_agree(crop: Path) -> None:
    whole, part = rings_of(opened(crop)), rings_of(opened(crop, boundaries="hdf5"))
    assert len(part) == 80
    total = 0
    for path in sorted((crop / "cell_boundaries").iterdir()):
        with h5py.File(path) as file:
            total += sum(
                cell["zIndex_3/p_0/coordinates"].shape[1] for cell in file["featuredata"].values()
            )
    assert sum(len(ring) for ring in part.values()) == total
    shared = [(shapely.Polygon(whole[row]), shapely.Polygon(part[row])) for row in part]
    overlap = [a.intersection(b).area / a.union(b).area for a, b in shared]
    assert min(overlap) > 0.99


def texture(image: NDArray[Any]) -> NDArray[np.float64]:
    """Structure of the size of cells."""
    plain = image.astype(np.float64)
    return np.asarray(gaussian_filter(plain, 2) - gaussian_filter(plain, 20))


def density(
    points: NDArray[np.float64], affine: NDArray[np.float64], shape: tuple[int, int]
) -> NDArray[np.float64]:
    at = np.linalg.solve(affine[:, :2], (points - affine[:, 2]).T).T
    counted, _, _ = np.histogram2d(
        at[:, 1], at[:, 0], bins=[np.arange(shape[0] + 1), np.arange(shape[1] + 1)]
    )
    return np.asarray(gaussian_filter(counted, 3) - gaussian_filter(counted, 30))


def correlation(raw: RawSection, change: NDArray[np.float64], *, swap: bool = False) -> float:
    """Of the transcripts with a membrane stain: both are dense in the same places."""
    image, affine = pixels_of(raw, "mosaic_z3")[0], affine_of(raw, "mosaic_z3")
    points = molecules(raw)[["x", "y"]].to_numpy()
    seen = texture(image.T if swap else image)
    there = density(points, affine * change, (image.shape[0], image.shape[1]))
    return float(np.corrcoef(seen.ravel(), there.ravel())[0, 1])


@pytest.mark.real
def test_images_of_the_crop_lie_under_its_transcripts(crop: Path) -> None:
    raw = opened(crop)
    image = raw.images["mosaic_z3"]
    assert isinstance(image, LazyImage)
    with image.open() as pixels:
        assert tuple(pixels.channels) == ("Cellbound1", "Cellbound2", "Cellbound3", "DAPI", "PolyT")
    same = np.ones((2, 3))
    assert correlation(raw, same) > 0.3
    assert correlation(raw, same, swap=True) < 0.1
    assert correlation(raw, np.array([[1.05, 1, 1], [1, 1.05, 1]])) < 0.2
    # The manifest says 0.108 um a pixel; the images were made four times smaller since.
    facts = json.loads((crop / "images/manifest.json").read_text())
    left, top, right, bottom = facts["bbox_microns"]
    affine = affine_of(raw, "mosaic_z3")
    np.testing.assert_allclose(affine @ [0, 0, 1], [left, top], atol=0.01)
    np.testing.assert_allclose(affine @ [695, 695, 1], [right, bottom], atol=0.01)


@pytest.mark.slow
def test_spatialdata_io_reads_the_same(tmp_path: Path) -> None:
    """Same cells, genes, counts, transcripts, outlines and image shapes.

    Differences: it keeps coordinates in pixels of the mosaics (`global`), micrometers inside the
    elements; takes the outlines of plane 0; matches counts and metadata by their order, so that
    the bundle must not shuffle; puts blanks into `obsm`. Its table cannot be built with AnnData
    0.13 (`dtype` is no argument any more); what it would hold is built here from its own steps.
    """
    from spatialdata_io import merscope  # type: ignore[import-untyped]

    tissue = SimTissue(150, n_genes=40, mean_counts=20, seed=9)
    style = MerscopeStyle(um_per_px=1.0, image_planes=(3,), shuffle=False)
    folder = write_merscope(tmp_path / "run" / "region_0", tissue, style)
    raw = opened(folder)
    theirs = merscope(folder, cells_table=False, backend="dask_image")
    image = theirs.images["run_region_0_z3"]["scale0"].image
    assert image.shape == pixels_of(raw, "mosaic_z3").shape
    order = [str(one) for one in image.coords["c"].to_numpy()]
    ours = {"DAPI": 0, "PolyT": 1}
    wanted = pixels_of(raw, "mosaic_z3")[[ours[name] for name in order]]
    np.testing.assert_array_equal(image.to_numpy(), wanted)
    points = theirs.points["run_region_0_transcripts"].compute()
    read = molecules(raw)
    np.testing.assert_allclose(read[["x", "y", "z"]], points[["x", "y", "z"]], rtol=1e-6)
    assert read["gene"].tolist() == points["gene"].astype(str).tolist()
    shapes = theirs.shapes["run_region_0_polygons"]
    assert shapes.index.tolist() == ids_of(raw)
    area = [shapely.Polygon(ring).area for _, ring in sorted(rings_of(raw).items())]
    np.testing.assert_allclose(shapes.geometry.area, area)
    counts = pd.read_csv(folder / "cell_by_gene.csv", index_col=0, dtype={"cell": str})
    genes = counts.loc[:, ~counts.columns.str.lower().str.contains("blank")]
    assert genes.index.tolist() == ids_of(raw)
    assert genes.columns.tolist() == raw.panel.gene_id.tolist()
    assert (matrix_of(raw)[:, :40].toarray() == genes.to_numpy()).all()
    assert len(blank_names(tissue)) == counts.shape[1] - genes.shape[1]
    obs = pd.read_csv(folder / "cell_metadata.csv", index_col=0)
    np.testing.assert_allclose(raw.positions, obs[["center_x", "center_y"]])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=[name for name, _, _ in KINDS])
def test_mutants(tmp_path: Path, kind: tuple[str, Any, str]) -> None:
    _, write, file = kind
    folder = write(tmp_path / "whole")
    report = run_mutants(folder, file, READER, ReadOptions(), tmp_path / "work", n=wanted(10))
    assert not report.failures, "\n".join(report.failures[:5])
