"""The command line from end to end over a small simulated atlas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata
import pytest

import tisseract
from tisseract.cli import main
from tisseract.simulator import SimulationPlan, simulate

# anndata 0.13 reads an option that pandas 3 has deprecated; it is theirs to change
pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated")

PLAN = SimulationPlan(n_cells=1_200, n_genes=40, timepoints=("E11.5", "E12.5"), seed=3)


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("cli")
    sheet = simulate(PLAN, folder / "data").sheet
    url = str(folder / "small.atlas")
    assert main(["ingest", str(sheet), url, "-q"]) == 0
    assert main(["graph", url, "--knn", "6", "-q"]) == 0
    options = ["--n-domains", "4", "--key-added", "domain_plain", "-q"]
    assert main(["domains", url, "--method", "plain", *options]) == 0
    return url


def ask(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    """Run a command with --json and hand out what it printed."""
    assert main([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_check_samples_finds_nothing_wrong(atlas: str, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = Path(atlas).parent / "data" / "samples.csv"
    report = ask(capsys, "check-samples", str(sheet))
    assert report["ok"]
    assert len(report["rows"]) == 4


def test_check_samples_fails_with_every_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "samples.csv"
    sheet.write_text("sample,data_path\na,none.h5ad\nb,nowhere.h5ad\n")
    report = ask(capsys, "check-samples", str(sheet), code=1)
    text = json.dumps(report)
    assert "none.h5ad" in text
    assert "nowhere.h5ad" in text


def test_ls_tells_what_the_issue_promises(atlas: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ask(capsys, "ls", atlas)
    assert [row["section"] for row in rows] == [section.name for section in PLAN.sections]
    assert [row["n_obs"] for row in rows] == [section.n_cells for section in PLAN.sections]
    assert {row["n_vars"] for row in rows} == {40}
    assert {row["technology"] for row in rows} == {"simulated"}
    assert [row["timepoint"] for row in rows] == ["E11.5", "E11.5", "E12.5", "E12.5"]


def test_info_of_the_atlas_and_of_a_section(atlas: str, capsys: pytest.CaptureFixture[str]) -> None:
    facts = ask(capsys, "info", atlas)
    assert facts["cells"] == PLAN.n_cells
    assert facts["derived"]["graph"] == {"spatial": 4}
    one = ask(capsys, "info", atlas, "--section", "E12.5_e1")
    assert one["um_per_unit"] == 1
    assert "domains/domain_plain" in one["derived"]


def test_values_equal_python(atlas: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ask(capsys, "values", atlas, "domain_plain")
    known = tisseract.open(atlas).values("domain_plain")
    assert {row["value"]: row["n_obs"] for row in rows} == known.to_dict()
    assert sum(row["n_obs"] for row in rows) == PLAN.n_cells


def test_history_and_a_pinned_read(atlas: str, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = [row["number"] for row in ask(capsys, "history", atlas)]
    assert numbers == sorted(numbers, reverse=True)
    assert len(numbers) >= 3
    assert ask(capsys, "info", atlas, "--version", "1")["derived"] == {}
    assert main(["info", atlas, "--version", "99"]) == 1


def test_query_without_a_file_counts(atlas: str, capsys: pytest.CaptureFixture[str]) -> None:
    answer = ask(capsys, "query", atlas, "--obs", "true_domain == 'niche'", "--timepoint", "E12.5")
    known = tisseract.open(atlas).query(obs="true_domain == 'niche'", timepoint="E12.5")
    assert answer["n_obs"] == known.n_obs > 0
    assert set(answer["sections"]) <= {"E12.5_e1", "E12.5_e2"}


def test_query_writes_every_section_with_labels_joined(
    atlas: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "all.h5ad"
    answer = ask(capsys, "query", atlas, "-o", str(target), "--missing", "zero")
    assert answer["n_obs"] == PLAN.n_cells
    data = anndata.read_h5ad(target)
    assert data.n_obs == PLAN.n_cells
    assert set(data.obs["section"]) == {section.name for section in PLAN.sections}
    assert data.obs["domain_plain"].notna().all()
    assert (Path(atlas).parent / "small.atlas.query.run.json").is_file()
    assert main(["query", atlas, "-o", str(target), "-q"]) == 2


def test_query_says_where_a_filter_is_wrong(atlas: str, capsys: pytest.CaptureFixture[str]) -> None:
    answer = ask(capsys, "query", atlas, "--obs", "true_domian == 'niche'", code=1)
    assert "true_domain" in answer["error"]["message"]
    answer = ask(capsys, "query", atlas, "--obs", "__import__('os')", code=1)
    assert answer["error"]["kind"]


def test_region_equals_python(
    atlas: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = tisseract.open(atlas)
    x, y, right, bottom = opened.section("E12.5_e1").bounds
    box = (x, y, (x + right) / 2, (y + bottom) / 2)
    known = opened.region("E12.5_e1", bbox=box).n_obs
    text = ",".join(str(value) for value in box)
    target = tmp_path / "roi.csv"
    options = ["--section", "E12.5_e1", "--bbox", text, "-o", str(target)]
    answer = ask(capsys, "region", atlas, *options)
    assert answer["n_obs"] == known > 0
    assert len(target.read_text().splitlines()) == known + 1


def test_options_of_a_file_need_one(atlas: str, capsys: pytest.CaptureFixture[str]) -> None:
    for option in (["--memory-limit", "lots"], ["--normalize", "log1p"]):
        assert main(["query", atlas, *option]) == 2
        assert f"{option[0]} goes with a file" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::tisseract.query.EmptyAnswerWarning")  # the note says it
def test_an_empty_region_is_an_answer_that_says_where_cells_are(
    atlas: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["region", atlas, "--section", "E12.5_e1", "--bbox", "1e8,1e8,2e8,2e8"]
    assert main([*options, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["n_obs"] == 0
    assert "section 'E12.5_e1' spans x" in captured.err


def test_values_take_a_domain_key(atlas: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ask(capsys, "values", atlas, "domain", "--domain-key", "domain_plain")
    assert sum(row["n_obs"] for row in rows) == PLAN.n_cells
    assert main(["values", atlas, "domain", "--domain-key", "nope"]) == 1


def test_gene_by_domain(atlas: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ask(capsys, "gene", atlas, "Niche01", "--by", "section,domain_plain")
    assert {row["section"] for row in rows} == {section.name for section in PLAN.sections}
    assert sum(row["n"] for row in rows) == PLAN.n_cells
    assert main(["gene", atlas, "Nich01"]) == 1
    assert "Niche01" in capsys.readouterr().err


def test_verify_and_gc(atlas: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(capsys, "verify", atlas)["faults"] == []
    before = sorted(path for path in Path(atlas).rglob("*"))
    assert ask(capsys, "gc", atlas, "--grace", "0s")["dry_run"]
    assert sorted(path for path in Path(atlas).rglob("*")) == before


def test_ingest_again_changes_nothing(atlas: str, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = Path(atlas).parent / "data" / "samples.csv"
    newest = ask(capsys, "history", atlas)[0]["number"]
    report = ask(capsys, "ingest", str(sheet), atlas, "--resume")
    assert {outcome["outcome"] for outcome in report["outcomes"]} == {"skipped"}
    assert ask(capsys, "history", atlas)[0]["number"] == newest


def test_ingest_goes_on_past_a_bad_section_and_exits_with_3(
    atlas: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(atlas).parent / "data"
    bad = tmp_path / "bad.h5ad"
    bad.write_bytes((data / "E11.5_e1.h5ad").read_bytes())
    import h5py

    with h5py.File(bad, "r+") as file:
        file["X/data"][3] = -1.0
    sheet = tmp_path / "samples.csv"
    head, *rows = (data / "samples.csv").read_text().splitlines()
    good = rows[1].replace("E11.5_e2.h5ad", str(data / "E11.5_e2.h5ad"))
    sheet.write_text("\n".join([head, rows[0].replace("E11.5_e1.h5ad", str(bad)), good]) + "\n")
    url = str(tmp_path / "partly.atlas")
    report = ask(capsys, "ingest", str(sheet), url, code=3)
    outcomes = {outcome["section"]: outcome["outcome"] for outcome in report["outcomes"]}
    assert outcomes == {"E11.5_e1": "failed", "E11.5_e2": "written"}
    assert [row["section"] for row in ask(capsys, "ls", url)] == ["E11.5_e2"]
    assert json.loads((tmp_path / "partly.atlas.ingest.run.json").read_text())["exit_code"] == 3


def test_dry_runs_write_nothing(atlas: str, capsys: pytest.CaptureFixture[str]) -> None:
    newest = ask(capsys, "history", atlas)[0]["number"]
    sheet = Path(atlas).parent / "data" / "samples.csv"
    for arguments in (
        ["ingest", str(sheet), atlas],
        ["graph", atlas, "--key-added", "other"],
        ["train", atlas],
        ["domains", atlas, "--n-domains", "3"],
    ):
        ask(capsys, *arguments, "--dry-run")
    assert ask(capsys, "history", atlas)[0]["number"] == newest


def test_quiet_writers_print_nothing(atlas: str, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = Path(atlas).parent / "data" / "samples.csv"
    capsys.readouterr()
    assert main(["ingest", str(sheet), atlas, "-q"]) == 0
    assert main(["graph", atlas, "--knn", "3", "--key-added", "quiet", "-q"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_a_dry_run_refuses_what_the_run_would(
    atlas: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["domains", atlas, "--key-added", "new", "--dry-run"]
    assert main([*options, "--n-domains", "2000"]) == 2
    assert "1,200 cells" in capsys.readouterr().err
    assert main([*options, "--n-domains", "3", "--graph-key", "none"]) == 1
    assert main([*options, "--n-domains", "3", "--method", "gnn", "--run", "none"]) == 2
    capsys.readouterr()
    assert main([*options, "--n-domains", "3"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("section\tn_obs\tvalues\tshared_genes\tgraph\n")
    assert "warning" not in said.err


@pytest.mark.filterwarnings("ignore:The 'mode.chained_assignment' option is deprecated")
def test_sections_that_hardly_fit_are_warned_of(
    atlas: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(atlas).parent / "data"
    other: Any = anndata.read_h5ad(data / "E11.5_e2.h5ad")[:, :12].copy()
    other.X = other.X.astype("float32") / 2
    other.write_h5ad(data / "few.h5ad")
    sheet = data / "few.csv"
    sheet.write_text(
        "sample,path,values,um_per_unit,organism\n"
        "all,E11.5_e1.h5ad,counts,1,mouse\nfew,few.h5ad,expected,1,mouse\n"
    )
    url = str(tmp_path / "few.atlas")
    assert main(["ingest", str(sheet), url, "-q"]) == 0
    capsys.readouterr()
    assert main(["domains", url, "--n-domains", "2", "--dry-run"]) == 0
    said = capsys.readouterr().err
    assert "share only 11 genes, of up to 40" in said
    assert "different values (counts: all; expected: few)" in said
    assert main(["graph", url, "--knn", "5000", "--dry-run"]) == 0
    assert "every other cell becomes one" in capsys.readouterr().err


def test_labels_are_not_overwritten_by_accident(
    atlas: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--n-domains", "4", "--key-added", "domain_plain", "-q"]
    assert main(["domains", atlas, *options]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_export_opens_in_spatialdata(
    atlas: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "one.h5ad"
    ask(capsys, "export", atlas, "--section", "E12.5_e1", "-o", str(target))
    data = anndata.read_h5ad(target)
    assert data.n_obs == PLAN.sections[2].n_cells
    assert "domain_plain" in data.obs
    assert main(["export", atlas, "-o", str(target), "--to", "spatialdata", "-q"]) == 2
