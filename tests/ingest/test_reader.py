"""Finding a reader, fingerprints, units, gene maps, and the judgement on several sections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas.errors import InputError, InvalidArgument
from tisseract.ingest import reader as readers
from tisseract.ingest.gene_map import read_gene_map
from tisseract.ingest.reader import ReadOptions, faults_of, fingerprint, reader_for
from tisseract.ingest.several import is_sample_like, judge
from tisseract.ingest.source import CategoricalValues, NumericValues, StringValues
from tisseract.ingest.split import encode
from tisseract.ingest.units import find_unit, technology_unit

from . import h5ad_files as h5


class TestFinding:
    def test_unknown_format_lists_the_known_ones(self) -> None:
        with pytest.raises(InvalidArgument, match=r"h5ad.*spatialdata.*Did you mean 'visium'"):
            reader_for(Path("x"), "visum")

    def test_nothing_there_and_nothing_known(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="nothing there"):
            reader_for(tmp_path / "no")
        (tmp_path / "a.csv").write_text("x")
        with pytest.raises(InputError, match="none of them; name it in the `format` column"):
            reader_for(tmp_path / "a.csv")

    def test_hdf5_is_known_by_its_content(self, tmp_path: Path) -> None:
        path = h5.write_h5ad(tmp_path / "cells.h5")
        assert reader_for(path).format == "h5ad"


class TestFingerprint:
    def test_copy_is_the_same_input(self, tmp_path: Path) -> None:
        path = h5.write_h5ad(tmp_path / "a.h5ad")
        other = tmp_path / "folder"
        other.mkdir()
        (other / "a.h5ad").write_bytes(path.read_bytes())
        options = ReadOptions(um_per_unit=1.0)
        assert fingerprint(path, options) == fingerprint(other / "a.h5ad", options)

    def test_large_files_are_sampled(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(readers, "_WHOLE_FILE", 1000)
        monkeypatch.setattr(readers, "_SAMPLE_BYTES", 64)
        path = tmp_path / "a.bin"
        body = bytearray(np.random.default_rng(0).bytes(200_000))
        path.write_bytes(body)
        first = readers._digest(path)
        for place in (0, -1):
            changed = bytearray(body)
            changed[place] ^= 1
            path.write_bytes(changed)
            assert readers._digest(path) != first
        path.write_bytes(body[:-1])
        assert readers._digest(path) != first

    def test_guest_errors_name_the_file_but_a_full_disk_is_not_its_fault(
        self, tmp_path: Path
    ) -> None:
        with (
            pytest.raises(InputError, match=r"a\.txt.*truncated"),
            faults_of(tmp_path / "a.txt", "a"),
        ):
            raise OSError("cannot seek")
        with pytest.raises(OSError, match="full") as caught, faults_of(tmp_path / "a.txt", "a"):
            raise OSError(28, "full")
        assert not isinstance(caught.value, InputError)

    def test_mistakes_of_our_own_are_not_the_fault_of_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.h5"
        for error in (KeyError("a"), ValueError("b"), TypeError("c"), RuntimeError("d")):
            with pytest.raises(type(error)) as caught, faults_of(path, "a"):
                raise error
            assert not isinstance(caught.value, InputError)
            with pytest.raises(InputError) as refused, faults_of(path, "a", parsing=True):
                raise error
            assert refused.value.__cause__ is error
        with h5py.File(path, "w") as file:
            with pytest.raises(InputError, match="doesn't exist") as refused, faults_of(path, "a"):
                file["nothing"]
            assert isinstance(refused.value.__cause__, KeyError)


class TestUnits:
    XY = np.column_stack([np.tile(np.arange(9.0), 9), np.repeat(np.arange(9.0), 9)]) * 50

    def test_what_the_vendor_states_wins(self) -> None:
        said = (0.5, "the vendor")
        assert not find_unit(self.XY, 0.51, from_file=said, stated=True).notes
        assert find_unit(self.XY, 2.0, from_file=said).um_per_unit == 2.0
        assert find_unit(self.XY, "unknown", from_file=said, stated=True).um_per_unit is None
        (note,) = find_unit(self.XY, 0.45, from_file=said, stated=True).notes
        assert "um_per_unit is 0.45, but the files say 0.5 (the vendor)" in note
        with pytest.raises(InputError, match="leave it empty to take the files'"):
            find_unit(self.XY, 0.2, from_file=said, stated=True)

    @pytest.mark.parametrize(
        ("given", "expected"),
        [(0.5, 0.5), ("0.5", 0.5), ("unknown", None), ("lattice:200", 4.0), ("lattice:100um", 2.0)],
    )
    def test_what_is_given_counts(self, given: Any, expected: Any) -> None:
        found = find_unit(self.XY, given, technology="xenium", from_file=(9.0, "file"))
        assert found.um_per_unit == (None if expected is None else pytest.approx(expected))
        assert "as given" in found.how

    @pytest.mark.parametrize(
        "given", [0, -1.0, "nan", "lattice:0", "lattice:", "wide", float("inf")]
    )
    def test_what_is_no_unit_is_refused(self, given: Any) -> None:
        with pytest.raises(InputError, match="above zero"):
            find_unit(self.XY, given)

    def test_file_comes_before_assay(self) -> None:
        found = find_unit(self.XY, None, technology="visium", from_file=(9.0, "the file"))
        assert found.um_per_unit == 9.0
        assert "the file" in found.how

    def test_assay_implies_only_what_is_listed(self) -> None:
        assert technology_unit("CosMx") is None
        assert find_unit(self.XY, None, technology="MERSCOPE").um_per_unit == 1.0
        with pytest.raises(InputError, match=r"0\.05 units apart"):
            find_unit(self.XY / 1000, None, technology="MERSCOPE")
        with pytest.raises(InputError, match="set `um_per_unit`"):
            find_unit(self.XY, None, technology="CosMx")


class TestGeneMap:
    def test_columns_by_name(self, tmp_path: Path) -> None:
        path = tmp_path / "map.tsv"
        path.write_text("Gene\tEnsembl_ID\tsymbol\talias\nsox2\tENSMUSG00000074637\tSox2\ta|b\n\n")
        assert read_gene_map(path)["sox2"].aliases == ("a", "b")

    def test_faults(self, tmp_path: Path) -> None:
        path = tmp_path / "map.csv"
        path.write_text("from,to\na,b\n")
        with pytest.raises(InputError, match="got from, to"):
            read_gene_map(path)
        path.write_text("name,symbol\na,b\na,c\n")
        with pytest.raises(InputError, match="line 3"):
            read_gene_map(path)
        with pytest.raises(InputError, match="no such file"):
            read_gene_map(tmp_path / "no.csv")


class TestSeveral:
    rng = np.random.default_rng(0)
    XY = rng.random((600, 2)) * 1000
    HALF = np.repeat([0, 1], 300)

    def test_overlap_under_a_sample_name_alone(self) -> None:
        for name in ("sample", "Sample_ID", "orig.ident", "mouseId", "section", "day"):
            assert [e.column for e in judge(self.XY, {name: self.HALF})] == [name]
        for name in ("cluster", "layer", "array_row", "cell_id", "region", "batch_score"):
            assert judge(self.XY, {name: self.HALF}) == ()

    def test_apart_but_not_beside(self) -> None:
        shift = self.HALF[:, None] * np.asarray([1000.0, 0.0])
        assert judge(self.XY + 2 * shift, {"slide": self.HALF})[0].sign == "apart"
        assert judge(self.XY + shift, {"slide": self.HALF}) == ()

    def test_tiles_only_when_upon_one_another(self) -> None:
        tiles = (self.XY[:, 0] // 250).astype(int) * 4 + (self.XY[:, 1] // 250).astype(int)
        assert judge(self.XY, {"fov": tiles}) == ()
        local = self.XY % 250
        assert judge(local, {"fov": tiles})[0].sign == "overlap"

    def test_shared_places_tell_whatever_the_name(self) -> None:
        twice = np.vstack([self.XY[:300], self.XY[:300]])
        found = judge(twice, {"what": self.HALF, "noise": np.arange(600) % 2})
        assert [(e.column, e.sign) for e in found] == [("what", "repeated")]

    def test_doubled_cells_of_one_section_are_no_sign(self) -> None:
        xy = self.XY.copy()
        xy[:60] = xy[60:120]
        assert judge(xy, {"type": np.arange(600) % 3}) == ()

    def test_many_groups_missing_values_and_infinities_are_left_out(self) -> None:
        xy = self.XY.copy()
        xy[5] = np.nan
        assert judge(xy, {"sample": np.arange(600)}) == ()
        assert judge(xy, {"sample": np.full(600, -1)}) == ()
        assert judge(xy, {"sample": np.where(self.HALF == 1, -1, 0)}) == ()

    def test_names(self) -> None:
        assert not is_sample_like("sample_barcode")
        assert not is_sample_like("stage_quality")
        assert is_sample_like("brain_section_label")


@given(st.lists(st.sampled_from(["b", "a", "", None, "é"]), max_size=50))
@settings(max_examples=50, deadline=None)
def test_codes_and_labels_give_the_words_back(words: list[str | None]) -> None:
    codes, labels = encode(StringValues.from_strings(words))
    assert [labels[c] if c >= 0 else None for c in codes.tolist()] == words
    assert list(labels) == sorted(labels)


def test_codes_of_numbers_and_categories() -> None:
    codes, labels = encode(NumericValues(np.asarray([1.5, np.nan, 2.0])))
    assert (codes.tolist(), labels) == ([0, -1, 1], ("1.5", "2"))
    unused = CategoricalValues(np.asarray([2, -1, 0], dtype=np.int8), ("x", "never", "y"))
    codes, labels = encode(unused)
    assert (codes.tolist(), labels) == ([1, -1, 0], ("x", "y"))


class TestUnitAgainstTheAssay:
    SPOTS = np.stack(np.meshgrid(np.arange(12.0), np.arange(12.0)), -1).reshape(-1, 2) * 137.0

    def test_a_unit_far_from_the_lattice_is_refused(self) -> None:
        for unit in (1.0, "lattice:55", "lattice:1000"):
            with pytest.raises(InputError, match="write lattice:100"):
                find_unit(self.SPOTS, unit, technology="visium")

    def test_a_unit_near_the_lattice_is_noted(self) -> None:
        (note,) = find_unit(self.SPOTS, 0.8, technology="visium").notes
        assert "spots are 109.6 um apart" in note
        assert not find_unit(self.SPOTS, 0.73, technology="visium").notes
        assert not find_unit(self.SPOTS, 1.0, technology="merfish").notes
