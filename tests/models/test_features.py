"""Gene choice and normalization: what is done follows from what the matrix holds."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from tisseract.atlas.errors import BudgetExceeded, InvalidArgument
from tisseract.atlas.panel import Panel
from tisseract.atlas.store import AtlasStore
from tisseract.ingest.source import RawSection
from tisseract.models.components.pca import GramSum
from tisseract.models.components.projection import plan_pass
from tisseract.models.genes.plan import (
    TREATMENTS,
    FeaturePlan,
    GeneReader,
    common_genes,
    locate_genes,
    normalized,
    plan_features,
    section_blocks,
)
from tisseract.models.genes.shared import gene_columns

from ..planted import planted
from ..sections import make_raw, make_store


@pytest.mark.parametrize("values", ["counts", "expected"])
def test_counts_are_brought_to_one_depth(values: str) -> None:
    block = sp.csr_array(np.array([[2.0, 6.0, 0.0], [0.0, 0.0, 0.0], [0.0, 5.0, 5.0]]))
    found = normalized(block, TREATMENTS[values], 20.0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.expm1(found.toarray()).sum(axis=1), [20.0, 0.0, 20.0], rtol=1e-6)


def test_nothing_is_logged_twice() -> None:
    block = sp.csr_array(np.array([[0.5, 2.0]]))
    for values in ("log1p", "composition"):
        assert np.array_equal(normalized(block, TREATMENTS[values], 9.0).toarray(), [[0.5, 2.0]])
    logged = normalized(block, TREATMENTS["normalized"], 9.0).toarray()
    np.testing.assert_allclose(logged, np.log1p([[0.5, 2.0]]), rtol=1e-6)


def test_small_integers_become_float32() -> None:
    block = sp.csr_array(np.array([[250, 250]], dtype=np.uint8))
    found = normalized(block, TREATMENTS["counts"], 1000.0)
    np.testing.assert_allclose(np.expm1(found.toarray()), [[500.0, 500.0]], rtol=1e-5)


def test_only_genes_of_every_section_count(planted_store: AtlasStore) -> None:
    sections = [planted_store.section(name) for name in ("a", "b", "tiny")]
    genes, rows = common_genes(sections)
    assert set(genes.gene_id[rows]) == {f"Gene{k}" for k in range(6, 36)}


def test_too_few_common_genes_list_the_sections(tmp_path: Path) -> None:
    raws = {"a": planted(80, seed=1), "b": planted(80, seed=2, first_gene=30)}
    store = make_store(tmp_path, raws)
    with pytest.raises(InvalidArgument, match=r"got 6 shared by a \(36 genes\), b \(36 genes\)"):
        common_genes([store.section("a"), store.section("b")])


def test_columns_follow_the_plan_not_the_panel(planted_store: AtlasStore) -> None:
    a, b = planted_store.section("a"), planted_store.section("b")
    plan = plan_features([a, b], n_top_genes=12)
    for section in (a, b):
        where = locate_genes(section, plan)
        whole = np.vstack([rows.toarray() for _, rows in section_blocks(section, plan, where, 97)])
        counts = section.counts(genes=where.column).toarray()
        depth = counts.sum(axis=1, keepdims=True)
        wanted = np.log1p(plan.target_depth * counts / np.maximum(depth, 1e-9))[:, plan.chosen]
        np.testing.assert_allclose(whole, wanted, rtol=1e-5, atol=1e-6)


def test_the_most_variable_genes_are_kept(planted_store: AtlasStore) -> None:
    sections = [planted_store.section("a")]
    every = plan_features(sections)
    where = locate_genes(sections[0], every)
    rows = np.vstack([b.toarray() for _, b in section_blocks(sections[0], every, where, 4096)])
    best = np.sort(np.argsort(-rows.var(axis=0), kind="stable")[:5])
    assert plan_features(sections, n_top_genes=5).chosen.tolist() == best.tolist()


def test_depth_is_the_mean_over_cells(planted_store: AtlasStore) -> None:
    sections = [planted_store.section("a"), planted_store.section("tiny")]
    plan = plan_features(sections)
    total = sum(float(s.counts().sum()) for s in sections)
    assert plan.target_depth == pytest.approx(total / 720)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the reference
def test_normalization_and_moments_equal_scanpy(planted_store: AtlasStore) -> None:
    """Library size, log1p, and each section's mean and variance, streamed in blocks of 97."""
    ad, sc = pytest.importorskip("anndata"), pytest.importorskip("scanpy")
    sections = [planted_store.section(name) for name in ("a", "b", "tiny")]
    plan = plan_features(sections)
    for section in sections:
        where = locate_genes(section, plan)
        wanted = ad.AnnData(section.counts(genes=where.column))
        sc.pp.normalize_total(wanted, target_sum=plan.target_depth)
        sc.pp.log1p(wanted)
        blocks = [rows.toarray() for _, rows in section_blocks(section, plan, where, 97)]
        np.testing.assert_allclose(np.vstack(blocks), wanted.X.toarray(), rtol=2e-6)
        dense = wanted.X.toarray().astype(np.float64)
        sums = GramSum(plan.n_genes)
        for rows in blocks:
            sums.add(rows)
        np.testing.assert_allclose(sums.mean, dense.mean(axis=0), rtol=1e-6)
        variance = np.diag(sums.scatter()) / sums.n_rows
        np.testing.assert_allclose(variance, dense.var(axis=0), rtol=1e-6)


def test_a_plan_survives_json(planted_store: AtlasStore) -> None:
    plan = plan_features([planted_store.section("a")], n_top_genes=9)
    again = FeaturePlan.from_dict(plan.to_dict())
    assert again.to_dict() == plan.to_dict()


def test_unmeasured_genes_are_zeros_after_centering(planted_store: AtlasStore) -> None:
    plan = plan_features([planted_store.section("a")])
    b = planted_store.section("b")
    where = locate_genes(b, plan)
    assert (~where.present).sum() == 6
    rows = np.vstack([block.toarray() for _, block in section_blocks(b, plan, where, 4096)])
    assert not rows[:, ~where.present].any()
    assert rows[:, where.present].any(axis=0).all()


def test_a_section_of_other_genes_is_refused(planted_store: AtlasStore, tmp_path: Path) -> None:
    plan = plan_features([planted_store.section("a")])
    other = make_store(tmp_path, {"far": planted(60, first_gene=100)}).section("far")
    with pytest.raises(
        InvalidArgument, match="of the model's 36 genes in section 'far', but got 0"
    ):
        locate_genes(other, plan)


def with_panel(n: int, seed: int, names: list[str], **more: Any) -> RawSection:
    """Random counts of genes that are named so."""
    raw = make_raw(n_obs=n, n_vars=len(names), seed=seed)
    return replace(raw, panel=Panel.of(names, **more))


IDS = [f"ENSMUSG000000000{k:02d}" for k in range(12)]
SYMBOLS = [f"Gene{k}" for k in range(12)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"names": IDS, "symbols": SYMBOLS}, {"names": [s.upper() for s in SYMBOLS]}),
        ({"names": [s.lower() for s in SYMBOLS]}, {"names": IDS, "symbols": SYMBOLS}),
        (
            {"names": IDS, "symbols": SYMBOLS, "aliases": [[f"Old{k}"] for k in range(12)]},
            {"names": [f"old{k}" for k in reversed(range(12))]},
        ),
        ({"names": [f"{one}.4" for one in IDS]}, {"names": IDS[::-1]}),
        (  # one symbol of two identifiers is neither; the other 12 fit
            {"names": [*IDS, "ENSMUSG00000000099"], "symbols": [*SYMBOLS, "Gene0"]},
            {"names": [*SYMBOLS, *IDS[:1]]},
        ),
        ({"names": [*SYMBOLS, "GENE0"]}, {"names": SYMBOLS}),
    ],
)
def test_genes_of_a_plan_stand_where_the_union_has_them(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any]
) -> None:
    raws = {
        name: with_panel(40, k, organism="mouse", **facts)
        for k, (name, facts) in enumerate({"a": first, "b": second}.items())
    }
    store = make_store(tmp_path, raws)
    sections = [store.section("a"), store.section("b")]
    genes, rows = common_genes(sections)
    plan = FeaturePlan.from_dict(json.loads(json.dumps(plan_features(sections).to_dict())))
    for section in sections:
        known = gene_columns(section, genes, rows)
        assert len(rows) == 12
        assert np.array_equal(locate_genes(section, plan).column, known)
        # as many as the panels say, also of a plan over one of them alone
        alone = locate_genes(section, plan_features(sections[:1])).column
        assert np.array_equal(np.sort(alone[alone >= 0]), np.unique(alone[alone >= 0]))


def test_a_column_is_one_gene(tmp_path: Path) -> None:
    twice = {"names": [*IDS, "ENSMUSG00000000099"], "symbols": [*SYMBOLS, "Gene0"]}
    raws = {
        "ids": with_panel(40, 0, organism="mouse", **twice),
        "symbols": with_panel(40, 1, organism="mouse", names=SYMBOLS),
    }
    store = make_store(tmp_path, raws)
    plan = plan_features([store.section("ids")])
    column = locate_genes(store.section("symbols"), plan).column
    assert column.tolist() == [-1, *range(1, 12), -1]
    assert np.array_equal(locate_genes(store.section("ids"), plan).column, np.arange(13))


@pytest.mark.parametrize(("organism", "fits"), [("human", False), ("mouse", True), ("", True)])
def test_genes_of_another_organism_are_other_genes(
    planted_store: AtlasStore, tmp_path: Path, organism: str, fits: bool
) -> None:
    names = [f"GENE{k}" for k in range(36)]
    store = make_store(tmp_path, {"far": with_panel(40, 0, names, organism=organism)})
    plan = plan_features([planted_store.section("a")])
    if fits:
        assert locate_genes(store.section("far"), plan).present.all()
    else:
        with pytest.raises(InvalidArgument, match=r"'far' \(of human, not mouse\), but got 0"):
            locate_genes(store.section("far"), plan)


def test_a_plan_from_before_aliases_is_read(planted_store: AtlasStore) -> None:
    facts = plan_features([planted_store.section("a")]).to_dict()
    del facts["aliases"]
    plan = FeaturePlan.from_dict(facts)
    assert plan.aliases == ()
    assert locate_genes(planted_store.section("a"), plan).present.all()


def test_a_small_limit_makes_small_blocks_then_refuses(planted_store: AtlasStore) -> None:
    sections = [planted_store.section("a")]
    rich = plan_pass(sections, 36, 2**30)
    assert rich.block_rows == sections[0].n_obs
    poor = plan_pass(sections, 36, rich.peak_bytes - 1)
    assert poor.block_rows < rich.block_rows
    assert poor.peak_bytes < rich.peak_bytes
    assert plan_pass(sections, 36, 2**30, gram=False).peak_bytes <= rich.peak_bytes
    with pytest.raises(BudgetExceeded, match="choose fewer genes, or raise"):
        plan_pass(sections, 2000, 2**20)


def test_a_reader_hands_out_any_runs(planted_store: AtlasStore) -> None:
    """Genes of the whole panel, some, and some that the section lacks."""
    a, b = planted_store.section("a"), planted_store.section("b")
    runs = [(3, 9), (40, 41)]
    rows = np.concatenate([np.arange(*run) for run in runs])
    plans = [plan_features([a]), plan_features([a, b], n_top_genes=7)]
    for section, plan in ((a, plans[0]), (b, plans[0]), (a, plans[1])):
        where = locate_genes(section, plan)
        found = GeneReader(section, plan, where).rows(runs)
        assert found.dtype == np.float32
        ((_, whole),) = section_blocks(section, plan, where, section.n_obs)
        assert np.array_equal(found.toarray(), whole.toarray()[rows])


def test_no_product_where_the_genes_are_those_of_the_panel(
    planted_store: AtlasStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = planted_store.section("a")
    every = plan_features([a])
    some = FeaturePlan(every.organism, every.gene_id, every.symbol, np.arange(5), 1e3)
    made = []

    def counted(self: object, other: object) -> object:
        made.append(1)
        return product(self, other)

    product: Any = sp.csr_array.__matmul__
    monkeypatch.setattr(sp.csr_array, "__matmul__", counted)
    for plan, n_products in ((every, 0), (some, 1)):
        made.clear()
        assert len(list(section_blocks(a, plan, locate_genes(a, plan), a.n_obs))) == 1
        assert len(made) == n_products
