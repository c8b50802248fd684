"""Read points of a section: the boxes of its row groups once, then only the groups asked for."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any, override

import numpy as np

from .errors import Corrupt, MissingKey
from .points import PointsInfo, index_path, part_path

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from numpy.typing import NDArray

    from .section_arrays import RowArray
    from .storage import Storage

__all__ = ["RangeFile", "StoredPoints"]

_INDEX_BYTES = 64 * 2**20  # names of a million genes are below this


class StoredPoints:
    """A points element of a committed section: lazy, safe to read from several threads.

    Parameters
    ----------
    storage : Storage
        Root of the atlas.
    prefix : str
        Where the section lies in it.
    where : str
        What messages say of the section.
    info : PointsInfo
        What its index says of the element.
    array : callable
        Opens an array of the section by its path.
    """

    def __init__(
        self,
        storage: Storage,
        prefix: str,
        where: str,
        info: PointsInfo,
        array: Callable[[str], RowArray],
    ) -> None:
        self._storage, self._prefix, self._where = storage, prefix, where
        self.info, self._array = info, array

    def __repr__(self) -> str:
        return f"StoredPoints({self.info.name!r}, {self.info.n_points:,} points)"

    @cached_property
    def bounds(self) -> NDArray[np.float64]:
        """(g, 4) tight box of each row group; NaN for one without points."""
        return self._index("bounds").reshape(-1, 4)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """(g,) rows of each group."""
        return np.diff(self._index("ptr"))

    @cached_property
    def nbytes(self) -> NDArray[np.int64]:
        """(g,) bytes of each group as stored."""
        return self._index("nbytes")

    def _index(self, name: str) -> NDArray[Any]:
        n = self.info.n_groups + (name == "ptr")
        found: NDArray[Any] = self._array(f"{index_path(self.info.name)}/{name}").read()
        if found.shape[0] != n:
            raise self._corrupt(f"expected {n} values of {name}, but got {found.shape[0]}")
        return found

    @cached_property
    def features(self) -> Mapping[str, int]:
        """Genes with their number of points; empty where no column names them."""
        key = f"{self._prefix}/{index_path(self.info.name)}/zarr.json"
        try:
            node = json.loads(self._storage.get(key, max_bytes=_INDEX_BYTES))
            names, counts = (node["attributes"][k] for k in ("features", "feature_counts"))
            return {str(name): int(n) for name, n in zip(names, counts, strict=True)}
        except (MissingKey, ValueError, KeyError, TypeError) as error:
            raise self._corrupt(f"its list of genes is not readable ({error})") from error

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns as they are stored; reads the footer of one file."""
        import pyarrow as pa

        with self._open(0) as file:
            own = [one for one in file.schema_arrow if not one.name.startswith("__")]
            return pa.schema(own)

    def read(
        self, requests: Sequence[tuple[int, Sequence[str]]]
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield each row group asked for, whole, with its number.

        Parameters
        ----------
        requests : sequence of (int, sequence of str)
            Row groups, ascending, each with the columns to read.

        Memory: one row group, and the ranges that are fetched ahead of it.

        Raises
        ------
        Corrupt
            A file is missing or damaged.
        """
        size = self.info.groups_per_part
        for part, own in groupby(requests, lambda request: request[0] // size):
            with self._open(part) as file:
                for group, columns in own:
                    local = group - part * size
                    table = file.read_row_group(local, columns=list(columns), use_threads=False)
                    if table.num_rows != int(self.rows[group]):
                        raise self._corrupt(f"row group {group} has {table.num_rows} rows")
                    yield group, _one_batch(table)

    @contextmanager
    def _open(self, part: int) -> Iterator[pq.ParquetFile]:
        """Open one file; whatever Arrow says of damage becomes `Corrupt`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        key = f"{self._prefix}/{part_path(self.info.name, part)}"
        storage = self._storage
        try:
            path = storage.local_path(key)
            source: Any = (
                pa.OSFile(str(path))
                if path is not None
                else pa.PythonFile(RangeFile(storage, key, self.info.part_bytes[part]), mode="r")
            )
            with source, pq.ParquetFile(source, page_checksum_verification=True) as file:
                yield file
        except (MissingKey, FileNotFoundError) as error:
            raise self._corrupt(f"its file {key} is missing") from error
        except (pa.ArrowInvalid, OSError) as error:
            raise self._corrupt(f"its file {key} is damaged ({error})") from error

    def _corrupt(self, why: str) -> Corrupt:
        return Corrupt(
            f"points {self.info.name!r} {self._where} cannot be read, {why}; run "
            "`tisseract verify` and ingest it again"
        )


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    import pyarrow as pa

    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


class RangeFile(io.RawIOBase):
    """An object of a storage as a file that is read by ranges."""

    def __init__(self, storage: Storage, key: str, size: int) -> None:
        super().__init__()
        self._storage, self._key, self._size, self._at = storage, key, size, 0

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def tell(self) -> int:
        return self._at

    def size(self) -> int:
        """Size of the object, as Arrow asks for it."""
        return self._size

    @override
    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    @override
    def read(self, size: int = -1) -> bytes:
        rest = max(0, self._size - self._at)
        length = rest if size < 0 else min(size, rest)
        data = self._storage.get_range(self._key, self._at, length) if length else b""
        self._at += len(data)
        return data
