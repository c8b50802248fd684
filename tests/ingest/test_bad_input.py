"""Bad input: one clear error each, nothing left behind, the catalog as it was."""

import errno
import multiprocessing
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy import sparse

from tisseract.atlas.errors import InputError, StorageFull, TisseractError
from tisseract.atlas.store import open_store
from tisseract.atlas.verify import verify
from tisseract.ingest import check_samples, ingest

N_OBS, N_VARS = 80, 15


def write_h5ad(
    path: Path,
    *,
    n_obs: int = N_OBS,
    counts: np.ndarray | None = None,
    ids: list[str] | None = None,
    genes: list[str] | None = None,
    positions: np.ndarray | None = None,
    sample: list[str] | None = None,
    seed: int = 0,
) -> Path:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.8, (n_obs, N_VARS)) if counts is None else counts
    matrix = sparse.csr_matrix(counts.astype(np.float32))
    positions = rng.uniform(0, 500, (n_obs, 2)) if positions is None else positions
    names = {
        "obs": ids or [f"c{i}" for i in range(n_obs)],
        "var": genes or [f"Gene{i}" for i in range(N_VARS)],
    }
    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        group = file.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        group.attrs["shape"] = matrix.shape
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(matrix, name)
        for axis, labels in names.items():
            frame = file.create_group(axis)
            frame.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.2.0"})
            frame.attrs["_index"] = "_index"
            extra = ["sample"] if sample and axis == "obs" else []
            frame.attrs["column-order"] = np.array(extra, dtype="S6")
            frame["_index"] = labels
            if extra:
                frame["sample"] = sample
        if positions.size:
            file["obsm/spatial"] = positions
    return path


def truncated(folder: Path) -> dict[str, Any]:
    path = write_h5ad(folder / "bad.h5ad")
    os.truncate(path, path.stat().st_size // 2)
    return {"data_path": path}


def missing_positions(folder: Path) -> dict[str, Any]:
    return {"data_path": write_h5ad(folder / "bad.h5ad", positions=np.zeros((0, 2)))}


def short_positions(folder: Path) -> dict[str, Any]:
    return {"data_path": write_h5ad(folder / "bad.h5ad", positions=np.ones((N_OBS - 1, 2)))}


def other_barcodes(folder: Path) -> dict[str, Any]:
    visium = folder / "visium"
    (visium / "spatial").mkdir(parents=True)
    barcodes = [f"AAAC{i:04d}-1" for i in range(30)]
    counts = sparse.csc_matrix(np.random.default_rng(0).poisson(1, (30, N_VARS)).T)
    with h5py.File(visium / "filtered_feature_bc_matrix.h5", "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array(barcodes, dtype="S")
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(counts, name)
        group["shape"] = counts.shape
        features = group.create_group("features")
        features["id"] = np.array([f"ENSMUSG{i:011d}" for i in range(N_VARS)], dtype="S")
        features["name"] = np.array([f"Gene{i}" for i in range(N_VARS)], dtype="S")
        features["feature_type"] = np.array(["Gene Expression"] * N_VARS, dtype="S")
        features["genome"] = np.array(["mm10"] * N_VARS, dtype="S")
    lines = [
        f"TTTT{i:04d}-1,1,{i // 6},{i % 6},{100 * (i // 6)},{100 * (i % 6)}" for i in range(30)
    ]
    (visium / "spatial/tissue_positions_list.csv").write_text("\n".join(lines))
    (visium / "spatial/scalefactors_json.json").write_text(
        '{"spot_diameter_fullres": 60, "tissue_hires_scalef": 0.1, "tissue_lowres_scalef": 0.03}'
    )
    return {"data_path": visium, "format": "visium"}


def duplicate_ids(folder: Path) -> dict[str, Any]:
    return {
        "data_path": write_h5ad(folder / "bad.h5ad", ids=["same"] * 2 + list(map(str, range(78))))
    }


def non_finite(folder: Path) -> dict[str, Any]:
    positions = np.random.default_rng(0).uniform(0, 9, (N_OBS, 2))
    positions[7, 1] = np.nan
    return {"data_path": write_h5ad(folder / "bad.h5ad", positions=positions)}


def negative(folder: Path) -> dict[str, Any]:
    counts = np.ones((N_OBS, N_VARS))
    counts[70, 3] = -2
    return {"data_path": write_h5ad(folder / "bad.h5ad", counts=counts)}


def fractions(folder: Path) -> dict[str, Any]:
    counts = np.ones((N_OBS, N_VARS))
    counts[70, 3] = 1.5
    return {"data_path": write_h5ad(folder / "bad.h5ad", counts=counts)}


def deep(value: float) -> Callable[[Path], dict[str, Any]]:
    """A wrong entry among 300,000, where only reading all of them finds it."""

    def make(folder: Path) -> dict[str, Any]:
        counts = np.ones((20_000, N_VARS))
        counts[11_111, 3] = value
        return {"data_path": write_h5ad(folder / "bad.h5ad", n_obs=20_000, counts=counts)}

    make.__name__ = f"deep_{value}"
    return make


def several_sections(folder: Path) -> dict[str, Any]:
    half = np.random.default_rng(0).uniform(0, 500, (N_OBS // 2, 2))
    positions = np.concatenate([half, half + 1.0])
    sample = ["first"] * (N_OBS // 2) + ["second"] * (N_OBS // 2)
    return {"data_path": write_h5ad(folder / "bad.h5ad", positions=positions, sample=sample)}


def ambiguous_genes(folder: Path) -> dict[str, Any]:
    genes = ["Sox2", "Sox2", *(f"Gene{i}" for i in range(N_VARS - 2))]
    return {"data_path": write_h5ad(folder / "bad.h5ad", genes=genes)}


def unknown_format(folder: Path) -> dict[str, Any]:
    (folder / "bad.xyz").write_bytes(b"\0\1\2")
    return {"data_path": folder / "bad.xyz"}


def missing_unit(folder: Path) -> dict[str, Any]:
    return {"data_path": write_h5ad(folder / "bad.h5ad"), "um_per_unit": ""}


def unreadable_image(folder: Path) -> dict[str, Any]:
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnot an image")
    return {"data_path": write_h5ad(folder / "bad.h5ad"), "image": folder / "bad.png"}


CASES: list[tuple[Callable[[Path], dict[str, Any]], str]] = [
    (truncated, r"bad.h5ad|truncated"),
    (missing_positions, r"spatial|positions"),
    (short_positions, r"79"),
    (other_barcodes, r"position for each of 30 spots .* of different samples"),
    (duplicate_ids, r"same"),
    (non_finite, r"finite|nan"),
    (negative, r"got -2"),
    (fractions, r"got 1\.5.*`values`"),
    (deep(-2), r"whole numbers from 0.*got -2.*'c11111'.*'Gene3'"),
    (deep(1.5), r"whole numbers from 0.*got 1\.5.*'c11111'.*'Gene3'.*`values`"),
    (several_sections, r"split_by.*sample|sample.*split_by"),
    (ambiguous_genes, r"Sox2"),
    (unknown_format, r"known format"),
    (missing_unit, r"um_per_unit"),
    (unreadable_image, r"bad.png|image"),
]


@pytest.fixture
def atlas(tmp_path: Path) -> Path:
    """An atlas with one good section."""
    good = write_h5ad(tmp_path / "good.h5ad")
    ingest(good, tmp_path / "atlas", um_per_unit=1)
    return tmp_path / "atlas"


def files(atlas: Path) -> set[str]:
    return {str(path.relative_to(atlas)) for path in atlas.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("make", "message"), CASES, ids=lambda case: getattr(case, "__name__", ""))
def test_one_clear_error_and_nothing_left(
    make: Callable[[Path], dict[str, Any]], message: str, tmp_path: Path, atlas: Path
) -> None:
    before, snapshot = files(atlas), open_store(atlas).snapshot
    row = {"sample": "bad", "um_per_unit": 1, **make(tmp_path)}
    with pytest.raises(InputError, match=rf"(?s){message}") as caught:
        ingest([row], atlas)
    assert len(caught.value.faults) == 1, str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert files(atlas) == before
    assert open_store(atlas).snapshot == snapshot
    report = ingest([row], atlas, on_error="skip")
    assert [o.section for o in report.failed] == ["bad"]
    assert files(atlas) == before


def test_repeated_sections_in_a_sheet(tmp_path: Path, atlas: Path) -> None:
    before = files(atlas)
    write_h5ad(tmp_path / "a.h5ad")
    sheet = tmp_path / "samples.csv"
    sheet.write_text("sample,path,um_per_unit\na,a.h5ad,1\nb,a.h5ad,1\na,a.h5ad,1\n")
    with pytest.raises(InputError, match="row 4: section 'a' stands in row 2 already"):
        ingest(sheet, atlas)
    assert files(atlas) == before


def test_what_shows_without_reading_counts_shows_in_the_check(tmp_path: Path) -> None:
    for make, _ in CASES:
        folder = tmp_path / make.__name__
        folder.mkdir()
        report = check_samples([{"sample": "bad", "um_per_unit": 1, **make(folder)}])
        deep_down = make.__name__.startswith("deep")  # the matrix is only sampled by a check
        assert deep_down or len(report.faults) == 1, (make.__name__, report.faults)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB, where mounting is allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)],
        check=False,
        capture_output=True,
    )
    if not done or done.returncode:
        pytest.skip("mounting is not allowed here; the file size limit below stands in")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_said_once_and_leaves_nothing(tmp_path: Path, small_disk: Path) -> None:
    atlas = small_disk / "atlas"
    ingest(write_h5ad(tmp_path / "good.h5ad"), atlas, um_per_unit=1)
    before, snapshot = files(atlas), open_store(atlas).snapshot
    rng = np.random.default_rng(0)
    big = write_h5ad(
        tmp_path / "big.h5ad", n_obs=60_000, counts=rng.integers(0, 60_000, (60_000, N_VARS))
    )
    with pytest.raises(StorageFull, match="space") as caught:
        ingest(big, atlas, um_per_unit=1)
    assert isinstance(caught.value, TisseractError)
    assert files(atlas) == before
    assert open_store(atlas).snapshot == snapshot
    assert verify(open_store(atlas)).ok
    # With the disk still nearly full, a section that fits goes in.
    ingest(write_h5ad(tmp_path / "small.h5ad", seed=1), atlas, um_per_unit=1)
    assert sorted(open_store(atlas).snapshot.sections) == ["good", "small"]


def _limited(path: Path, atlas: Path) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    try:
        ingest(path, atlas, um_per_unit=1)
    except StorageFull:
        os._exit(7)
    os._exit(1)


def test_a_file_size_limit_counts_as_full(tmp_path: Path, atlas: Path) -> None:
    before = files(atlas)
    rng = np.random.default_rng(0)
    big = write_h5ad(
        tmp_path / "big.h5ad", n_obs=60_000, counts=rng.integers(0, 60_000, (60_000, N_VARS))
    )
    process = multiprocessing.get_context("spawn").Process(target=_limited, args=(big, atlas))
    process.start()
    process.join(120)
    assert process.exitcode == 7
    assert files(atlas) == before


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_at_any_depth_is_recognized(
    tmp_path: Path, atlas: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    import tisseract.ingest.partition as partition

    def full(*args: object, **kwargs: object) -> None:
        try:
            raise OSError(code, os.strerror(code))
        except OSError as error:
            raise RuntimeError("codec failed") from error

    before = files(atlas)
    monkeypatch.setattr(partition, "write_index", full)
    with pytest.raises(StorageFull, match="free space"):
        ingest(write_h5ad(tmp_path / "x.h5ad", seed=2), atlas, um_per_unit=1)
    assert files(atlas) == before
