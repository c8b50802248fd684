"""The h5ad reader: encodings, layers, splits, hostile files, real tissue."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from tisseract.atlas.errors import InputError
from tisseract.ingest.h5ad import H5adReader
from tisseract.ingest.reader import Reader, ReadOptions
from tisseract.ingest.source import BooleanValues, CategoricalValues, NumericValues, StringValues

from ..contracts import ids_of, matrix_of, told_faults
from . import h5ad_files as h5
from .h5ad_contract import UNIT, AnnDataContract

READER = H5adReader()


def faults(path: Path, options: ReadOptions = UNIT) -> str:
    """All faults of inspection, which `open` must raise as well."""
    return told_faults(READER, path, options)


class TestContract(AnnDataContract):
    @pytest.fixture(params=["csr", "csc", "dense"])
    def layout(self, request: pytest.FixtureRequest) -> Any:
        return request.param

    @pytest.fixture
    def reader(self) -> Reader:
        return READER

    @pytest.fixture
    def source(self, tmp_path: Path, layout: str) -> Path:
        obs = {"depth": np.arange(h5.N_CELLS), "name": np.asarray(["x", "y"] * 30)}
        return h5.write_h5ad(tmp_path / "brain.h5ad", layout=layout, obs=obs)


class TestColumns:
    def test_every_encoding(self, tmp_path: Path) -> None:
        path = h5.write_h5ad(tmp_path / "a.h5ad")
        n = h5.N_CELLS
        with h5py.File(path, "a") as file:
            obs = file["obs"]
            h5.write_categorical(obs, "layer", np.r_[-1, np.zeros(n - 1)], ["L1", "WM"])
            for name, values in (("good", np.arange(n)), ("flag", np.ones(n, bool))):
                group = obs.create_group(name)
                group.attrs["encoding-type"] = "nullable-integer"
                group["values"] = values
                group["mask"] = np.arange(n) == 3
            words = obs.create_group("words")
            words.attrs["encoding-type"] = "nullable-string-array"
            words.create_dataset("values", data=["µ"] * n, dtype=h5.TEXT)
            words["mask"] = np.arange(n) == 5
            obs["fixed"] = np.asarray([b"ab"] * n)
            obs["truth"] = np.arange(n) % 2 == 0
            obs.create_group("__categories").create_dataset("old", data=["p", "q"], dtype=h5.TEXT)
            obs["old"] = np.arange(n, dtype=np.int8) % 2
            obs["old"].attrs["categories"] = obs["__categories/old"].ref
            names = ["layer", "good", "flag", "words", "fixed", "truth", "old"]
            obs.attrs.create("column-order", names, dtype=h5.TEXT)
        read = {k: c.read() for k, c in READER.open(path, UNIT).obs.items()}
        layer, good, flag, words = (read[k] for k in ("layer", "good", "flag", "words"))
        assert isinstance(layer, CategoricalValues)
        assert layer.categories == ("L1", "WM")
        assert layer.codes[:2].tolist() == [-1, 0]
        assert isinstance(good, NumericValues)
        assert good.mask is not None
        assert np.flatnonzero(good.mask).tolist() == [3]
        assert isinstance(flag, BooleanValues)
        assert isinstance(words, StringValues)
        assert words.to_list()[4:6] == ["µ", None]
        assert isinstance(read["fixed"], StringValues)
        assert read["fixed"].to_list()[0] == "ab"
        assert isinstance(read["truth"], BooleanValues)
        old = read["old"]
        assert isinstance(old, CategoricalValues)
        assert old.categories == ("p", "q")

    def test_compound_tables_of_old_anndata(self, tmp_path: Path) -> None:
        path = tmp_path / "old.h5ad"
        n = h5.N_CELLS
        with h5py.File(path, "w") as file:
            h5.write_sparse(file, "X", h5.counts())
            obs = np.zeros(n, dtype=[("index", "S8"), ("depth", "<f4")])
            obs["index"], obs["depth"] = h5.cell_ids(), np.arange(n)
            file["obs"] = obs
            file["var"] = np.asarray([(g,) for g in h5.gene_names()], dtype=[("index", "S8")])
            obsm = np.zeros(n, dtype=[("spatial", "<f8", (2,))])
            obsm["spatial"] = h5.positions()
            file["obsm"] = obsm
        raw = READER.open(path, UNIT)
        assert ids_of(raw) == h5.cell_ids()
        np.testing.assert_array_equal(raw.positions, h5.positions())
        assert (matrix_of(raw).toarray() == h5.counts()).all()
        depth = raw.obs["depth"].read()
        assert isinstance(depth, NumericValues)
        assert depth.values.tolist() == list(range(n))

    def test_names_that_spatialdata_refuses_are_changed_and_said(self, tmp_path: Path) -> None:
        path = h5.write_h5ad(tmp_path / "a.h5ad", obs={"percent mito": np.zeros(h5.N_CELLS)})
        raw = READER.open(path, UNIT)
        assert list(raw.obs) == ["percent mito"]  # renamed when written
        assert raw.provenance["renamed_columns"] == {"percent mito": "percent_mito"}
        assert "percent mito" in READER.inspect(path, UNIT).notes[0]

    def test_names_that_would_become_one_are_told_apart(self, tmp_path: Path) -> None:
        zeros = np.zeros(h5.N_CELLS)
        path = h5.write_h5ad(tmp_path / "a.h5ad", obs={"Layer": zeros, "layer": zeros})
        raw = READER.open(path, UNIT)
        assert list(raw.obs) == ["Layer", "layer"]
        renamed = raw.provenance["renamed_columns"]
        assert isinstance(renamed, dict)
        assert list(renamed) == ["layer"]
        dropped = replace(UNIT, reader_kwargs={"drop_columns": ["Layer"]})
        assert list(READER.open(path, dropped).obs) == ["layer"]

    def test_objects_are_refused_and_can_be_dropped(self, tmp_path: Path) -> None:
        path = h5.write_h5ad(tmp_path / "a.h5ad")
        with h5py.File(path, "a") as file:
            file["obs"].create_dataset("pickle", data=np.zeros(h5.N_CELLS, dtype="V8"))
            file["obs"].attrs.create("column-order", ["pickle"], dtype=h5.TEXT)
        assert "obs/pickle" in faults(path)
        dropped = replace(UNIT, reader_kwargs={"drop_columns": "pickle"})
        assert READER.open(path, dropped).obs == {}


class TestMatrix:
    def test_counts_in_a_layer_or_raw(self, tmp_path: Path) -> None:
        logged = np.log1p(h5.counts())
        path = h5.write_h5ad(tmp_path / "a.h5ad", logged)
        with h5py.File(path, "a") as file:
            h5.write_sparse(file.create_group("layers"), "counts", h5.counts())
            raw = file.create_group("raw")
            wide = np.hstack([h5.counts(), h5.counts()])
            h5.write_sparse(raw, "X", wide)
            h5.write_frame(raw, "var", [f"R{i}" for i in range(2 * h5.N_GENES)], {})
        told = faults(path)
        assert "expected counts, but got 0.69" in told
        assert "'log1p'" in told
        assert "`layer` to 'counts'" in told
        layer = READER.open(path, replace(UNIT, layer="counts"))
        assert (matrix_of(layer).toarray() == h5.counts()).all()
        whole = READER.open(path, replace(UNIT, layer="raw"))
        assert (matrix_of(whole).toarray() == wide).all()
        assert whole.panel.name[0] == "R0"
        log = READER.open(path, replace(UNIT, values="log1p"))
        assert log.values == "log1p"
        assert "Did you mean 'counts'" in faults(path, replace(UNIT, layer="count"))

    def test_negative_and_missing_numbers_are_refused(self, tmp_path: Path) -> None:
        for value, told in ((-1.0, "got -1"), (np.nan, "NaN")):
            matrix = h5.counts()
            matrix[0, 0] = value
            path = h5.write_h5ad(tmp_path / f"{value}.h5ad", matrix)
            assert told in faults(path, replace(UNIT, values="normalized"))

    def test_shape_that_disagrees_with_obs(self, tmp_path: Path) -> None:
        path = h5.write_h5ad(tmp_path / "a.h5ad")
        with h5py.File(path, "a") as file:
            file["X"].attrs["shape"] = (h5.N_CELLS - 1, h5.N_GENES)
        assert "disagree" in faults(path)


class TestPlace:
    def test_other_keys_and_columns(self, tmp_path: Path) -> None:
        n = h5.N_CELLS
        path = h5.write_h5ad(tmp_path / "a.h5ad", obs={"px": np.arange(n), "py": np.ones(n)})
        with h5py.File(path, "a") as file:
            file["obsm"].move("spatial", "X_spatial")
        assert "Did you mean 'X_spatial'" in faults(path)
        named = READER.open(path, replace(UNIT, spatial_key="X_spatial"))
        np.testing.assert_array_equal(named.positions, h5.positions())
        columns = replace(UNIT, reader_kwargs={"position_columns": ["px", "py"]})
        assert READER.open(path, columns).positions[3].tolist() == [3.0, 1.0]

    def test_third_axis_is_noted(self, tmp_path: Path) -> None:
        xyz = np.random.default_rng(0).random((h5.N_CELLS, 3))
        path = h5.write_h5ad(tmp_path / "a.h5ad", xy=xyz)
        assert "third column" in READER.inspect(path, UNIT).notes[0]
        assert "third column" in str(READER.open(path, UNIT).provenance["notes"])
        xyz[:, 2] = 4.0
        flat = h5.write_h5ad(tmp_path / "b.h5ad", xy=xyz)
        assert "x and y" in READER.inspect(flat, UNIT).notes[0]

    def test_positions_that_are_not_finite(self, tmp_path: Path) -> None:
        xy = h5.positions()
        xy[7, 1] = np.inf
        path = h5.write_h5ad(tmp_path / "a.h5ad", xy=xy)
        assert "in 1 row (7); remove" in faults(path)
        xy[7, 1] = -1.7e308
        assert "below 1e+15, but got" in faults(h5.write_h5ad(tmp_path / "b.h5ad", xy=xy))

    def test_unit_must_come_from_somewhere(self, tmp_path: Path) -> None:
        path = h5.write_h5ad(tmp_path / "a.h5ad")
        assert "set `um_per_unit`" in faults(path, ReadOptions())
        unknown = READER.open(path, ReadOptions(um_per_unit="unknown"))
        assert unknown.um_per_unit is None
        assert "no lattice" not in faults(path, ReadOptions(um_per_unit="lattice:100"))

    def test_every_fault_at_once(self, tmp_path: Path) -> None:
        ids = h5.cell_ids()
        ids[4] = ids[9]
        xy = h5.positions()
        xy[0] = np.nan
        genes = h5.gene_names()
        genes[1] = genes[2]
        path = h5.write_h5ad(
            tmp_path / "a.h5ad", np.log1p(h5.counts()), xy=xy, ids=ids, genes=genes
        )
        told = faults(path, ReadOptions())
        for part in ("'cell9'", "finite positions", "Gene2 = Gene2", "expected counts"):
            assert part in told

    def test_radius_and_unit_of_embedded_visium(self, tmp_path: Path) -> None:
        row, col = np.divmod(np.arange(400), 20)
        xy = np.column_stack([(col + 0.5 * (row % 2)) * 50.0, row * 50.0 * np.sqrt(3) / 2])
        matrix = np.ones((400, h5.N_GENES), dtype=np.float32)
        path = h5.write_h5ad(
            tmp_path / "a.h5ad", matrix, xy=xy, obs={"array_row": row, "array_col": col}
        )
        with h5py.File(path, "a") as file:
            library = file.create_group("uns/spatial/slide")
            library["scalefactors/spot_diameter_fullres"] = 30.0
            library["scalefactors/tissue_hires_scalef"] = 0.5
            library["images/hires"] = np.zeros((40, 50, 3), np.uint8)
        raw = READER.open(path, ReadOptions())
        assert raw.um_per_unit == pytest.approx(2.0)
        assert raw.radius == pytest.approx(27.5 / 2)
        image = raw.images["hires"]
        assert image.nbytes == 40 * 50 * 3
        assert image.affine[0][0] == pytest.approx(2.0 / 0.5)  # type: ignore[attr-defined]
        up = READER.open(path, ReadOptions(y_axis="up"))
        assert up.y_axis == "up"
        assert up.provenance["y_flipped"] is True
        assert up.images["hires"].affine[1][1] == pytest.approx(-4.0)  # type: ignore[attr-defined]

    def test_image_beside_scale_factors(self, tmp_path: Path) -> None:
        path = h5.write_h5ad(tmp_path / "a.h5ad")
        image = tmp_path / "tissue_lowres_image.png"
        Image.fromarray(np.zeros((30, 20), np.uint8)).save(image)
        (tmp_path / "scalefactors_json.json").write_text('{"tissue_lowres_scalef": 0.1}')
        raw = READER.open(path, replace(UNIT, image=image))
        assert raw.images["image"].affine[0][0] == pytest.approx(10.0)  # type: ignore[attr-defined]
        image.write_bytes(b"no image")
        assert "tissue_lowres_image.png" in faults(path, replace(UNIT, image=image))


class TestSplit:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        donor = np.asarray(["d2", "d1", "d2"] * 20)
        return h5.write_h5ad(tmp_path / "a.h5ad", obs={"donor": donor, "n": np.arange(60)})

    def test_is_refused_until_told(self, path: Path) -> None:
        told = faults(path)
        assert "looks like several" in told
        assert "'donor' (2 values" in told
        assert READER.open(path, replace(UNIT, split_by="none")).n_obs == h5.N_CELLS

    @pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
    def test_parts_make_the_whole(self, path: Path, layout: str) -> None:
        h5.write_h5ad(path, layout=layout, obs={"donor": np.asarray(["d2", "d1", "d2"] * 20)})
        options = replace(UNIT, split_by="donor")
        assert READER.inspect(path, options).splits == {"d1": 20, "d2": 40}
        for value, rows in (("d1", slice(1, None, 3)), ("d2", None)):
            raw = READER.open(path, replace(options, split_value=value))
            kept = np.arange(60)[rows] if rows else np.flatnonzero(np.arange(60) % 3 != 1)
            assert (matrix_of(raw, 300).toarray() == h5.counts()[kept]).all()
            assert ids_of(raw) == [h5.cell_ids()[i] for i in kept]
            np.testing.assert_array_equal(raw.positions, h5.positions()[kept])
            donors = raw.obs["donor"].read()
            assert isinstance(donors, StringValues)
            assert set(donors.to_list()) == {value}

    def test_unknown_value_column_and_missing_values(self, path: Path) -> None:
        options = replace(UNIT, split_by="donor")
        with pytest.raises(InputError, match="split_value out of d1, d2"):
            READER.open(path, replace(options, split_value="d3"))
        assert "Did you mean 'donor'" in faults(path, replace(UNIT, split_by="doner"))
        with h5py.File(path, "a") as file:
            h5.write_categorical(file["obs"], "mouse", np.r_[-1, np.zeros(59)], ["m"])
        assert "1 cells without one" in faults(path, replace(UNIT, split_by="mouse"))


class TestHostile:
    def test_nothing_outside_the_file_is_read(self, tmp_path: Path) -> None:
        secret = tmp_path / "secret.h5"
        with h5py.File(secret, "w") as file:
            file["data"] = np.arange(8.0)
        (tmp_path / "secret.bin").write_bytes(b"\0" * 80)
        path = h5.write_h5ad(tmp_path / "a.h5ad")
        with h5py.File(path, "a") as file:
            file["uns/link"] = h5py.ExternalLink(str(secret), "/data")
            layout = h5py.VirtualLayout(shape=(8,), dtype="f8")
            layout[:] = h5py.VirtualSource(str(secret), "data", shape=(8,))
            file.create_virtual_dataset("obs/virtual", layout)
            external = [(str(tmp_path / "secret.bin"), 0, 80)]
            file.create_dataset("obs/external", shape=(10,), dtype="f8", external=external)
        told = faults(path)
        for part in ("/uns/link", "/obs/virtual", "/obs/external", "refused"):
            assert part in told
        assert len(told.splitlines()) == 3

    def test_loops_of_links_end(self, tmp_path: Path) -> None:
        path = h5.write_h5ad(tmp_path / "a.h5ad")
        with h5py.File(path, "a") as file:
            file["uns/loop"] = file["/"]
            file["soft"] = h5py.SoftLink("/soft")
        READER.inspect(path, UNIT).raise_faults()

    def test_chunk_that_would_fill_memory(self, tmp_path: Path) -> None:
        path = h5.write_h5ad(tmp_path / "a.h5ad")
        with h5py.File(path, "a") as file:
            file.create_dataset(
                "uns/bomb", shape=(2**28,), chunks=(2**28,), dtype="f8", compression="gzip"
            )
        assert "chunks below 1.0 GiB, but got 2.0 GiB" in faults(path)

    def test_other_hdf5_is_named_as_such(self, tmp_path: Path) -> None:
        path = tmp_path / "a.h5ad"
        with h5py.File(path, "w") as file:
            file["matrix"] = np.zeros(3)
        assert "without obs and var" in faults(path)
        path.write_bytes(b"not HDF5 at all")
        assert "a file that is not HDF5" in faults(path)
        (tmp_path / "folder").mkdir()
        assert "but got a folder" in faults(tmp_path / "folder")


CASES: list[tuple[str, dict[str, Any], int]] = [
    ("dlpfc/151510.h5ad", {}, 1),
    ("dlpfc/151673.h5ad", {}, 1),
    ("dlpfc/151674.h5ad", {}, 1),
    ("her2st/A1.h5ad", {"um_per_unit": "lattice:200"}, 1),
    ("osmfish/osmfish.h5ad", {"um_per_unit": "unknown", "values": "normalized"}, 1),
    ("starmap_mpfc/20180417_BZ5.h5ad", {"um_per_unit": "unknown"}, 1),
    ("starmap_mpfc/20180419_BZ9.h5ad", {"um_per_unit": "unknown"}, 1),
    (
        "merfish_hypothalamus/3samples.h5ad",
        {"technology": "MERFISH", "values": "log1p", "split_by": "samples"},
        3,
    ),
    ("seqfish_embryo/embryo1.h5ad", {"um_per_unit": "unknown", "split_by": "section"}, 2),
    ("seqfish_embryo/embryo2.h5ad", {"um_per_unit": "unknown", "split_by": "section"}, 2),
    ("iss_mouse_coronal/coronal.h5ad", {"um_per_unit": "unknown", "values": "expected"}, 1),
    (
        "chicken_heart/composition.h5ad",
        {"technology": "Visium", "values": "composition", "split_by": "day"},
        4,
    ),
    ("breast_xenium_visium/visium.h5ad", {"technology": "Visium"}, 1),
    ("breast_xenium_visium/xenium.h5ad", {"um_per_unit": "unknown"}, 1),
    ("st_mob/MOB1.h5ad", {"um_per_unit": "unknown", "organism": "mouse"}, 1),
    ("cortex_reference/seqfish_cortex.h5ad", {"um_per_unit": 1.0}, 1),
]


@pytest.mark.real
@pytest.mark.parametrize(("name", "given", "n_sections"), CASES, ids=lambda v: str(v)[:40])
def test_real_tissue_is_read_as_it_is(
    real_data: Path, name: str, given: Any, n_sections: int
) -> None:
    path = real_data / name
    options = ReadOptions(**given)
    seen = READER.inspect(path, options)
    seen.raise_faults()
    values: list[str | None] = [*seen.splits] or [None]
    assert len(values) == n_sections
    with h5py.File(path) as file:
        x = file["X"]
        sums = np.zeros(seen.n_vars)
        data = x[:].ravel() if isinstance(x, h5py.Dataset) else x["data"][:]
        where = (
            np.tile(np.arange(seen.n_vars), seen.n_obs)
            if isinstance(x, h5py.Dataset)
            else x["indices"][:]
        )
        np.add.at(sums, where, data.astype(np.float64))
    total, n_obs = np.zeros(seen.n_vars), 0
    for value in values:
        raw = READER.open(path, replace(options, split_value=value))
        for block in raw.counts.blocks(2**22):
            np.add.at(total, block.indices, block.data.astype(np.float64))
        n_obs += raw.n_obs
        assert len(set(ids_of(raw))) == raw.n_obs
    np.testing.assert_allclose(total, sums, rtol=1e-9)
    assert n_obs == seen.n_obs


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "given", "column"),
    [
        (
            "merfish_hypothalamus/3samples.h5ad",
            {"technology": "MERFISH", "values": "log1p"},
            "samples",
        ),
        ("seqfish_embryo/embryo1.h5ad", {"um_per_unit": "unknown"}, "section"),
        ("seqfish_embryo/embryo2.h5ad", {"um_per_unit": "unknown"}, "section"),
        (
            "chicken_heart/composition.h5ad",
            {"um_per_unit": "unknown", "values": "composition"},
            "day",
        ),
    ],
)
def test_real_files_of_several_sections_are_refused(
    real_data: Path, name: str, given: Any, column: str
) -> None:
    told = faults(real_data / name, ReadOptions(**given))
    assert f"{column!r} (" in told
    assert "split_by" in told


@pytest.mark.real
def test_implied_micrometres_must_be_plausible(real_data: Path) -> None:
    path = real_data / "breast_xenium_visium" / "xenium.h5ad"
    assert "1.87 units apart" in faults(path, ReadOptions(technology="Xenium"))
