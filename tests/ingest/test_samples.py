"""The sample sheet: every fault at once, each with its row, its value and the next step."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisseract.atlas.errors import InputError
from tisseract.ingest.scalars import infer_column
from tisseract.ingest.section_names import section_name
from tisseract.ingest.sheet import read_samples


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.h5ad", "b.h5ad", "map.csv", "he.tif"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def write(folder: Path, text: str, name: str = "samples.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def messages(path: Path) -> list[str]:
    return [str(fault) for fault in read_samples(path).faults]


def test_a_row_is_read_with_all_its_columns(folder: Path) -> None:
    path = write(
        folder,
        "Sample ID,path,format,technology,values,um_per_unit,y_axis,split_by,organism,gene_map,"
        "timepoint,time_value,timepoint_unit,donor,z_um,section_index,image,layer,spatial_key,"
        "reader_kwargs,slide,passage\ns1,a.h5ad,h5ad,merfish,expected,0.5,up,none,mouse,map.csv,"
        'E12.5,12.5,days,007,10,3,he.tif,raw,spatial,"{""a"": 1}",V10,07\n',
    )
    (row,) = read_samples(path).sheet_or_raise().rows
    assert (row.sample, row.data_path, row.path) == ("s1", "a.h5ad", folder / "a.h5ad")
    assert (row.format, row.values, row.um_per_unit, row.y_axis) == ("h5ad", "expected", 0.5, "up")
    assert (row.split_by, row.gene_map, row.image) == (
        "none",
        folder / "map.csv",
        folder / "he.tif",
    )
    assert (row.timepoint, row.time_value, row.time_unit) == ("E12.5", 12.5, "day")
    assert (row.layer, row.spatial_key, row.reader_kwargs) == ("raw", "spatial", {"a": 1})
    assert row.metadata == {
        "technology": "merfish",
        "organism": "mouse",
        "donor": "007",
        "z_um": 10.0,
        "section_index": 3,
        "slide": "V10",
        "passage": "07",
    }


def test_the_three_formats_say_the_same(folder: Path) -> None:
    rows = [("s1", "a.h5ad", "01", "4"), ("s2", "b.h5ad", "02", "5.5")]
    header = ("sample", "data_path", "donor", "depth")
    csv = write(folder, "\n".join(",".join(cells) for cells in (header, *rows)))
    tsv = write(folder, "\n".join("\t".join(cells) for cells in (header, *rows)), "samples.tsv")
    entries = "".join(
        "  - {" + ", ".join(f"{h}: {c}" for h, c in zip(header, cells, strict=True)) + "}\n"
        for cells in rows
    )
    yaml = write(folder, f"samples:\n{entries}", "samples.yaml")
    first = [r.metadata for r in read_samples(csv).sheet_or_raise().rows]
    assert first == [{"donor": "01", "depth": 4.0}, {"donor": "02", "depth": 5.5}]
    for other in (tsv, yaml):
        assert [r.metadata for r in read_samples(other).sheet_or_raise().rows] == first


def test_reader_options_in_yaml_are_those_of_json(folder: Path) -> None:
    row = "- sample: s1\n  data_path: a.h5ad\n  reader_kwargs: "
    said = "images: false, scale: 0.50, bins: [8, 016], word: NaN, deep: {section: 1.50}"
    path = write(folder, f"{row}{{{said}}}", "samples.yaml")
    reading = read_samples(path)
    assert not reading.faults
    assert reading.sheet.rows[0].reader_kwargs == {
        "images": False, "scale": 0.5, "bins": [8, "016"], "word": "NaN",
        "deep": {"section": "1.50"},
    }  # fmt: skip


def test_yaml_brings_an_order_and_defaults(folder: Path) -> None:
    path = write(
        folder,
        "timepoints: [early, late]\ndefaults: {organism: mouse, condition: no}\n"
        "samples:\n  - {sample: s1, path: a.h5ad, timepoint: late}\n",
        "samples.yaml",
    )
    sheet = read_samples(path).sheet_or_raise()
    assert sheet.timepoints == ("early", "late")
    assert sheet.rows[0].metadata == {"organism": "mouse", "condition": "no"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("samples: [{a: &x 1, b: *x}]", "aliases are not read"),
        ("samples: [{a: 1, a: 2}]", "twice"),
        ("sample: s1", "expected the keys samples, timepoints, defaults, but got sample"),
        ("3", "expected a list of rows"),
        ("timepoints: {a: 1}\nsamples: []", "expected `timepoints` to be a list"),
        ("samples: [", "not readable as YAML"),
        ("samples: " + "[" * 3000, "not readable as YAML"),
        ("samples: []", "got none"),
    ],
)
def test_other_yaml_is_refused(folder: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_samples(write(folder, text, "samples.yaml"))


def test_every_fault_is_reported_at_once_with_its_row(folder: Path) -> None:
    found = messages(
        write(
            folder,
            "sample,data_path,values,um_per_unit,y_axis,timepoint,time_value,time_unit,annotation\n"
            "s 1,a.h5ad,count,-1,sideways,,x,,\n"
            "s2,aa.h5ad,counts,lattice:100,down,E12,1,,roi.geojson\n"
            ",a.h5ad,,unknown,,,,,\n"
            "s2,b.h5ad,,nan,,,,day,\n",
        )
    )
    wanted = [
        "but got 's 1'; try 's-1'",
        "row 2: time_value: expected a number, but got 'x'",
        "row 2: values: expected counts | expected | normalized | log1p | composition, but got 'c",
        "row 2: um_per_unit: expected micrometres per coordinate unit",
        "row 2: y_axis: expected down | up, but got 'sideways'.",
        "row 3: time_unit: time_value needs its unit",
        "row 3: annotation: expected the file 'roi.geojson'",
        "row 3: data_path: there is no 'aa.h5ad'",
        "row 4: sample: expected a name, but the cell is empty",
        "row 5: um_per_unit: expected micrometres",
        "row 5: time_unit: a unit without a time",
        "row 5: section 's2' stands in row 3 already",
    ]
    for want in wanted:
        assert any(want in message for message in found), (want, found)
    assert len(found) == len(wanted)
    assert "Did you mean 'a.h5ad'" in next(m for m in found if "aa.h5ad" in m)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sampel,data_path\ns1,a.h5ad\n", "header: there is no column 'sample' .* mean 'sampel'"),
        ("sample,path,data_path\ns1,a,a\n", "'path' and 'data_path' both mean 'data_path'"),
        ("sample,data_path,x,x\ns1,a.h5ad,1,2\n", "column 'x' stands there twice"),
        ("sample,data_path,\ns1,a.h5ad,1\n", "column 3 has no name"),
        ("sample,data_path\ns1,a.h5ad,1\n", "row 2: expected 2 cells, as in the header, but got 3"),
        ("sample,data_path,n_obs\ns1,a.h5ad,1\n", "'n_obs' has a name the catalog fills itself"),
        ("sample,data_path,image\ns1,a.h5ad,s3://b/x.tif\n", "expected a local file"),
        ("sample,data_path,reader_kwargs\ns1,a.h5ad,[1]\n", "expected a JSON object"),
        ("sample,data_path,reader_kwargs\ns1,a.h5ad,{\n", "not readable as JSON"),
        (
            "sample,data_path,timepoint,timepoint_order\na,a.h5ad,x,1\nb,a.h5ad,x,2\n",
            "'x' is 2 here but 1",
        ),
        ("sample,data_path,timepoint,timepoint_order\na,a.h5ad,x,1\nb,a.h5ad,y,1\n", "are both 1"),
        ("sample,data_path,section_index\na,a.h5ad,1.5\n", "expected a whole number"),
    ],
)
def test_a_fault_says_what_and_where(folder: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_samples(write(folder, text)).sheet_or_raise()


def test_a_misspelled_column_is_noted_not_swallowed(folder: Path) -> None:
    reading = read_samples(write(folder, "sample,path,um_per_unt,batch2\ns1,a.h5ad,1,x\n"))
    assert [note.message for note in reading.notes] == [
        "column 'um_per_unt': did you mean 'um_per_unit'? It is kept as metadata of the section"
    ]


@pytest.mark.parametrize("text", ["", "\n\n", "sample,data_path\n"])
def test_an_empty_sheet_is_refused(folder: Path, text: str) -> None:
    with pytest.raises(InputError, match="got none"):
        read_samples(write(folder, text))


def test_a_missing_or_binary_sheet_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="there is no such sample sheet"):
        read_samples(folder / "no.csv")
    (folder / "x.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="expected UTF-8"):
        read_samples(folder / "x.csv")


def test_rows_may_come_from_python(folder: Path) -> None:
    rows = [
        {"sample": "s1", "data_path": folder / "a.h5ad", "um_per_unit": 2, "day": 4, "ok": True}
    ]
    (row,) = read_samples(rows).sheet_or_raise().rows
    assert row.um_per_unit == 2.0
    assert row.metadata == {"day": 4, "ok": True}


def test_section_names_of_a_split_are_deterministic() -> None:
    assert section_name("m", "a b") == section_name("m", "a  b") == "m_a-b"
    assert section_name("m", "../x") == "m_..-x"
    assert section_name("m", "") == "m_empty"


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1))
def test_integers_stay_integers(numbers: list[int]) -> None:
    assert infer_column([str(number) for number in numbers]) == numbers


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_floats_stay_floats(numbers: list[float]) -> None:
    assert infer_column([repr(number) for number in numbers]) == numbers


@given(st.lists(st.text(min_size=1).map(str.strip).filter(bool), min_size=1))
def test_any_text_is_kept_or_read_as_one_type(words: list[str]) -> None:
    column = infer_column(words)
    types = {type(value) for value in column if value is not None}
    assert len(types) <= 1
    if types == {str}:
        assert column == words
    json.dumps(column, allow_nan=False)


@pytest.mark.parametrize(
    ("header", "meant"),
    [
        ("tech", "technology"),
        ("um_per_px", "um_per_unit"),
        ("Species", "organism"),
        ("time", "timepoint"),
    ],
)
def test_other_words_for_a_column_are_noted(folder: Path, header: str, meant: str) -> None:
    (note,) = read_samples(write(folder, f"sample,path,{header}\ns1,a.h5ad,1\n")).notes
    assert f"did you mean {meant!r}? It is kept as metadata" in note.message


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ("timepoint: '{day}', split_by: day", "did you mean '{split}' (the value of 'day')"),
        ("timepoint: day, split_by: day", "did you mean '{split}'"),
        ("donor: '{animal}', split_by: animal", "did you mean '{split}'"),
        ("timepoint: '{split}'", "the row has none"),
        ("timepoint_column: day, split_by: day", "goes into `timepoint`"),
        ("pair: [1, 2]", "pair: expected one text or number, but got ['1', '2']"),
        ("donor: [1, 2]", "donor: expected one text"),
    ],
)
def test_what_would_be_stored_as_nonsense_is_a_fault(
    folder: Path, cells: str, message: str
) -> None:
    path = write(folder, f"samples: [{{sample: s1, path: a.h5ad, {cells}}}]", "samples.yaml")
    assert any(message in fault for fault in messages(path)), messages(path)


def test_a_time_of_each_part_is_fine(folder: Path) -> None:
    row = "{sample: s1, path: a.h5ad, split_by: day, timepoint: 'day {split}'}"
    assert not messages(write(folder, f"samples: [{row}]", "samples.yaml"))


@pytest.mark.parametrize("separator", [";", "\t", ","])
def test_a_csv_may_have_another_separator_and_an_empty_tail(folder: Path, separator: str) -> None:
    lines = [["sample", "path", "um_per_unit", "", ""], ["s1", "a.h5ad", "0.5", "", ""]]
    path = write(folder, "\n".join(separator.join(line) for line in lines))
    assert read_samples(path).sheet_or_raise().rows[0].um_per_unit == 0.5


def test_a_decimal_comma_stays_a_fault(folder: Path) -> None:
    found = messages(write(folder, "sample;path;um_per_unit\ns1;a.h5ad;0,5\n"))
    assert "but got '0,5'" in found[0]


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_other_encodings_are_told_how_to_save(folder: Path, encoding: str) -> None:
    path = folder / "samples.csv"
    path.write_bytes("sample,path,donor\ns1,a.h5ad,Müller\n".encode(encoding))
    with pytest.raises(InputError, match="save it as CSV UTF-8"):
        read_samples(path)


def test_a_spreadsheet_or_folder_is_no_sheet(folder: Path) -> None:
    (folder / "samples.xlsx").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="spreadsheet; save it as CSV UTF-8"):
        read_samples(folder / "samples.xlsx")
    with pytest.raises(InputError, match="but got a folder"):
        read_samples(folder)
