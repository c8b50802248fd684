"""Summaries of genes: equal to pandas, read in a few requests, current or not used."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisseract.atlas.derived import Provenance, write_derived
from tisseract.atlas.errors import (
    BudgetExceeded,
    ColumnNotFound,
    Corrupt,
    GeneNotFound,
    InvalidArgument,
    ReadOnly,
    SectionNotFound,
    StaleDerived,
)
from tisseract.atlas.garbage import gc
from tisseract.atlas.snapshot import Change, SegmentEntry, Snapshot
from tisseract.atlas.store import AtlasStore, open_store
from tisseract.atlas.summary_file import (
    SegmentGenes,
    SummaryColumns,
    SummarySegment,
    SummaryWriter,
)
from tisseract.atlas.verify import verify
from tisseract.query import gene, summarize
from tisseract.query.expression.summary_plan import segments_of, to_merge

from ..atlas.store_fakes import CountingStorage
from ..sections import add_section, make_raw, make_store

KEYS = ["n", "n_unmeasured", "n_nonzero", "fraction", "mean_counts", "mean_log1p"]


def copy_of(store: AtlasStore, tmp_path: Path) -> AtlasStore:
    """The same atlas in a folder of its own, for writing."""
    import shutil

    root = store.storage.local_path()
    assert root is not None
    shutil.copytree(root, tmp_path / "copy")
    return open_store(tmp_path / "copy", read_only=False)


def oracle(atlas: Any, name: str, by: Sequence[str]) -> pd.DataFrame:
    """Group every cell of the atlas, as pandas has it."""
    cells = atlas.cells
    value = atlas.counts[name].to_numpy(float)
    depth = np.nansum(atlas.counts.to_numpy(float), axis=1)
    logged = np.log1p(value * 1e4 / np.where(depth > 0, depth, 1))
    known = ~np.isnan(value)
    facts = pd.DataFrame(
        {
            **{one: cells[one].astype(object).where(cells[one].notna(), None) for one in by},
            "n": known,
            "n_unmeasured": ~known,
            "n_nonzero": np.where(known, value > 0, 0.0),
            "total": np.where(known, value, 0.0),
            "logged": np.where(known, logged, 0.0),
        }
    )
    table = facts.groupby(list(by), dropna=False).sum().reset_index()
    n = table["n"].where(table["n"] > 0)
    table["n_nonzero"] = table["n_nonzero"].where(table["n"] > 0).astype(float)
    table["fraction"] = (table["n_nonzero"] / n).astype(float)
    table["mean_counts"] = (table["total"] / n).astype(float)
    table["mean_log1p"] = (table["logged"] / n).astype(float)
    return table


def same(got: pd.DataFrame, wanted: pd.DataFrame, by: Sequence[str]) -> None:
    def keyed(table: pd.DataFrame) -> pd.DataFrame:
        index = [tuple(_key(v) for v in row) for row in table[list(by)].to_numpy(object)]
        return table[KEYS].astype(float).set_axis(pd.Index(index, tupleize_cols=False)).sort_index()

    pd.testing.assert_frame_equal(keyed(got), keyed(wanted), rtol=1e-12, check_index_type=False)


def _key(value: object) -> str:
    return "none" if value is None or value != value else str(value)


@pytest.fixture(scope="module")
def summarized(atlas: Any, tmp_path_factory: pytest.TempPathFactory) -> AtlasStore:
    store = copy_of(atlas.store, tmp_path_factory.mktemp("summary"))
    summarize(store, ["dom", "layer", "timepoint"])
    return store


@pytest.mark.parametrize(
    "by",
    [
        ["section"],
        ["dom"],
        ["dom", "timepoint"],
        ["timepoint", "layer", "dom"],
        ["donor", "section", "layer"],
    ],
)
@pytest.mark.parametrize("name", ["Gene3", "Sox2", "OnlyD"])
def test_summary_equals_pandas_and_the_vectors(
    atlas: Any, summarized: AtlasStore, name: str, by: list[str]
) -> None:
    wanted = oracle(atlas, name, by)
    computed = gene(atlas.store, name).where(by)
    answered = gene(summarized, name).where(by)
    same(computed, wanted, by)
    same(answered, wanted, by)
    assert answered[by].equals(computed[by])
    assert answered.attrs["summary"] == "domains.dom-obs.layer"
    assert answered.attrs["computed"] == []
    assert not answered.attrs["note"]
    assert computed.attrs["summary"] is None
    assert "4 of 4 sections" in computed.attrs["note"]
    assert answered.attrs["units"]["mean_log1p"] == "mean log1p(counts per 10,000)"


def test_a_column_that_no_summary_has_is_computed_and_told(
    atlas: Any, summarized: AtlasStore
) -> None:
    by = ["cell_type", "dom"]
    table = gene(summarized, "Gene1").where(by)
    same(table, oracle(atlas, "Gene1", by), by)
    assert table.attrs["summary"] is None
    assert len(table.attrs["computed"]) == 4
    only = gene(summarized, "Gene1").where("layer", where="cell_type == 'Neuron'")
    part = replace(atlas, cells=atlas.cells[atlas.cells["cell_type"] == "Neuron"])
    # Depth is of the whole panel, so the oracle keeps it: same rows of the counts.
    part = replace(part, counts=atlas.counts.loc[part.cells.index])
    same(only, oracle(part, "Gene1", ["layer"]), ["layer"])


def test_missing_is_explicit(summarized: AtlasStore) -> None:
    view = gene(summarized, "Sox2")
    table: Any = view.where("timepoint").set_index("timepoint")
    assert table.index.tolist() == ["E9.5", "E10.5", "P7"]
    assert table.loc["P7", "n"] == 0
    assert table.loc["P7", "n_unmeasured"] > 0
    assert np.isnan(float(table.loc["P7", "mean_counts"]))
    assert view.where("timepoint", missing="drop")["timepoint"].tolist() == ["E9.5", "E10.5"]
    with pytest.raises(GeneNotFound, match="1 that did not: d_p7"):
        view.where("timepoint", missing="error")
    with pytest.raises(InvalidArgument, match="missing="):
        view.where("timepoint", missing="zero")  # type: ignore[arg-type]
    with pytest.raises(ColumnNotFound, match="layer"):
        view.where("layr")
    best = view.best_sections(2)
    assert best["mean_log1p"].is_monotonic_decreasing
    assert "d_p7" not in set(best["section"])
    with pytest.raises(InvalidArgument, match="rank"):
        view.best_sections(rank="size")  # type: ignore[arg-type]


def test_names_exact_first_then_whatever_the_case(tmp_path: Path) -> None:
    names = ["Sox2", "SOX2", "Pax6", "Gad1"]
    store = make_store(tmp_path, {"s1": make_raw(n_obs=60, n_vars=4, genes=names)})
    for _ in range(2):  # by the panels, then by the summary
        assert gene(store, "Sox2").gene_id == "Sox2"
        assert gene(store, "Sox2").note == ""
        assert gene(store, "SOX2").gene_id == "SOX2"
        assert gene(store, "pax6").gene_id == "Pax6"
        assert "'pax6' was taken whatever the case for Pax6" in repr(gene(store, "pax6"))
        assert "whatever the case" in gene(store, "pax6").where().attrs["note"]
        with pytest.raises(Exception, match="fits 2"):
            gene(store, "sox2")
        with pytest.raises(GeneNotFound, match="Gad1"):
            gene(store, "Gad2")
        summarize(store)


def test_a_thousand_sections_in_few_requests_and_no_section_read(tmp_path: Path) -> None:
    """The sections are entries without any object: a look at one would fail."""
    store = make_store(tmp_path, {"s1": make_raw(n_obs=40, n_vars=3)})
    model = store.snapshot.sections["s1"]
    names = [f"s{k:04d}" for k in range(1000)]
    entries = [
        replace(
            model,
            section=name,
            attempt=uuid.uuid4().hex,
            metadata={"timepoint": f"E{k % 9}", "time_value": k % 9, "time_unit": "day"},
            columns={"domain": {"kind": "categorical"}},
            panel=f"{k % 50:064x}",
        )
        for k, name in enumerate(names)
    ]
    store.commit(Change(remove_sections=["s1"], add_sections=entries), "fake")
    rng = np.random.default_rng(0)
    n_groups, n_genes = 5, 40
    frames = []
    for part in (range(700), range(700, 990), range(990, 1000)):
        values = rng.integers(1, 50, (n_genes, 3, len(part) * n_groups)).astype(float)
        values[:, :, rng.random(values.shape[2]) < 0.1] = np.nan
        columns = SummaryColumns(
            tuple(names[k] for k in part),
            np.repeat(np.arange(len(part)), n_groups),
            rng.integers(50, 99, len(part) * n_groups),
            (tuple("abcde"[k % n_groups] for k in range(len(part) * n_groups)),),
        )
        _commit_segment(store, columns, values)
        frames.append(
            pd.DataFrame(
                {
                    "domain": columns.labels[0],
                    "timepoint": [f"E{part[s] % 9}" for s in columns.section],
                    "n": columns.n,
                    "x": values[7, 1],
                }
            )
        )
    opened = open_store(tmp_path / "atlas")
    counting = CountingStorage(opened.storage)
    opened.storage = counting
    table = gene(opened, "gene7").where(["domain", "timepoint"])
    assert counting.counts.total() <= 8, counting.counts
    assert table.attrs["computed"] == []
    counting.counts.clear()
    gene(opened, "gene8").where(["timepoint"])
    assert counting.counts.total() <= 3  # indexes are known now
    cells = pd.concat(frames).dropna()
    wanted = cells.groupby(["domain", "timepoint"])[["n", "x"]].sum()
    got = table.set_index(["domain", "timepoint"])
    np.testing.assert_allclose(got["mean_counts"], (wanted["x"] / wanted["n"])[got.index])


def _commit_segment(store: AtlasStore, columns: SummaryColumns, values: np.ndarray) -> None:
    by = [{"source": "obs", "key": "domain"}]
    names = tuple(f"Gene{k}" for k in range(len(values)))
    blank = ("",) * len(names)
    genes = SegmentGenes(
        ("mouse",) * len(names), names, blank, ((),) * len(names), ("Gene Expression",) * len(names)
    )
    with store.new_attempt("segments/summary/domain") as attempt:
        with SummaryWriter(attempt.path, by, columns, genes) as writer:
            for row in values:
                writer.append(row)
        receipt = attempt.seal()
    inputs = {f"section:{s}": store.snapshot.sections[s].attempt for s in columns.sections}
    info = {"by": by, "snapshot": store.version, "columns": len(columns)}
    entry = SegmentEntry(
        "summary", "domain", receipt.attempt, receipt.digest, receipt.nbytes, inputs, info
    )
    store.commit(Change(add_segments=[entry]), "segment")


def test_sections_are_added_replaced_removed_and_segments_merged(tmp_path: Path) -> None:
    store = make_store(tmp_path, {"s0": make_raw(n_obs=50, seed=0)})
    assert summarize(store, "layer").computed == ("s0",)
    again = summarize(store, "layer")
    assert again.computed == ()
    assert again.skipped == ("s0",)
    assert again.segments == 1
    for k in range(1, 6):
        genes = [f"Gene{g}" for g in range(k, k + 12)]  # panels differ
        add_section(store, f"s{k}", make_raw(n_obs=50, seed=k, genes=genes))
        report = summarize(store, "layer")
        assert report.computed == (f"s{k}",)
        assert report.segments <= 3
    add_section(store, "s2", make_raw(n_obs=70, seed=9), replace=True)
    fresh = gene(store, "Gene5").where(["section", "layer"])
    assert fresh.attrs["computed"] == ["s2"]
    same(fresh, gene(_bare(store), "Gene5").where(["section", "layer"]), ["section", "layer"])
    assert summarize(store, "layer").computed == ("s2",)
    full = gene(store, "Gene5").where(["section", "layer"])
    assert full.attrs["computed"] == []
    same(full, fresh, ["section", "layer"])
    store.commit(Change(remove_sections=["s3"]), "remove")
    assert "s3" not in set(gene(store, "Gene5").where("section")["section"])
    report = summarize(store, "layer", overwrite=True)
    assert report.segments == 1
    assert len(report.computed) == 5
    assert verify(store).ok
    dropped = gc(store, dry_run=False, grace=0.0, keep=1)
    assert any(orphan.prefix.startswith("segments/") for orphan in dropped.orphans)
    assert verify(store).ok
    assert gene(store, "Gene5").where("layer").attrs["computed"] == []


def _bare(store: AtlasStore) -> AtlasStore:
    """The same state without its summaries."""
    bare = store.frozen()
    bare._snapshot = replace(store.snapshot, segments={})
    return bare


def test_labels_that_change_are_seen(atlas: Any, tmp_path: Path) -> None:
    store = copy_of(atlas.store, tmp_path)
    summarize(store, "dom")
    handle = store.section("b_e10")  # had no labels: its summary says so, and is out of date now
    _relabel(store, "b_e10", {f"section:{handle.name}": handle.attempt})
    table = gene(store, "Gene1").where(["section", "dom"])
    assert table.attrs["computed"] == ["b_e10"]
    assert table[table["section"] == "b_e10"]["dom"].tolist() == ["cortex"]
    raw = make_raw(n_obs=30, genes=[f"Gene{k}" for k in range(12)])
    add_section(store, "a_e9", raw, replace=True)
    with pytest.raises(StaleDerived, match="a_e9"):
        gene(store, "Gene1").where("dom")
    with pytest.raises(StaleDerived, match="a_e9"):
        summarize(store, "dom")


def _relabel(store: AtlasStore, section: str, inputs: dict[str, str]) -> None:
    n, tiles = store.section(section).n_obs, store.section(section).n_tiles
    entry = write_derived(
        store,
        "domains",
        "dom",
        section,
        arrays={
            "codes": np.zeros(n, np.int16),
            "confidence": np.ones(n, np.float32),
            "tile_hist": np.ones((tiles, 1), np.int32),
        },
        attrs={"categories": ["cortex"]},
        provenance=Provenance(inputs, {}),
        info={"categories": ["cortex"]},
    )
    store.commit(Change(add_derived=[entry]), "label")


def test_what_was_committed_is_not_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tisseract.query.expression.summarize as module_of_sums

    module: Any = module_of_sums

    store = make_store(tmp_path, {f"s{k}": make_raw(n_obs=40, seed=k) for k in range(3)})
    sums = module.section_sums
    seen: list[str] = []

    def dying(store: AtlasStore, section: Any, *rest: Any) -> Any:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(section.name)
        return sums(store, section, *rest)

    monkeypatch.setattr(module, "section_sums", dying)
    monkeypatch.setattr(module, "_COMMIT_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        summarize(store, "layer")
    monkeypatch.undo()
    told: list[Any] = []
    report = summarize(store, "layer", progress=lambda *event: told.append(event))
    assert report.computed == ("s2",)
    assert report.skipped == ("s0", "s1")
    assert told == [("summarize s2", 0, 1)]


def test_refusals(summarized: AtlasStore, tmp_path: Path) -> None:
    with pytest.raises(ReadOnly):
        summarize(open_store(summarized.url), "dom")
    with pytest.raises(ColumnNotFound):
        summarize(summarized, "lair")
    with pytest.raises(SectionNotFound):
        summarize(summarized, sections=["nowhere"])
    with pytest.raises(InvalidArgument, match="key_added"):
        summarize(summarized, "cell_type", key_added="domains.dom-obs.layer")
    with pytest.raises(BudgetExceeded, match="group by fewer columns"):
        summarize(summarized, "note", memory_limit=1000)
    store = make_store(tmp_path, {"s1": make_raw(n_obs=40)})
    summarize(store)
    (entry,) = segments_of(store.snapshot, "whole")
    place = store.storage.local_path(entry.prefix)
    assert place is not None
    values = place / "values.bin"
    damaged = bytearray(values.read_bytes())
    damaged[30] ^= 1
    values.write_bytes(bytes(damaged))
    with pytest.raises(Corrupt, match=r"values.bin"):
        gene(store, "Gene0").where()
    assert not verify(store).ok
    wrongs: list[dict[str, Any]] = [
        {"offsets": [0, 5]},
        {"codes": [[0]]},
        {"format": "x"},
        {"genes": {}},
    ]
    for wrong in wrongs:
        body = json.loads((place / "index.json").read_text()) | wrong
        other = tmp_path / f"{next(iter(wrong))}"
        folder = other / entry.prefix
        folder.mkdir(parents=True)
        (folder / "index.json").write_text(json.dumps(body))
        from tisseract.atlas.storage import open_storage

        with pytest.raises(Corrupt, match=r"index.json"):
            SummarySegment.open(open_storage(other), entry)


def test_cells_that_fail_quality_control_take_no_part(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    good = rng.random(80) < 0.6
    raws = {
        "s1": make_raw(
            n_obs=80, seed=1, obs={"qc_pass": good, "t": rng.choice(["a", "b"], 80).tolist()}
        ),
        "s2": make_raw(n_obs=50, seed=2, obs={"t": ["a"] * 50}),
    }
    store = make_store(tmp_path, raws)
    section = store.section("s1")
    passing = section.obs(columns=["qc_pass"])["qc_pass"].to_numpy(bool)
    vector = gene(store, "Gene3").vector("s1")
    for all_cells in (False, True):
        before = gene(store, "Gene3").where(["section", "t"], all_cells=all_cells)
        n = before.loc[before["section"] == "s1", "n"].sum()
        assert n == (80 if all_cells else passing.sum())
        total: Any = before.loc[before["section"] == "s1", "mean_counts"] * before["n"]
        assert total.sum() == pytest.approx(vector.sum() if all_cells else vector[passing].sum())
        summarize(store, "t", all_cells=all_cells)
        after = gene(store, "Gene3").where(["section", "t"], all_cells=all_cells)
        assert after.attrs["computed"] == []
        same(after, before, ["section", "t"])
        other = gene(store, "Gene3").where(["section", "t"], all_cells=not all_cells)
        assert other.attrs["computed"] == ([] if all_cells else ["s1"])
    assert gene(store, "Gene3").per_section()["n"].tolist() == [80, 50]
    with pytest.raises(InvalidArgument, match="both"):
        gene(store, "Gene3").where("t", where="t == 'a'", all_cells=True)


def test_snapshots_without_segments_are_read(summarized: AtlasStore) -> None:
    body = json.loads(summarized.snapshot.to_bytes())
    assert len(body["segments"]) == 1
    assert Snapshot.from_bytes(summarized.snapshot.to_bytes(), body["number"]).segments == (
        summarized.snapshot.segments
    )
    del body["segments"]
    old = Snapshot.from_bytes(json.dumps(body).encode(), body["number"])
    assert old.segments == {}
    assert old.sections == summarized.snapshot.sections


@given(st.lists(st.integers(1, 10_000), max_size=12), st.integers(1, 4))
def test_merging_leaves_few_and_writes_each_section_seldom(widths: list[int], most: int) -> None:
    written = 0
    there: dict[str, int] = {}
    for number, width in enumerate(widths):
        there[f"n{number}"] = width
        written += width
        merged = to_merge(there, most)
        assert len(there) - len(merged) + bool(merged) <= most
        assert not merged or len(merged) > 1
        if merged:
            total = sum(there.pop(name) for name in merged)
            written += total
            there[f"m{number}"] = total
    assert sum(there.values()) == sum(widths)
