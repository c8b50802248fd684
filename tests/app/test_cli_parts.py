"""Parts of the command line: text, options, tables, progress, records."""

from __future__ import annotations

import json
import math
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from tisseract.atlas.errors import AtlasError, Fault, InputError, SectionNotFound
from tisseract.atlas.storage import open_storage
from tisseract.cli import main
from tisseract.cli.answers import check_target
from tisseract.cli.errors import UsageError, command
from tisseract.cli.options import names, numbers, storage_options
from tisseract.cli.output import Output, to_plain
from tisseract.cli.progress import Step, describe, reporter
from tisseract.cli.record import Run, record_path
from tisseract.cli.text import clean
from tisseract.ingest.progress import Progress
from tisseract.ingest.report import IngestReport, SectionOutcome


@given(st.text())
def test_cleaned_text_has_nothing_a_terminal_acts_upon(text: str) -> None:
    cleaned = clean(text)
    assert all(ord(char) >= 32 and not 127 <= ord(char) < 160 for char in cleaned)
    assert "\u202e" not in cleaned
    assert "\n" not in cleaned


def test_clean_keeps_words() -> None:
    assert clean("E12·é 日本 [red]") == "E12·é 日本 [red]"
    assert clean("a\nb", lines=True) == "a\nb"


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True)))
def test_json_has_no_nan(values: list[float]) -> None:
    text = json.dumps(to_plain({"x": np.array(values)}), allow_nan=False)
    back = json.loads(text)["x"]
    assert [math.isfinite(v) for v in values] == [v is not None for v in back]


def test_plain_values_of_everything() -> None:
    @dataclass
    class Thing:
        path: Path
        items: frozenset[int]

    assert to_plain(Thing(Path("a"), frozenset({2, 1}))) == {"path": "a", "items": [1, 2]}
    assert to_plain(np.int64(3)) == 3


def test_storage_options() -> None:
    assert storage_options(None) is None
    assert storage_options(["a=b=c", "d="]) == {"a": "b=c", "d": ""}
    with pytest.raises(UsageError) as caught:
        storage_options(["secret-without-equals"])
    assert "secret" not in str(caught.value)


def test_names_and_numbers() -> None:
    assert names(None) is None
    assert names(["a,b", "c"]) == ["a", "b", "c"]
    assert numbers("1,2.5", 2, "--x", "A,B") == (1.0, 2.5)
    for wrong in ("1", "1,2,3", "1,nan", "a,b", ""):
        with pytest.raises(UsageError, match="--x wants A,B"):
            numbers(wrong, 2, "--x", "A,B")


def test_targets(tmp_path: Path) -> None:
    assert check_target(str(tmp_path / "a.h5ad"), overwrite=False).name == "a.h5ad"
    with pytest.raises(UsageError, match=r"\.h5ad \(AnnData\)"):
        check_target("a.xlsx", overwrite=False)
    with pytest.raises(UsageError, match="does not exist"):
        check_target(str(tmp_path / "no" / "a.csv"), overwrite=False)
    (tmp_path / "b.csv").touch()
    with pytest.raises(UsageError, match="--overwrite"):
        check_target(str(tmp_path / "b.csv"), overwrite=False)
    (tmp_path / "c.csv").mkdir()
    with pytest.raises(UsageError, match="which is a folder"):
        check_target(str(tmp_path / "c.csv"), overwrite=True)


def test_tables_in_a_pipe_are_tab_separated(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"section": "a\x1b[2J", "n": 1_000, "x": float("nan")}, {"section": "b", "n": 2}]
    Output().rows(rows, ["section", "n", "x"])
    assert capsys.readouterr().out == "section\tn\tx\na\\x1b[2J\t1000\t\nb\t2\t\n"


def test_json_rows_keep_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=True).rows([{"section": "a", "more": None}], ["section"])
    assert json.loads(capsys.readouterr().out) == [{"section": "a", "more": None}]


def test_markup_in_names_is_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    Output().rows([{"section": "[bold red]x[/]"}], ["section"])
    assert "[bold red]x[/]" in capsys.readouterr().out


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Output(quiet=True).note("words")
    with reporter("title", quiet=True) as report:
        report("event")
    captured = capsys.readouterr()
    assert captured.err == captured.out == ""


def test_progress_lines_have_no_control_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with reporter("title\x1b]0;x", quiet=False) as report:
        report("one \x1b[31m")
        report("two", 1, 4)  # too soon after the last line for a small step
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 2
    assert "title" in lines[0]
    assert lines[1].endswith("one \\x1b[31m")
    assert "\x1b" not in captured.err


def test_small_steps_are_told_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("tisseract.cli.progress.time.monotonic", lambda: now)
    with reporter("title", quiet=False) as report:
        for done in range(10):
            now += 1.0
            report(f"tile {done}", done, 10)
    assert [line.split("s  ", 1)[1] for line in capsys.readouterr().err.splitlines()] == [
        "title",
        *(f"tile {done}  {done}/10" for done in (1, 3, 5, 7, 9)),
    ]


def test_progress_reads_events_of_the_engine() -> None:
    from tisseract.ingest.progress import Progress

    assert describe((Progress("done", "E12", "written", 1, 8),)) == Step(
        "done E12 written", 1.0, 8.0, major=True
    )
    assert describe((Progress("plan", "", "2 to write\n  a\n  b"),)).text == "2 to write"
    assert not describe((Progress("stage", "E12", "genes"),)).major


def failing(error: Exception) -> Any:
    @command
    def run(*, json: bool = False, verbose: int = 0) -> None:
        raise error

    return run


def test_an_error_is_one_message_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    import typer

    with pytest.raises(typer.Exit) as caught:
        failing(SectionNotFound("wanted a section, but got 'x\x07'"))()
    assert caught.value.exit_code == 1
    captured = capsys.readouterr()
    assert captured.err == "error: wanted a section, but got 'x\\x07'\n"
    assert captured.out == ""


def test_an_error_in_json_lists_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    import typer

    faults = (Fault("row 1", "no file"), Fault("row 2", "no unit"))
    with pytest.raises(typer.Exit):
        failing(InputError(faults, "samples.csv"))(json=True)
    answer = json.loads(capsys.readouterr().out)["error"]
    assert [fault["location"] for fault in answer["faults"]] == ["row 1", "row 2"]


def test_a_usage_error_leaves_with_2_and_a_fault_of_ours_with_a_traceback() -> None:
    import typer

    with pytest.raises(typer.Exit) as caught:
        failing(UsageError("no"))()
    assert caught.value.exit_code == 2
    with pytest.raises(ZeroDivisionError):
        failing(ZeroDivisionError())()


def test_twice_verbose_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    import typer

    with pytest.raises(typer.Exit):
        failing(SectionNotFound("x"))(verbose=2)
    assert "Traceback" in capsys.readouterr().err


def test_records_go_beside_the_atlas_never_inside(tmp_path: Path) -> None:
    url = str(tmp_path / "a.atlas")
    path = record_path(url, "graph", None)
    assert path == tmp_path / "a.atlas.graph.run.json"
    assert record_path(f"file://{url}", "graph", None) == path
    Run("graph", {"n": 1}).write(url, None, Output(quiet=True), results={"x": float("nan")})
    assert path is not None
    record = json.loads(path.read_text())
    assert record["command"] == "graph"
    assert record["inputs"] == {"n": 1}
    assert record["x"] is None
    assert record["peak_rss_bytes"] > 10**6
    assert "tisseract" in record["versions"]


def test_usage_errors_exit_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonsense"]) == 2
    assert main(["ls"]) == 2
    assert main(["graph", "a", "--knn", "3", "--grid", "hex"]) == 2
    assert main(["ingest", "a", "b", "--resume", "--overwrite"]) == 2
    assert main(["region", "a", "--section", "s"]) == 2
    assert main(["domains", "a", "--method", "magic", "--n-domains", "3"]) == 2
    assert main(["demo", "somewhere", "--um-per-unit", "2"]) == 2
    capsys.readouterr()


def test_every_command_takes_json_quiet_and_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    commands = "demo check-samples ingest ls info values graph train domains query region gene"
    others = "graph-stats embed domain-table export verify gc history"
    for name in [*commands.split(), *others.split()]:
        assert main([name, "--help"]) == 0
        text = capsys.readouterr().out
        assert all(option in text for option in ("--json", "--quiet", "--verbose")), name


def test_a_missing_atlas_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", str(tmp_path / "none.atlas")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert "Traceback" not in captured.err
    assert not (tmp_path / "none.atlas").exists()
    assert main(["ls", str(tmp_path / "none.atlas"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "atlas-not-found"


@pytest.mark.parametrize("quiet", [False, True])
def test_our_warnings_are_one_line_and_others_are_not_shown(
    quiet: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import warnings

    from tisseract.query import UnmeasuredWarning

    @command
    def run(*, quiet: bool) -> None:
        warnings.warn("not measured \x1b[2J", UnmeasuredWarning, stacklevel=1)
        warnings.warn("theirs", FutureWarning, stacklevel=1)

    monkeypatch.setattr("sys.warnoptions", [])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        run(quiet=quiet)
    expected = "" if quiet else "warning: not measured \\x1b[2J\n"
    assert capsys.readouterr().err == expected


# pandas 3.1 deprecates what anndata calls.
@pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated")
def test_dropped_sections_are_told_and_not_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ..sections import make_raw, make_store

    raws = {"a": make_raw(n_obs=30), "b": make_raw(n_obs=20, genes=["Other"], n_vars=1)}
    store = make_store(tmp_path, raws)
    target = tmp_path / "kept.csv"
    options = ["--genes", "Gene0", "--missing", "drop_sections", "-o", str(target)]
    assert main(["query", store.url, *options, "--run-json", "-", "--json"]) == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert (answer["n_obs"], answer["sections"], answer["dropped"]) == (30, {"a": 30}, ["b"])
    assert "left out" in captured.err
    assert len(target.read_text().splitlines()) == 31
    assert main(["query", store.url, "--genes", "Gene0", "-o", str(tmp_path / "x.csv")]) == 1
    assert "choose --missing nan, drop_sections or zero" in capsys.readouterr().err
    out = str(tmp_path / "all.h5ad")
    assert main(["export", store.url, "--missing", "drop_sections", "-o", out, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["dropped"] == ["a", "b"]
    assert "left out, as they did not measure every gene: a, b" in captured.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_writing_command_with_the_next_step(
    number: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    @command
    def work(*, dry_run: bool = False) -> None:
        signal.raise_signal(signal.Signals(number))
        signal.sigtimedwait([], 5)

    before = signal.getsignal(signal.SIGTERM)
    # A runner in the background may have inherited that interrupts are ignored.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(typer.Exit) as leaving:
            work(dry_run=False)
    finally:
        signal.signal(signal.SIGINT, inherited)
    assert leaving.value.exit_code == code
    assert capsys.readouterr().err == "interrupted; run the same command again to go on\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_help_keeps_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--help"]) == 0
    assert "tisseract[viz]" in capsys.readouterr().out


def test_a_fault_that_names_its_row_is_told_once() -> None:
    event = Progress("fail", "row 2 (A1)", "row 2 (A1): gone")
    assert describe((event,)).text == "fail row 2 (A1): gone"
    outcome = SectionOutcome("row 2 (A1)", "failed", "row 2 (A1): gone")
    assert "failed row 2 (A1): gone" in str(IngestReport("a", "s", 1, (outcome,)))


def test_a_file_is_no_atlas(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(AtlasError, match=r"a folder is wanted, but got the file.*file\.txt"):
        open_storage(tmp_path / "file.txt", read_only=False).put("a", b"x")


@pytest.mark.parametrize("kind", ["any", "domains", "hits"])
def test_a_table_cut_short_leaves_what_was_there(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd

    from tisseract.cli import answers, domain_table
    from tisseract.query.retrieval.hits import Hits

    frame = pd.DataFrame({"n_cells": [1]}, index=pd.Index(["0"], name="domain"))
    target = tmp_path / "t.csv"
    target.write_text("old")
    asked: list[Path] = []

    def cut(_: object, path: Path, **__: object) -> None:
        asked.append(path)
        path.write_text("half")
        raise OSError("full")

    def write() -> None:
        if kind == "any":
            answers.write_table(frame, target)
        elif kind == "domains":
            domain_table.tell(Output(False, True, 0), frame, {}, target)
        else:
            Hits(frame, None, "", "um").write(target)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(pd.DataFrame, "to_csv", cut)
        for _ in range(2):
            with pytest.raises(OSError, match="full"):
                write()
    # Two that write one file do not write one part.
    assert len(set(asked)) == 2
    assert [(file, file.read_text()) for file in tmp_path.iterdir()] == [(target, "old")]
    write()
    assert "n_cells" in target.read_text()
    assert list(tmp_path.iterdir()) == [target]
