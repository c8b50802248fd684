"""The CosMx reader: releases, layouts, mosaics, partial and broken exports."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile

from tisseract.atlas.errors import InputError
from tisseract.ingest.partition import write_section
from tisseract.ingest.reader import Reader, ReadOptions

from ...contracts import ReaderContract, ids_of, matrix_of
from .cosmx_bundle import RELEASES, Layout, feature_names, write_cosmx
from .cosmx_truth import FOV_PX, NEW, OLD, READER, TISSUE, options_of, points_of, sampled, truth_of


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Layout]]:
    """One export a release, not to be changed."""
    found = {}
    for version in RELEASES:
        folder = tmp_path_factory.mktemp(version) / version
        found[version] = (folder, write_cosmx(folder, TISSUE, version=version, fov_px=FOV_PX))
    return found


class _Release(ReaderContract):
    version = "atomx"

    @pytest.fixture
    def reader(self) -> Reader:
        return READER

    @pytest.fixture
    def options(self) -> ReadOptions:
        return options_of(self.version)

    @pytest.fixture
    def source(self, tmp_path: Path, exports: dict[str, tuple[Path, Layout]]) -> Path:
        return Path(shutil.copytree(exports[self.version][0], tmp_path / "export"))

    @pytest.fixture
    def truth(self, exports: dict[str, tuple[Path, Layout]]) -> Mapping[str, Any]:
        return truth_of(exports[self.version][1])


class TestAtomx(_Release):
    version = "atomx"


class TestLegacy(_Release):
    version = "legacy"


class TestStage(_Release):
    version = "stage"


@pytest.mark.parametrize("version", list(RELEASES))
class TestEveryRelease:
    def test_matrix_controls_and_what_lies_outside(
        self, exports: dict[str, tuple[Path, Layout]], version: str
    ) -> None:
        path, layout = exports[version]
        raw = READER.open(path, options_of(version))
        names = feature_names(TISSUE, layout.release)
        apart = raw.apart["controls"]
        assert apart.names == names[-4:]
        assert apart.feature_types == ("Negative Probe",) * 2 + ("System Control",) * 2
        assert "Aph1b/c" in raw.panel.gene_id.tolist()
        outside = TISSUE.whole().cell < 0
        assert raw.provenance["vendor"]["counts_outside_cells"] == outside.sum()  # type: ignore[index]
        assert f": {outside.sum()} counts are in no cell" in str(raw.provenance["notes"])

    def test_one_frame(self, exports: dict[str, tuple[Path, Layout]], version: str) -> None:
        path, layout = exports[version]
        raw = READER.open(path, options_of(version))
        truth = truth_of(layout)
        assert raw.um_per_unit == pytest.approx(layout.release.um, rel=1e-6)
        # The slide's y points up, the tissue's down; cells come in whole pixels.
        stored = raw.positions * layout.release.um
        apart = np.stack([stored[:, 0] - truth["um"][:, 0], stored[:, 1] + truth["um"][:, 1]])
        assert np.ptp(apart, axis=1).max() <= 1.01 * layout.release.um
        way = "against" if layout.release.against else "along"
        assert f"local y runs {way} global y" in str(raw.provenance["vendor"])

    def test_transcripts_carry_their_cells(
        self, exports: dict[str, tuple[Path, Layout]], version: str
    ) -> None:
        path, layout = exports[version]
        raw = READER.open(path, options_of(version))
        points, truth, block = points_of(raw), truth_of(layout), TISSUE.whole()
        ids = np.array([*truth["ids"], ""], object)
        assert points["cell"].astype(object).fillna("").tolist() == list(ids[block.cell])
        names = np.array(feature_names(TISSUE, layout.release))
        assert points["target"].astype(str).tolist() == names[block.feature].tolist()
        assert {"fov", "cell_ID", "CellComp", "x_local_px", "z"} <= set(points.columns)
        inside = block.cell >= 0
        at = block.cell[inside]
        off = points.loc[inside, ["x", "y"]].to_numpy() - raw.positions[at] * layout.release.um
        true = (block.molecules_um[inside, :2] - truth["um"][at]) * [1, -1]
        assert np.abs(off - true).max() <= 0.51 * layout.release.um

    def test_boundaries_lie_around_their_cells(
        self, exports: dict[str, tuple[Path, Layout]], version: str
    ) -> None:
        path, _ = exports[version]
        raw = READER.open(path, options_of(version))
        pieces = list(raw.shapes.pieces())  # type: ignore[union-attr]
        rows = np.concatenate([piece.rows for piece in pieces])
        assert sorted(rows.tolist()) == list(range(raw.n_obs))
        vertices = np.concatenate([piece.vertices for piece in pieces]).reshape(-1, 12, 2)
        np.testing.assert_allclose(vertices.mean(axis=1), raw.positions[rows], atol=1.0)

    def test_section_overlays_and_is_valid(
        self, exports: dict[str, tuple[Path, Layout]], version: str, tmp_path: Path
    ) -> None:
        import spatialdata

        path, _ = exports[version]
        raw = READER.open(path, options_of(version))
        write_section(raw, tmp_path / "s.zarr", memory_limit=2**29, tile_cells=64)
        data = spatialdata.read_zarr(tmp_path / "s.zarr")
        table = data.tables["table"]
        xy = np.asarray(table.obsm["spatial"])
        found = {name: sampled(data, "images", name, xy) for name in ("CellComposite",)}
        assert (found["CellComposite"][0] > 120).mean() > 0.95
        stains = sampled(data, "images", "Morphology2D", xy)
        assert (stains[1] > 120 * 20).mean() > 0.95
        labels = sampled(data, "labels", "CellLabels", xy)[0]
        assert (labels == table.obs["cell_label"].to_numpy()).mean() > 0.95
        # Swapped axes and a scale 5 % off are seen.
        assert (sampled(data, "images", "CellComposite", xy[:, ::-1])[0] > 120).mean() < 0.8
        middle = xy.mean(axis=0)
        wide = middle + 1.05 * (xy - middle)
        far = np.abs(xy - middle).max(axis=1) > 60
        assert (sampled(data, "labels", "CellLabels", wide)[0][far]
                == table.obs["cell_label"].to_numpy()[far]).mean() < 0.8  # fmt: skip
        stains_named = list(data["Morphology2D"]["scale0"].coords["c"].values)
        assert stains_named == ["Histone", "rRNA.18S", "DAPI"]


class TestLayouts:
    def test_two_samples_need_a_name(
        self, exports: dict[str, tuple[Path, Layout]], tmp_path: Path
    ) -> None:
        for name in ("one", "two"):
            shutil.copytree(exports["legacy"][0], tmp_path / "all" / name)
        with pytest.raises(InputError, match="expected one sample, but got 2"):
            READER.open(tmp_path / "all", OLD)
        raw = READER.open(tmp_path / "all", replace(OLD, reader_kwargs={"sample": "two"}))
        assert raw.n_obs == 120
        assert set(raw.images) == {"CellComposite", "Morphology2D"}
        with pytest.raises(InputError, match="tow"):
            READER.open(tmp_path / "all", replace(OLD, reader_kwargs={"sample": "tow"}))

    def test_partial_exports_tell_what_is_missing(self, tmp_path: Path) -> None:
        path = tmp_path / "x"
        write_cosmx(
            path, TISSUE, version="legacy", fov_px=FOV_PX, images=False, transcripts=False,
            polygons=False, positions=False,
        )  # fmt: skip
        raw = READER.open(path, OLD)
        assert raw.shapes is None
        assert not raw.points
        told = str(raw.provenance["notes"])
        for word in ("fov_positions_file", "tx_file", "polygons", "no images"):
            assert word in told
        assert "circles" in told
        (path / "Lung5_Rep1_metadata_file.csv").unlink()
        with pytest.raises(InputError, match="metadata_file"):
            READER.open(path, OLD)

    @pytest.mark.parametrize("version", ["legacy", "atomx"])
    def test_without_metadata_boundaries_tell_the_places(
        self, exports: dict[str, tuple[Path, Layout]], tmp_path: Path, version: str
    ) -> None:
        path = Path(shutil.copytree(exports[version][0], tmp_path / "x"))
        want = READER.open(path, options_of(version))
        next(path.rglob("*metadata_file*")).unlink()
        got = READER.open(path, options_of(version))
        np.testing.assert_allclose(got.positions, want.positions, atol=1.1)
        assert (matrix_of(got) != matrix_of(want)).nnz == 0
        assert set(got.obs) == {"fov", "cell_ID", "cell_label"}
        assert "no *metadata_file" in str(got.provenance["notes"])

    def test_whether_the_panel_is_complete_is_told(
        self, exports: dict[str, tuple[Path, Layout]]
    ) -> None:
        path, found = exports["stage"][0], {}
        for panel in ("partial", "complete"):
            kwargs = {"images": False, "transcripts": False, "panel": panel}
            raw = READER.open(path, ReadOptions(reader_kwargs=kwargs))
            found[panel] = raw.panel.completeness
        assert found == {"partial": "partial", "complete": "complete"}
        with pytest.raises(InputError, match="partial or complete, but got 'half'"):
            READER.open(path, ReadOptions(reader_kwargs={"panel": "half"}))

    def test_facts_of_the_run_are_kept(self, exports: dict[str, tuple[Path, Layout]]) -> None:
        raw = READER.open(exports["atomx"][0], NEW)
        told = raw.provenance["vendor"]
        wanted = {"version": "v6", "Run_Tissue_name": "breast", "Panel": "Human RNA 6k Discovery"}
        assert wanted.items() <= told.items()  # type: ignore[attr-defined]

    def test_cells_in_one_file_alone_are_left_out_and_told(self, tmp_path: Path) -> None:
        path = tmp_path / "x"
        layout = write_cosmx(path, TISSUE, version="legacy", fov_px=FOV_PX, images=False)
        file = path / "Lung5_Rep1_metadata_file.csv"
        table = pd.read_csv(file)
        extra = table.iloc[:1].assign(cell_ID=99_999)
        pd.concat([table.iloc[:2:-1], extra]).to_csv(file, index=False)  # reversed, three less
        raw = READER.open(path, OLD)
        truth = truth_of(layout)
        assert ids_of(raw) == truth["ids"][3:]
        assert (matrix_of(raw).toarray() == truth["counts"][3:]).all()
        np.testing.assert_allclose(raw.positions, truth["positions"][3:], atol=1e-3)
        assert raw.obs["cell_ID"].read().values.tolist() == truth["cell"][3:].tolist()  # type: ignore[union-attr]
        told = str(raw.provenance["notes"])
        assert "3 cells without metadata left out" in told
        assert "1 cells of the metadata without counts left out" in told

    def test_cells_twice_and_strangers_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "x"
        write_cosmx(path, TISSUE, version="legacy", fov_px=FOV_PX, images=False)
        file = path / "Lung5_Rep1_metadata_file.csv"
        table = pd.read_csv(file)
        pd.concat([table, table.iloc[4:5]]).to_csv(file, index=False)
        with pytest.raises(InputError, match="every cell once"):
            READER.open(path, OLD)
        table.assign(fov=table.fov + 700).to_csv(file, index=False)
        with pytest.raises(InputError, match="different samples"):
            READER.open(path, OLD)

    def test_images_are_chosen_by_name(self, exports: dict[str, tuple[Path, Layout]]) -> None:
        path, _ = exports["atomx"]
        some = READER.open(path, ReadOptions(reader_kwargs={"images": ["CellComposite"]}))
        assert (set(some.images), set(some.labels)) == ({"CellComposite"}, set())
        none = READER.open(path, ReadOptions(reader_kwargs={"images": False}))
        assert not none.images
        with pytest.raises(InputError, match="'CellLabels'"):
            READER.open(path, ReadOptions(reader_kwargs={"images": ["CellLabel"]}))

    @pytest.mark.parametrize("masks", [True, False])
    def test_images_turned_about_are_righted(self, tmp_path: Path, masks: bool) -> None:
        path = tmp_path / "x"
        tissue = replace(TISSUE, n_cells=250)
        write_cosmx(path, tissue, version="atomx", fov_px=(900, 900))
        if not masks:
            shutil.rmtree(path / "CellLabels")
            shutil.rmtree(path / "CellComposite")
            straight = READER.open(path, NEW)
            assert straight.images["Morphology2D"].open.reverse == (False, True)  # type: ignore[attr-defined]
            for file in (path / "Morphology2D").iterdir():
                turned = tifffile.imread(file)[:, ::-1, ::-1]
                tifffile.imwrite(file, turned, photometric="minisblack")
            raw = READER.open(path, NEW)
            assert raw.images["Morphology2D"].open.reverse == (True, False)  # type: ignore[attr-defined]
            assert "images are turned" in str(raw.provenance["notes"])
            return
        for kind in ("CellLabels", "CompartmentLabels"):
            for file in (path / kind).iterdir():
                tifffile.imwrite(file, tifffile.imread(file)[::-1, ::-1])
        raw = READER.open(path, NEW)
        assert "images are turned" in str(raw.provenance["notes"])
        assert raw.labels["CellLabels"].open.reverse == (True, False)  # type: ignore[attr-defined]

    def test_fov_of_another_size_names_its_file(self, tmp_path: Path) -> None:
        path = tmp_path / "x"
        write_cosmx(path, TISSUE, version="atomx", fov_px=FOV_PX)
        file = sorted((path / "Morphology2D").iterdir())[-1]
        tifffile.imwrite(file, np.zeros((3, 20, 20), np.uint16), photometric="minisblack")
        raw = READER.open(path, replace(NEW, reader_kwargs={"images": ["Morphology2D"]}))
        with pytest.raises(InputError, match=file.name):
            write_section(raw, tmp_path / "s.zarr", memory_limit=2**29)

    @pytest.mark.slow
    def test_wide_slides_become_several_mosaics(
        self,
        exports: dict[str, tuple[Path, Layout]],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        import spatialdata

        monkeypatch.setattr("tisseract.ingest.vendors.cosmx_mosaic._STRIP_BYTES", 512 * 4 * 800)
        raw = READER.open(exports["atomx"][0], ReadOptions(reader_kwargs={"images": "CellLabels"}))
        names = sorted(raw.labels)
        assert names == [f"CellLabels_{k + 1}" for k in range(len(names))]
        assert len(names) > 1
        write_section(raw, tmp_path / "s.zarr", memory_limit=2**29, tile_cells=64)
        data = spatialdata.read_zarr(tmp_path / "s.zarr")
        table = data.tables["table"]
        xy = np.asarray(table.obsm["spatial"])
        found = np.max([sampled(data, "labels", name, xy)[0] for name in names], axis=0)
        assert (found == table.obs["cell_label"].to_numpy()).mean() > 0.95

    def test_y_up_turns_everything(
        self, exports: dict[str, tuple[Path, Layout]], tmp_path: Path
    ) -> None:
        import spatialdata

        path, _ = exports["atomx"]
        raw = READER.open(path, ReadOptions(y_axis="up"))
        write_section(raw, tmp_path / "s.zarr", memory_limit=2**29, tile_cells=64)
        data = spatialdata.read_zarr(tmp_path / "s.zarr")
        table = data.tables["table"]
        labels = sampled(data, "labels", "CellLabels", np.asarray(table.obsm["spatial"]))[0]
        assert (labels == table.obs["cell_label"].to_numpy()).mean() > 0.95
