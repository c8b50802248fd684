"""What queries read, counted: regions, genes, plans that keep their word."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from tisseract.atlas.store import create_store, open_store
from tisseract.query import Selection, region, select

from ..sections import add_section, make_raw
from .counting import counted

N_OBS, N_VARS = 60_000, 40


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One section of 60,000 cells; gene 0 lies in one corner only."""
    rng = np.random.default_rng(5)
    points = rng.random((N_OBS, 2)) * 1_000
    counts = sparse.random(N_OBS, N_VARS, 0.25, "csr", rng=rng, dtype=np.float32)
    counts.data = rng.integers(1, 9, counts.nnz).astype(np.float32)
    listed: Any = counts.tolil()
    listed[:, 0] = ((points < 150).all(axis=1) * rng.integers(1, 9, N_OBS))[:, None]
    raw = make_raw(
        n_obs=N_OBS,
        positions=points,
        counts=sparse.csr_matrix(listed),
        um_per_unit=1.0,
        genes=[f"Gene{k}" for k in range(N_VARS)],
    )
    path: Path = tmp_path_factory.mktemp("wide") / "atlas"
    add_section(create_store(path), "s", raw, tile_cells=1_024)
    return path


ASKED: dict[str, Callable[[Any], Selection]] = {
    "everything": select,
    "box": lambda s: region(s, "s", bbox=(310, 420, 590, 700)),
    "sliver": lambda s: region(s, "s", bbox=(10, 500, 900, 530)),
    "circle": lambda s: region(s, "s", circle=(500, 500, 90)),
    "gene": lambda s: select(s, genes=["Gene7"]),
    "genes of a box": lambda s: region(s, "s", bbox=(310, 420, 590, 700), genes=["Gene7", "Gene1"]),
    "filter": lambda s: select(s, "area > 0.9 and layer == 'L1'"),
    "gene filter": lambda s: select(s, "counts:Gene0 > 6"),
    "logs in a box": lambda s: region(s, "s", bbox=(0, 0, 400, 400), obs="log1p:Gene3 > 4"),
    "nothing": lambda s: select(s, "counts:Gene0 > 60"),
    "names": lambda s: select(s, cells=[f"s:cell-{k}" for k in range(0, N_OBS, 600)]),
}


@pytest.mark.filterwarnings("ignore::tisseract.query.EmptyAnswerWarning")
@pytest.mark.parametrize("name", ASKED)
def test_plans_keep_their_word(wide: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with counted(monkeypatch) as planned:
        plan = ASKED[name](open_store(wide)).explain()
    assert plan.cost is not None
    assert not [n for key, n in planned.made if "/X/" in key or "/_index" in key]
    store = open_store(wide)
    with counted(monkeypatch) as reads:
        adata = ASKED[name](store).to_anndata()
    assert adata.n_obs <= plan.n_obs_bound
    assert reads.requests <= plan.cost.requests
    if adata.n_obs:
        assert plan.cost.nbytes / 3.5 <= reads.nbytes <= 2 * plan.cost.nbytes
    assert f"at most {plan.cost.requests:,} requests" in str(plan)


def test_a_region_reads_few_places(wide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(wide)
    with counted(monkeypatch) as reads:
        adata = ASKED["box"](store).to_anndata(obs_columns=[])
    assert 4_000 < adata.n_obs < 6_000
    assert reads.requests <= 40
    fresh = ASKED["box"](store)
    with counted(monkeypatch) as again:
        fresh.to_anndata(obs_columns=[])
    # Indexes are known now: what is left is data, and the header for the notes.
    assert again.requests <= 24
    assert len(again.of("/obsm/spatial/")) == len(set(again.of("/obsm/spatial/")))


def test_a_gene_test_reads_its_own_corner(wide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(wide)
    selection = select(store, "counts:Gene0 > 0")
    plan = selection.plan
    assert plan.n_tiles[0] < plan.n_tiles[1] / 10
    with counted(monkeypatch) as reads:
        assert 1_000 < selection.n_obs < 2_000
    assert reads.requests <= 8
    assert not reads.of("/X/")


def test_all_of_many_sections_opens_none(wide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(wide)
    with counted(monkeypatch) as reads:
        assert select(store).n_obs == N_OBS
    assert [key for key, _ in reads.made if key.startswith("sections/")] == []
