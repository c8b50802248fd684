"""Folders of vendors: what is listed, what is found, what never is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tisseract.atlas.errors import InputError
from tisseract.ingest.vendors import folder as folders
from tisseract.ingest.vendors.folder import Folder


def touch(root: Path, *names: str) -> Folder:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    return Folder.of(root)


def test_a_pattern_stays_in_its_folder_and_minds_no_case(tmp_path: Path) -> None:
    found = touch(tmp_path, "A_Cells.CSV", "deep/b_cells.csv", ".hidden_cells.csv")
    assert found.all("*_cells.csv") == (tmp_path / "A_Cells.CSV",)
    assert found.all("*/*_cells.csv") == (tmp_path / "deep/b_cells.csv",)
    assert found.find("nothing.csv", "*_cells.csv") == tmp_path / "A_Cells.CSV"
    assert found.find("nothing.csv") is None


def test_two_samples_in_one_folder_are_told_apart_by_the_user(tmp_path: Path) -> None:
    found = touch(tmp_path, "a_tx.csv", "b_tx.csv")
    with pytest.raises(InputError, match=r"got 2 \(a_tx.csv, b_tx.csv\)"):
        found.find("*_tx.csv")


def test_what_is_needed_and_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the counts \(\*.h5 or \*.mtx\).*no such file"):
        touch(tmp_path, "a").need("the counts", "*.h5", "*.mtx")


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    touch(outside, "secret.csv", "more/secret.csv")
    touch(inside, "own.csv")
    (inside / "cells.csv").symlink_to(outside / "secret.csv")
    (inside / "linked").symlink_to(outside / "more")
    (inside / "again.csv").symlink_to(inside / "own.csv")
    found = Folder.of(inside)
    assert found.names == ("again.csv", "own.csv")
    assert len(found.faults) == 2
    assert all("refused" in fault.message for fault in found.faults)


def test_a_link_to_its_own_folder_ends(tmp_path: Path) -> None:
    touch(tmp_path, "own.csv")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert "own.csv" in Folder.of(tmp_path, depth=3).names


def test_no_folder_and_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="nothing there"):
        Folder.of(tmp_path / "no")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="got a file"):
        Folder.of(tmp_path / "file")
    monkeypatch.setattr(folders, "_MOST_FILES", 1)
    with pytest.raises(InputError, match="more than 1 files"):
        touch(tmp_path, "b")
