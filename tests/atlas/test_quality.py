"""Quality of sections: against NumPy, tile by tile, and of what nobody counted."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tisseract.atlas.errors import Corrupt
from tisseract.atlas.points import PointsSource
from tisseract.atlas.quality import Distribution, LogHistogram, QcSummary, bin_edge
from tisseract.atlas.quality.histogram import QUANTILES
from tisseract.atlas.quality.points import in_no_cell
from tisseract.atlas.quality.section import read_preview
from tisseract.atlas.section import Section
from tisseract.atlas.snapshot import Snapshot
from tisseract.ingest.source import ApartFeatures, ArrayColumn, Polygons, RingPiece, RingsSource

from ..sections import make_raw, make_store, random_counts, write_one

WHOLE = st.lists(st.integers(0, 10**9), min_size=1, max_size=60)


def odd_raw(n: int = 900, **more: Any) -> Any:
    """Cells of which some repeat a position and some are empty."""
    rng = np.random.default_rng(3)
    positions = rng.random((n, 2)) * 400.0
    positions[10:14] = positions[0]
    positions[500:520] = positions[600:620]
    # Of one code with its neighbors, which lie between the two in the order of rows.
    positions[700:703] = 100.0, 100.0
    positions[701, 0] += 1e-9
    counts = random_counts(n, 15, 4).tolil()
    counts[5:45] = 0
    return make_raw(positions=positions, counts=counts.tocsr(), **more)


@pytest.fixture(scope="module")
def section(tmp_path_factory: pytest.TempPathFactory) -> Section:
    return write_one(tmp_path_factory.mktemp("quality"), odd_raw())


def by_tile(section: Section, values: NDArray[Any]) -> NDArray[np.float64]:
    ptr = section.tiles.ptr
    return np.array([values[a:b].sum() for a, b in pairwise(ptr)])


def test_tiles_equal_numpy_and_sum_to_the_section(section: Section) -> None:
    counts = section.counts().toarray()
    depth, genes = counts.sum(axis=1), (counts > 0).sum(axis=1)
    xy = pd.DataFrame(section.positions())
    wanted = {
        "n_obs": np.ones(section.n_obs),
        "n_counts": depth,
        "n_genes": genes,
        "n_empty": depth == 0,
        "n_duplicated": xy.duplicated().to_numpy(),
    }
    quality = section.qc
    for name, values in wanted.items():
        np.testing.assert_array_equal(quality.tiles[name], by_tile(section, values), err_msg=name)
    facts = quality.section
    assert facts["total_counts"] == quality.tiles["n_counts"].sum() == depth.sum()
    assert facts["n_empty"] == quality.tiles["n_empty"].sum() == (depth == 0).sum() >= 40
    assert facts["n_duplicated"] == quality.tiles["n_duplicated"].sum() == 25
    assert facts["n_obs"] == section.n_obs == quality.tiles["n_obs"].sum()
    shares = [np.quantile(depth, q, method="inverted_cdf") for q in QUANTILES]
    assert quality.summary.counts.quantiles == tuple(shares)
    assert facts["median_genes"] == np.quantile(genes, 0.5, method="inverted_cdf")
    assert quality.recorded
    assert "median_counts" in repr(quality)


def test_density_is_of_tight_boxes(section: Section) -> None:
    box = section.tiles.bounds
    area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
    assert section.qc.section["cells_per_mm2"] == pytest.approx(section.n_obs / area.sum() * 1e6)
    tiles = section.qc.tiles
    np.testing.assert_allclose(tiles["cells_per_mm2"], section.tiles.n_cells / area * 1e6)


def test_without_a_unit_nothing_is_said_in_micrometers(tmp_path: Path) -> None:
    n = 60
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    positions = np.random.default_rng(0).random((n, 2)) * 90
    rings = (positions[:, None] + square).reshape(-1, 2)
    shapes = Polygons(rings, np.arange(n + 1) * 4)
    raw = make_raw(positions=positions, um_per_unit=None, shapes=shapes)
    quality = write_one(tmp_path, raw).qc
    assert quality.section["cells_per_mm2"] is None
    assert quality.section["median_area_um2"] is None
    assert quality.tiles["cells_per_mm2"].isna().all()


def test_areas_are_of_boundaries_and_made_up_ones_are_missing(tmp_path: Path) -> None:
    n, per = 70, 0.5
    rng = np.random.default_rng(1)
    positions, sides = rng.random((n, 2)) * 900 + 1e5, rng.integers(2, 9, n).astype(float)
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]) - 0.5
    rows = np.arange(7, n)
    vertices = (positions[rows, None] + square * sides[rows, None, None]).reshape(-1, 2)
    piece = RingPiece(rows, np.full(rows.size, 4), vertices)
    source = RingsSource(lambda: iter([piece]))
    raw = make_raw(positions=positions, shapes=source, um_per_unit=per, y_axis="up")
    section = write_one(tmp_path, raw)
    area = section.qc.summary.area
    assert area is not None
    assert (section.qc.section["area_from"], area.missing, area.n) == ("boundaries", 7, n - 7)
    wanted = (sides[rows] * per) ** 2
    assert area.total == pytest.approx(wanted.sum(), rel=1e-5)
    assert area.quantiles[-1] == pytest.approx(wanted.max(), rel=1e-5)
    assert section.qc.tiles["n_area"].sum() == n - 7
    assert section.qc.tiles["area_um2"].sum() == pytest.approx(wanted.sum(), rel=1e-5)


@pytest.mark.parametrize(
    ("column", "technology", "told"),
    [("cell_area", "Xenium", True), ("cell_area", "merfish", False), ("Area.um2", "", True)],
)
def test_area_columns_are_known_never_guessed(
    tmp_path: Path, column: str, technology: str, told: bool
) -> None:
    areas = np.linspace(1.0, 50.0, 300)
    areas[3] = np.nan
    obs = {column: ArrayColumn.of(areas)}
    section = write_one(tmp_path, make_raw(obs=obs, metadata={"technology": technology}))
    area = section.qc.summary.area
    if not told:
        assert area is None
        return
    assert area is not None
    assert section.qc.section["area_from"] == column
    assert (area.n, area.missing) == (299, 1)
    assert area.total == pytest.approx(np.nansum(areas))


def test_controls_are_a_share_of_all_counts(tmp_path: Path) -> None:
    counts = random_counts(400, 12, 5)
    apart = ApartFeatures(("Neg1", "Neg2"), ("Negative",) * 2, np.array([3, 7]))
    genes = [f"G{k}" for k in range(10)]
    section = write_one(tmp_path, make_raw(counts=counts, genes=genes, apart={"controls": apart}))
    dense = counts.toarray()[section.source_rows()]
    controls = dense[:, [3, 7]].sum(axis=1)
    tiles = section.qc.tiles
    np.testing.assert_array_equal(tiles["n_controls"], by_tile(section, controls))
    share = controls.sum() / dense.sum()
    assert section.qc.section["control_fraction"] == pytest.approx(share)
    assert section.qc.section["total_counts"] == dense.sum() - controls.sum()


def points_of(xy: NDArray[np.float64], cell: Any, **more: Any) -> PointsSource:
    gene = pa.array(["A"] * len(xy)).dictionary_encode()
    columns = {"x": xy[:, 0], "y": xy[:, 1], "gene": gene, "cell": pa.array(cell)}
    batch = pa.RecordBatch.from_pydict(columns)
    batches = [batch.slice(0, 700), batch.slice(700)]
    return PointsSource(lambda: iter(batches), "gene", "cell", **more)


@pytest.mark.parametrize("bounds", [None, (-50.0, -50.0, 500.0, 500.0)])
def test_transcripts_are_counted_in_the_squares_of_tiles(
    tmp_path: Path, bounds: tuple[float, float, float, float] | None
) -> None:
    rng = np.random.default_rng(7)
    xy = rng.random((2000, 2)) * 460 - 30
    cell = np.where(rng.random(2000) < 0.25, "UNASSIGNED", "cell-1").astype(object)
    cell[:5] = None
    points = {"transcripts": points_of(xy, cell, bounds=bounds)}
    section = write_one(tmp_path, odd_raw(points=points))
    outside = np.array([one in (None, "UNASSIGNED") for one in cell])
    squares = section.tile_squares()
    inside = np.array([((xy >= s[:2]) & (xy <= s[2:])).all(axis=1) for s in squares])
    tiles, summary = section.qc.tiles, section.qc.summary
    # No point lies on an edge, so that each is in one square at most.
    np.testing.assert_array_equal(tiles["n_transcripts:transcripts"], inside.sum(axis=1))
    np.testing.assert_array_equal(tiles["n_outside:transcripts"], inside[:, outside].sum(axis=1))
    counts = summary.transcripts["transcripts"]
    assert (counts.n, counts.outside) == (2000, outside.sum())
    assert counts.off_tiles == 2000 - inside.any(axis=0).sum() > 0
    assert summary.outside_fraction == outside.mean()


def test_transcripts_of_a_section_of_one_tile(tmp_path: Path) -> None:
    """Its square is the frame, whose last code is the last there is."""
    xy = np.random.default_rng(7).random((500, 2)) * 300 + 50
    points = {"transcripts": points_of(xy, np.full(500, "cell-1", object))}
    section = write_one(tmp_path, odd_raw(points=points), tile_cells=4096)
    assert section.n_tiles == 1
    assert section.qc.tiles["n_transcripts:transcripts"].tolist() == [500]
    assert section.qc.summary.transcripts["transcripts"].off_tiles == 0


def test_values_of_no_cell() -> None:
    words = pa.chunked_array([["a", "UNASSIGNED", None, "", "-1", "0"]])
    assert in_no_cell(words).tolist() == [False, True, True, True, True, False]
    numbers = pa.chunked_array([[1.0, float("nan"), None, -1.0, 0.0]])
    assert in_no_cell(numbers).tolist() == [False, True, True, True, False]


@given(WHOLE, st.integers(1, 7))
def test_histogram_does_not_depend_on_blocks(values: list[int], parts: int) -> None:
    numbers = np.array(values, np.float64)
    once, several = LogHistogram(), LogHistogram()
    once.add(numbers)
    for part in np.array_split(numbers, parts):
        several.add(part)
    assert several.distribution() == once.distribution()


@given(WHOLE)
def test_quantiles_are_near_and_small_ones_exact(values: list[int]) -> None:
    found = LogHistogram()
    found.add(np.array(values))
    one = found.distribution()
    for share, quantile in zip(QUANTILES, one.quantiles, strict=True):
        exact = float(np.quantile(values, share, method="inverted_cdf"))
        assert quantile <= exact <= quantile * (1 + 1 / 1024)
        assert exact > 2047 or quantile == exact
    assert one.zeros + sum(one.bins) == one.n == len(values)
    if one.bins:
        wanted, _ = np.histogram([v for v in values if v], one.edges())
        assert list(one.bins) == wanted.tolist()
    assert Distribution.of(json.loads(json.dumps(one.as_json()))) == one


def test_histogram_of_what_is_no_number() -> None:
    found = LogHistogram()
    found.add(np.array([np.nan, np.inf, -1.0, 0.0, 2.0**-30, 2.0**70]))
    one = found.distribution()
    assert (one.n, one.missing, one.zeros, sum(one.bins)) == (3, 3, 2, 1)
    assert bin_edge(one.start) <= 2.0**64
    assert LogHistogram().distribution().median is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@settings(max_examples=60)
@given(st.data())
def test_damaged_summaries_are_corrupt_never_worse(section_json: Any, data: st.DataObject) -> None:
    broken = dict(section_json)
    name = data.draw(st.sampled_from(sorted(broken)))
    broken[name] = data.draw(JSON)
    with suppress(Corrupt):
        QcSummary.of(broken)


@pytest.fixture(scope="module")
def section_json(section: Section) -> Any:
    found = json.loads(json.dumps(dict(section.entry.qc)))
    return found | {"transcripts": {"t": [3, 1, 0]}, "notes": ["a"], "box_um2": 4.0}


def test_sections_without_quality_tell_what_is_stored(section: Section) -> None:
    old = Section(section._storage, replace(section.entry, qc={}))
    assert not old.qc.recorded
    assert old.qc.summary.counts == section.qc.summary.counts
    assert old.qc.summary.genes == section.qc.summary.genes
    assert old.qc.section["n_duplicated"] == section.qc.section["n_duplicated"]
    assert old.qc.section["median_area_um2"] is None
    pd.testing.assert_frame_equal(old.qc.tiles, section.qc.tiles)
    np.testing.assert_array_equal(old.qc.preview, section.qc.preview)


def test_snapshots_of_format_1_1_have_no_quality(section: Section, tmp_path: Path) -> None:
    snapshot = make_store(tmp_path, {"s1": make_raw(n_obs=20)}).snapshot
    body = json.loads(snapshot.to_bytes())
    del body["sections"][0]["qc"]
    body["format_version"] = "1.1"
    read = Snapshot.from_bytes(json.dumps(body).encode(), snapshot.number)
    assert read.sections["s1"] == replace(snapshot.sections["s1"], qc={})


def test_preview_holds_all_cells_and_counts(section: Section) -> None:
    found = read_preview(section._storage, section.entry)
    assert found is not None
    assert max(found.shape) <= 64
    assert found[0].sum() == section.n_obs
    assert found[1].sum() == section.depth().sum()


def test_section_of_one_place(tmp_path: Path) -> None:
    quality = write_one(tmp_path, make_raw(positions=np.full((9, 2), 3.0))).qc
    assert quality.section["n_duplicated"] == 8
    assert quality.section["cells_per_mm2"] is None


def test_preview_lies_as_the_section_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    wide = rng.random((4200, 2)) * np.array([800.0, 200.0])
    corner = rng.random((4000, 2)) * 50 + np.array([750.0, 0.0])
    raw = make_raw(positions=np.concatenate([wide, corner]), counts=random_counts(8200, 5, 0))
    cells = write_one(tmp_path, raw, tile_cells=1000).qc.preview[0]
    assert cells.shape == (16, 64)
    right = cells[:4, -4:]
    assert right.sum() > 4000
    assert right.min() > cells[4:, :60].max()


def test_a_long_note_ends_with_a_mark() -> None:
    none = Distribution(0, 0.0, 0, 0, (), 0, ())
    notes = ("word " * 40, "long " * 400)
    whole, cut = QcSummary(0, none, none, 0, notes=notes, n_notes=2).as_json()["notes"]
    assert whole == "word " * 40
    assert cut.endswith(" ...")
    assert len(cut) <= 400
