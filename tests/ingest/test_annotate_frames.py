"""Transforms of the sheet: affines and landmarks, their units, y axes and faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas.errors import InputError, InvalidArgument
from tisseract.atlas.store import open_store
from tisseract.ingest.annotate_frames import fit_landmarks, read_transform
from tisseract.ingest.annotate_regions import Ground
from tisseract.ingest.pipeline import ingest

from . import h5ad_files as small
from .attached import sheet_row, stored


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-3, 3), st.floats(0.1, 9), st.floats(-500, 500), st.booleans(),
    st.sampled_from(["similarity", "affine"]), st.integers(0, 99),
)  # fmt: skip
def test_landmarks_of_a_similarity_are_found_again(
    angle: float, scale: float, shift: float, mirrored: bool, model: str, seed: int
) -> None:
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = linear @ np.diag([1, -1]) if mirrored else linear
    points = np.random.default_rng(seed).random((6, 2)) * 100
    matrix, facts = fit_landmarks(np.hstack([points, points @ linear.T + shift]), model)
    np.testing.assert_allclose(matrix[:, :2], linear, atol=1e-6)
    np.testing.assert_allclose(matrix[:, 2], shift, atol=1e-4)
    assert facts["residual_max"] < 1e-6
    assert facts["mirrored"] is mirrored


def test_residuals_are_the_least() -> None:
    rng = np.random.default_rng(0)
    source = rng.random((9, 2)) * 100
    target = source @ np.array([[1.1, 0.2], [-0.1, 0.9]]).T + 7 + rng.normal(0, 1, (9, 2))
    both = np.hstack([source, target])
    matrix, facts = fit_landmarks(both, "affine")
    oracle, *_ = np.linalg.lstsq(np.column_stack([source, np.ones(9)]), target, rcond=None)
    np.testing.assert_allclose(matrix, oracle.T, rtol=1e-6, atol=1e-6)
    assert 0 < facts["residual_rms"] < fit_landmarks(both, "similarity")[1]["residual_rms"]


@pytest.mark.parametrize(
    ("points", "model", "wanted"),
    [
        ([[0, 0], [1, 1], [2, 2]], "affine", "on one line"),
        ([[0, 0], [0, 0]], "similarity", "several places"),
        ([[0, 0], [1, 0]], "affine", "3 landmarks or more"),
        ([[0, 0], [1, 0], [0, 1]], "rigid", "similarity or affine"),
    ],
)
def test_landmarks_that_fix_nothing_are_refused(points: Any, model: str, wanted: str) -> None:
    with pytest.raises(InvalidArgument, match=wanted):
        fit_landmarks(np.hstack([points, points]).astype(float), model)


def test_source_units_and_y_up(tmp_path: Path) -> None:
    matrix = [[2.0, 0.0, 10.0], [0.0, 3.0, 20.0]]
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"matrix": matrix}))
    row = sheet_row(tmp_path, transform={"path": str(path), "frame": "ccf", "units": "source"})
    ingest([row], tmp_path / "a.atlas")
    info = open_store(tmp_path / "a.atlas").derived("frame", "ccf", "s").info
    found = np.asarray(info["matrix"])
    moved = stored() @ found[:, :2].T + found[:, 2]
    truth = small.positions() @ np.asarray(matrix)[:, :2].T + np.asarray(matrix)[:, 2]
    np.testing.assert_allclose(moved, truth, atol=1e-9)


def test_landmark_file_and_its_residuals(tmp_path: Path) -> None:
    path = tmp_path / "marks.csv"
    path.write_text("x_from,y_from,x_to,y_to\n0,0,100,100\n10,0,110,100\n0,10,100,110\n")
    ingest([sheet_row(tmp_path, transform=str(path))], tmp_path / "a.atlas")
    info = open_store(tmp_path / "a.atlas").derived("frame", "common", "s").info
    np.testing.assert_allclose(info["matrix"], [[1, 0, 100], [0, 1, 100]], atol=1e-9)
    assert info["model"] == "similarity"
    assert info["residual_rms"] < 1e-9


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1,2\n3,4\n", "affine of 2 x 3"),
        ("1,0,0\n2,0,0\n", "cannot be undone|squeezes"),
        ("1,0,x\n0,1,0\n", "finite number"),
        ("x_from,y_from,x_to\n1,2,3\n", "x_from, y_from, x_to, y_to"),
        ("x_from,y_from,x_to,y_to\n1e308,0,1,1\n-1e308,0,9,1\n", "coordinates below 1e"),
        ('{"matrix": [[1, 0, 0]]}', "affine of 2 x 3"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, wanted: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=wanted):
        read_transform(path, {}, Ground(1.0), "t.csv")
