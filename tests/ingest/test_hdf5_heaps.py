"""Heaps of text in HDF5 files: whole ones pass, zeroed ones are refused before they hang."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import h5py
import pytest

from tisseract.atlas.errors import InputError
from tisseract.ingest.guard import open_hdf5
from tisseract.ingest.hdf5_heaps import check_heaps


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.h5"
    with h5py.File(path, "w") as file:
        file.attrs["software_version"] = "spaceranger-3.0.0"
        words = [f"word {k}" * (1 + k % 50) for k in range(2_000)]
        file.create_dataset("words", data=words, dtype=h5py.string_dtype())
    return path


def test_whole_heaps_pass(texts: Path) -> None:
    check_heaps(texts)
    assert texts.read_bytes().count(b"GCOL") > 3


@pytest.mark.parametrize("which", [0, 3, -1])
def test_zeros_in_a_heap_are_refused(texts: Path, which: int) -> None:
    """The library would walk on the spot; it is never asked."""
    data = texts.read_bytes()
    places = [k for k in range(0, len(data), 8) if data[k : k + 4] == b"GCOL"]
    at = places[which] + 64
    texts.write_bytes(data[: at - 48] + b"\0" * 200 + data[at + 152 :])
    wanted = rf"texts\.h5 byte {places[which]}: .* lead nowhere"
    with pytest.raises(InputError, match=wanted):
        check_heaps(texts)
    with pytest.raises(InputError, match=wanted), open_hdf5(texts, "an h5ad file"):
        pass


def test_other_files_pass_to_those_who_know(tmp_path: Path) -> None:
    path = tmp_path / "texts.h5"
    path.write_bytes(b"GCOL\x01\0\0\0")
    check_heaps(path)
    path.write_bytes(b"GCOL\x01\0\0\0" + b"\0" * 8)
    with pytest.raises(InputError, match="byte 0"):
        check_heaps(path)


class _Counted(io.BytesIO):
    n_bytes = 0

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self.n_bytes += len(found)
        return found


def test_heaps_inside_of_heaps_cost_no_more_than_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them claims the whole file: sizes that lead out of it, and ones that lead on."""
    opened: list[_Counted] = []
    size = 2**18

    plain: Any = Path.open

    def counted(path: Path, mode: str) -> _Counted:
        with plain(path, mode) as file:
            opened.append(_Counted(file.read()))
        return opened[-1]

    path = tmp_path / "texts.h5"
    head = b"GCOL\x01\0\0\0" + size.to_bytes(8, "little")
    path.write_bytes(head * (size // 16))
    monkeypatch.setattr(Path, "open", counted)
    check_heaps(path)
    monkeypatch.undo()
    text_before = b"\x01" + b"\0" * 7 + b"\x10" + b"\0" * 7
    path.write_bytes(head + (text_before + head) * (size // 32))
    monkeypatch.setattr(Path, "open", counted)
    with pytest.raises(InputError, match="lie in each other"):
        check_heaps(path)
    assert max(one.n_bytes for one in opened) < 4 * size
