"""The MERSCOPE reader: layouts, ids, controls, metadata, transcripts; and what it refuses."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from tisseract.atlas.errors import InputError
from tisseract.ingest.partition import write_section
from tisseract.ingest.reader import Reader, ReadOptions, reader_for
from tisseract.ingest.source import NumericValues, RawSection, RingsSource
from tisseract.ingest.vendors.merscope import MerscopeReader

from ...contracts import ReaderContract, ids_of, matrix_of
from .merscope_bundle import ORIGIN_UM, MerscopeStyle, blank_names, cell_ids, write_merscope
from .tissue import SimTissue

READER = MerscopeReader()
TISSUE = SimTissue(60, n_genes=40, mean_counts=30, n_controls=4, seed=2)
SMALL = MerscopeStyle(um_per_px=1.0, planes=3, image_planes=(0, 1, 2), tile=None)


def opened(folder: Path, **kwargs: object) -> RawSection:
    return READER.open(folder, ReadOptions(reader_kwargs=kwargs))


def notes_of(raw: RawSection) -> str:
    notes = raw.provenance["notes"]
    assert isinstance(notes, list)
    return "\n".join(map(str, notes))


def numbers_of(raw: RawSection, name: str) -> NDArray[Any]:
    values = raw.obs[name].read()
    assert isinstance(values, NumericValues)
    return values.values


def molecules(raw: RawSection) -> pd.DataFrame:
    found: pd.DataFrame = pa.Table.from_batches(
        list(raw.points["transcripts"].batches())
    ).to_pandas()
    return found


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A region of 60 cells; tests that change it copy it."""
    return write_merscope(tmp_path_factory.mktemp("merscope") / "region_0", TISSUE, SMALL)


@pytest.fixture
def own(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "region_0"))


class TestContract(ReaderContract):
    @pytest.fixture
    def reader(self) -> Reader:
        return READER

    @pytest.fixture
    def source(self, own: Path) -> Path:
        return own

    @pytest.fixture
    def truth(self) -> Mapping[str, Any]:
        block = TISSUE.whole()
        return {
            "counts": np.asarray(block.counts.todense()),
            "positions": block.positions_um + ORIGIN_UM,
            "ids": cell_ids(np.arange(block.n), SMALL),
            "gene_ids": list(TISSUE.gene_names),
        }


def test_blanks_are_set_apart(bundle: Path) -> None:
    raw = opened(bundle)
    controls = raw.apart["controls"]
    assert controls.names == blank_names(TISSUE)
    assert set(controls.feature_types) == {"Blank Codeword"}
    assert controls.columns.tolist() == [40, 41, 42, 43]
    assert "Aph1b/c" in raw.panel.gene_id.tolist()


def test_metadata_follows_the_order_of_the_counts(bundle: Path) -> None:
    raw = opened(bundle)
    counted = np.asarray(TISSUE.whole().counts.sum(axis=1)).ravel()
    assert (numbers_of(raw, "transcript_count") == counted).all()
    assert (numbers_of(raw, "center_x") == raw.positions[:, 0]).all()
    table = pd.read_csv(bundle / "cell_metadata.csv")
    assert not (table["transcript_count"] == counted).all(), "the bundle shuffles rows"


def test_transcripts_keep_every_column(bundle: Path) -> None:
    raw = opened(bundle)
    read, table = molecules(raw), pd.read_csv(bundle / "detected_transcripts.csv")
    assert set(read.columns) == {
        "transcript_index", "barcode_id", "x", "y", "z", "x_local", "y_local", "fov", "gene",
        "transcript_id",
    }  # fmt: skip
    for name, stored in {"global_x": "x", "global_y": "y", "global_z": "z", "x": "x_local"}.items():
        np.testing.assert_array_equal(read[stored], table[name])
    assert read["gene"].tolist() == table["gene"].tolist()
    assert raw.points["transcripts"].feature_key == "gene"
    assert not raw.points["transcripts"].instance_key


def test_transcripts_name_their_cell_where_the_file_does(tmp_path: Path) -> None:
    folder = write_merscope(tmp_path / "new", TISSUE, SMALL, cell_ids=True, images=False)
    raw = opened(folder)
    assert raw.points["transcripts"].instance_key == "cell_id"
    cells = molecules(raw)["cell_id"]
    block = TISSUE.whole()
    ids = np.array([*cell_ids(np.arange(block.n), SMALL), None], object)
    assert cells.isna().sum() == (block.cell < 0).sum() > 0
    assert (cells.dropna() == ids[block.cell[block.cell >= 0]]).all()


@pytest.mark.parametrize("kind", ["csv.gz", "parquet"])
def test_tables_of_other_kinds_read_alike(tmp_path: Path, bundle: Path, kind: str) -> None:
    folder = write_merscope(tmp_path / "r", TISSUE, SMALL, table_format=kind, images=False)
    raw, plain = opened(folder), opened(bundle)
    assert (matrix_of(raw) != matrix_of(plain)).nnz == 0
    assert ids_of(raw) == ids_of(plain)
    read, text = molecules(raw), molecules(plain)
    assert set(read.columns) == set(text.columns)
    for name in ("x", "x_local", "transcript_index"):
        np.testing.assert_allclose(read[name], text[name], rtol=1e-7)


def test_old_release_with_ids_of_39_digits(tmp_path: Path) -> None:
    style = MerscopeStyle(boundaries="hdf5", planes=2, old_ids=True, suffix="_S1R1", images=False)
    raw = opened(write_merscope(tmp_path / "old", TISSUE, style))
    assert ids_of(raw) == cell_ids(np.arange(60), style)
    np.testing.assert_allclose(raw.positions, TISSUE.whole().positions_um + ORIGIN_UM)
    assert "column_0" not in raw.obs
    assert raw.shapes is not None


def test_names_that_begin_with_that_of_the_sample(own: Path) -> None:
    """As the public data sets are named: `HumanLiver_cell_by_gene.csv`."""
    plain = opened(own, z_layers="all")
    for one in [*own.rglob("*.*")]:
        one.rename(one.with_name(f"HumanLiver_{one.name}"))
    raw = opened(own, z_layers="all")
    assert set(raw.images) == {"mosaic_z0", "mosaic_z1", "mosaic_z2"}
    assert raw.provenance["vendor"]["mosaics"] == {  # type: ignore[index]
        **plain.provenance["vendor"]["mosaics"],  # type: ignore[index]
        "placed_by": "HumanLiver_micron_to_mosaic_pixel_transform.csv",
    }
    assert raw.points
    assert raw.shapes is not None
    assert not [one for one in notes_of(raw).splitlines() if one.startswith("no ")]


def test_region_below_and_vpt_output_below_that(tmp_path: Path) -> None:
    root = tmp_path / "run"
    write_merscope(
        root / "region_0",
        TISSUE,
        SMALL,
        segmentation="vpt_outputs",
        boundary_name="cellpose_micron_space.parquet",
        cell_ids=True,
    )
    (root / "region_0" / "202501_run.vzg").write_bytes(b"viewer")
    raw = opened(root)
    assert {"mosaic_z1"} == set(raw.images)
    assert "transcripts" in raw.points
    assert "202501_run.vzg not read" in notes_of(raw)
    assert raw.provenance["vendor"]["boundaries"]["file"] == "cellpose_micron_space.parquet"  # type: ignore[index]


def test_several_regions_need_a_choice(tmp_path: Path) -> None:
    for name in ("region_0", "region_1"):
        write_merscope(tmp_path / name, TISSUE, SMALL, images=False, boundaries="none")
    with pytest.raises(InputError, match=r"one region.*region_0, region_1.*data_path"):
        opened(tmp_path)
    assert opened(tmp_path, region="region_1").n_obs == 60
    with pytest.raises(InputError, match=r"region_2.*Did you mean"):
        opened(tmp_path, region="region_2")


def test_the_upper_of_two_segmentations_is_read(tmp_path: Path) -> None:
    write_merscope(tmp_path, TISSUE, SMALL, images=False, boundaries="none")
    fewer = SimTissue(30, n_genes=40, mean_counts=30, n_controls=4, seed=2)
    write_merscope(tmp_path / "vpt", fewer, SMALL, images=False, boundaries="none")
    raw = opened(tmp_path)
    assert raw.n_obs == 60
    assert "another segmentation in vpt" in notes_of(raw)
    assert opened(tmp_path, segmentation="vpt").n_obs == 30


def test_boundaries_in_a_folder_of_their_own(tmp_path: Path) -> None:
    write_merscope(tmp_path, TISSUE, SMALL, images=False)
    (tmp_path / "Cellpose").mkdir()
    new = tmp_path / "Cellpose" / "cellpose_micron_space.parquet"
    (tmp_path / "cell_boundaries.parquet").rename(new)
    (tmp_path / "Cellpose" / "cellpose_mosaic_space.parquet").write_bytes(b"pixels")
    raw = opened(tmp_path)
    assert isinstance(raw.shapes, RingsSource)
    assert sum(piece.rows.size for piece in raw.shapes.pieces()) == 60
    assert "mosaic_space.parquet not read: boundaries in pixels" in notes_of(raw)


def test_an_index_without_a_name_is_no_gene(own: Path) -> None:
    pd.read_csv(own / "cell_by_gene.csv").to_csv(own / "cell_by_gene.csv")
    assert opened(own).panel.gene_id.tolist() == list(TISSUE.gene_names)


def test_facts_that_json_cannot_hold_are_left_out(own: Path, tmp_path: Path) -> None:
    text = (
        '{"run": "a", "power": NaN, "gain": 1e999, "note": "\\ud800", "n": 3, "on": true, "x": []}'
    )
    (own / "experiment.json").write_text(text)
    raw = opened(own)
    assert raw.provenance["vendor"]["experiment"] == {"run": "a", "n": 3, "on": True}  # type: ignore[index]
    write_section(raw, tmp_path / "out", memory_limit=2**30)


def test_files_are_those_that_are_read(own: Path, tmp_path: Path) -> None:
    genes = tmp_path / "genes.csv"
    options = ReadOptions(gene_map=genes, reader_kwargs={"transcripts": False, "z_layers": 0})
    names = {one.name for one in READER.files(own, options)}
    assert names == {
        "cell_by_gene.csv", "cell_metadata.csv", "cell_boundaries.parquet", "manifest.json",
        "micron_to_mosaic_pixel_transform.csv", "mosaic_DAPI_z0.tif", "mosaic_PolyT_z0.tif",
        "genes.csv",
    }  # fmt: skip


def test_proteins_and_signals_are_kept(tmp_path: Path) -> None:
    folder = write_merscope(tmp_path / "ultra", TISSUE, SMALL, proteins=("CD8",), images=False)
    table = pd.read_csv(folder / "cell_metadata.csv")[["EntityID"]]
    table.assign(PolyT_raw=np.arange(60.0)).to_csv(folder / "sum_signals.csv", index=False)
    raw = opened(folder)
    counted = numbers_of(raw, "transcript_count")
    np.testing.assert_allclose(numbers_of(raw, "CD8_high_pass"), 3.25 * counted)
    order = {str(one): k for k, one in enumerate(table["EntityID"])}
    assert numbers_of(raw, "PolyT_raw").tolist() == [order[str(one)] for one in ids_of(raw)]


def test_signals_are_missing_for_cells_without_a_row(own: Path) -> None:
    table = pd.read_csv(own / "cell_metadata.csv")[["EntityID"]]
    table = table.assign(PolyT_raw=np.arange(60.0))
    table.iloc[1:].to_csv(own / "sum_signals.csv", index=False)
    raw = opened(own)
    values = raw.obs["PolyT_raw"].read()
    assert isinstance(values, NumericValues)
    assert values.mask is not None
    lost = [one == str(table["EntityID"][0]) for one in ids_of(raw)]
    assert values.mask.tolist() == lost
    assert set(values.values[~values.mask]) == set(range(1, 60))
    assert "sum_signals.csv: 1 of 60 cells have no row" in notes_of(raw)


def test_cells_of_one_file_alone_are_left_out_and_counted(own: Path) -> None:
    table = pd.read_csv(own / "cell_metadata.csv")
    table.iloc[5:].to_csv(own / "cell_metadata.csv", index=False)
    counts = (own / "cell_by_gene.csv").read_text().splitlines(keepends=True)
    (own / "cell_by_gene.csv").write_text("".join(counts[:51]))
    raw = opened(own)
    kept = set(table["EntityID"].iloc[5:].astype(str)) & {one.split(",")[0] for one in counts[1:51]}
    assert set(ids_of(raw)) == kept
    assert matrix_of(raw).shape[0] == len(kept)
    whole = np.asarray(TISSUE.whole().counts.todense())
    rows = [cell_ids(np.arange(60), SMALL).index(str(one)) for one in ids_of(raw)]
    assert (matrix_of(raw).toarray() == whole[rows]).all()
    assert "without a row in cell_metadata left out" in notes_of(raw)
    assert "without counts in cell_by_gene left out" in notes_of(raw)


@pytest.mark.parametrize(
    ("file", "column", "cell", "message"),
    [
        ("cell_by_gene.csv", "cell", "", r"cell_by_gene\.csv row 3: .*a cell id in cell, got none"),
        ("cell_by_gene.csv", "cell", None, "expected every cell once"),
        ("cell_metadata.csv", "center_x", "2e7", r"center_x row 3: .*below 1e\+07, but got 2e\+07"),
        ("cell_metadata.csv", "center_y", "inf", r"center_y row 3: .*but got inf"),
    ],
)
def test_cells_without_an_id_or_a_place_of_this_world_are_refused(
    own: Path, file: str, column: str, cell: str | None, message: str
) -> None:
    table = pd.read_csv(own / file, dtype=str)
    words = table[column].tolist()
    words[2] = words[1] if cell is None else cell
    table[column] = words
    table.to_csv(own / file, index=False)
    with pytest.raises(InputError, match=message):
        opened(own)


def test_cells_without_a_center_are_left_out(own: Path) -> None:
    table = pd.read_csv(own / "cell_metadata.csv", dtype=str)
    lost = table["EntityID"].tolist()[2]
    table.loc[2, "center_y"] = ""
    table.to_csv(own / "cell_metadata.csv", index=False)
    raw = opened(own)
    assert matrix_of(raw).shape[0] == raw.n_obs == 59
    assert lost not in ids_of(raw)
    assert "1 cells without a center in cell_metadata.csv left out" in notes_of(raw)


@pytest.mark.parametrize("file", ["cell_by_gene.csv", "cell_metadata.csv"])
def test_ids_that_went_through_floats_are_refused(own: Path, file: str) -> None:
    table = pd.read_csv(own / file)
    name = table.columns[0]
    table[name] = table[name].astype(float)
    table.to_csv(own / file, index=False)
    with pytest.raises(InputError, match=rf"{file}:{name}.*whole numbers.*decimal") as caught:
        opened(own)
    assert "1.128" in str(caught.value)


def test_transcripts_with_mangled_cells_are_kept_without_them(tmp_path: Path) -> None:
    folder = write_merscope(tmp_path / "r", TISSUE, SMALL, cell_ids=True, images=False)
    table = pd.read_csv(folder / "detected_transcripts.csv")
    table.astype({"cell_id": float}).to_csv(folder / "detected_transcripts.csv", index=False)
    raw = opened(folder)
    assert not raw.points["transcripts"].instance_key
    assert "hold" in notes_of(raw)
    assert "decimal" in notes_of(raw)


def test_partial_folder_says_what_is_missing(own: Path) -> None:
    for name in ("detected_transcripts.csv", "cell_boundaries.parquet"):
        (own / name).unlink()
    shutil.rmtree(own / "images")
    raw = opened(own)
    assert raw.shapes is None
    assert isinstance(raw.radius, np.ndarray)
    np.testing.assert_allclose(raw.radius, 4.0, atol=1e-9)
    for part in ("no boundaries in", "no mosaics in", "no detected_transcripts in"):
        assert part in notes_of(raw)


def test_all_faults_come_at_once(own: Path) -> None:
    (own / "cell_by_gene.csv").write_bytes(b"")
    (own / "cell_metadata.csv").unlink()
    seen = READER.inspect(own, ReadOptions(reader_kwargs={"zlayer": 1}))
    messages = "\n".join(f"{one.location} {one.message}" for one in seen.faults)
    assert "z_layer" in messages
    assert "cell_by_gene.csv" in messages
    assert "cell_metadata.csv" in messages


def test_files_of_two_outputs_are_refused(own: Path) -> None:
    table = pd.read_csv(own / "cell_metadata.csv")
    table["EntityID"] += 1
    table.to_csv(own / "cell_metadata.csv", index=False)
    with pytest.raises(InputError, match="different outputs"):
        opened(own)


def test_a_link_out_of_the_folder_is_refused(own: Path, tmp_path: Path) -> None:
    (own / "detected_transcripts.csv").rename(tmp_path / "elsewhere.csv")
    (own / "detected_transcripts.csv").symlink_to(tmp_path / "elsewhere.csv")
    with pytest.raises(InputError, match="link"):
        opened(own)


def test_other_technologies_are_not_merscope(tmp_path: Path) -> None:
    (tmp_path / "x_exprMat_file.csv").write_text("fov,cell_ID,A\n1,1,0\n")
    (tmp_path / "x_metadata_file.csv").write_text("fov,cell_ID\n1,1\n")
    assert not READER.recognizes(tmp_path)
    own = tmp_path / "own"
    own.mkdir()
    (own / "X_cell_by_gene.csv").write_text("cell,A\n1,0\n")
    assert reader_for(own).format == "merscope"


@pytest.mark.parametrize("said", ["MERSCOPE", "Vizgen MERFISH", "a new one", "Visium"])
def test_another_technology_in_the_sheet_is_told(bundle: Path, said: str) -> None:
    options = ReadOptions(technology=said)
    told = f"technology: the files are of MERSCOPE, the sheet says {said!r}"
    assert (told in READER.inspect(bundle, options).notes) == (said == "Visium")
    assert (told in notes_of(READER.open(bundle, options))) == (said == "Visium")


@pytest.mark.parametrize("lost", ["cell_by_gene.csv", "cell_metadata.csv"])
def test_an_output_that_lacks_a_table_is_still_known(own: Path, lost: str) -> None:
    (own / lost).unlink()
    assert reader_for(own).format == "merscope"
    with pytest.raises(InputError, match=lost.partition(".")[0]):
        opened(own)
