"""check_samples: what each row holds, and all that is wrong with a sheet at once."""

import json
from pathlib import Path
from types import ModuleType

import pytest

from tisseract.ingest import check_samples
from tisseract.ingest.check import SheetReport
from tisseract.ingest.progress import Progress
from tisseract.ingest.time import CommittedTime


@pytest.fixture
def report(toy: ModuleType, tmp_path: Path) -> SheetReport:
    toy.write_toy(tmp_path / "a.npz", 1)
    toy.write_toy(tmp_path / "b.npz", 2, n_obs=90)
    (tmp_path / "junk.npz").write_bytes(b"junk")
    sheet = tmp_path / "samples.csv"
    sheet.write_text(
        "sample,path,format,timepoint,split_by,reader_kwargs\n"
        "a,a.npz,,E8,,\n"
        "b,b.npz,toy,P2,half,\n"
        "c,a.npz,toys,P3,,\n"
        "d,junk.npz,,P4,,\n"
        'e,a.npz,,P5,,"{""refuse"": true}"\n'
        "f,gone.npz,,P6,,\n"
    )
    return check_samples(sheet)


def test_a_row_tells_what_it_holds(report: SheetReport) -> None:
    a, b = (row.to_json() for row in report.rows[:2])
    assert (a["format"], a["technology"], a["n_obs"], a["n_vars"]) == ("toy", "simulated", 60, 12)
    assert a["sections"] == ["a"]
    assert a["reads"] == ["a.npz"]
    assert a["input_bytes"]
    assert a["disk_bytes"]
    assert a["memory_bytes"]
    assert b["sections"] == ["b_left-side", "b_right"]


def test_every_fault_is_listed_at_once(report: SheetReport) -> None:
    faults = [str(fault) for fault in report.faults]
    assert len(faults) == 4
    wanted = [
        ("row 7", "there is no 'gone.npz'"),
        ("row 4 (c)", "expected a format out of"),
        ("row 5 (d)", "not readable"),
        ("row 6 (e)", "inspection: refused, as asked"),
    ]
    for where, what in wanted:
        assert any(fault.startswith(where) and what in fault for fault in faults), (what, faults)
    assert "Did you mean 'toy'" in next(fault for fault in faults if "row 4" in fault)


def test_the_report_prints_itself_and_is_plain_json(report: SheetReport) -> None:
    text = str(report)
    assert "sections: b_left-side, b_right" in text
    assert "E8 < P2" in text
    assert text.endswith("4 faults to correct")
    assert json.loads(json.dumps(report.to_json()))["ok"] is False


def test_sections_carry_their_place_in_time(report: SheetReport) -> None:
    by_name = {source.section: source.metadata for source in report.sections}
    assert set(by_name) == {"a", "b_left-side", "b_right"}
    assert by_name["a"]["time_value"] == 8.0
    assert by_name["a"]["time_unit"] == "embryonic day"
    earlier, later = by_name["a"]["timepoint_order"], by_name["b_right"]["timepoint_order"]
    assert isinstance(earlier, float)
    assert isinstance(later, float)
    assert earlier < later


def test_times_of_the_atlas_count(toy: ModuleType, tmp_path: Path) -> None:
    rows = [{"sample": "a", "path": toy.write_toy(tmp_path / "a.npz", 1), "timepoint": "late"}]
    assert check_samples(rows).ok
    committed = {"E8": CommittedTime(8.0)}
    (fault,) = check_samples(rows, committed_times=committed).faults
    assert "more than one scale" in fault.message


def test_every_row_is_an_event(toy: ModuleType, tmp_path: Path) -> None:
    rows = [{"sample": name, "path": toy.write_toy(tmp_path / f"{name}.npz", 1)} for name in "abc"]
    events: list[Progress] = []
    check_samples(rows, progress=events.append)
    assert [(event.kind, event.section) for event in events] == [
        ("check", "a"),
        ("check", "b"),
        ("check", "c"),
    ]


def test_an_order_that_no_row_carries_is_a_fault(toy: ModuleType, tmp_path: Path) -> None:
    toy.write_toy(tmp_path / "b.npz", 2)
    sheet = tmp_path / "samples.yaml"
    row = "sample: b, path: b.npz, split_by: half"
    sheet.write_text(f"timepoints: [left side, right]\nsamples: [{{{row}}}]\n")
    (fault,) = check_samples(sheet).faults
    assert "no row carries" in fault.message
    assert "\"{split}\", the value of 'half'" in fault.message
    timed = f"timepoints: [left side, right]\nsamples: [{{{row}, timepoint: '{{split}}'}}]\n"
    sheet.write_text(timed)
    report = check_samples(sheet)
    assert report.ok
    assert [source.metadata["timepoint"] for source in report.sections] == ["left side", "right"]


def test_one_input_under_two_names_is_noted_and_told(toy: ModuleType, tmp_path: Path) -> None:
    path = toy.write_toy(tmp_path / "a.npz", 1)
    events: list[Progress] = []
    rows = [{"sample": name, "path": path} for name in "ab"]
    report = check_samples(rows, progress=events.append)
    (note,) = report.notes
    assert "as row 1 (a) does" in note.message
    assert [event.message for event in events if event.kind == "note"] == [str(note)]


def test_it_tells_what_is_read_and_what_it_takes(tmp_path: Path) -> None:
    from .vendors.tables_bundle import small, write_tables

    folder = write_tables(tmp_path / "tables", small(), "long")
    report = check_samples([{"sample": "a", "data_path": folder}])
    facts = report.rows[0].to_json()
    assert facts["technology"] == "STARmap"
    assert "spots.csv" in str(facts["reads"])
    assert report.rows[0].seconds > 0
    assert report.rows[0].disk_bytes >= (folder / "spots.csv").stat().st_size
    text = str(report)
    for words in ("reads spots.csv", "takes roughly", "of memory", "together roughly", "of disk"):
        assert words in text
