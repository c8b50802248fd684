"""The number of domains: planted ones are found, the same seed chooses alike, odd input is told."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tisseract.atlas.errors import InvalidArgument
from tisseract.atlas.store import AtlasStore
from tisseract.cli import main
from tisseract.models import choose_number, find_domains
from tisseract.models.domains import labeling
from tisseract.models.domains.stability import stable_peaks

from ..planted import N_LAYERS


def components(k: int, seed: int, *, n: int = 400, spread: float = 3.0) -> NDArray[np.float64]:
    rng = np.random.default_rng([seed, k])
    centers = rng.normal(size=(k, 8)) * spread
    return centers[rng.integers(0, k, n)] + rng.normal(size=(n, 8))


def codes_of(store: AtlasStore, key: str, section: str) -> NDArray[np.int16]:
    return np.asarray(store.derived_group("domains", key, section)["codes"][:])


@pytest.mark.parametrize("k", [3, 6])
def test_planted_components_are_counted(k: int) -> None:
    x = components(k, 1)
    found = choose_number(lambda: [x], n_rows=len(x), numbers=(2, 8), most_runs=3)
    assert found.n_domains == k
    assert found.same[found.numbers.index(k)] > 0.95
    table = found.table()
    assert table.index.tolist() == list(range(2, 9))
    assert table.index[table["chosen"]].tolist() == [found.n_domains]
    assert found.n_domains in found.candidates
    assert found.stability[found.numbers.index(found.n_domains)] == max(found.stability)
    assert ((table["stability"] >= -1) & (table["stability"] <= 1)).all()


def test_blocks_and_repeats_change_nothing() -> None:
    x = components(3, 2, n=300)
    whole = choose_number(lambda: [x], n_rows=300, numbers=(2, 5), most_runs=3, sample=200)
    parts = choose_number(
        lambda: [x[:70], x[70:71], x[71:]], n_rows=300, numbers=(2, 5), most_runs=3, sample=200
    )
    assert whole == parts
    assert (whole.n_rows, whole.n_runs, whole.seed) == (200, 3, 0)
    seeds = [
        choose_number(lambda: [x], n_rows=300, numbers=(2, 5), most_runs=3, seed=seed).stability
        for seed in (0, 1)
    ]
    assert seeds[0] != seeds[1]


def test_runs_stop_once_the_curve_stands_still() -> None:
    """Two far components, numbers that all fits agree on: the fewest runs are enough."""
    x = np.repeat([[0.0], [100.0], [1000.0], [2000.0]], 30, axis=0)
    x += np.random.default_rng(0).normal(size=x.shape) * 1e-3
    found = choose_number(lambda: [x], n_rows=120, numbers=(2, 3), most_runs=10)
    assert found.settled
    assert found.n_runs < 10


@pytest.mark.parametrize(
    ("curve", "peaks"),
    [
        ([0.9, 0.8, 0.88, 0.7], [0, 2]),  # two that are about as stable
        ([0.9, 0.8, 0.84, 0.7], [0]),  # too far below the highest
        ([0.7, 0.8, 0.9], [2]),  # the curve still rises
        ([0.9, 0.9, 0.7], [0, 1]),
        ([0.9], [0]),
    ],
)
def test_peaks_are_high_local_maxima(curve: list[float], peaks: list[int]) -> None:
    assert stable_peaks(np.array(curve)) == peaks


def test_few_rows_narrow_the_numbers_or_are_refused() -> None:
    x = components(2, 0, n=59)
    found = choose_number(lambda: [x], n_rows=59, most_runs=3)
    assert found.numbers == (2, 3, 4)
    with pytest.raises(InvalidArgument, match=r"40 cells or more.*got 39; name the number"):
        choose_number(lambda: [x[:39]], n_rows=39)
    with pytest.raises(InvalidArgument, match=r"2 or more, larger\), but got \(1, 5\)"):
        choose_number(lambda: [x], n_rows=59, numbers=(1, 5))
    with pytest.raises(InvalidArgument, match="most_runs=2"):
        choose_number(lambda: [x], n_rows=59, most_runs=2)


def test_domains_choose_their_number_and_say_why(
    fresh_store: AtlasStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labeling, "NUMBERS", (2, 4))  # twenty take a quarter of a minute
    table = find_domains(fresh_store, n_domains="auto")
    entry = fresh_store.derived("domains", "domain", "a")
    told = json.loads(fresh_store.storage.get(f"{entry.prefix}/provenance.json"))["parameters"]
    choice = told["n_domains_choice"]
    assert told["n_domains"] == len(table) == entry.info["n_domains"]
    assert choice["numbers"] == [2, 3, 4]
    assert len(choice["stability"]) == len(choice["spread"]) == len(choice["numbers"])
    assert choice["n_rows"] == 300
    find_domains(fresh_store, n_domains=len(table), key_added="named")
    found, named = (codes_of(fresh_store, key, "a") for key in ("domain", "named"))
    assert np.array_equal(found, named)


def test_the_command_line_takes_auto(
    fresh_store: AtlasStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(labeling, "NUMBERS", (2, 4))
    assert main(["domains", fresh_store.url, "--n-domains", "auto", "--markers", "0"]) == 0
    said = capsys.readouterr().err
    record = json.loads(Path(f"{fresh_store.url}.domains.run.json").read_text())
    assert f"chosen: {record['n_domains']} domains, by the stability" in said
    assert len(record["n_domains_choice"]["stability"]) == 3
    assert "  stability  " in said
    fresh_store.refresh()
    entry = fresh_store.derived("domains", "domain", "a")
    assert "n_domains_choice" in str(fresh_store.storage.get(f"{entry.prefix}/provenance.json"))
    for wrong in ("few", "0", "-3", "2.5"):
        assert main(["domains", fresh_store.url, "--n-domains", wrong]) == 2
        assert f"1 or more, or auto, but got '{wrong}'" in capsys.readouterr().err


def test_resolutions_nest_in_all_sections(planted_store: AtlasStore) -> None:
    find_domains(planted_store, n_domains=6, key_added="nested", resolutions=[N_LAYERS, 2])
    keys = {"nested_2": 2, "nested_3": 3, "nested": 6}
    parents: dict[str, dict[int, int]] = {"nested_2": {}, "nested_3": {}}
    sizes = {key: np.zeros(n, dtype=int) for key, n in keys.items()}
    for name in ("a", "b", "tiny"):
        codes = {key: codes_of(planted_store, key, name) for key in keys}
        sure = {
            key: planted_store.derived_group("domains", key, name)["confidence"][:] for key in keys
        }
        for key, n in keys.items():
            sizes[key] += np.bincount(codes[key], minlength=n)
        for coarse, finer in (("nested_3", "nested"), ("nested_2", "nested_3")):
            pairs = zip(codes[finer].tolist(), codes[coarse].tolist(), strict=True)
            for child, parent in pairs:
                assert parents[coarse].setdefault(child, parent) == parent
            assert (sure[coarse] >= sure[finer] - 1e-6).all()
    for counts in sizes.values():
        assert (np.diff(counts) <= 0).all()
    entry = planted_store.derived("domains", "nested_2", "a")
    assert entry.info["categories"] == ["0", "1"]
    assert entry.run == planted_store.derived("domains", "nested", "a").run
    told = json.loads(planted_store.storage.get(f"{entry.prefix}/provenance.json"))["parameters"]
    assert (told["n_domains"], told["joined_from"]) == (2, 6)


def test_wrong_numbers(fresh_store: AtlasStore) -> None:
    with pytest.raises(InvalidArgument, match=r"or \"auto\", but got n_domains='many'"):
        find_domains(fresh_store, n_domains="many")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match=r"resolutions of 1 to 3, below .*got \[2, 4\]"):
        find_domains(fresh_store, n_domains=4, resolutions=[2, 4])
    with pytest.raises(InvalidArgument, match="find the number first"):
        find_domains(fresh_store, n_domains="auto", resolutions=[2])


def test_every_number_tried_is_told() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(3, 4))[rng.integers(0, 3, 200)] * 4.0 + rng.normal(size=(200, 4))
    told: list[tuple[str, int, int]] = []
    found = choose_number(
        lambda: [x],
        n_rows=200,
        numbers=(2, 5),
        most_runs=3,
        progress=lambda *event: told.append(event),
    )
    assert len(told) == 5 * found.n_runs  # 2 to 6: one more than the most
    assert told[0][0] == "choosing the number of domains: 2 in run 1 of at most 3"
    assert [done for _, done, _ in told] == sorted({done for _, done, _ in told})
    assert told[-1][1:] == (5 * found.n_runs, 15)
