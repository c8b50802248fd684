"""What the CosMx reader is made of: keys of cells, frames of FOVs, pixel sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas.errors import InputError
from tisseract.ingest.vendors.cosmx import control_kind
from tisseract.ingest.vendors.cosmx_cells import read_places
from tisseract.ingest.vendors.cosmx_frame import (
    FovFrame,
    Positions,
    fit_frame,
    from_positions,
    with_positions,
)
from tisseract.ingest.vendors.cosmx_images import LabelRows, MosaicOpener, Tile
from tisseract.ingest.vendors.cosmx_keys import packed, scan_counts
from tisseract.ingest.vendors.cosmx_unit import (
    find_pixel_size,
    size_by_area,
    size_by_places,
    step_of,
)
from tisseract.ingest.vendors.table import open_table
from tisseract.ingest.vendors.text_table import TextTable

from .cosmx_bundle import RELEASES, write_cosmx
from .cosmx_truth import FOV_PX, NEW, OLD, READER, TISSUE, options_of, points_of


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

    @pytest.mark.parametrize("keys", ["1.0,0.0", '"1","0"', "1,0"])
    @pytest.mark.parametrize("count", ["3", '"3"', "3.0", '"3",""', ""])
    def test_numbers_written_in_other_ways(self, tmp_path: Path, keys: str, count: str) -> None:
        path = tmp_path / "x.csv"
        cells = count if '","' in count else f"{count},0"
        path.write_text(f"fov,cell_ID,A,B\n{keys},{cells}\n1,7,1,2\n")
        found = scan_counts(open_table(path), "fov", "cell_ID", ("A", "B"))
        assert (found.cell.tolist(), found.outside_counts) == ([0, 7], 3 if count else 0)

    @pytest.mark.parametrize("count", ["inf", "1e400", "abc", "1,2"])
    def test_what_is_no_count_outside_cells_names_its_file(
        self, tmp_path: Path, count: str
    ) -> None:
        path = tmp_path / "x.csv"
        path.write_text(f"fov,cell_ID,A\n1,0,{count}\n1,7,1\n")
        with pytest.raises(InputError, match=r"x\.csv"):
            scan_counts(open_table(path), "fov", "cell_ID", ("A",))

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

    @pytest.mark.parametrize(("is_mask", "middle"), [(True, [1, 3]), (False, [0, 3])])
    def test_background_covers_no_label_where_fovs_overlap(
        self, tmp_path: Path, is_mask: bool, middle: list[int]
    ) -> None:
        tiles = []
        for fov, row in ((1, [[1, 1, 1, 1]] * 2), (2, [[0, 3, 3, 0]] * 2)):
            path = tmp_path / f"F{fov}.tif"
            tifffile.imwrite(path, np.array(row, np.uint16))
            tiles.append(Tile(path, fov, 0, 2 * (fov - 1)))
        mosaic = MosaicOpener(
            tuple(tiles), (1, 2, 6), (1, 2, 4), "uint16", ("label",), (False, False), mask=is_mask
        )
        with mosaic() as pixels:
            assert pixels.rows(0, 2).tolist() == [[[1, 1, *middle, 3, 0]] * 2]


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

    def test_quarter_turns_have_no_frame(self) -> None:
        local = np.random.default_rng(0).random((50, 2)) * 4000
        assert fit_frame(np.ones(50, np.int64), local, local[:, ::-1] + 9, "cells", "x.csv") is None

    def test_one_cell_a_fov_tells_nothing(self) -> None:
        local = np.array([[5.0, 5], [9, 9]])
        assert fit_frame(np.array([1, 2]), local, local + 100, "cells", "x.csv") is None

    @pytest.mark.parametrize(("both", "y"), [(True, -1), (False, 1)])
    def test_header_decides_where_nothing_else_does(self, both: bool, y: int) -> None:
        px = np.array([[0.0, 0], [4256, 0]])
        found = from_positions(
            Positions(np.array([2, 1]), px, px * 0.00012028 if both else None), 0.12028
        )
        assert (found.sign, found.fov.tolist()) == ((1, y), [1, 2])
        assert found.origin[0].tolist() == [4256, 0]
        assert found.notes

    def test_fovs_without_cells_are_moved_to_where_the_others_lie(self) -> None:
        """Some releases give the lower corner of a FOV where others give the upper."""
        frame = FovFrame(np.array([1, 3]), np.array([[0.0, 50], [100, 50]]), (1, -1), "")
        px = np.array([[0.0, 10], [200, 10], [100, 10]])
        found = with_positions(frame, Positions(np.array([1, 2, 3]), px, None), 0.12028)
        assert found.fov.tolist() == [1, 2, 3]
        assert found.origin.tolist() == [[0, 50], [200, 50], [100, 50]]
        px[0] += 40
        lost = with_positions(frame, Positions(np.array([1, 2, 3]), px, None), 0.12028)
        assert lost.fov.tolist() == [1, 3]
        assert "1 FOVs without cells have no place" in lost.notes[0]

    def test_places_of_several_slides_in_one_file_are_not_taken(self, tmp_path: Path) -> None:
        path = tmp_path / "x.csv"
        path.write_text("Slide,FOV,X_mm,Y_mm\n1,1,0,0\n1,2,1,0\n2,1,9,9\n1,3,,0\n")
        notes: list[str] = []
        found = read_places(open_table(path), notes)
        assert found.fov.tolist() == [2]
        assert "1 FOVs stand there several times" in notes[0]

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

    @pytest.mark.parametrize("places", [True, False])
    def test_vertices_past_the_first_rows_have_places(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, places: bool
    ) -> None:
        """Without FOV positions every row is read; with them the first ones tell directions."""
        path = tmp_path / "x"
        write_cosmx(path, TISSUE, version="legacy", fov_px=FOV_PX, images=False, positions=places)
        want = READER.open(path, OLD).positions
        edit(path / "Lung5_Rep1_metadata_file.csv", drop="global")
        monkeypatch.setattr("tisseract.ingest.vendors.cosmx_cells._FIT_ROWS", 30)
        monkeypatch.setattr("tisseract.ingest.vendors.cosmx_cells._FIT_POINTS", 12)
        monkeypatch.setattr("tisseract.ingest.vendors.text_table._BLOCK", 2**10)
        np.testing.assert_allclose(READER.open(path, OLD).positions, want, atol=0.6)

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

    def test_transcripts_are_not_counted_before_they_are_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "x"
        write_cosmx(path, TISSUE, version="legacy", fov_px=FOV_PX, images=False)
        seen: list[str] = []

        def counted(table: TextTable) -> int:
            seen.append(table.path.name)
            return 1

        monkeypatch.setattr(TextTable, "n_rows", property(counted))
        READER.open(path, OLD)
        assert seen == ["Lung5_Rep1_metadata_file.csv"]

    def test_a_column_cell_that_holds_something_else_is_kept(self, tmp_path: Path) -> None:
        path = tmp_path / "x"
        write_cosmx(path, TISSUE, version="legacy", fov_px=FOV_PX, images=False)
        want = points_of(READER.open(path, OLD))
        file = path / "Lung5_Rep1_tx_file.csv"
        table = pd.read_csv(file, keep_default_na=False)
        table.assign(cell=table.cell_ID % 3).to_csv(file, index=False)
        raw = READER.open(path, OLD)
        got = points_of(raw)
        assert got["cell"].tolist() == (table.cell_ID % 3).tolist()
        assert raw.points["transcripts"].instance_key == "cell_key"
        assert got["cell_key"].astype(object).equals(want["cell"].astype(object))

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

    def test_by_areas_without_places(self, tmp_path: Path) -> None:
        path = tmp_path / "x"
        write_cosmx(path, TISSUE, fov_px=FOV_PX, images=False, transcripts=False, positions=False)
        seen = READER.inspect(path, NEW)
        assert seen.unit_source == "0.12028 um per pixel, by Area.um2 against Area"

    def test_contradictions_are_refused(self) -> None:
        with pytest.raises(InputError, match="different exports"):
            find_pixel_size(None, 0.18, 0.12028, 4200, "x")
        with pytest.raises(InputError, match=r"um_per_unit is 0\.18, but a pixel is 0\.12028 um"):
            find_pixel_size(0.18, 0.12028, None, 4200, "x")
        assert find_pixel_size(0.1215, 0.12028, None, 4200, "x").notes
        settled = find_pixel_size(0.12028, 0.18, 0.12028, 4200, "x")
        assert settled.um_per_unit == 0.12028
        assert "a pixel is 0.18 um by the FOV positions" in settled.notes[0]
        assert find_pixel_size("unknown", 0.12028, None, 4200, "x").um_per_unit is None

    def test_areas_without_meaning(self) -> None:
        assert size_by_area(np.zeros(3), np.ones(3)) is None
        assert size_by_area(np.ones(3), None) is None
