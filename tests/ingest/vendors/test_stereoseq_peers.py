"""The Stereo-seq reader beside spatialdata-io, and on a real chip beside pandas."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tisseract.ingest.partition import write_section
from tisseract.ingest.reader import ReadOptions, reader_for

from ...contracts import ids_of, matrix_of
from . import stereoseq_bundle as bundle
from .stereoseq_truth import CELLS, READER, TISSUE, dense, numbers, size


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_same_as_spatialdata_io(tmp_path: Path) -> None:
    """Differences: its bins are points at corners with ids by order, its mask is an image."""
    import anndata as ad

    stereoseq = pytest.importorskip("spatialdata_io").stereoseq
    folder = bundle.write_stereoseq(tmp_path / "saw", TISSUE, version=5)
    (folder / "051.cellcluster").mkdir()
    names = [str(k + 1) for k in range(TISSUE.n_cells)]
    table = ad.AnnData(
        TISSUE.whole().counts[:, : TISSUE.n_genes].astype(np.float32),
        obs=pd.DataFrame(index=names),
        var=pd.DataFrame(index=list(TISSUE.gene_names)),
    )
    table.write_h5ad(folder / "051.cellcluster" / f"{bundle.CHIP}.cell.cluster.h5ad")
    (folder / "02.count" / f"{bundle.CHIP}.gef").write_bytes(
        (folder / "02.count" / f"{bundle.CHIP}.raw.gef").read_bytes()
    )
    theirs = stereoseq(folder, optional_tif=True)
    cells = READER.open(folder, CELLS)
    own = theirs.tables["cells_table"]
    assert ids_of(cells) == own.obs_names.tolist()
    assert (matrix_of(cells).toarray() == own.X.toarray()).all()
    assert (cells.positions == own.obsm["spatial"]).all()
    for name in ("geneCount", "expCount", "dnbCount", "area", "cellExon"):
        assert (numbers(cells, name) == own.obs[name].to_numpy()).all()
    rings: Any = cells.shapes
    piece = next(iter(rings.pieces()))
    polygon = theirs.shapes["cells_polygons"].geometry.iloc[7]
    assert piece.vertices[84:96] == pytest.approx(np.array(polygon.exterior.coords)[:12])
    bins, square = READER.open(folder, ReadOptions()), theirs.tables["bin50_table"]
    points = theirs.points["bin50_genes"].compute()
    order = np.lexsort((points["y"], points["x"]))
    assert (bins.positions - 25 == points[["x", "y"]].to_numpy()[order]).all()
    place = [list(TISSUE.gene_names).index(name) for name in square.var_names]
    assert (dense(bins)[:, place] == square.X.toarray()[order]).all()
    for name, image in theirs.images.items():
        mine: Any = cells.images.get(name) or cells.labels[name]
        with mine.open() as pixels:
            assert (
                pixels.shape == (image if hasattr(image, "shape") else image["scale0"].image).shape
            )


@pytest.mark.real
def test_real_gem(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "vendor" / "stereoseq_gem" / "SS200000135TL_D1_bin1_small.gem.gz"
    assert reader_for(path).format == "stereoseq"
    assert reader_for(path.parent).format == "stereoseq"
    with gzip.open(path, "rt") as file:
        table = pd.read_csv(file, sep="\t", keep_default_na=False)
    for n in (1, 50):
        raw = READER.open(path, size(n))
        matrix = matrix_of(raw, 2**20)
        keys = [table.x // n, table.y // n, table.geneID]
        assert matrix.sum() == table.MIDCounts.sum() == 131_002
        assert matrix.nnz == table.groupby(keys).ngroups
        assert raw.n_obs == table.groupby(keys[:2]).ngroups
        by_gene = dict(zip(raw.panel.gene_id, matrix.sum(axis=0).A1, strict=True))
        assert by_gene == table.groupby("geneID").MIDCounts.sum().to_dict()
        assert raw.positions.min(axis=0).tolist() == [
            table.x.min() // n * n + n // 2, table.y.min() // n * n + n // 2,
        ]  # fmt: skip
    summary = write_section(
        READER.open(path, ReadOptions()), tmp_path / "section", memory_limit=2**29
    )
    assert summary.n_obs == 36
    assert summary.um_per_unit == 0.5
