"""The CosMx reader: releases, keys, frames, pixel sizes, mosaics, partial and broken exports."""

from __future__ import annotations

import importlib
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas.errors import InputError
from tisseract.ingest.partition import write_section
from tisseract.ingest.reader import Reader, ReadOptions, reader_for
from tisseract.ingest.source import RawSection
from tisseract.ingest.vendors.cosmx import CosmxReader, control_kind
from tisseract.ingest.vendors.cosmx_frame import FovFrame, Positions, fit_frame, from_positions
from tisseract.ingest.vendors.cosmx_images import LabelRows, plane_names, read_header
from tisseract.ingest.vendors.cosmx_keys import packed, scan_counts
from tisseract.ingest.vendors.cosmx_unit import (
    find_pixel_size,
    size_by_area,
    size_by_places,
    step_of,
)
from tisseract.ingest.vendors.table import open_table

from ...contracts import ReaderContract, ids_of, matrix_of
from .cosmx_bundle import (
    KINDS,
    RELEASES,
    Layout,
    cells_of,
    feature_names,
    write_cosmx,
)
from .mutants import run_mutants
from .tissue import SimTissue

READER = CosmxReader()
TISSUE = SimTissue(120, 40, 12.0, seed=5, n_controls=4)
FOV_PX = (300, 350)
NEW, OLD = ReadOptions(), ReadOptions(um_per_unit=0.18)


def options_of(version: str) -> ReadOptions:
    return OLD if version == "legacy" else NEW


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Layout]]:
    """One export a release, not to be changed."""
    found = {}
    for version in RELEASES:
        folder = tmp_path_factory.mktemp(version) / version
        found[version] = (folder, write_cosmx(folder, TISSUE, version=version, fov_px=FOV_PX))
    return found


def truth_of(layout: Layout) -> dict[str, Any]:
    """What the simulator knows, in the order of the file."""
    parts = list(cells_of(layout))
    counts = np.concatenate([part.block.counts.toarray() for part in parts])
    fov, cell = (np.concatenate([getattr(p, k) for p in parts]) for k in ("fov", "cell"))
    head = "c_1_" if layout.release.named else ""
    return {
        "counts": counts,
        "positions": np.concatenate([part.whole for part in parts]),
        "ids": [f"{head}{f}_{c}" for f, c in zip(fov, cell, strict=True)],
        "gene_ids": list(layout.tissue.gene_names),
        "um": np.concatenate([part.block.positions_um for part in parts]),
        "fov": fov,
        "cell": cell,
    }


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


def points_of(raw: RawSection) -> pd.DataFrame:
    batches = list(raw.points["transcripts"].batches())
    found: pd.DataFrame = pd.concat([b.to_pandas() for b in batches], ignore_index=True)
    return found


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


def sampled(data: Any, kind: str, name: str, xy: Any) -> Any:
    """Values of an element under some points, by the transform in the store: (planes, n)."""
    from spatialdata.transformations import get_transformation

    element = getattr(data, kind)[name]
    affine = get_transformation(element, "microns").to_affine_matrix(("x", "y"), ("x", "y"))
    pixels = np.asarray(next(iter(element["scale0"].values())).values)
    pixels = pixels if pixels.ndim == 3 else pixels[None]
    at = np.floor((xy - affine[:2, 2]) @ np.linalg.inv(affine[:2, :2]).T).astype(int)
    good = ((at >= 0) & (at < [pixels.shape[2], pixels.shape[1]])).all(axis=1)
    found = np.zeros((pixels.shape[0], len(xy)), pixels.dtype)
    found[:, good] = pixels[:, at[good, 1], at[good, 0]]
    return found


class TestKeys:
    @settings(max_examples=40, deadline=None)
    @given(data=st.data())
    def test_scanned_keys_are_those_pandas_reads(
        self, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        rows = data.draw(
            st.lists(st.tuples(st.integers(0, 999), st.integers(0, 99_999)), max_size=30)
        )
        end = data.draw(st.sampled_from(["\n", "\r\n"]))
        last = data.draw(st.booleans())
        quote = data.draw(st.sampled_from(["", '"']))
        text = ['"fov","cell_ID","A"', *(f"{quote}{f}{quote},{c},{f % 7}" for f, c in rows)]
        path = tmp_path_factory.mktemp("keys") / "x.csv"
        path.write_bytes((end.join(text) + end * last).encode())
        found = scan_counts(open_table(path), "fov", "cell_ID", ("A",))
        assert list(zip(found.fov.tolist(), found.cell.tolist(), strict=True)) == rows
        assert found.outside_counts == sum(f % 7 for f, c in rows if c == 0)

    def test_columns_in_any_order(self, tmp_path: Path) -> None:
        path = tmp_path / "x.csv"
        path.write_text("A,cell_ID,fov\n5,0,1\n1,2,1\n")
        found = scan_counts(open_table(path), "fov", "cell_ID", ("A",))
        assert (found.fov.tolist(), found.cell.tolist(), found.outside_counts) == (
            [1, 1],
            [0, 2],
            5,
        )

    def test_numbers_written_as_floats(self, tmp_path: Path) -> None:
        path = tmp_path / "x.csv"
        path.write_text("fov,cell_ID,A\n1.0,0.0,3\n1.0,7.0,1\n")
        found = scan_counts(open_table(path), "fov", "cell_ID", ("A",))
        assert (found.cell.tolist(), found.outside_counts) == ([0, 7], 3)

    @pytest.mark.parametrize("wrong", ["x", "-3", "1.5", ""])
    def test_what_is_no_number_names_its_row(self, tmp_path: Path, wrong: str) -> None:
        path = tmp_path / "x.csv"
        path.write_text(f"fov,cell_ID,A\n1,1,0\n1,{wrong},0\n")
        with pytest.raises(InputError, match=r"x\.csv"):
            scan_counts(open_table(path), "fov", "cell_ID", ("A",))

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("Negative12", "Negative Probe"),
            ("NegPrb3", "Negative Probe"),
            ("SystemControl5", "System Control"),
            ("FalseCode_2", "False Code"),
            ("Custom1", "Custom"),
            ("NEGR1", ""),
            ("Aph1b/c", ""),
            ("Customer", ""),
        ],
    )
    def test_controls_by_name(self, name: str, kind: str) -> None:
        assert control_kind(name) == kind

    def test_labels_are_unique_over_fovs(self) -> None:
        keys = packed(np.array([1, 1, 2]), np.array([1, 4, 1]))
        labels = LabelRows(keys, np.array([2, 0, 1]))
        mask = np.array([[0, 1], [4, 9]], np.uint16)
        assert labels.of(1, mask).tolist() == [[0, 3], [1, 0]]
        assert labels.of(2, mask).tolist() == [[0, 2], [0, 0]]
        assert labels.of(3, mask).tolist() == [[0, 0], [0, 0]]


class TestFrame:
    @settings(max_examples=60, deadline=None)
    @given(
        st.integers(0, 10_000),
        st.sampled_from([(1, 1), (1, -1), (-1, 1), (-1, -1)]),
        st.integers(1, 5),
    )
    def test_directions_and_places_are_found(
        self, seed: int, sign: tuple[int, int], n_fovs: int
    ) -> None:
        rng = np.random.default_rng(seed)
        fov = np.repeat(np.arange(1, n_fovs + 1), 6)
        local, origin = rng.random((fov.size, 2)) * 4256, rng.random((n_fovs, 2)) * 1e5
        whole = origin[fov - 1] + np.array(sign) * local + rng.normal(0, 0.3, local.shape)
        found = fit_frame(fov, local, whole, "cells", "x.csv")
        assert found is not None
        assert found.sign == sign
        np.testing.assert_allclose(found.origin, origin, atol=1.5)
        np.testing.assert_allclose(found.to_global(fov, local), whole, atol=3)

    def test_pixels_of_another_size_are_refused(self) -> None:
        local = np.array([[0.0, 0], [100, 50], [20, 80]])
        with pytest.raises(InputError, match="different exports"):
            fit_frame(np.ones(3, np.int64), local, 2 * local, "cells", "x.csv")

    def test_one_cell_a_fov_tells_nothing(self) -> None:
        local = np.array([[5.0, 5], [9, 9]])
        assert fit_frame(np.array([1, 2]), local, local + 100, "cells", "x.csv") is None

    @pytest.mark.parametrize(("both", "y"), [(True, -1), (False, 1)])
    def test_header_decides_where_nothing_else_does(self, both: bool, y: int) -> None:
        px = np.array([[0.0, 0], [4256, 0]])
        found = from_positions(
            Positions(np.array([2, 1]), px, px * 0.00012028 if both else None), 0.12028, None
        )
        assert (found.sign, found.fov.tolist()) == ((1, y), [1, 2])
        assert found.origin[0].tolist() == [4256, 0]
        assert found.notes

    @pytest.mark.parametrize("version", list(RELEASES))
    def test_without_global_pixels(self, tmp_path: Path, version: str) -> None:
        """Metadata, transcripts and polygons with local pixels alone: positions decide."""
        whole, local = tmp_path / "whole", tmp_path / "local"
        write_cosmx(whole, TISSUE, version=version, fov_px=FOV_PX, images=False)
        write_cosmx(local, TISSUE, version=version, fov_px=FOV_PX, images=False, global_px=False)
        want = READER.open(whole, options_of(version))
        got = READER.open(local, options_of(version))
        np.testing.assert_allclose(got.positions, want.positions, atol=0.01)
        np.testing.assert_allclose(
            points_of(got)[["x", "y"]], points_of(want)[["x", "y"]], atol=0.01
        )
        rings = [next(iter(raw.shapes.pieces())).vertices for raw in (got, want)]  # type: ignore[union-attr]
        np.testing.assert_allclose(rings[0], rings[1], atol=0.01)

    def test_directions_come_from_polygons_where_cells_have_none(self, tmp_path: Path) -> None:
        path = tmp_path / "x"
        write_cosmx(path, TISSUE, version="legacy", fov_px=FOV_PX, images=False)
        want = READER.open(path, OLD).positions
        edit(path / "Lung5_Rep1_metadata_file.csv", drop="global")
        # Both units in the header would mean that y runs the other way.
        places = pd.read_csv(path / "Lung5_Rep1_fov_positions_file.csv")
        places["x_global_mm"], places["y_global_mm"] = places.x_global_px, places.y_global_px
        places[["x_global_mm", "y_global_mm"]] *= 0.18e-3
        places.to_csv(path / "Lung5_Rep1_fov_positions_file.csv", index=False)
        raw = READER.open(path, NEW)
        np.testing.assert_allclose(raw.positions, want, atol=0.6)
        assert raw.um_per_unit == pytest.approx(0.18)

    def test_swapped_and_turned_coordinates(self, tmp_path: Path) -> None:
        path = tmp_path / "x"
        write_cosmx(path, TISSUE, version="legacy", fov_px=FOV_PX, images=False)
        want = points_of(READER.open(path, OLD))
        file = path / "Lung5_Rep1_tx_file.csv"
        table = pd.read_csv(file, keep_default_na=False)
        names = {"x_local_px": "x_global_px", "y_local_px": "y_global_px"}
        names |= {b: a for a, b in names.items()}
        table.rename(columns=names).to_csv(file, index=False)
        swapped = READER.open(path, OLD)
        np.testing.assert_allclose(points_of(swapped)[["x", "y"]], want[["x", "y"]], atol=1e-6)
        assert "under each other's names" in str(swapped.provenance["notes"])
        table["x_global_px"] -= 2 * table["x_local_px"]
        table["y_global_px"] -= 2 * table["y_local_px"]
        table.to_csv(file, index=False)
        turned = READER.open(path, OLD)
        np.testing.assert_allclose(points_of(turned)[["x", "y"]], want[["x", "y"]], atol=0.1)
        assert "computed from local ones" in str(turned.provenance["notes"])

    def test_keys_of_transcripts_written_as_floats(self, tmp_path: Path) -> None:
        path = tmp_path / "x"
        write_cosmx(path, TISSUE, version="legacy", fov_px=FOV_PX, images=False)
        want = points_of(READER.open(path, OLD))
        file = path / "Lung5_Rep1_tx_file.csv"
        table = pd.read_csv(file, keep_default_na=False)
        table.astype({"fov": float, "cell_ID": float}).to_csv(file, index=False)
        got = points_of(READER.open(path, OLD))
        assert (
            got["cell"].astype(object).fillna("").tolist()
            == want["cell"].astype(object).fillna("").tolist()
        )
        table.assign(cell_ID=0.5).to_csv(file, index=False)
        with pytest.raises(InputError, match=r"tx_file\.csv:cell_ID"):
            READER.open(path, OLD).points["transcripts"].batches().__next__()

    def test_no_place_at_all(self, tmp_path: Path) -> None:
        path = tmp_path / "x"
        write_cosmx(path, TISSUE, version="legacy", global_px=False, positions=False, images=False)
        with pytest.raises(InputError, match="fov_positions_file"):
            READER.open(path, OLD)


def edit(path: Path, drop: str) -> None:
    table = pd.read_csv(path)
    table[[name for name in table.columns if drop not in name]].to_csv(path, index=False)


class TestPixelSize:
    @pytest.mark.parametrize(("um", "turn"), [(0.12028, 0), (0.18, 1)])
    def test_by_places(self, um: float, turn: int) -> None:
        px = np.random.default_rng(0).random((9, 2)) * 4e4
        mm = px * um / 1000
        stage = mm[:, ::-1] * [-1, 1] if turn else mm
        assert size_by_places(Positions(np.arange(9), px, stage), None) == pytest.approx(um)
        assert size_by_places(Positions(np.arange(9), None, mm), None) is None
        frame = FovFrame(np.arange(9), px, (1, 1), "")
        assert size_by_places(Positions(np.arange(9), None, stage), frame) == pytest.approx(um)
        shuffled = np.random.default_rng(1).permutation(px)
        assert size_by_places(Positions(np.arange(9), shuffled, mm), None) is None

    def test_assumed_is_noted(self) -> None:
        early = find_pixel_size(None, None, None, 5400.0, "x")
        usual = find_pixel_size(None, None, None, 4250.0, "x")
        assert (early.um_per_unit, usual.um_per_unit) == (0.18, 0.12028)
        assert "set `um_per_unit`" in early.notes[0]
        assert "assumed" in usual.how

    def test_steps_and_images_of_the_first_instruments(self, tmp_path: Path) -> None:
        px = np.array([[3188.9, 155216.7], [3188.9, 158866.7]])
        assert step_of(Positions(np.arange(2), px, None)) == 5472
        assert step_of(Positions(np.arange(2), px * 1.1, None)) == 0
        path = tmp_path / "x"
        write_cosmx(path, TISSUE, version="legacy", images=False)
        assert READER.open(path, NEW).um_per_unit == 0.12028
        (path / "CellOverlay").mkdir()
        tifffile.imwrite(
            path / "CellOverlay" / "CellOverlay_F001.tif", np.zeros((3648, 5472), "u1")
        )
        assert READER.open(path, NEW).um_per_unit == 0.18

    def test_contradictions_are_refused(self) -> None:
        with pytest.raises(InputError, match="different exports"):
            find_pixel_size(None, 0.18, 0.12028, 4200, "x")
        with pytest.raises(InputError, match=r"um_per_unit is 0\.18, but a pixel is 0\.12028 um"):
            find_pixel_size(0.18, 0.12028, None, 4200, "x")
        assert find_pixel_size(0.1215, 0.12028, None, 4200, "x").notes
        assert find_pixel_size("unknown", 0.12028, None, 4200, "x").um_per_unit is None

    def test_areas_without_meaning(self) -> None:
        assert size_by_area(np.zeros(3), np.ones(3)) is None
        assert size_by_area(np.ones(3), None) is None


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

    def test_images_turned_about_are_righted_by_the_masks(self, tmp_path: Path) -> None:
        path = tmp_path / "x"
        write_cosmx(path, TISSUE, version="atomx", fov_px=FOV_PX)
        for kind in ("CellLabels", "CompartmentLabels"):
            for file in (path / kind).iterdir():
                tifffile.imwrite(file, tifffile.imread(file)[::-1, ::-1])
        raw = READER.open(path, NEW)
        assert "images are turned" in str(raw.provenance["notes"])
        assert raw.labels["CellLabels"].open.reverse == (True, False)  # type: ignore[attr-defined]

    def test_stains_by_their_letters(self, exports: dict[str, tuple[Path, Layout]]) -> None:
        file = next((exports["atomx"][0] / "Morphology2D").iterdir())
        assert read_header(file) == ((3, *FOV_PX), np.dtype(np.uint16))
        assert plane_names(file, 3) == ("Histone", "rRNA.18S", "DAPI")

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

    def test_only_it_recognizes_the_folder(self, exports: dict[str, tuple[Path, Layout]]) -> None:
        for path, _ in exports.values():
            assert reader_for(path).format == "cosmx"


class TestAgainstSpatialDataIo:
    """The reader of spatialdata-io 0.7.1 on the same export.

    Different on purpose: it leaves every FOV in its own local frame (one image, one mask and one
    table of points a FOV) where this one stitches them; its ids are `<cell_ID>_<fov>`; rows of
    cell_ID 0 and control features stay beside the genes; transcripts keep pixels.
    """

    @pytest.mark.slow
    def test_same_cells_counts_transcripts_and_image_shapes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from anndata import AnnData

        module = importlib.import_module("spatialdata_io.readers.cosmx")
        # It names an argument that AnnData has dropped since.
        monkeypatch.setattr(module, "AnnData", lambda x, dtype, obs: AnnData(x, obs=obs))
        path = tmp_path / "export"
        # It fits an affine to the cells of each FOV, and fails where three do not span one.
        write_cosmx(path, TISSUE, version="legacy", fov_px=(500, 900))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = module.cosmx(path, dataset_id="Lung5_Rep1")
        raw = READER.open(path, OLD)
        table = theirs.tables["table"]
        ids = ["_".join(reversed(name.split("_"))) for name in table.obs_names]
        at = pd.Series(np.arange(len(ids)), index=ids)[list(map(str, ids_of(raw)))].to_numpy()
        assert len(ids) == raw.n_obs
        assert table.var_names.tolist() == list(feature_names(TISSUE, RELEASES["legacy"]))
        assert (table.X[at].toarray() == matrix_of(raw).toarray()).all()
        np.testing.assert_allclose(table.obsm["global"][at], raw.positions)
        points = points_of(raw)
        count = {
            fov: len(theirs.points[f"{fov}_points"]) for fov in points["fov"].unique().tolist()
        }
        assert points.groupby("fov").size().to_dict() == count
        header = raw.images["CellComposite"].open.tile_shape  # type: ignore[attr-defined]
        for name, image in theirs.images.items():
            assert image.shape == header, name


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "write", "file"), KINDS, ids=[kind for kind, _, _ in KINDS])
def test_mutants(kind: str, write: Any, file: str, tmp_path: Path) -> None:
    source = write(tmp_path / "export")
    n = 10 if source.joinpath("CellLabels").exists() else 20
    report = run_mutants(source, file, READER, OLD, tmp_path, n=n, write=True)
    assert not report.failures


@pytest.mark.real
def test_real_crop(real_data: Path, tmp_path: Path) -> None:
    """Independent totals; the crop has one FOV, no positions and no images."""
    import spatialdata

    path = real_data / "vendor" / "cosmx_crop"
    raw = READER.open(path, ReadOptions())
    name = path / "Run5642_S3_Quarter"
    counts = pd.read_csv(f"{name}_exprMat_file.csv")
    cells = counts[counts.cell_ID > 0].set_index("cell_ID").drop(columns="fov")
    genes = [one for one in cells.columns if not one.startswith("NegPrb")]
    assert ids_of(raw) == [f"1_{k}" for k in cells.index]
    assert raw.panel.gene_id.tolist() == genes
    write_section(raw, tmp_path / "s.zarr", memory_limit=2**29)
    data = spatialdata.read_zarr(tmp_path / "s.zarr")
    table = data.tables["table"]
    assert table.X.sum() == cells[genes].to_numpy().sum()
    assert data.tables["controls"].X.sum() == cells.drop(columns=genes).to_numpy().sum()
    outside = counts[counts.cell_ID == 0].drop(columns=["fov", "cell_ID"]).to_numpy().sum()
    assert raw.provenance["vendor"]["counts_outside_cells"] == outside  # type: ignore[index]
    meta = pd.read_csv(f"{name}_metadata_file.csv").set_index("cell_ID")
    meta = meta.loc[table.obs["cell_ID"].to_numpy()]
    um = meta[["CenterX_global_px", "CenterY_global_px"]].to_numpy() * 0.12028
    np.testing.assert_allclose(table.obsm["spatial"], um, atol=0.1)
    points = pd.read_csv(f"{name}_tx_file.csv", keep_default_na=False)
    stored = pd.read_parquet(tmp_path / "s.zarr" / "points" / "transcripts" / "points.parquet")
    assert len(stored) == len(points)
    assert stored["x"].sum() == pytest.approx(points["x_global_px"].sum() * 0.12028)
    assert sorted(stored["target"].astype(str)) == sorted(points["target"])
    inside = stored["cell"].notna()
    assert inside.sum() == (points["cell_ID"] > 0).sum()
    shapes = data["cells"]
    assert shapes.contains_properly(shapes.centroid).all()
    near = np.hypot(*(np.stack([shapes.centroid.x, shapes.centroid.y], 1) - um_of(table)).T)
    assert np.median(near) < 1.0


@pytest.mark.real
def test_real_centers_are_the_middles_of_boxes(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "vendor" / "cosmx_crop"
    want = READER.open(source, ReadOptions())
    (tmp_path / "crop").mkdir()
    for file in source.iterdir():
        if "metadata" not in file.name:
            (tmp_path / "crop" / file.name).write_bytes(file.read_bytes())
    got = READER.open(tmp_path / "crop", ReadOptions())
    at = [ids_of(want).index(name) for name in ids_of(got)]
    np.testing.assert_allclose(got.positions, want.positions[at], atol=1.0)


def um_of(table: Any) -> Any:
    return np.asarray(table.obsm["spatial"])
