"""The demo: what it prints, what it refuses, and that its figures hold what they should."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from tisseract.cli import main
from tisseract.demo.figures import _colors, _nice, draw_domain_over_time, draw_domains
from tisseract.demo.labels import SectionLabels
from tisseract.demo.real import _name
from tisseract.demo.report import TourReport
from tisseract.simulator import SimulationPlan, simulate

pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated")


def sections(count: int = 4, in_um: bool = True) -> list[SectionLabels]:
    rng = np.random.default_rng(0)
    return [
        SectionLabels(
            section=f"s{i}",
            timepoint=f"E1{i // 2}.5",
            time_value=10.5 + i // 2,
            xy=rng.uniform(0, 500 + 100 * i, (300, 2)),
            codes=rng.integers(-1, 3, 300).astype(np.int16),
            in_um=in_um,
        )
        for i in range(count)
    ]


def test_report_prints_every_mean_and_every_figure() -> None:
    scores = {"domain_plain": {"a": 0.9, "b": 0.8}, "domain_expression": {"a": 0.2, "b": 0.1}}
    report = TourReport("d", "d/a", True, 0, 2, 100, scores, ("one.png",), 3.0, 2**30)
    text = str(report)
    assert "0.850  (lowest section 0.800)" in text
    assert "without neighbors" in text
    assert "0.150" in text
    assert "one.png" in text
    real = TourReport("d", "d/a", False, 0, 1, 100)
    assert "no truth is known" in str(real)


def test_names_of_sections_are_valid() -> None:
    assert _name(Path("/nowhere/my data (1).h5ad")).replace("-", "").isalnum()
    assert _name(Path("...")) == "section"


def test_figures_have_one_panel_a_section_one_legend_one_scale_bar() -> None:
    items = sections()
    figure = draw_domains(items, ["a", "b", "c"], title="T")
    assert len(figure.axes) == len(items)
    assert len(figure.legends) == 1
    texts = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert len(texts) == 1
    assert texts[0].endswith("µm")
    widths = {round(np.ptp(axis.get_xlim()), 6) for axis in figure.axes}
    assert len(widths) == 1  # one scale for all
    low, high = figure.axes[0].get_ylim()
    assert low > high  # y points down


def test_unknown_units_are_not_called_micrometers() -> None:
    figure = draw_domains(sections(2, in_um=False), ["a", "b", "c"], title="T")
    assert figure.axes[0].texts[0].get_text().endswith("source units")


def test_one_domain_over_time_shows_every_section_below() -> None:
    figure = draw_domain_over_time(sections(), ["a", "b", "c"], "b", title="T")
    below = figure.axes[-1]
    points = np.vstack([np.asarray(item.get_offsets()) for item in below.collections])
    assert len(points) == 4
    assert [label.get_text() for label in below.get_xticklabels()] == ["E10.5", "E11.5"]


def test_colors_are_distinct() -> None:
    assert len(set(_colors(20))) == 20
    assert [_nice(x) for x in (9.0, 230.0, 51.0)] == [5.0, 200.0, 50.0]


def test_refuses_a_folder_with_an_earlier_demo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "demo.atlas").mkdir()
    assert main(["demo", str(tmp_path)]) == 1
    assert "earlier demo" in capsys.readouterr().err


def test_real_needs_something_real(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", str(tmp_path), "--real", str(tmp_path / "none.h5ad")]) == 1
    assert "none.h5ad" in capsys.readouterr().err


@pytest.mark.slow
def test_a_small_demo_tells_domains_by_their_neighbors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *a: None if name == "torch" else find(name, *a)
    )
    assert main(["demo", str(tmp_path / "d"), "--cells", "12000"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("This demo uses SIMULATED data")
    assert "training is left out" in text
    for name in (
        "check-samples",
        "ingest",
        "graph",
        "domains",
        "values",
        "gene",
        "query",
        "region",
    ):
        assert f"$ tisseract {name} " in text
    assert {path.name for path in (tmp_path / "d" / "figures").iterdir()} == {
        "domains.png",
        "niche.png",
        "gene.png",
        "truth.png",
    }
    assert float(text.partition("over neighbors)")[2].split()[0]) > 0.75
    assert float(text.partition("without neighbors")[2].split()[0]) < 0.6


@pytest.mark.slow
def test_the_tour_of_ones_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = SimulationPlan(n_cells=800, n_genes=40, timepoints=("E12.5",), n_embryos=1)
    file = simulate(plan, tmp_path / "data").files[0]
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *a: None if name == "torch" else find(name, *a)
    )
    folder = str(tmp_path / "tour")
    assert main(["demo", folder, "--real", str(file), "--n-domains", "4", "-q"]) == 1
    assert "--um-per-unit" in capsys.readouterr().err
    options = ["--um-per-unit", "1", "--n-domains", "4", "--json", "-q"]
    assert main(["demo", folder, "--real", str(file), *options]) == 0
    report = json.loads(capsys.readouterr().out)
    assert not report["simulated"]
    assert report["agreement"] == {}
    assert report["n_obs"] == 800
    assert len(report["figures"]) == 3


@pytest.mark.real
@pytest.mark.slow
def test_the_tour_of_a_space_ranger_folder(
    real_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *a: None if name == "torch" else find(name, *a)
    )
    source = str(real_data / "vendor" / "visium_mouse")
    assert main(["demo", str(tmp_path / "d"), "--real", source, "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["n_obs"] == 2898
