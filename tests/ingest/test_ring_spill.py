"""Boundaries that come in any order, several times or not at all, end in row order."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tisseract.atlas.errors import InputError
from tisseract.ingest import ring_spill
from tisseract.ingest.partition import write_section
from tisseract.ingest.ring_spill import RingSpill
from tisseract.ingest.source import RingPiece, RingsSource

from ..sections import LIMIT, make_raw

FACTORS = np.array([0.5, -0.5])


def ring(rng: np.random.Generator, center: Any, n: int) -> Any:
    """A star-shaped ring in source units around a center in stored ones."""
    angles = np.sort((np.arange(n) + 0.8 * rng.random(n)) * (2 * np.pi / n))
    radii = 1 + rng.random(n)
    around = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
    return (center + around) / FACTORS


def area(one: Any) -> float:
    """The oracle."""
    import shapely

    return float(np.float32(shapely.Polygon(one).area))


def spoiled(rng: np.random.Generator, one: Any) -> Any:
    """Something that is no boundary."""
    kind = rng.integers(7)
    if kind == 0:
        return one[:2]
    if kind == 1:
        return np.concatenate([one[:2], one[:1]])  # two vertices, closed
    if kind == 2:
        return np.where(np.arange(one.size).reshape(one.shape) == 3, np.nan, one)
    if kind == 3:
        return one[:1] + np.arange(len(one))[:, None] * np.array([[1.0, 2.0]])  # a line
    if kind == 4:
        return one + 1e12
    if kind == 5:
        return np.where(
            np.arange(len(one))[:, None] == 1, rng.choice([1e300, np.inf, 1.7e308]), one
        )
    return one[:0]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    n=st.integers(1, 60),
    n_rings=st.integers(0, 120),
    piece_rings=st.integers(1, 50),
    sizes=st.fixed_dictionaries(
        {
            "_GROUP_ROWS": st.integers(1, 30),
            "_GROUP_VERTICES": st.integers(8, 200),
            "_RUN_VERTICES": st.integers(1, 300),
            "_JUDGED": st.integers(1, 100),
        }
    ),
    seed=st.integers(0, 9),
)
def test_rows_get_their_largest_sound_ring(
    tmp_path_factory: pytest.TempPathFactory,
    n: int,
    n_rings: int,
    piece_rings: int,
    sizes: dict[str, int],
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    order = rng.permutation(n).astype(np.uint32)
    positions = rng.random((n, 2)) * 1000
    owners = rng.integers(-1, n, n_rings)
    wanted: dict[int, Any] = {}
    rings, unusable, repeated = [], 0, 0
    for owner in owners.tolist():
        own = ring(rng, positions[owner], int(rng.integers(3, 9)))
        bad = rng.random() < 0.3
        stored = spoiled(rng, own) if bad else own
        if not bad and rng.random() < 0.5:
            stored = np.concatenate([stored, stored[:1]])
        rings.append(stored)
        if owner >= 0:
            unusable += bad
            repeated += not bad and owner in wanted
            if not bad:
                wanted[owner] = max(wanted.get(owner, own * FACTORS), own * FACTORS, key=area)
    found = []
    with pytest.MonkeyPatch.context() as patch:
        for name, size in sizes.items():
            patch.setattr(ring_spill, name, size)
        path = tmp_path_factory.mktemp("rings") / "rings"
        with RingSpill(path, order, positions, FACTORS, np.arange(1.0, n + 1)) as spill:
            for start in range(0, n_rings, piece_rings):
                some = rings[start : start + piece_rings]
                counts = np.array([len(one) for one in some])
                rows = owners[start : start + piece_rings]
                spill.add(RingPiece(rows, counts, np.concatenate(some), n_further=int(start == 0)))
            for group in spill.groups():
                assert group.counts.size <= sizes["_GROUP_ROWS"]
                assert group.counts.size == 1 or group.counts.sum() <= sizes["_GROUP_VERTICES"]
                found += np.split(group.vertices, np.cumsum(group.counts)[:-1])
            notes = " ".join(spill.notes())
        assert not path.exists()
    assert len(found) == n
    for row, vertices in zip(order.tolist(), found, strict=True):
        if row in wanted:
            np.testing.assert_allclose(vertices, wanted[row])
        else:
            assert len(vertices) == 8
            np.testing.assert_allclose(np.linalg.norm(vertices - positions[row], axis=1), row + 1)
    assert (f"{n - len(wanted)} of {n} cells have no usable" in notes) == (len(wanted) < n)
    repeated += n_rings > 0  # one that the reader had left out
    assert (f"{repeated} further" in notes) == (repeated > 0)
    assert (f"{(owners < 0).sum()} boundaries of no cell" in notes) == bool((owners < 0).any())
    assert not unusable or f"{unusable} rings" in notes


@pytest.mark.parametrize(
    ("rows", "counts", "vertices", "match"),
    [
        ([7], [3], 3, r"rows -1\.\.4, but got 7\.\.7"),
        ([-2], [3], 3, r"but got -2\.\.-2"),
        ([0], [4], 3, r"expected \(4, 2\) vertices, but got \(3, 2\)"),
        ([0, 1], [3], 3, "a count of vertices for each boundary"),
        ([0], [-1], 0, "a count of vertices for each boundary"),
    ],
)
def test_pieces_that_do_not_add_up_are_refused(
    tmp_path: Path, rows: list[int], counts: list[int], vertices: int, match: str
) -> None:
    order = np.arange(5, dtype=np.uint32)
    with (
        RingSpill(tmp_path / "r", order, np.zeros((5, 2)), np.ones(2), 1.0) as spill,
        pytest.raises(InputError, match=match),
    ):
        spill.add(RingPiece(np.array(rows), np.array(counts), np.zeros((vertices, 2))))
    assert not (tmp_path / "r").exists()


def test_a_section_with_rings_is_read_by_spatialdata(tmp_path: Path) -> None:
    """Boundaries lie at their cells, also where y points up and rings lack; notes say so."""
    import spatialdata

    positions = np.random.default_rng(0).random((300, 2)) * 1000

    def pieces() -> Iterator[RingPiece]:
        square = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]) - 0.5
        for rows in np.array_split(np.random.default_rng(1).permutation(299), 7):
            vertices = (positions[rows, None] + square).reshape(-1, 2)
            yield RingPiece(rows, np.full(rows.size, 5), vertices)

    source = RingsSource(pieces, notes=("two were one",))
    raw = make_raw(positions=positions, shapes=source, y_axis="up", um_per_unit=0.5, radius=3.0)
    summary = write_section(raw, tmp_path / "s.zarr", memory_limit=LIMIT)
    assert summary.notes == (
        "boundaries: two were one",
        "boundaries: 1 of 300 cells have no usable boundary: each is drawn as an octagon",
    )
    known = write_section(
        replace(raw, shapes=replace(source, n_vertices=10**9)), tmp_path / "k", memory_limit=LIMIT
    )
    assert known.plan.scratch_bytes > 16 * 10**9 > summary.plan.scratch_bytes
    data = spatialdata.read_zarr(tmp_path / "s.zarr")
    cells, table = data.shapes["cells"], data.tables["table"]
    centers = np.stack([cells.geometry.centroid.x, cells.geometry.centroid.y], axis=1)
    np.testing.assert_allclose(centers, table.obsm["spatial"])
    area = np.full(300, 0.25)
    area[table.obs.index == "cell-299"] = 8 * 0.5 * 1.5**2 * np.sin(np.pi / 4)
    np.testing.assert_allclose(cells.geometry.area, area)
