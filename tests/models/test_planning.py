"""What a model says that it will need, and what it refuses."""

import shutil
from typing import Any

import pytest

from tisseract.atlas.errors import BudgetExceeded, StorageFull
from tisseract.atlas.store import AtlasStore
from tisseract.models import DomainBaseline, ExpressionBaseline
from tisseract.models.sizes import OVERHEAD, HaloSize


def test_a_plan_tells_passes_bytes_scratch_and_peak(planted_store: AtlasStore) -> None:
    plan = DomainBaseline(planted_store, n_comps=8, n_hops=3).plan()
    assert plan.n_obs == 1220
    assert plan.n_genes == 30
    assert plan.passes == 2
    stored = sum(planted_store.section(name).counts_bytes() for name in ("a", "b", "tiny"))
    assert plan.read_bytes == 2 * stored
    assert plan.scratch_bytes == 4 * 8 * (3 * 1220 + 600)
    assert OVERHEAD < plan.peak_bytes < plan.limit
    assert "1,220 cells in 3 sections x 30 genes; 2 passes over the counts" in str(plan)


def test_choosing_genes_takes_more_passes(planted_store: AtlasStore) -> None:
    passes = {
        flavor: DomainBaseline(planted_store, n_top_genes=12, flavor=flavor).plan().passes
        for flavor in ("variance", "seurat_v3")
    }
    assert passes == {"variance": 3, "seurat_v3": 4}


def test_what_does_not_fit_is_refused_before_anything_is_read(planted_store: AtlasStore) -> None:
    model = ExpressionBaseline(planted_store, memory_limit=OVERHEAD + 1000)
    heard: list[Any] = []
    with pytest.raises(BudgetExceeded, match="raise `memory_limit`"):
        model.fit(progress=lambda *about: heard.append(about))
    assert heard == []
    assert model.features is None


def test_a_smaller_limit_makes_smaller_blocks(planted_store: AtlasStore) -> None:
    def peaks(limit: int | None) -> dict[str, int]:
        plan = DomainBaseline(planted_store, memory_limit=limit).plan()
        return {stage.name: stage.peak_bytes for stage in plan.stages}

    roomy = peaks(None)
    for name in ("components", "smoothing"):
        assert peaks(roomy[name] - 1)[name] < roomy[name]


def test_harmony_is_planned_where_it_is_wanted(planted_store: AtlasStore) -> None:
    def stages(**options: Any) -> dict[str, int]:
        plan = DomainBaseline(planted_store, **options).plan()
        return {stage.name: stage.peak_bytes for stage in plan.stages}

    wanted = {"integration", "correction"}
    assert not wanted & set(stages())
    few, many = (stages(integrate="harmony", n_clusters=k) for k in (10, 1000))
    assert wanted <= set(few)
    assert few["integration"] < many["integration"]
    model = DomainBaseline(
        planted_store, integrate="harmony", n_clusters=1000, memory_limit=many["integration"] - 1
    )
    with pytest.raises(BudgetExceeded, match=r"stage 'integration'.*n_clusters"):
        model.fit()


def test_a_full_disk_is_told_before_the_work(
    planted_store: AtlasStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(StorageFull, match=r"scratch space.*TMPDIR"):
        DomainBaseline(planted_store).fit()


def test_a_loaded_model_plans_no_fit(fresh_store: AtlasStore) -> None:
    DomainBaseline(fresh_store, n_comps=4).fit().save("kept")
    plan = DomainBaseline.load(fresh_store, "kept").plan()
    assert [stage.name for stage in plan.stages] == ["scores", "smoothing", "writing"]


def test_a_network_plans_its_batches(planted_store: AtlasStore) -> None:
    pytest.importorskip("torch_geometric")
    from tisseract.models import DomainGNN

    few, many = (DomainGNN(planted_store, batch_cells=n, device="cpu").plan() for n in (64, 512))
    assert few.peak_bytes < many.peak_bytes
    small = DomainGNN(planted_store, device="cpu", memory_limit=OVERHEAD)
    with pytest.raises(BudgetExceeded, match="raise `memory_limit`"):
        small.fit()


def test_a_halo_is_no_larger_than_its_section() -> None:
    assert HaloSize.of(64, hops=4, degree=6.0, most=100).cells == 100
    assert HaloSize.of(64, hops=0, degree=6.0) == HaloSize(64, 64, 0)
