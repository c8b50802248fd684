"""The plan: what is written, skipped and replaced, and how many at once fit into memory."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisseract.atlas.errors import BudgetExceeded
from tisseract.ingest.plan import SectionSource, plan_ingest
from tisseract.ingest.samples import SampleRow


def source(name: str, memory: int = 10, nnz: int = 0, fingerprint: str = "f") -> SectionSource:
    row = SampleRow(2, name, f"{name}.h5ad", Path(f"{name}.h5ad"))
    return SectionSource(name, row, "h5ad", fingerprint, memory_bytes=memory, nnz=nnz)


def test_committed_sections_are_skipped_changed_ones_refused_or_replaced() -> None:
    sources = [source("new"), source("same"), source("changed")]
    committed = {"same": "f", "changed": "g", "other": "h"}
    plan = plan_ingest(sources, committed, overwrite=False, memory_limit=100, n_workers=2)
    assert [(p.source.section, p.action) for p in plan.sections] == [
        ("new", "write"),
        ("same", "skip"),
    ]
    (fault,) = plan.faults
    assert fault.location == "row 2 (changed)"
    assert "--overwrite" in fault.message
    plan = plan_ingest(sources, committed, overwrite=True, memory_limit=100, n_workers=2)
    assert not plan.faults
    assert [p.action for p in plan.sections] == ["write", "replace", "replace"]


def test_large_sections_start_first() -> None:
    plan = plan_ingest(
        [source("a", nnz=1), source("b", nnz=9), source("c", nnz=5)],
        {},
        overwrite=False,
        memory_limit=100,
        n_workers=2,
    )
    assert [p.source.section for p in plan.writes] == ["b", "c", "a"]
    assert [p.source.section for p in plan.sections] == ["a", "b", "c"]


def test_a_section_that_fits_nowhere_is_refused_up_front() -> None:
    with pytest.raises(
        BudgetExceeded, match=r"largest section, 'a' of row 2 \(a\), .*; raise the memory limit$"
    ):
        plan_ingest([source("a", 101)], {}, overwrite=False, memory_limit=100, n_workers=1)


def test_the_plan_prints_itself() -> None:
    plan = plan_ingest(
        [source("a"), source("b")], {"b": "f"}, overwrite=False, memory_limit=100, n_workers=3
    )
    text = str(plan)
    assert text.startswith("1 sections to write, 1 already there")
    assert "write   a" in text
    assert "skip    b" in text


@given(st.lists(st.integers(1, 100), max_size=8), st.integers(100, 1000), st.integers(1, 16))
def test_every_worker_can_hold_every_section(needs: list[int], limit: int, workers: int) -> None:
    plan = plan_ingest(
        [source(f"s{i}", need) for i, need in enumerate(needs)],
        {},
        overwrite=False,
        memory_limit=limit,
        n_workers=workers,
    )
    assert 1 <= plan.n_workers <= workers
    assert plan.peak_bytes <= limit
    assert all(p.source.memory_bytes <= plan.section_limit for p in plan.writes)
    if needs and plan.n_workers < min(workers, len(needs)):
        assert limit // (plan.n_workers + 1) < max(needs)  # no worker is left out without need
