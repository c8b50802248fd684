"""What every implementation of a protocol must do: classes that a test inherits."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from tisseract.atlas.errors import InputError
from tisseract.ingest.reader import Reader, ReadOptions, fingerprint, reader_for, register
from tisseract.ingest.source import RawSection, StringValues


def matrix_of(raw: RawSection, budget_bytes: int = 2**14) -> Any:
    """All rows and features of a section as CSR, streamed by blocks that follow one another."""
    start, parts = 0, []
    for block in raw.counts.blocks(budget_bytes):
        assert block.start_row == start
        assert block.indptr[0] == 0
        assert block.indptr[-1] == block.indices.size == block.data.size
        shape = (block.n_rows, raw.counts.n_vars)
        data: Any = block.data
        parts.append(sparse.csr_matrix((data, block.indices, block.indptr), shape=shape))
        start += block.n_rows
    assert start == raw.n_obs
    return sparse.vstack(parts).tocsr()


def ids_of(raw: RawSection) -> list[str | None]:
    """Cell ids of a section."""
    values = raw.instance_ids.read()
    assert isinstance(values, StringValues)
    return values.to_list()


def told_faults(reader: Reader, path: Path, options: ReadOptions | None = None) -> str:
    """All faults of an input as text; inspecting and opening it tell the same."""
    asked = options or ReadOptions()
    seen = reader.inspect(path, asked)
    assert seen.faults
    with pytest.raises(InputError) as caught:
        reader.open(path, asked)
    assert caught.value.faults == seen.faults
    return "\n".join(map(str, seen.faults))


class ReaderContract:
    """Inherit, and give the three fixtures; every test here then holds for the reader."""

    @pytest.fixture
    def reader(self) -> Reader:
        raise NotImplementedError

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        """A small valid input of at least 20 cells."""
        raise NotImplementedError

    @pytest.fixture
    def options(self) -> ReadOptions:
        return ReadOptions()

    @pytest.fixture
    def truth(self) -> Mapping[str, Any]:
        """`counts` (dense, file order, all features), `positions` (source units), `ids`, genes.

        `gene_ids` lists genes alone, where other features are set apart.
        """
        raise NotImplementedError

    def test_is_recognized_and_nothing_else_is(
        self, reader: Reader, source: Path, tmp_path: Path
    ) -> None:
        assert reader.recognizes(source)
        assert reader_for(source).format == reader.format
        (tmp_path / "note.txt").write_text("not tissue")
        assert not reader.recognizes(tmp_path / "note.txt")
        assert not reader.recognizes(tmp_path / "nowhere")

    def test_inspection_agrees_with_the_section(
        self, reader: Reader, source: Path, options: ReadOptions
    ) -> None:
        seen = reader.inspect(source, options)
        seen.raise_faults()
        raw = reader.open(source, options)
        assert (seen.n_obs, seen.n_vars) == (raw.n_obs, raw.n_vars)
        assert seen.um_per_unit == raw.um_per_unit
        assert set(seen.images) == set(raw.images)
        assert raw.provenance["unit"] == seen.unit_source
        assert raw.provenance["reader"] == seen.format == reader.format

    def test_every_count_position_and_name_is_the_files(
        self, reader: Reader, source: Path, options: ReadOptions, truth: Mapping[str, Any]
    ) -> None:
        raw = reader.open(source, options)
        assert (matrix_of(raw).toarray() == truth["counts"]).all()
        np.testing.assert_allclose(raw.positions, truth["positions"], rtol=1e-6)
        assert raw.positions.dtype == np.float64
        assert ids_of(raw) == list(truth["ids"])
        assert raw.panel.gene_id.tolist() == list(truth["gene_ids"])
        apart = np.concatenate([[], *(one.columns for one in raw.apart.values())])
        assert len(set(apart.tolist())) == apart.size == truth["counts"].shape[1] - raw.n_vars

    @pytest.mark.parametrize("budget", [1, 200, 2**20])
    def test_any_budget_gives_the_same_rows(
        self,
        reader: Reader,
        source: Path,
        options: ReadOptions,
        truth: Mapping[str, Any],
        budget: int,
    ) -> None:
        raw = reader.open(source, options)
        assert (matrix_of(raw, budget).toarray() == truth["counts"]).all()

    def test_every_column_has_one_value_a_cell(
        self, reader: Reader, source: Path, options: ReadOptions
    ) -> None:
        raw = reader.open(source, options)
        for name, column in raw.obs.items():
            values = column.read()
            length = len(values) if isinstance(values, StringValues) else None
            if length is None:
                length = len(getattr(values, "codes", getattr(values, "values", ())))
            assert length == raw.n_obs, name

    def test_parts_travel_to_another_process(
        self, reader: Reader, source: Path, options: ReadOptions
    ) -> None:
        raw = pickle.loads(pickle.dumps(reader.open(source, options)))
        assert matrix_of(raw).shape == (raw.n_obs, raw.counts.n_vars)

    def test_fingerprint_follows_bytes_and_options(
        self, reader: Reader, source: Path, options: ReadOptions
    ) -> None:
        first = fingerprint(source, options)
        assert fingerprint(source, options) == first
        assert fingerprint(source, replace(options, organism="axolotl")) != first
        register(reader)
        largest = max(reader.files(source, options), key=lambda one: one.stat().st_size)
        largest.write_bytes(largest.read_bytes() + b"\0")
        assert fingerprint(source, options, reader.format) != first

    def test_unknown_reader_option_is_refused(
        self, reader: Reader, source: Path, options: ReadOptions
    ) -> None:
        wrong = replace(options, reader_kwargs={"pannel": "complete"})
        with pytest.raises(InputError, match="pannel"):
            reader.inspect(source, wrong).raise_faults()

    def test_missing_unit_is_one_clear_error(
        self, reader: Reader, source: Path, options: ReadOptions
    ) -> None:
        with pytest.raises(InputError, match="um_per_unit"):
            reader.inspect(source, replace(options, um_per_unit="wide")).raise_faults()

    def test_no_guest_error_gets_out_of_a_truncated_input(
        self, reader: Reader, source: Path, options: ReadOptions
    ) -> None:
        files = sorted(reader.files(source, options), key=lambda one: one.stat().st_size)
        for file in files[-12:]:
            whole = file.read_bytes()
            for length in (0, len(whole) // 2):
                file.write_bytes(whole[:length])
                try:
                    raw = reader.open(source, options)
                    matrix_of(raw)
                    for column in (raw.instance_ids, *raw.obs.values()):
                        column.read()
                except InputError as error:
                    named = [source.name in str(error), file.name in str(error)]
                    assert any(named), error  # noqa: PT017 - not raising at all is right, too
            file.write_bytes(whole)
