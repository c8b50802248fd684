"""ingest(): what is written, skipped, replaced, and what a failing section does to the others."""

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tisseract.atlas.errors import BudgetExceeded, InputError, InvalidArgument, ReadOnly
from tisseract.atlas.snapshot import Change
from tisseract.atlas.store import open_store
from tisseract.atlas.verify import verify
from tisseract.ingest import ingest, preview, workers
from tisseract.ingest.progress import Progress

Rows = list[dict[str, Any]]


def rows_of(toy: ModuleType, folder: Path, seeds: Sequence[int] = (0, 1, 2)) -> Rows:
    return [
        {"sample": f"s{i}", "data_path": toy.write_toy(folder / f"s{i}.npz", i), "donor": f"d{i}"}
        for i in seeds
    ]


def leftovers(atlas: Path) -> list[Path]:
    """Files under sections/ that no snapshot names."""
    used = [entry.prefix for entry in open_store(atlas).snapshot.sections.values()]
    used += [entry.manifest for entry in open_store(atlas).snapshot.sections.values()]
    files = [path for path in (atlas / "sections").rglob("*") if path.is_file()]
    return [f for f in files if not any(str(f.relative_to(atlas)).startswith(u) for u in used)]


def test_sections_arrive_whole_and_verify_clean(toy: ModuleType, tmp_path: Path) -> None:
    rows = rows_of(toy, tmp_path)
    report = ingest(rows, tmp_path / "atlas", n_workers=2)
    assert [o.section for o in report.written] == ["s0", "s1", "s2"]
    assert (report.snapshot, report.exit_code) == (1, 0)
    store = open_store(tmp_path / "atlas")
    assert verify(store).ok
    assert not leftovers(tmp_path / "atlas")
    for i in range(3):
        section = store.section(f"s{i}")
        counts = toy.toy_counts(i)
        rows_in_source = np.asarray(section.group["tisseract/source_row"])
        stored = section.counts().toarray()
        np.testing.assert_array_equal(stored, counts.toarray()[rows_in_source])
        assert section.metadata["donor"] == f"d{i}"


def test_a_repeated_call_skips_what_is_there(toy: ModuleType, tmp_path: Path) -> None:
    rows = rows_of(toy, tmp_path)
    ingest(rows[:2], tmp_path / "atlas")
    report = ingest(rows, tmp_path / "atlas")
    assert [(o.section, o.outcome) for o in report.outcomes] == [
        ("s0", "skipped"),
        ("s1", "skipped"),
        ("s2", "written"),
    ]
    assert ingest(rows, tmp_path / "atlas").snapshot == report.snapshot == 2


def test_a_changed_section_needs_overwrite(toy: ModuleType, tmp_path: Path) -> None:
    rows = rows_of(toy, tmp_path)
    ingest(rows, tmp_path / "atlas")
    before = open_store(tmp_path / "atlas").snapshot
    toy.write_toy(rows[1]["data_path"], 7)
    with pytest.raises(InputError, match=r"row 2 \(s1\): section 's1' is there already"):
        ingest(rows, tmp_path / "atlas")
    assert open_store(tmp_path / "atlas").snapshot == before
    report = ingest(rows, tmp_path / "atlas", overwrite=True)
    assert [o.outcome for o in report.outcomes] == ["replaced"] * 3
    store = open_store(tmp_path / "atlas")
    assert store.section("s1").counts().sum() == toy.toy_counts(7).sum()
    again, first = store.snapshot.sections["s0"], before.sections["s0"]
    assert (again.fingerprint, again.nnz) == (first.fingerprint, first.nnz)
    assert again.attempt != first.attempt


def test_other_tiles_are_another_section(toy: ModuleType, tmp_path: Path) -> None:
    rows = rows_of(toy, tmp_path, [0])
    ingest(rows, tmp_path / "atlas")
    with pytest.raises(InputError, match="section 's0' is there already"):
        ingest(rows, tmp_path / "atlas", tile_cells=16)
    ingest(rows, tmp_path / "atlas", tile_cells=16, overwrite=True)
    assert open_store(tmp_path / "atlas").snapshot.sections["s0"].tile_cells <= 16


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("what", ["section", "panel", "both"])
def test_overwriting_repairs_what_is_damaged(toy: ModuleType, tmp_path: Path, what: str) -> None:
    rows = rows_of(toy, tmp_path, [0, 1])
    atlas = tmp_path / "atlas"
    ingest(rows, atlas)
    if what != "panel":
        entry = open_store(atlas).snapshot.sections["s0"]
        chunks = [p for p in (atlas / entry.prefix / "tables/table/X").rglob("0") if p.is_file()]
        flip(chunks[0])
    if what != "section":
        flip(next((atlas / "panels").iterdir()))
    assert not verify(open_store(atlas)).ok
    assert {o.outcome for o in ingest(rows, atlas).outcomes} == {"skipped"}
    report = ingest(rows[:1], atlas, overwrite=True)
    assert [o.outcome for o in report.outcomes] == ["replaced"]
    assert verify(open_store(atlas)).ok


def test_an_opened_atlas_is_a_place(toy: ModuleType, tmp_path: Path) -> None:
    rows = rows_of(toy, tmp_path)
    ingest(rows[:1], tmp_path / "atlas")
    store = open_store(tmp_path / "atlas", read_only=False)
    assert ingest(rows[:2], store).snapshot == store.version == 2
    assert preview(rows, store).writes[0].source.section == "s2"
    with pytest.raises(InvalidArgument, match="has its own, but got region"):
        ingest(rows, store, storage_options={"region": "here"})
    with pytest.raises(ReadOnly):
        ingest(rows, open_store(tmp_path / "atlas"))
    assert open_store(tmp_path / "atlas").section_names == ["s0", "s1"]


def test_changed_metadata_is_a_changed_section(toy: ModuleType, tmp_path: Path) -> None:
    rows = rows_of(toy, tmp_path)
    ingest(rows, tmp_path / "atlas")
    rows[0]["donor"] = "other"
    with pytest.raises(InputError, match="section 's0' is there already"):
        ingest(rows, tmp_path / "atlas")


def test_a_split_makes_a_section_per_value(toy: ModuleType, tmp_path: Path) -> None:
    (row,) = rows_of(toy, tmp_path, [3])
    row |= {"split_by": "half", "timepoint": "E{split}", "condition": "{split} part"}
    with pytest.raises(InputError, match="more than one scale"):
        ingest([row], tmp_path / "atlas")
    del row["timepoint"]
    report = ingest([row], tmp_path / "atlas")
    assert sorted(o.section for o in report.written) == ["s3_left-side", "s3_right"]
    store = open_store(tmp_path / "atlas")
    assert store.section("s3_left-side").metadata["half"] == "left side"
    assert store.section("s3_right").metadata["condition"] == "right part"
    assert sum(store.sections.n_obs) == 60


def test_a_failing_section_stops_the_run_and_leaves_nothing(
    toy: ModuleType, tmp_path: Path
) -> None:
    rows = rows_of(toy, tmp_path, range(5))
    rows[2]["reader_kwargs"] = {"fail": True, "sleep": 0.2}
    with pytest.raises(InputError, match="broken, as asked") as caught:
        ingest(rows, tmp_path / "atlas", n_workers=1)
    assert any("run the same command again" in note for note in caught.value.__notes__)
    assert any("section 's2', row 3 (s2)" in note for note in caught.value.__notes__)
    assert not leftovers(tmp_path / "atlas")
    assert "s2" not in open_store(tmp_path / "atlas").snapshot.sections
    rows[2]["reader_kwargs"] = {}
    ingest(rows, tmp_path / "atlas")
    assert len(open_store(tmp_path / "atlas").snapshot.sections) == 5


@pytest.mark.parametrize("fault", ["fail", "bug", "refuse"])
def test_skipping_leaves_out_what_fails_and_says_so(
    toy: ModuleType, tmp_path: Path, fault: str
) -> None:
    rows = rows_of(toy, tmp_path)
    rows[1]["reader_kwargs"] = {fault: True}
    report = ingest(rows, tmp_path / "atlas", on_error="skip", run_json=tmp_path / "run.json")
    assert [o.section for o in report.failed] == ["s1"]
    assert report.exit_code == 3
    assert sorted(open_store(tmp_path / "atlas").snapshot.sections) == ["s0", "s2"]
    assert not leftovers(tmp_path / "atlas")
    told = json.loads((tmp_path / "run.json").read_text())
    assert told["exit_code"] == 3
    assert told["versions"]["zarr"]
    assert told["peak_bytes"] > 0


def test_all_faults_are_raised_before_anything_is_written(toy: ModuleType, tmp_path: Path) -> None:
    rows = rows_of(toy, tmp_path)
    rows[0]["reader_kwargs"] = {"refuse": True}
    rows[2]["reader_kwargs"] = {"refuse": True}
    with pytest.raises(InputError) as caught:
        ingest(rows, tmp_path / "atlas")
    assert [fault.location for fault in caught.value.faults] == ["row 1 (s0)", "row 3 (s2)"]
    assert not (tmp_path / "atlas").exists()


def test_sections_of_one_name_are_refused(toy: ModuleType, tmp_path: Path) -> None:
    (row,) = rows_of(toy, tmp_path, [1])
    row["split_by"] = "clash"
    with pytest.raises(InputError, match="would have the name of"):
        ingest([row], tmp_path / "atlas")


def test_one_file_and_keywords_are_enough(toy: ModuleType, tmp_path: Path) -> None:
    path = toy.write_toy(tmp_path / "brain.npz", 4)
    ingest(path, tmp_path / "atlas", donor="d", timepoint="P7")
    metadata = open_store(tmp_path / "atlas").snapshot.sections["brain"].metadata
    assert metadata["donor"] == "d"
    assert metadata["timepoint"] == "P7"
    with pytest.raises(InvalidArgument, match="unknown argument 'overwrit'"):
        ingest(path, tmp_path / "atlas", overwrit=True)
    with pytest.raises(InvalidArgument, match="columns are given in the sheet"):
        ingest(rows_of(toy, tmp_path), tmp_path / "atlas", donor="d")


def test_preview_tells_and_writes_nothing(toy: ModuleType, tmp_path: Path) -> None:
    plan = preview(rows_of(toy, tmp_path), tmp_path / "atlas", memory_limit="1GiB", n_workers=2)
    assert [p.action for p in plan.sections] == ["write"] * 3
    assert 0 < plan.peak_bytes <= 2**30
    assert not (tmp_path / "atlas").exists()


def test_too_little_memory_is_refused_up_front(toy: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(BudgetExceeded, match="raise the memory limit"):
        ingest(rows_of(toy, tmp_path), tmp_path / "atlas", memory_limit="32MiB")
    assert not (tmp_path / "atlas").exists()


def test_events_tell_the_story(toy: ModuleType, tmp_path: Path) -> None:
    events: list[Progress] = []
    ingest(rows_of(toy, tmp_path), tmp_path / "atlas", progress=events.append)
    kinds = [event.kind for event in events]
    assert kinds.count("start") == kinds.count("done") == 3
    assert kinds.index("plan") < kinds.index("start")
    assert kinds[-1] == "finish"
    assert "stage" in kinds
    commit = next(event for event in events if event.kind == "commit")
    assert (commit.done, commit.total, commit.message) == (3, 3, "snapshot 1")


def test_finished_sections_are_committed_while_others_run(toy: ModuleType, tmp_path: Path) -> None:
    rows = rows_of(toy, tmp_path)
    rows[2]["reader_kwargs"] = {"sleep": 1.5}
    seen: list[int] = []

    def watch(event: Progress) -> None:
        if event.kind == "commit":
            seen.append(len(open_store(tmp_path / "atlas").snapshot.sections))

    ingest(rows, tmp_path / "atlas", commit_seconds=0.1, progress=watch, n_workers=2)
    assert seen[0] < 3
    assert seen[-1] == 3


def test_an_interrupt_keeps_what_is_finished(toy: ModuleType, tmp_path: Path) -> None:
    rows = rows_of(toy, tmp_path)

    def interrupt(event: Progress) -> None:
        if event.kind == "commit" and threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(rows, tmp_path / "atlas", commit_seconds=0, n_workers=1, progress=interrupt)
    store = open_store(tmp_path / "atlas")
    assert 1 <= len(store.snapshot.sections) < 3
    assert verify(store).ok
    assert not leftovers(tmp_path / "atlas")


def test_two_ingests_of_one_sheet_meet(toy: ModuleType, tmp_path: Path) -> None:
    """Another writer commits a section between our plan and our commit: one copy stays."""
    rows = rows_of(toy, tmp_path)
    done = threading.Event()

    def rival(event: Progress) -> None:
        if event.kind == "start" and not done.is_set():
            done.set()
            ingest(rows[:2], tmp_path / "atlas")

    report = ingest(rows, tmp_path / "atlas", n_workers=1, progress=rival)
    assert [(o.section, o.outcome) for o in report.outcomes] == [
        ("s0", "skipped"),
        ("s1", "skipped"),
        ("s2", "written"),
    ]
    assert verify(open_store(tmp_path / "atlas")).ok
    assert not leftovers(tmp_path / "atlas")


def test_a_rival_with_another_input_is_not_overwritten(toy: ModuleType, tmp_path: Path) -> None:
    rows = rows_of(toy, tmp_path)
    other = [{**rows[0], "donor": "rival"}]
    done = threading.Event()

    def rival(event: Progress) -> None:
        if event.kind == "start" and not done.is_set():
            done.set()
            ingest(other, tmp_path / "atlas")

    with pytest.raises(InputError, match="another writer committed section 's0'"):
        ingest(rows, tmp_path / "atlas", n_workers=1, progress=rival)
    store = open_store(tmp_path / "atlas")
    assert store.snapshot.sections["s0"].metadata["donor"] == "rival"
    assert sorted(store.snapshot.sections) == ["s0", "s1", "s2"]
    assert not leftovers(tmp_path / "atlas")


def test_a_section_removed_from_the_atlas_comes_back(toy: ModuleType, tmp_path: Path) -> None:
    rows = rows_of(toy, tmp_path)
    ingest(rows, tmp_path / "atlas")
    open_store(tmp_path / "atlas", read_only=False).commit(Change(remove_sections=["s1"]), "drop")
    assert [o.section for o in ingest(rows, tmp_path / "atlas").written] == ["s1"]


def test_provenance_names_the_source_as_given_and_no_machine(
    toy: ModuleType, tmp_path: Path
) -> None:
    toy.write_toy(tmp_path / "s1.npz", 1)
    sheet = tmp_path / "samples.csv"
    sheet.write_text("sample,data_path,donor,slide\ns1,s1.npz,d1,0042\n")
    ingest(sheet, tmp_path / "atlas")
    section = open_store(tmp_path / "atlas").section("s1")
    provenance: dict[str, Any] = dict(section.group["tisseract/provenance"].attrs)
    assert provenance["source"] == "s1.npz"
    assert provenance["format"] == "toy"
    assert provenance["fingerprint"] == section.entry.fingerprint
    assert provenance["versions"]["numpy"]
    assert provenance["metadata"]["slide"] == "0042"
    assert str(tmp_path) not in json.dumps(provenance)


@pytest.mark.parametrize("client", ["thread", "tcp:/nowhere", "tcp://127.0.0.1:9"])
def test_a_wrong_client_is_refused(
    toy: ModuleType, tmp_path: Path, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_CONNECT_TIMEOUT", "0.2s")
    with pytest.raises(InvalidArgument, match=r"expected a distributed.Client|no Dask scheduler"):
        ingest(rows_of(toy, tmp_path, [0]), tmp_path / "atlas", client=client)
