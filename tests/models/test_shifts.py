"""Shifts of sections: composition told apart from what an instrument adds."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tisseract.models.domains.labeling import Labels as SectionLabels
from tisseract.models.domains.labeling import Readout
from tisseract.models.domains.mixture import Covariance, Mixture
from tisseract.models.domains.mixture_fit import fit_mixture
from tisseract.models.domains.shifts import Shifts, fit_shifts
from tisseract.models.metrics.agreement import ari
from tisseract.models.rows.file import RowFile

type Rows = dict[str, NDArray[np.float64]]
type Labels = dict[str, NDArray[np.int64]]

# how much of each section is the second domain
SHARES = {"early": 0.3, "middle": 0.5, "late": 0.7}
N, D, APART = 600, 3, 4.0


def planted() -> tuple[Rows, Labels]:
    """Two domains in shares of their own, each section centered; (rows, true labels)."""
    rng = np.random.default_rng(3)
    rows: Rows = {}
    labels: Labels = {}
    for name, share in SHARES.items():
        labels[name] = (rng.random(N) < share).astype(np.int64)
        found = rng.normal(size=(N, D)) + APART * labels[name][:, None] * [1.0, 0.0, 0.0]
        rows[name] = found - found.mean(axis=0)
    return rows, labels


def fitted(rows: Rows, covariance: Covariance = "tied", k: int = 2) -> Mixture:
    n_rows = sum(map(len, rows.values()))
    return fit_mixture(rows.values, k, n_rows=n_rows, covariance=covariance)


def agreement(mixture: Mixture, rows: Rows, labels: Labels, shifts: Shifts) -> float:
    codes = [mixture.assign(rows[name] - shifts.get(name, 0.0))[0] for name in rows]
    return ari(np.concatenate(list(labels.values())), np.concatenate(codes))


@pytest.mark.parametrize("covariance", ["tied", "full"])
def test_composition_comes_back_after_centering(covariance: Covariance) -> None:
    rows, labels = planted()
    before = fitted(rows, covariance)
    after, shifts = fit_shifts(before, rows.items, ridge=1e-6)
    assert agreement(after, rows, labels, shifts) > agreement(before, rows, labels, {}) + 0.05
    # centering took `share` times the distance off; some of it stays, by the weight of 60 cells
    lost = (shifts["early"] - shifts["late"])[0]
    assert 0.7 * (0.7 - 0.3) * APART < lost < 1.1 * (0.7 - 0.3) * APART


def test_sections_alike_stay_where_they_are() -> None:
    rng = np.random.default_rng(0)
    half = np.repeat([0.0, 9.0], 500)[:, None]
    rows = {name: half + rng.normal(size=(1000, 1)) * 1e-3 for name in ("a", "b")}
    rows = {name: found - found.mean(axis=0) for name, found in rows.items()}
    before = fitted(rows)
    after, shifts = fit_shifts(before, rows.items, ridge=1e-6)
    assert shifts == {}
    assert after is before


def test_one_section_alone_has_no_shift() -> None:
    rows, _ = planted()
    before = fitted({"late": rows["late"]})
    after, shifts = fit_shifts(before, {"late": rows["late"]}.items, ridge=1e-6)
    assert shifts == {}
    assert after is before


def test_blocks_make_no_difference() -> None:
    rows, _ = planted()
    before = fitted(rows)
    whole, shifts = fit_shifts(before, rows.items, ridge=1e-6)

    def pieces() -> list[tuple[str, NDArray[np.float64]]]:
        return [(name, found[i : i + 77]) for name, found in rows.items() for i in range(0, N, 77)]

    apart, same = fit_shifts(before, pieces, ridge=1e-6)
    np.testing.assert_allclose(apart.means, whole.means, rtol=1e-6)
    for name, shift in shifts.items():
        np.testing.assert_allclose(same[name], shift, atol=1e-9)


def test_a_section_of_few_cells_hardly_moves() -> None:
    rows, _ = planted()
    far = {**rows, "tiny": np.full((1, D), 2.0)}
    _, shifts = fit_shifts(fitted(rows), far.items, ridge=1e-6)
    assert np.abs(shifts["tiny"]).max() < 0.2


def test_joined_domains_see_rows_less_their_shift(tmp_path: Path) -> None:
    mixture = Mixture(np.full(3, 1 / 3), np.array([[0.0], [3.0], [8.0]]), np.ones((1, 1, 1)))
    rows, shift = np.array([[6.0], [8.0], [11.0]]), np.array([5.0])
    codes, confidence = mixture.assign(rows - shift)
    readout = Readout(mixture, {"a": SectionLabels(codes, confidence)}, {"a": shift}, None)
    with RowFile(tmp_path / "rows", 3, 1) as table:
        table.write(0, rows)
        found = dict(readout.levels("a", table, readout.coarser([2])))[2]
    probability, _ = mixture.posterior(rows - shift)
    both = probability[:, :2].sum(axis=1)
    np.testing.assert_allclose(found.confidence, np.maximum(both, 1.0 - both), rtol=1e-6)
