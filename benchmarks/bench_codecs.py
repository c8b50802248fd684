"""Codecs and chunk lengths for the arrays of a section: size, write, read, read amplification.

Run with ``python benchmarks/bench_codecs.py [H5AD ...]``. Without files it makes 200,000 simulated
cells of 60 non-zeros in 300 genes. Rows are put in Morton order first. Amplification: bytes of the
inner chunks touched by 100 random square regions of 2,000 to 5,000 cells, against the compressed
bytes of the rows in them (at the array's mean compression).
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import Blosc, Zstd
from numpy.typing import NDArray
from scipy import sparse

from tisseract.atlas import morton
from tisseract.atlas.morton import Frame
from tisseract.atlas.quadtree import merge_runs


class Plain:
    """No compression."""

    def encode(self, values: NDArray[Any]) -> bytes:
        return values.tobytes()

    def decode(self, blob: bytes) -> bytes:
        return blob


CODECS: dict[str, Any] = {
    "none": Plain(),
    "zstd 1 (own checksum)": Zstd(level=1, checksum=True),
    "zstd 5 (own checksum)": Zstd(level=5, checksum=True),
    "blosc lz4 5 shuffle + crc32c": Blosc("lz4", 5, Blosc.SHUFFLE),
    "blosc lz4 1 shuffle + crc32c": Blosc("lz4", 1, Blosc.SHUFFLE),
    "blosc zstd 1 shuffle + crc32c": Blosc("zstd", 1, Blosc.SHUFFLE),
    "blosc zstd 3 shuffle + crc32c": Blosc("zstd", 3, Blosc.SHUFFLE),
    "blosc zstd 1 bitshuffle + crc32c": Blosc("zstd", 1, Blosc.BITSHUFFLE),
    "blosc zstd 5 bitshuffle + crc32c": Blosc("zstd", 5, Blosc.BITSHUFFLE),
}


def simulated(n_obs: int = 200_000) -> tuple[sparse.csr_matrix, NDArray[np.float64]]:
    rng = np.random.default_rng(0)
    weight = rng.gamma(0.5, 1.0, 300) + 0.05
    keys = np.log(rng.random((n_obs, 300))) / weight
    columns = np.sort(np.argpartition(keys, -60, axis=1)[:, -60:], axis=1).astype(np.int32)
    data = (1 + rng.poisson(weight[columns] * 2)).ravel().astype(np.uint8)
    indptr = np.arange(n_obs + 1) * 60
    positions = rng.random((n_obs, 2)) * np.sqrt(n_obs) * 10
    return sparse.csr_matrix((data, columns.ravel(), indptr), shape=(n_obs, 300)), positions


def from_h5ad(path: Path) -> tuple[sparse.csr_matrix, NDArray[np.float64]]:
    import anndata

    adata = anndata.read_h5ad(path)
    matrix = sparse.csr_matrix(adata.X)
    matrix.eliminate_zeros()
    whole = bool((matrix.data == np.floor(matrix.data)).all())
    kind = np.min_scalar_type(int(matrix.data.max())) if whole else np.float32
    return matrix.astype(kind), np.asarray(adata.obsm["spatial"], np.float64)[:, :2]


def regions(positions: NDArray[np.float64], seed: int = 1) -> list[list[tuple[int, int]]]:
    """Row runs of the cells in random squares."""
    rng = np.random.default_rng(seed)
    low, high = positions.min(axis=0), positions.max(axis=0)
    found: list[list[tuple[int, int]]] = []
    n, side = positions.shape[0], float((high - low).max())
    for _ in range(3000):
        half = side * np.sqrt(rng.uniform(2000, 5000) / n) / 2
        center = positions[rng.integers(n)]
        rows = np.flatnonzero((np.abs(positions - center) <= half).all(axis=1))
        if rows.size >= 2000:
            cuts = np.flatnonzero(np.diff(rows) > 1)
            starts, stops = rows[np.r_[0, cuts + 1]], rows[np.r_[cuts, -1]] + 1
            found.append(list(zip(starts.tolist(), stops.tolist(), strict=True)))
        if len(found) == 100:
            break
    return found


def amplification(
    wanted: list[list[tuple[int, int]]],
    indptr: NDArray[np.int64],
    sizes: NDArray[np.int64],
    chunk: int,
) -> tuple[float, float]:
    """Median and 95th percentile over regions of bytes touched over bytes returned."""
    per_element = sizes.sum() / indptr[-1]
    ratios = []
    for runs in wanted:
        spans = [(int(indptr[a]) // chunk, (int(indptr[b]) - 1) // chunk + 1) for a, b in runs]
        touched = sum(int(sizes[a:b].sum()) for a, b in merge_runs(spans))
        returned = sum(int(indptr[b] - indptr[a]) for a, b in runs) * per_element
        ratios.append(touched / returned)
    return float(np.median(ratios)), float(np.percentile(ratios, 95))


def measure(codec: Any, values: NDArray[Any], chunk: int) -> tuple[NDArray[np.int64], float, float]:
    """Sizes of the encoded chunks, seconds to encode and to decode all; best of three."""
    parts = [np.ascontiguousarray(values[a : a + chunk]) for a in range(0, values.size, chunk)]
    times = []
    for _ in range(3):
        start = time.perf_counter()
        blobs = [bytes(codec.encode(part)) for part in parts]
        sums = [google_crc32c.value(blob) for blob in blobs]
        middle = time.perf_counter()
        for blob, check in zip(blobs, sums, strict=True):
            assert google_crc32c.value(blob) == check
            codec.decode(blob)
        times.append((middle - start, time.perf_counter() - middle))
    sizes = np.array([len(blob) + 4 for blob in blobs])
    return sizes, min(t[0] for t in times), min(t[1] for t in times)


def report(name: str, matrix: sparse.csr_matrix, positions: NDArray[np.float64]) -> None:
    order = morton.order(morton.encode(positions, Frame.around(positions)))
    matrix, positions = matrix[order], positions[order]
    matrix.sort_indices()
    wanted = regions(positions)
    indptr = matrix.indptr.astype(np.int64)
    print(
        f"\n{name}: {matrix.shape[0]:,} x {matrix.shape[1]:,}, {matrix.nnz:,} non-zeros, "
        f"{matrix.dtype}, {len(wanted)} regions"
    )
    usual = 2 ** int(np.clip(round(np.log2(256 * matrix.nnz / matrix.shape[0])), 10, 16))
    raw = matrix.data.nbytes + matrix.nnz * 4
    print(f"codec at {usual:,} elements       MB  write MB/s  read MB/s  amplification median p95")
    for label, codec in CODECS.items():
        line(label, codec, matrix, indptr, usual, raw, wanted)
    print("chunk lengths, blosc zstd 1 shuffle")
    for chunk in (1024, 2048, 4096, 8192, 16_384, 65_536, 262_144):
        line(
            f"{chunk:,}",
            CODECS["blosc zstd 1 shuffle + crc32c"],
            matrix,
            indptr,
            chunk,
            raw,
            wanted,
        )


def line(
    label: str, codec: Any, matrix: sparse.csr_matrix, indptr: NDArray[np.int64],
    chunk: int, raw: int, wanted: list[list[tuple[int, int]]],
) -> None:  # fmt: skip
    parts = [measure(codec, values, chunk) for values in (matrix.data, matrix.indices.astype("i4"))]
    sizes = parts[0][0] + parts[1][0]
    write, read = sum(p[1] for p in parts), sum(p[2] for p in parts)
    median, p95 = amplification(wanted, indptr, sizes, chunk) if wanted else (np.nan, np.nan)
    print(
        f"{label:33} {sizes.sum() / 1e6:7.2f} {raw / write / 1e6:9.0f} {raw / read / 1e6:10.0f}"
        f"  {median:10.2f} {p95:6.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    options = parser.parse_args()
    print(f"{platform.platform()}, Python {platform.python_version()}, one thread")
    for path in options.files:
        report(path.stem, *from_h5ad(path))
    if not options.files:
        report("simulated", *simulated())


if __name__ == "__main__":
    main()
