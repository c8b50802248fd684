"""The Space Ranger reader: layouts, prefixes, what is missing, real outputs."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy import sparse

from tisseract.atlas.errors import InputError
from tisseract.ingest.reader import Reader, ReadOptions, reader_for
from tisseract.ingest.spaceranger import SpaceRangerReader

from ..contracts import ReaderContract, ids_of, matrix_of

READER = SpaceRangerReader()
N_GENES = 9
SIDE = 12  # spots along each side of the array
HEADER = "barcode,in_tissue,array_row,array_col,pxl_row_in_fullres,pxl_col_in_fullres\n"


def barcodes(n: int) -> list[str]:
    return ["".join("ACGT"[(i >> 2 * k) & 3] for k in range(6)) + "-1" for i in range(n)]


def spots() -> Any:
    """Rows of the position file: a hexagonal array of 50 pixels, its upper half in the tissue."""
    row, col = np.divmod(np.arange(SIDE * SIDE), SIDE)
    x, y = (col + 0.5 * (row % 2)) * 50.0 + 7, row * 50.0 * np.sqrt(3) / 2 + 3
    return [
        (b, int(r < SIDE // 2), r, 2 * c + r % 2, py, px)
        for b, r, c, px, py in zip(barcodes(SIDE * SIDE), row, col, x, y, strict=True)
    ]


def write_bundle(
    folder: Path,
    *,
    matrix: Any = "h5",
    header: bool = True,
    prefix: str = "",
    hires: bool = True,
    n: int = 40,
) -> Path:
    """Write an output of the first `n` spots; all of them lie in the tissue when n <= 72."""
    (folder / "spatial").mkdir(parents=True)
    rows = [",".join(map(str, row)) for row in spots()]
    name = "tissue_positions.csv" if header else "tissue_positions_list.csv"
    text = (HEADER if header else "") + "\n".join(rows) + "\n"
    (folder / "spatial" / name).write_text(text)
    factors = {"tissue_hires_scalef": 0.1, "tissue_lowres_scalef": 0.05, "spot_diameter_fullres": 9}
    (folder / "spatial" / "scalefactors_json.json").write_text(json.dumps(factors))
    for image in ["tissue_lowres_image"] + ["tissue_hires_image"] * hires:
        Image.new("RGB", (60, 50)).save(folder / "spatial" / f"{image}.png")
    data = counts(n)
    genes = [f"ENSMUSG{i:011d}" for i in range(N_GENES)]
    names = ["Sox2", "Pax6", *(f"Gm{i}" for i in range(N_GENES - 2))]
    if matrix == "h5":
        packed = sparse.csr_matrix(data)
        with h5py.File(folder / f"{prefix}filtered_feature_bc_matrix.h5", "w") as file:
            file.attrs["software_version"] = "spaceranger-3.0.0"
            group = file.create_group("matrix")
            group["shape"] = np.asarray([N_GENES, n], dtype=np.int32)
            group["barcodes"] = np.asarray(barcodes(n), dtype="S")
            for key in ("data", "indices", "indptr"):
                group[key] = getattr(packed, key)
            features = group.create_group("features")
            features["id"], features["name"] = np.asarray(genes, "S"), np.asarray(names, "S")
            features["feature_type"] = np.asarray(["Gene Expression"] * N_GENES, "S")
            features["genome"] = np.asarray(["mm10"] * N_GENES, "S")
    else:
        inner = folder / f"{prefix}filtered_feature_bc_matrix"
        inner.mkdir()
        lines = [f"{i + 1} {j + 1} {data[j, i]}" for j, i in zip(*np.nonzero(data), strict=True)]
        head = "%%MatrixMarket matrix coordinate integer general\n"
        head += '%metadata_json: {"software_version": "spaceranger-2.1.0"}\n'
        head += f"{N_GENES} {n} {len(lines)}\n"
        with gzip.open(inner / "matrix.mtx.gz", "wt") as file:
            file.write(head + "\n".join(lines) + "\n")
        with gzip.open(inner / "barcodes.tsv.gz", "wt") as file:
            file.write("\n".join(barcodes(n)) + "\n")
        with gzip.open(inner / "features.tsv.gz", "wt") as file:
            rows = [f"{g}\t{s}\tGene Expression" for g, s in zip(genes, names, strict=True)]
            file.write("\n".join(rows) + "\n")
    return folder


def counts(n: int) -> Any:
    data = np.random.default_rng(0).poisson(0.6, (n, N_GENES))
    data[n // 2] = 0  # a spot without a count
    return data


def faults(path: Path, options: ReadOptions | None = None) -> str:
    seen = READER.inspect(path, options or ReadOptions())
    assert seen.faults
    with pytest.raises(InputError) as caught:
        READER.open(path, options or ReadOptions())
    assert caught.value.faults == seen.faults
    return "\n".join(map(str, seen.faults))


class _Bundle(ReaderContract):
    @pytest.fixture
    def reader(self) -> Reader:
        return READER

    @pytest.fixture
    def truth(self) -> Mapping[str, Any]:
        return {
            "counts": counts(40),
            "positions": np.asarray([(row[5], row[4]) for row in spots()[:40]]),
            "ids": barcodes(40),
            "gene_ids": [f"ENSMUSG{i:011d}" for i in range(N_GENES)],
        }


class TestH5(_Bundle):
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        return write_bundle(tmp_path / "out")


class TestMtx(_Bundle):
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        return write_bundle(tmp_path / "out", matrix="mtx", header=False, hires=False)


class TestLayouts:
    def test_unit_radius_panel_and_image(self, tmp_path: Path) -> None:
        raw = READER.open(write_bundle(tmp_path / "out"), ReadOptions())
        assert raw.um_per_unit == pytest.approx(2.0)
        assert raw.radius == pytest.approx(27.5 / 2)
        assert raw.panel.organism == "mouse"
        assert raw.panel.completeness == "complete"
        assert raw.panel.find("Sox2") == 0
        assert raw.images["hires"].affine[0][0] == pytest.approx(20.0)  # type: ignore[attr-defined]
        assert "hexagonal lattice" in str(raw.provenance["unit"])
        assert raw.provenance["software"] == "spaceranger-3.0.0"

    @pytest.mark.parametrize("name", ["V1_brain_", "sample."])
    def test_prefixed_downloads(self, tmp_path: Path, name: str) -> None:
        path = write_bundle(tmp_path / "out", prefix=name)
        assert READER.open(path, ReadOptions()).n_obs == 40

    def test_outs_folder_and_text_positions(self, tmp_path: Path) -> None:
        write_bundle(tmp_path / "run" / "outs", header=False)
        spatial = tmp_path / "run" / "outs" / "spatial"
        (spatial / "tissue_positions_list.csv").rename(spatial / "tissue_positions_list.txt")
        assert reader_for(tmp_path / "run").format == "visium"
        assert READER.open(tmp_path / "run", ReadOptions()).n_obs == 40

    def test_missing_images_are_noted(self, tmp_path: Path) -> None:
        path = write_bundle(tmp_path / "out", hires=False)
        seen = READER.inspect(path, ReadOptions())
        assert seen.images == ("lowres",)
        assert "no hires image" in seen.notes[0]
        (path / "spatial" / "tissue_lowres_image.png").unlink()
        assert READER.open(path, ReadOptions()).images == {}

    def test_spots_outside_the_tissue_are_left_out_unless_asked_for(self, tmp_path: Path) -> None:
        path = write_bundle(tmp_path / "out", n=100)
        raw = READER.open(path, ReadOptions())
        assert raw.n_obs == 72
        assert ids_of(raw) == barcodes(100)[:72]
        assert (matrix_of(raw).toarray() == counts(100)[:72]).all()
        assert "28 spots outside" in READER.inspect(path, ReadOptions()).notes[0]
        every = replace(ReadOptions(), reader_kwargs={"in_tissue_only": False})
        assert READER.open(path, every).n_obs == 100


class TestFaults:
    def test_nothing_there(self, tmp_path: Path) -> None:
        told = faults(tmp_path)
        assert "filtered_feature_bc_matrix" in told
        assert "copy the whole `spatial` folder" in told

    def test_raw_matrix_alone(self, tmp_path: Path) -> None:
        path = write_bundle(tmp_path / "out")
        (path / "filtered_feature_bc_matrix.h5").rename(path / "raw_feature_bc_matrix.h5")
        assert "got raw_feature_bc_matrix.h5; raw and probe matrices" in faults(path)

    def test_missing_positions(self, tmp_path: Path) -> None:
        path = write_bundle(tmp_path / "out")
        (path / "spatial" / "tissue_positions.csv").unlink()
        assert "expected spot positions" in faults(path)

    def test_positions_of_another_sample(self, tmp_path: Path) -> None:
        path = write_bundle(tmp_path / "out")
        positions = path / "spatial" / "tissue_positions.csv"
        positions.write_text(positions.read_text().replace("-1,", "-2,"))
        told = faults(path)
        assert "none for 40 (AAAAAA-1, " in told
        assert "different samples" in told

    @pytest.mark.parametrize(
        ("old", "new", "told"),
        [
            (",1,0,0,", ",1,0,zero,", "spot 1"),
            (",1,0,0,3.0,", ",1,0,0,nan,", "finite"),
            ("CAAAAA-1", "AAAAAA-1", "'AAAAAA-1' again"),
        ],
    )
    def test_broken_positions(self, tmp_path: Path, old: Any, new: str, told: str) -> None:
        path = write_bundle(tmp_path / "out")
        positions = path / "spatial" / "tissue_positions.csv"
        text = positions.read_text()
        assert old in text
        positions.write_text(text.replace(old, new))
        assert told in faults(path)

    def test_links_out_of_the_folder(self, tmp_path: Path) -> None:
        path = write_bundle(tmp_path / "out")
        secret = tmp_path / "secret.csv"
        secret.write_text("private")
        (path / "spatial" / "tissue_positions.csv").unlink()
        (path / "spatial" / "tissue_positions.csv").symlink_to(secret)
        told = faults(path)
        assert "refused, copy it in" in told
        assert "private" not in told

    def test_two_samples_in_one_folder(self, tmp_path: Path) -> None:
        path = write_bundle(tmp_path / "out", prefix="a_")
        (path / "b_filtered_feature_bc_matrix.h5").write_bytes(b"")
        assert "but got 2: a_filtered" in faults(path)

    def test_options_without_meaning_are_refused(self, tmp_path: Path) -> None:
        path = write_bundle(tmp_path / "out")
        told = faults(path, ReadOptions(layer="raw", split_by="donor"))
        assert "no `layer`" in told
        assert "no `split_by`" in told
        READER.inspect(path, ReadOptions(split_by="none")).raise_faults()

    def test_unsorted_matrix_market(self, tmp_path: Path) -> None:
        path = write_bundle(tmp_path / "out", matrix="mtx")
        matrix = path / "filtered_feature_bc_matrix" / "matrix.mtx.gz"
        lines = gzip.decompress(matrix.read_bytes()).splitlines(keepends=True)
        matrix.write_bytes(gzip.compress(b"".join([*lines[:3], *reversed(lines[3:])])))
        with pytest.raises(InputError, match="sorted by barcode"):
            matrix_of(READER.open(path, ReadOptions()))


@pytest.mark.real
def test_real_outputs(real_data: Path) -> None:
    raw = READER.open(real_data / "vendor" / "visium_mouse", ReadOptions())
    matrix = matrix_of(raw, 2**20)
    assert matrix.shape == (2898, 19465)
    assert matrix.nnz == 1_069_459
    from scipy.io import mmread

    folder = real_data / "vendor" / "visium_mouse" / "filtered_feature_bc_matrix"
    assert (
        matrix != sparse.csr_matrix(mmread(folder / "matrix.mtx.gz", spmatrix=False).T)
    ).nnz == 0
    assert raw.um_per_unit == pytest.approx(4.66, abs=0.01)
    assert list(raw.images) == ["lowres"]
    mini = READER.open(real_data / "vendor" / "visium_mini" / "1.0.0", ReadOptions())
    assert (mini.n_obs, mini.n_vars) == (100, 100)
    assert mini.um_per_unit == pytest.approx(0.7246, abs=1e-3)
    probes = real_data / "vendor" / "visium_mini" / "2.1.0"
    assert reader_for(probes).format == "visium"
    assert "raw and probe matrices" in faults(probes)
