"""Training, embedding and domains from the command line, over a tiny simulated atlas."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import tisseract
from tisseract.atlas.derived_read import read_domains, read_embedding
from tisseract.atlas.errors import InvalidArgument, StaleDerived
from tisseract.atlas.panel import Panel
from tisseract.cli import main
from tisseract.simulator import SimulationPlan, simulate

pytest.importorskip("torch_geometric")

PLAN = SimulationPlan(n_cells=400, n_genes=40, timepoints=("E11.5", "E12.5"), seed=3)
SEEN = "E11.5_e1,E11.5_e2"
SMALL = ["--steps", "2", "--n-neighs", "5", "--device", "cpu"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> str:
    """An atlas with a network trained on two of its four sections."""
    folder = tmp_path_factory.mktemp("learn")
    url = str(folder / "small.atlas")
    assert main(["ingest", str(simulate(PLAN, folder / "data").sheet), url, "-q"]) == 0
    config = folder / "gnn.yaml"
    config.write_text("seed: 4\nsteps: 9\nlr: 5e-3  # YAML calls it text\nn_layers: 3\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        options = ["--config", str(config), "--sections", SEEN, *SMALL, "-q"]
        assert main(["train", url, *options]) == 0
    return url


@pytest.fixture
def atlas(made: str, tmp_path: Path) -> str:
    """A copy to write into."""
    return shutil.copytree(made, tmp_path / "copy.atlas").as_posix()


def ask(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    """Run a command with --json and hand out what it printed."""
    capsys.readouterr()
    assert main([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_a_training_leaves_its_settings_in_record_and_run(made: str) -> None:
    record = json.loads(Path(f"{made}.train.run.json").read_text())
    assert record["inputs"] == {
        "config": str(Path(made).parent / "gnn.yaml"),
        "key_added": "gnn",
        "n_neighs": 5,
        "seed": 4,
        "steps": 2,  # the option wins over the file
        "lr": 0.005,
        "n_layers": 3,
        "device": "cpu",
        "sections": SEEN.split(","),
    }
    graph = {"stored": False, "key": None, "kind": "knn", "parameters": {"n_neighs": 5}}
    assert record["graph"] == graph
    opened = tisseract.open(made)
    run = opened.snapshot.runs["gnn"]
    config = json.loads(opened.storage.get(f"{run.prefix}/config.json"))["config"]
    assert config["parameters"] == record["config"]
    assert {"n_layers": 3, "steps": 2, "lr": 0.005, "graph": graph}.items() <= record[
        "config"
    ].items()
    assert len(record["history"]["loss"]) == record["steps"] == 2
    assert record["cells_per_second"] > 0
    assert list(opened.derived_keys("embedding")["gnn"]) == SEEN.split(",")


def test_the_curve_is_a_picture_beside_the_record(made: str) -> None:
    pytest.importorskip("matplotlib")
    curve = Path(f"{made}.train.curve.png")
    assert json.loads(Path(f"{made}.train.run.json").read_text())["curve"] == str(curve)
    assert curve.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_curves_that_cannot_be_drawn_are_told(
    atlas: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tisseract.cli.curve import curve_place
    from tisseract.cli.output import Output

    train = ["train", atlas, "--key-added", "new", "--dry-run"]
    assert main([*train, "--curve", "curve.jpg"]) == 2
    assert main([*train, "--curve", str(tmp_path / "no" / "curve.png")]) == 2
    assert "create it first" in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    assert main([*train, "--curve", str(tmp_path / "curve.png")]) == 2
    assert "pip install 'tisseract[viz]'" in capsys.readouterr().err
    assert curve_place(atlas, None, None, Output(verbose=1)) is None
    assert "tisseract[viz]" in capsys.readouterr().err
    assert curve_place(atlas, None, "-", Output()) is None


def test_without_torch_it_is_told_what_to_install(
    atlas: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    options = ["--key-added", "new"]
    for arguments in (["train", atlas], ["domains", atlas, "--method", "gnn", "--n-domains", "2"]):
        assert main([*arguments, *options]) == 2
        assert "pip install 'tisseract[ml]'" in capsys.readouterr().err
        assert main([*arguments, *options, "--dry-run"]) == 0


def test_the_checkpoint_is_removed_once_the_run_is_committed(made: str, cache: Path) -> None:
    assert made
    assert not list((cache / "tisseract" / "checkpoints").glob("*-gnn.safetensors"))


def test_command_line_and_python_train_the_same(atlas: str) -> None:
    handle = tisseract.open(atlas, read_only=False)
    options: dict[str, Any] = {"n_neighs": 5, "seed": 4, "steps": 2, "n_layers": 3, "lr": 5e-3}
    handle.train("python", sections=SEEN.split(","), device="cpu", **options)
    for name in SEEN.split(","):
        np.testing.assert_array_equal(
            read_embedding(handle, "python", name), read_embedding(handle, "gnn", name)
        )


def test_a_config_is_refused_as_a_whole(
    made: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "gnn.toml"
    wrong.write_text(
        'n_layer = 3\nlr = "fast"\nsteps = 2.5\nsections = 3\ngraph = 1\nseed = true\nepochs = []\n'
    )
    error = ask(capsys, "train", made, "--config", str(wrong), "--dry-run", code=1)["error"]
    said = {fault["location"]: fault["message"] for fault in error["faults"]}
    assert list(said) == [
        f"key {key}" for key in ("n_layer", "lr", "steps", "sections", "graph", "seed", "epochs")
    ]
    assert "'n_layers'" in said["key n_layer"]
    assert said["key lr"] == "a number is wanted, but got 'fast'"
    assert said["key seed"] == "a whole number is wanted, but got True"
    assert str(wrong) in error["message"]


def test_values_that_make_no_sense_are_faults_of_their_keys(
    made: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "gnn.yaml"
    wrong.write_text(
        "1: 2\nmax_rows: abc\nseed: -1\nsections: []\nbatch_cells: 0\nepochs: .inf\nkeyadded: a\n"
    )
    error = ask(capsys, "train", made, "--config", str(wrong), "--dry-run", code=1)["error"]
    said = {fault["location"]: fault["message"] for fault in error["faults"]}
    assert said["key max_rows"] == "a whole number is wanted, but got 'abc'"
    assert said["key seed"] == "0 or more is wanted, but got -1"
    assert said["key batch_cells"] == "1 or more is wanted, but got 0"
    assert said["key sections"].startswith("names of sections are wanted, but got none")
    assert said["key epochs"] == "a finite number above 0 is wanted, but got inf"
    assert "'key_added'" in error["message"]  # as a key of a file, not as an option
    assert "key 1" in said
    assert main(["train", made, "--epochs", "inf", "--key-added", "new", "--device", "cpu"]) == 1
    assert "finite number of epochs above 0 is wanted, but got inf" in capsys.readouterr().err
    for command in (["train", made], ["domains", made, "--n-domains", "2"]):
        assert main([*command, "--seed", "-1"]) == 2


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.yaml", "seed: 1\nseed: 2\n", "seed twice"),
        ("a.json", '{"seed": 1, "seed": 2}', "seed twice"),
        ("a.yaml", "- seed\n", "but got a list"),
        ("a.yaml", "seed: !!python/object/apply:os.getcwd []\n", "could not determine"),
        ("a.yaml", "seed: [\n", "a.yaml"),
        ("a.yaml", "? [a, b]\n: 1\n", "names are wanted as keys"),
        ("a.yaml", "? {a: b}\n: 1\n", "names are wanted as keys"),
        ("a.ini", "seed=1\n", ".yaml, .toml or .json"),
        ("none", None, ".yaml, .toml or .json"),
    ],
)
def test_a_file_that_is_no_config_is_told(
    name: str, text: str | None, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    assert main(["train", "none.atlas", "--config", str(tmp_path / name)]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "Traceback" not in said


def test_progress_tells_loss_pace_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tisseract.cli.progress import describe, reporter
    from tisseract.models.network.history import StepReport

    def report(done: int) -> StepReport:
        return StepReport(done, 100, 1.236 / done, {}, 50, 50 * done, 2.0 * done)

    step = describe((report(10),))
    assert step.text == "train: loss 0.1236, 25 cells/s, 0:03:00 left"
    assert (step.done, step.total) == (10.0, 100.0)
    now = 100.0
    monkeypatch.setattr("tisseract.cli.progress.time.monotonic", lambda: now)
    with reporter("title", quiet=False) as tell:
        for done in range(1, 71):
            now += 1.0
            tell(report(done))
    lines = capsys.readouterr().err.splitlines()
    # the first at once, then one in 30 seconds, though every step has another text
    assert [line.split()[-1] for line in lines[1:]] == ["2/100", "32/100", "62/100"]


def test_an_empty_config_changes_nothing(
    atlas: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.yml").write_text("# nothing\n")
    options = ["--config", str(tmp_path / "empty.yml"), "--key-added", "new", "--dry-run"]
    assert main(["train", atlas, *options]) == 0
    assert "settings: key_added=new, n_neighs=6, seed=0\n" in capsys.readouterr().err


def test_epochs_become_steps_and_a_named_checkpoint_stays(
    atlas: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, kept = tmp_path / "c.json", tmp_path / "kept.safetensors"
    config.write_text(json.dumps({"steps": 70, "batch_cells": 100, "n_layers": 3}))
    options = ["--config", str(config), "--epochs", "1.5", "--sections", SEEN, "--device", "cpu"]
    place = ["--checkpoint", str(kept), "--key-added", "epochs", "--curve", "-"]
    cells = sum(section.n_cells for section in PLAN.sections[:2])
    answer = ask(capsys, "train", atlas, *options, *place)
    assert answer["steps"] == int(np.ceil(1.5 * cells / 100))
    assert answer["curve"] is None
    assert kept.is_file()
    again = [*options, *place, "--key-added", "more"]
    assert main(["train", atlas, *again, "--resume", "--epochs", "3", "-q"]) == 1
    assert "checkpoint" in capsys.readouterr().err
    assert main(["train", atlas, *again, "--epochs", "0"]) == 1
    assert "finite number of epochs above 0" in capsys.readouterr().err


def test_a_cut_off_training_goes_on(
    atlas: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cache: Path
) -> None:
    from tisseract.models import DomainGNN

    embed = DomainGNN.embed
    monkeypatch.setattr(
        DomainGNN, "embed", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    options = ["train", atlas, "--sections", SEEN, *SMALL, "--key-added", "cut"]
    assert main(options) == 130
    assert "again to go on, with --resume" in capsys.readouterr().err
    (place,) = (cache / "tisseract" / "checkpoints").glob("*-cut.safetensors")
    monkeypatch.setattr(DomainGNN, "embed", embed)
    assert main([*options, "--dry-run"]) == 0
    assert main([*options, "--resume"]) == 0
    said = capsys.readouterr().err
    assert "no checkpoint" not in said
    assert f"going on after step 2, saved at {place}" in said
    assert not place.exists()
    assert main([*options[:-1], "fresh", "--resume"]) == 0
    assert "starting from the beginning" in capsys.readouterr().err


def test_names_that_are_taken_are_told_before_the_work(
    atlas: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", atlas, *SMALL]) == 2
    assert "--overwrite" in capsys.readouterr().err
    answer = ask(capsys, "train", atlas, "--sections", SEEN, *SMALL, "--overwrite")
    assert (answer["run"], answer["embedding"]) == ("gnn-2", "gnn")
    # the run whose embedding was replaced is no longer meant
    assert ask(capsys, "embed", atlas, "--key-added", "other", "--dry-run")
    record = ask(capsys, "domains", atlas, "--method", "gnn", "--n-domains", "2", "--markers", "0")
    assert len(record) == 2
    assert json.loads(Path(f"{atlas}.domains.run.json").read_text())["run"] == "gnn-2"


def test_embed_takes_sections_it_never_saw(atlas: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ask(capsys, "embed", atlas, "--run", "gnn")
    assert [(row["section"], row["seen"]) for row in rows] == [
        ("E12.5_e1", "no"),
        ("E12.5_e2", "no"),
    ]
    assert {(row["missing_genes"], row["model_genes"]) for row in rows} == {(0, 36)}
    handle = tisseract.open(atlas, read_only=False)
    for row in rows:
        values = read_embedding(handle, "gnn", row["section"])
        assert values.shape == (row["n_obs"], row["dims"])
        assert handle.derived("embedding", "gnn", row["section"]).run == "gnn"
    record = json.loads(Path(f"{atlas}.embed.run.json").read_text())
    assert (record["run"], record["embedding"]) == ("gnn", "gnn")
    assert ask(capsys, "embed", atlas) == []
    # a section embedded again is the same, byte by byte
    handle.embed("gnn", sections=["E11.5_e1"], key_added="again", device="cpu")
    np.testing.assert_array_equal(
        read_embedding(handle, "again", "E11.5_e1"), read_embedding(handle, "gnn", "E11.5_e1")
    )


def test_embed_tells_of_replaced_sections_and_of_genes_they_lack(
    atlas: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from ..sections import add_section, make_raw

    handle = tisseract.open(atlas, read_only=False)
    held = handle.section("E11.5_e1")
    few = [str(name) for name in held.panel.symbol[:12]]
    panel = Panel.of(few, organism=held.panel.organism)
    raw = replace(make_raw(n_obs=60, genes=few), panel=panel)
    add_section(handle, "E11.5_e1", raw, replace=True)
    assert ask(capsys, "info", atlas)["stale"] == {"embedding/gnn": list(SEEN.split(","))}
    assert main(["info", atlas, "--section", "E11.5_e2"]) == 0
    assert "stale     " in (told := capsys.readouterr().out)
    assert "embedding/gnn: E11.5_e2" in told
    wanted = f"tisseract embed {atlas} --run gnn --key-added gnn --overwrite"
    with pytest.raises(StaleDerived, match=re.escape(wanted)):
        handle.derived("embedding", "gnn", "E11.5_e2")
    options = ["--sections", "E11.5_e1,E11.5_e2,E12.5_e1", "--overwrite", "--dry-run"]
    assert main(["embed", atlas, *options]) == 0
    said = capsys.readouterr()
    lines = [line.split("\t") for line in said.out.splitlines()]
    assert lines[0] == ["section", "n_obs", "seen", "missing"]
    assert [(line[0], line[2]) for line in lines[1:]] == [
        ("E11.5_e1", "replaced"),
        ("E11.5_e2", "yes"),
        ("E12.5_e1", "no"),
    ]
    assert lines[1][3] == "24 of 36"
    assert "warning: 1 sections lack more than half of the run's genes (E11.5_e1" in said.err


def test_embed_tells_all_that_is_wrong(
    atlas: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ..sections import add_section, make_raw

    handle = tisseract.open(atlas, read_only=False)
    add_section(handle, "other", make_raw(n_obs=30, genes=[f"X{k}" for k in range(12)]))
    options = ["--sections", "other,E12.5_e9,E12.5_e1,E11.5_e1"]
    error = ask(capsys, "embed", atlas, "--run", "gnn", "--graph", "near", *options, code=1)
    faults = [(f["location"], f["message"]) for f in error["error"]["faults"]]
    said = {location: [m for where, m in faults if where == location] for location, _ in faults}
    assert "'E12.5_e1'" in said["section E12.5_e9"][0]
    assert "of the model's" in said["section other"][0]
    assert "near" in said["section E12.5_e1"][0]
    assert "E11.5_e1 already have" in said["key gnn"][0]
    text = ask(capsys, "embed", atlas, "--run", "gn", code=1)["error"]
    assert text["kind"] == "run-not-found"
    assert "'gnn'" in text["message"]
    both = ask(capsys, "embed", atlas, "--run", "gn", "--sections", "E12", code=1)["error"]
    assert {fault["location"] for fault in both["faults"]} == {"section E12", "run"}
    mixed = ask(capsys, "domains", atlas, "--n-domains", "2", "--run", "none", code=2)
    assert "gnn" in mixed["error"]["message"]


def test_domains_print_and_write_their_table(
    atlas: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "domains.csv"
    options = ["--sections", "E11.5_e1,E12.5_e1", "--resolutions", "2", "--by", "true_cell_type"]
    rows = ask(capsys, "domains", atlas, "--n-domains", "3", *options, "-o", str(file))
    handle = tisseract.open(atlas)
    table = handle.domains("domain").table("true_cell_type", markers=3)
    pd.testing.assert_frame_equal(
        pd.read_csv(file, dtype={"domain": str}, keep_default_na=False).set_index("domain"),
        table,
        check_dtype=False,
        check_index_type=False,
    )
    assert [row["domain"] for row in rows] == ["0", "1", "2"]
    for row in rows:
        codes = {
            name: int((read_domains(handle, "domain", name).codes == int(row["domain"])).sum())
            for name in ("E11.5_e1", "E12.5_e1")
        }
        assert row["sections"] == {name: n for name, n in codes.items() if n}
        assert row["n_cells"] == sum(codes.values())
        assert row["area_um2"] > 0
    record = json.loads(Path(f"{atlas}.domains.run.json").read_text())
    assert record["inputs"]["resolutions"] == [2]
    assert record["domains"] == rows
    assert record["keys"] == ["domain", "domain_2"]
    coarse = ask(capsys, "domain-table", atlas, "--key", "domain_2", "--markers", "0")
    assert [row["n_cells"] for row in coarse] == handle.domains("domain_2").table(markers=0)[
        "n_cells"
    ].tolist()
    # each finer domain lies inside one coarser domain
    pairs = {
        (fine, joint)
        for name in ("E11.5_e1", "E12.5_e1")
        for fine, joint in zip(
            read_domains(handle, "domain", name).codes,
            read_domains(handle, "domain_2", name).codes,
            strict=True,
        )
    }
    assert len(pairs) == 3
    assert main(["domains", atlas, "--n-domains", "3", "--key-added", "new", "-o", str(file)]) == 2
    assert main(["domain-table", atlas]) == 1
    assert "--domain-key" in capsys.readouterr().err


def test_a_table_that_cannot_be_made_is_refused_before_the_work(
    atlas: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for wrong in (
        ["--by", "cell_typ"],
        ["--by", "n_counts"],
        ["--resolutions", "two"],
        ["-o", "table.xlsx"],
        ["--where", "true_cell_type == 'glia'", "--all-cells"],
    ):
        assert main(["domains", atlas, "--n-domains", "2", *wrong]) in {1, 2}
    assert "domain" not in tisseract.open(atlas).derived_keys("domains")
    capsys.readouterr()


def test_the_graph_that_was_used_is_recorded(
    atlas: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--n-domains", "2", "--markers", "0", "-q"]
    assert main(["domains", atlas, *options, "--key-added", "lazy"]) == 0
    assert main(["graph", atlas, "--radius", "40", "--key-added", "near", "-q"]) == 0
    assert main(["domains", atlas, *options, "--key-added", "named", "--graph", "near"]) == 0
    assert main(["graph", atlas, "--knn", "4", "-q"]) == 0
    assert main(["domains", atlas, *options, "--key-added", "stored"]) == 0
    handle = tisseract.open(atlas, read_only=False)
    handle.find_domains(n_domains=2, key_added="python")
    used = {
        key: handle.domains(key).provenance["parameters"]["graph"]
        for key in ("lazy", "named", "stored", "python")
    }
    assert used["lazy"] == {
        "stored": False,
        "key": None,
        "kind": "knn",
        "parameters": {"n_neighs": 6},
    }
    assert (used["named"]["stored"], used["named"]["key"]) == (True, "near")
    assert used["named"]["kind"] == "radius"
    assert used["named"]["parameters"]["radius"] == 40.0
    assert used["stored"] == used["python"]
    assert (used["stored"]["key"], used["stored"]["kind"]) == ("spatial", "knn")
    assert used["stored"]["parameters"]["n_neighs"] == 4
    np.testing.assert_array_equal(
        read_domains(handle, "stored", "E12.5_e1").codes,
        read_domains(handle, "python", "E12.5_e1").codes,
    )


def test_cells_that_a_filter_leaves_out_get_no_label(
    atlas: str, capsys: pytest.CaptureFixture[str]
) -> None:
    where = "true_cell_type != 'glia'"
    options = ["--n-domains", "2", "--markers", "0", "--by", "true_cell_type"]
    rows = ask(capsys, "domains", atlas, *options, "--where", where)
    handle = tisseract.open(atlas, read_only=False)
    assert sum(row["n_cells"] for row in rows) == handle.query(where).n_obs
    assert not any(row.get("true_cell_type: glia") for row in rows)
    for name in handle.section_names:
        kinds = handle.section(name).obs(columns=["true_cell_type"])["true_cell_type"]
        codes = read_domains(handle, "domain", name).codes
        np.testing.assert_array_equal(codes < 0, (kinds == "glia").to_numpy())
    handle.find_domains(n_domains=2, key_added="python", where=where)
    for name in handle.section_names:
        known = read_domains(handle, "domain", name).codes
        np.testing.assert_array_equal(read_domains(handle, "python", name).codes, known)
    assert handle.domains("python").provenance["parameters"]["where"] == where


def test_labels_stay_where_their_table_does_not_fit(
    atlas: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tisseract.query.labels.table.BYTES_PER_CELL", 10**9)
    assert main(["domains", atlas, "--n-domains", "2", "--all-cells", "--no-refine"]) == 0
    assert "labels are committed, but their table cannot be made" in capsys.readouterr().err
    record = json.loads(Path(f"{atlas}.domains.run.json").read_text())
    assert (record["n_domains"], record["domains"]) == (2, [])
    entry = tisseract.open(atlas).derived("domains", "domain", "E11.5_e1")
    assert entry.info["refine"] is False


def test_epochs_count_the_batches_that_are_made(made: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tisseract.model_choices import steps_of
    from tisseract.models import GraphSource
    from tisseract.models.sampling.batch_plan import plan_batches

    opened = tisseract.open(made)
    names = SEEN.split(",")
    plan = plan_batches([opened.section(name).tiles.ptr for name in names], batch_cells=100)
    batches = sum(len(plan.epoch(number)) for number in range(3))
    assert steps_of(opened, GraphSource(), [*names, names[0]], 3, {"batch_cells": 100}) == batches
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "x"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", "1")
    shared = sum(len(plan.epoch(number)) // 2 for number in range(3))
    assert steps_of(opened, GraphSource(), names, 3, {"batch_cells": 100}) == max(1, shared)
    for wrong in (float("inf"), float("nan"), 0, -1.0):
        with pytest.raises(InvalidArgument, match="finite number of epochs above 0"):
            steps_of(opened, GraphSource(), names, wrong, {})
    with pytest.raises(InvalidArgument, match="give one of the two"):
        steps_of(opened, GraphSource(), names, 1, {"steps": 3})
    with pytest.raises(InvalidArgument, match="batch_cells=0"):
        steps_of(opened, GraphSource(), names, 1, {"batch_cells": 0})


def test_two_runs_never_share_an_embedding(atlas: str, capsys: pytest.CaptureFixture[str]) -> None:
    handle = tisseract.open(atlas, read_only=False)
    one = SEEN.split(",")[:1]
    with pytest.raises(InvalidArgument, match=r"E11\.5_e2 would keep from another"):
        handle.train("gnn", sections=one, overwrite=True, steps=1, device="cpu")
    before = handle.version
    options = ["--n-domains", "2", "--markers", "0", "--key-added", "gnn"]
    assert main(["domains", atlas, *options]) == 1
    assert "names an embedding of" in capsys.readouterr().err
    assert main(["domains", atlas, *options, "--section", one[0], "--overwrite"]) == 1
    assert "embedding 'gnn' of one run" in capsys.readouterr().err
    assert tisseract.open(atlas).version == before


def test_python_takes_the_only_trained_run_too(atlas: str) -> None:
    handle = tisseract.open(atlas, read_only=False)
    handle.find_domains("gnn", n_domains=2, refine=False)
    assert handle.derived("embedding", "domain", "E11.5_e1").run == "gnn"


def test_a_device_that_is_none_is_refused_for_every_model(atlas: str) -> None:
    handle = tisseract.open(atlas, read_only=False)
    handle.find_domains(n_domains=2, refine=False)
    run = str(handle.derived("embedding", "domain", "E11.5_e1").run)
    for wrong in ("gpu", "cuda:x", "auto:1", ""):
        with pytest.raises(InvalidArgument, match="a device of auto, cpu, cuda, mps is wanted"):
            handle.embed(run, key_added="again", device=wrong)


def test_a_table_that_cannot_be_made_is_told_before_the_work_or_after_the_labels(
    atlas: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["domains", atlas, "--n-domains", "2", "--markers", "0", "--no-refine", "--all-cells"]
    before = tisseract.open(atlas).version
    for by in ("domain", "coarse", "domains:coarse"):
        assert main([*options, "--by", by, "--key-added", "coarse"]) == 2
        assert "--by wants labels that are there already" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr("tisseract.query.labels.table.MOST_GROUPS", 1)
        assert main([*options, "--by", "true_cell_type"]) == 1
        assert "at most 1 labels is wanted for --by" in capsys.readouterr().err
    assert tisseract.open(atlas).version == before
    with monkeypatch.context() as patch:

        def fail(*_: object, **__: object) -> None:
            raise InvalidArgument("no table today")

        patch.setattr("tisseract.query.DomainView.table", fail)
        assert main(options) == 0
    assert "labels are committed, but their table cannot be made: no" in capsys.readouterr().err
    record = json.loads(Path(f"{atlas}.domains.run.json").read_text())
    assert (record["n_domains"], record["domains"]) == (2, [])
    assert "domain" in tisseract.open(atlas).derived_keys("domains")


def test_the_graph_that_domains_would_use_is_told(
    atlas: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["domains", atlas, "--n-domains", "2", "--dry-run"]
    (row, *_) = ask(capsys, *options, "--method", "gnn")
    assert row["graph"] == "5 nearest, on the way"  # as the run was trained
    assert main([*options, "--method", "gnn", "--n-neighs", "8"]) == 0
    assert "note: --n-neighs 8 is not used" in capsys.readouterr().err
    (row, *_) = ask(capsys, *options, "--n-neighs", "8")
    assert row["graph"] == "8 nearest, on the way"
    assert main(["graph", atlas, "--knn", "4", "-q"]) == 0
    for command in (options, ["train", atlas, "--key-added", "other", "--dry-run"]):
        assert main([*command, "--n-neighs", "8"]) == 0
        told = capsys.readouterr()
        assert "note: --n-neighs 8 is not used: the stored graph 'spatial' is" in told.err


def test_cells_left_out_of_a_training_stay_out_of_its_embedding(
    atlas: str, capsys: pytest.CaptureFixture[str]
) -> None:
    where = "true_cell_type != 'glia'"
    options = ["--key-added", "some", "--sections", SEEN, *SMALL, "--curve", "-"]
    assert main(["train", atlas, *options, "--where", where, "--all-cells"]) == 2
    assert main(["train", atlas, *options, "--where", "nothing > 3", "--dry-run"]) == 1
    assert main(["train", atlas, *options, "--where", where, "-q"]) == 0
    assert main(["embed", atlas, "--run", "some", "--section", "E12.5_e1", "-q"]) == 0
    assert main(["embed", atlas, "--run", "some", "--key-added", "all", "--all-cells", "-q"]) == 0
    capsys.readouterr()
    handle = tisseract.open(atlas, read_only=False)
    for name in ("E11.5_e1", "E12.5_e1"):
        kind = handle.section(name).obs(columns=["true_cell_type"])["true_cell_type"]
        for key, told, kept in (("some", where, kind != "glia"), ("all", None, kind != "")):
            rows = read_embedding(handle, key, name)[kept.to_numpy()]
            np.testing.assert_allclose(rows.mean(axis=0), 0.0, atol=1e-4)
            place = f"{handle.derived('embedding', key, name).prefix}/provenance.json"
            facts = json.loads(handle.storage.get(place, max_bytes=2**20))
            assert facts["parameters"]["where"] == told
    handle.train("python", sections=SEEN.split(","), where=where, steps=2, n_neighs=5, device="cpu")
    np.testing.assert_array_equal(
        read_embedding(handle, "python", "E11.5_e1"), read_embedding(handle, "some", "E11.5_e1")
    )


@pytest.mark.filterwarnings("default:.*left out")
@pytest.mark.parametrize(
    "command", [["train", "--key-added", "new"], ["embed"], ["domains", "--n-domains", "2"]]
)
def test_a_dry_run_reads_the_filter(
    made: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    options = [command[0], made, *command[1:], "--dry-run"]
    assert main([*options, "--where", "section == 'E12.5_e1'"]) == 0
    assert " left out" in capsys.readouterr().err
    for where, told in (("nothing > 3", "nothing"), ("true_gradient > 1e9", "got none in")):
        capsys.readouterr()
        assert main([*options, "--where", where]) == 1
        assert told in capsys.readouterr().err
    names = "E12.5_e1,E12.5_e2"
    assert main([*options, "--where", "section == 'E12.5_e1'", "--sections", names]) == 1
    assert "got none in 'E12.5_e2'" in capsys.readouterr().err
    assert main([*options, "--where", "true_gradient > 0", "--all-cells"]) == 2


def test_a_filter_is_read_once(atlas: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tisseract.query.cells.verbs import select

    asked: list[str] = []

    def spy(store: Any, where: str, **options: Any) -> Any:
        asked.append(where)
        return select(store, where, **options)

    monkeypatch.setattr("tisseract.query.filters.masks.select", spy)
    where = "true_cell_type != 'glia'"
    options = ["--sections", "E12.5_e1", "--where", where, "-q"]
    assert main(["train", atlas, "--key-added", "new", *SMALL, "--curve", "-", *options]) == 0
    assert asked == [where]
    assert main(["embed", atlas, "--run", "gnn", *options]) == 0
    assert asked == [where] * 2


@pytest.mark.filterwarnings("default:.*left out")
def test_embed_passes_over_sections_without_cells(
    atlas: str, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--where", "section == 'E12.5_e2'"]
    rows = ask(capsys, "embed", atlas, "--run", "gnn", *where)
    assert [row["section"] for row in rows] == ["E12.5_e2"]
    assert rows[0]["bytes"] > 0
    named = ["--section", "E12.5_e1,E12.5_e2", "--key-added", "named"]
    assert main(["embed", atlas, "--run", "gnn", *where, *named]) == 1
