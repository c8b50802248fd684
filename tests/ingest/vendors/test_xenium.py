"""The Xenium reader: releases and layouts, cells, features, and what it refuses."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tisseract.atlas.errors import InputError
from tisseract.ingest.reader import Reader, ReadOptions, reader_for
from tisseract.ingest.source import CategoricalValues, NumericValues
from tisseract.ingest.vendors.xenium_files import version_numbers

from ...contracts import ReaderContract, ids_of, matrix_of
from .tissue import SimTissue
from .xenium_bundle import PROTEIN_SCALE, Features, cell_ids, write_xenium
from .xenium_checks import READER, column, notes_of, opened
from .xenium_small import BLOCK, PLAIN, TISSUE, faults, write

LAYOUTS: dict[str, dict[str, Any]] = {
    "1": {"version": "1"},
    "1.4 text": {"version": "1.4", "text": True, "matrix": ("mtx",), "cells_zip": False},
    "3 zarr": {"version": "3", "matrix": ("zarr",)},
    "4": {"version": "4", "boundaries": False},
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output of release 3; tests that change it copy it."""
    return write(tmp_path_factory.mktemp("xenium"))


@pytest.fixture
def own(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / bundle.name))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("layouts")
    return {name: write(base / name, **more) for name, more in LAYOUTS.items()}


class TestContract(ReaderContract):
    @pytest.fixture(params=list(LAYOUTS))
    def layout(self, request: pytest.FixtureRequest) -> Any:
        return request.param

    @pytest.fixture
    def reader(self) -> Reader:
        return READER

    @pytest.fixture
    def source(self, made: dict[str, Path], layout: str, tmp_path: Path) -> Path:
        return Path(shutil.copytree(made[layout], tmp_path / "output"))

    @pytest.fixture
    def truth(self, layout: str) -> Mapping[str, Any]:
        return {
            "counts": np.asarray(BLOCK.counts.todense()),
            "positions": BLOCK.positions_um,
            "ids": cell_ids(np.arange(BLOCK.n), layout.split(maxsplit=1)[0]),
            "gene_ids": Features.of(TISSUE, layout.split(maxsplit=1)[0], 0).ids[: TISSUE.n_genes],
        }


class TestCells:
    def test_every_column_of_the_tables_is_kept(self, bundle: Path) -> None:
        raw = opened(bundle)
        table = pd.read_parquet(bundle / "cells.parquet")
        kept = [
            name for name in map(str, table) if name not in {"cell_id", "x_centroid", "y_centroid"}
        ]
        assert set(kept) <= set(raw.obs)
        for name in kept:
            found = column(raw, name)
            if table[name].dtype.kind in "if":
                np.testing.assert_allclose(found.astype(float), table[name].astype(float))
            else:
                assert found.tolist() == table[name].tolist()
        assert {"z_level", "nucleus_centroid_x", "cell_labels"} <= set(raw.obs)
        assert column(raw, "cell_labels").tolist() == list(range(1, 61))

    def test_order_of_the_tables_does_not_matter(self, own: Path) -> None:
        table = pd.read_parquet(own / "cells.parquet")
        more = pd.concat([table, table.iloc[:1].assign(cell_id="aaaaaaaa-9")])
        more.sample(frac=1.0, random_state=1).to_parquet(own / "cells.parquet")
        raw = opened(own)
        np.testing.assert_allclose(raw.positions, BLOCK.positions_um)
        assert column(raw, "total_counts").tolist() == table["total_counts"].tolist()
        assert "1 cells of cells.parquet left out" in notes_of(raw)

    def test_a_cell_without_a_place(self, own: Path) -> None:
        table = pd.read_parquet(own / "cells.parquet")
        table.loc[7, "y_centroid"] = np.inf
        table.to_parquet(own / "cells.parquet")
        told = f"cells.parquet cell {table['cell_id'][7]}: expected a finite centroid"
        assert told in faults(own)

    def test_cells_of_another_output(self, own: Path) -> None:
        table = pd.read_parquet(own / "cells.parquet")
        table["cell_id"] = table["cell_id"].str.replace("-1", "-2")
        table.to_parquet(own / "cells.parquet")
        told = faults(own)
        assert "none for 60 (" in told
        assert "different outputs" in told

    def test_a_zip_of_fewer_cells_leaves_their_values_missing(
        self, own: Path, tmp_path: Path
    ) -> None:
        fewer = SimTissue(50, n_genes=40, mean_counts=20, seed=3)
        other = write_xenium(tmp_path / "fewer", fewer, **PLAIN)
        shutil.copy(other / "cells.zarr.zip", own)
        raw = opened(own)
        values = raw.obs["cell_labels"].read()
        assert isinstance(values, NumericValues)
        assert values.mask is not None
        assert values.mask.tolist() == [k >= 50 for k in range(60)]
        assert values.values[:50].tolist() == list(range(1, 51))
        assert "cells.zarr.zip: 10 of 60 cells have no row" in notes_of(raw)

    @pytest.mark.parametrize("version", ["1", "1.4", "2"])
    def test_the_zip_alone_makes_cells(self, tmp_path: Path, version: str) -> None:
        path = write(tmp_path, version=version)
        (path / "cells.parquet").unlink()
        raw = opened(path)
        np.testing.assert_allclose(raw.positions, BLOCK.positions_um)
        assert ids_of(raw) == cell_ids(np.arange(60), version)
        assert {"cell_area", "nucleus_area", "z_level"} <= set(raw.obs)
        assert "positions and areas are those of cells.zarr.zip" in notes_of(raw)

    def test_a_zip_with_half_of_the_centroids_makes_none(self, own: Path) -> None:
        with zipfile.ZipFile(own / "cells.zarr.zip") as file:
            parts = {name: file.read(name) for name in file.namelist()}
        with zipfile.ZipFile(own / "cells.zarr.zip", "w") as file:
            for name, part in parts.items():
                file.writestr(name, part.replace(b"cell_centroid_y", b"cell_centroid_z"))
        (own / "cells.parquet").unlink()
        assert "expected cells.parquet" in faults(own)

    def test_clusters_of_the_instrument(self, own: Path) -> None:
        ids = cell_ids(np.arange(60), "3")
        folder = own / "analysis" / "clustering" / "gene_expression_kmeans_3_clusters"
        folder.mkdir(parents=True)
        rows = [f"{ids[k]},{k % 11 + 1}" for k in reversed(range(1, 60))]
        rows[0] = f"{ids[59]},"
        (folder / "clusters.csv").write_text("Barcode,Cluster\n" + "\n".join(rows) + "\n")
        raw = opened(own)
        values = raw.obs["gene_expression_kmeans_3_clusters"].read()
        assert isinstance(values, CategoricalValues)
        assert values.categories == tuple(map(str, range(1, 12)))
        found = column(raw, "gene_expression_kmeans_3_clusters")
        assert found[0] is None
        assert found[1:].tolist() == [*(str(k % 11 + 1) for k in range(1, 59)), None]
        (folder / "clusters.csv").write_text("Barcode,Group\naaaaaaaa-1,1\n")
        assert "columns Barcode and Cluster" in faults(own)


class TestFeatures:
    def test_controls_are_apart(self, bundle: Path) -> None:
        raw = opened(bundle)
        features = Features.of(TISSUE, "3", 0)
        assert list(raw.apart) == ["controls"]
        controls = raw.apart["controls"]
        assert list(controls.names) == features.names[TISSUE.n_genes :]
        assert {"Genomic Control", "Negative Control Probe"} <= set(controls.feature_types)
        assert "Aph1b/c" in raw.panel.symbol
        counts = matrix_of(raw)
        assert counts.sum() == BLOCK.counts.sum()
        assert counts[:, controls.columns].sum() == BLOCK.counts[:, TISSUE.n_genes :].sum()

    def test_controls_by_name_where_types_are_missing(self, tmp_path: Path) -> None:
        import gzip

        path = write(tmp_path, matrix=("mtx",))
        file = path / "cell_feature_matrix" / "features.tsv.gz"
        lines = gzip.decompress(file.read_bytes()).decode().splitlines()
        short = "".join("\t".join(line.split("\t")[:2]) + "\n" for line in lines)
        file.write_bytes(gzip.compress(short.encode()))
        assert len(opened(path).apart["controls"].names) == len(TISSUE.control_names)

    def test_proteins_are_intensities(self, tmp_path: Path) -> None:
        import h5py

        path = write(tmp_path, version="4", proteins=3)
        raw = opened(path)
        proteins = raw.apart["proteins"]
        assert proteins.names == ("CD3", "CD4", "CD5")
        with h5py.File(path / "cell_feature_matrix.h5") as file:
            total = file["matrix/data"][:].sum() - BLOCK.counts.sum()
        found = matrix_of(raw)[:, proteins.columns].sum()
        assert found == pytest.approx(total / PROTEIN_SCALE, rel=1e-5)
        assert matrix_of(raw)[:, : TISSUE.n_genes].sum() == BLOCK.counts[:, :40].sum()
        assert "proteins as" not in notes_of(raw)
        other = opened(write(tmp_path / "b", version="4", proteins=3, matrix=("zarr",)))
        assert matrix_of(other)[:, proteins.columns].sum() == total
        assert "proteins as cell_feature_matrix.zarr.zip has them" in notes_of(other)

    def test_panel_organism_and_its_contradiction(self, own: Path) -> None:
        assert opened(own).panel.organism == "mouse"
        assert opened(own).panel.completeness == "complete"
        assert opened(own, panel="partial").panel.completeness == "partial"
        said = json.loads((own / "experiment.xenium").read_text())
        (own / "experiment.xenium").write_text(json.dumps({**said, "panel_organism": "Human"}))
        raw = opened(own)
        assert raw.panel.organism == "mouse"
        assert "'Human', its genes are of mouse" in notes_of(raw)


class TestRun:
    def test_versions_panel_and_metrics_are_kept(self, bundle: Path) -> None:
        said = opened(bundle).provenance["vendor"]
        assert isinstance(said, dict)
        assert said["analysis_sw_version"] == "xenium-3.1.0.4"
        assert said["panel"]["targets"] == {"gene": 46}
        assert said["metrics"]["num_cells_detected"] == 60
        assert said["region_name"] == "Region_1"

    @pytest.mark.parametrize(
        ("text", "numbers"),
        [
            ("xenium-1.6.0.7", (1, 6, 0, 7)),
            ("Xenium-2.0.0.6-35-ga7e17149a", (2, 0, 0, 6)),
            ("R&D", ()),
            ("", ()),
            ("xenium-²", ()),
        ],
    )
    def test_texts_of_versions(self, text: str, numbers: tuple[int, ...]) -> None:
        assert version_numbers(text) == numbers

    @pytest.mark.parametrize("version", ["R&D", "xenium-9.0.0.1", "xenium-2.0.0.6-35-ga7e17149a"])
    def test_no_version_is_refused(self, own: Path, version: str) -> None:
        said = json.loads((own / "experiment.xenium").read_text())
        said["analysis_sw_version"] = version
        (own / "experiment.xenium").write_text(json.dumps(said))
        raw = opened(own)
        assert raw.n_obs == 60
        assert ("newer than those known" in notes_of(raw)) == ("9.0" in version)

    def test_without_a_run_file(self, own: Path) -> None:
        for name in ("experiment.xenium", "gene_panel.json", "metrics_summary.csv"):
            (own / name).unlink()
        raw = opened(own)
        assert raw.um_per_unit == 1.0
        assert "no experiment.xenium" in notes_of(raw)

    def test_broken_side_files_are_told_not_refused(self, own: Path) -> None:
        (own / "gene_panel.json").write_text("[1")
        (own / "metrics_summary.csv").write_text("a,b\n1\n")
        told = notes_of(opened(own))
        assert "gene_panel.json" in told
        assert "metrics_summary.csv" in told
        (own / "experiment.xenium").write_text('{"pixel_size": "wide"}')
        assert "pixel_size" in faults(own)

    def test_the_run_file_names_the_folder(self, bundle: Path) -> None:
        assert reader_for(bundle / "experiment.xenium").format == "xenium"
        assert READER.open(bundle / "experiment.xenium", ReadOptions()).n_obs == 60


class TestFolders:
    @pytest.mark.parametrize("lost", ["cells", "cell_feature_matrix"])
    def test_an_output_that_lacks_a_part_is_still_known(self, own: Path, lost: str) -> None:
        for one in [*own.glob("*.xenium"), *own.glob(f"{lost}.*")]:
            one.unlink()
        assert reader_for(own).format == "xenium"
        with pytest.raises(InputError, match=lost):
            opened(own)

    def test_micrometers_are_no_pixels(self, bundle: Path) -> None:
        with pytest.raises(InputError, match=r"files are micrometers.*got 0.2125; leave it empty"):
            READER.open(bundle, ReadOptions(um_per_unit=0.2125))

    def test_sample_names_and_outs(self, bundle: Path, tmp_path: Path) -> None:
        named = tmp_path / "GSE1"
        named.mkdir()
        for one in bundle.iterdir():
            shutil.copy(one, named / f"GSM1_{one.name}")
        assert reader_for(named).format == "xenium"
        assert opened(named).n_obs == 60
        shutil.copytree(bundle, tmp_path / "run" / "outs")
        assert reader_for(tmp_path / "run").format == "xenium"
        raw = opened(tmp_path / "run")
        assert set(raw.points) == {"transcripts"}
        for one in bundle.glob("cells.parquet"):
            shutil.copy(one, named / f"GSM2_{one.name}")
        assert "expected one file" in faults(named)

    def test_nothing_to_make_cells_of(self, own: Path, tmp_path: Path) -> None:
        (tmp_path / "bare").mkdir()
        (tmp_path / "bare" / "experiment.xenium").write_text("{}")
        assert "cell_feature_matrix.h5" in faults(tmp_path / "bare")
        for name in ("cells.parquet", "cells.zarr.zip"):
            (own / name).unlink()
        assert "expected cells.parquet" in faults(own)

    def test_links_out_of_the_folder(self, own: Path, tmp_path: Path) -> None:
        (tmp_path / "secret.parquet").write_bytes((own / "cells.parquet").read_bytes())
        (own / "cells.parquet").unlink()
        (own / "cells.parquet").symlink_to(tmp_path / "secret.parquet")
        assert "refused, copy it in" in faults(own)

    def test_options_without_meaning(self, bundle: Path) -> None:
        assert "images true or false" in faults(bundle, images="no")
        assert "panel partial or complete" in faults(bundle, panel=["partial"])
        seen = READER.inspect(bundle, replace(ReadOptions(), layer="raw"))
        assert "no `layer`" in str(seen.faults)
