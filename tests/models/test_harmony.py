"""Harmony out of core against the published algorithm in memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tisseract.atlas.errors import InvalidArgument
from tisseract.atlas.store import AtlasStore
from tisseract.models.baseline import DomainBaseline
from tisseract.models.components.harmony import Harmony, HarmonyOptions, fit_harmony
from tisseract.models.rows.file import RowFile

from ..planted import planted
from ..sections import add_section, make_store

D, TYPES = 6, 4
OPTIONS = HarmonyOptions(n_clusters=8, seed=3)


def planted_rows(sizes: dict[str, int], seed: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """Types far apart, and a shift of each type in each batch; rows and types by batch."""
    shared = np.random.default_rng(10)
    centers = shared.normal(0.0, 4.0, (TYPES, D))
    rows, kinds = {}, {}
    for b, (name, n) in enumerate(sizes.items()):
        rng = np.random.default_rng([seed, b])
        shift = shared.normal(0.0, 1.0, (TYPES, D))
        kinds[name] = rng.integers(0, TYPES, n)
        noise = rng.normal(0.0, 0.6, (n, D))
        rows[name] = (centers[kinds[name]] + shift[kinds[name]] + noise).astype(np.float32)
    return rows, kinds


def fitted(
    rows: dict[str, Any], folder: Path, batch_of: dict[str, str] | None = None, **more: Any
) -> Harmony:
    tables = {}
    for name, values in rows.items():
        tables[name] = RowFile(folder / name, *values.shape)
        tables[name].write(0, values)
    more = {"options": OPTIONS, **more}
    try:
        return fit_harmony(tables, batch_of or {n: n for n in rows}, scratch=folder, **more)
    finally:
        for table in tables.values():
            table.close()


def corrected(model: Harmony, rows: dict[str, Any]) -> np.ndarray:
    return np.concatenate([model.correct(values, name) for name, values in rows.items()])


def in_memory(x: np.ndarray, batch: np.ndarray, options: HarmonyOptions) -> np.ndarray:
    """The published algorithm, plainly: all rows, all shares, random twentieths."""
    from sklearn.cluster import KMeans

    rng, n, n_batches = np.random.default_rng(options.seed), len(x), batch.max() + 1
    phi = np.eye(n_batches)[batch].T
    share_of_batch = phi.mean(axis=1)
    k, sigma, theta = options.clusters(n), options.sigma, options.theta

    def unit(rows: np.ndarray) -> np.ndarray:
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))

    z = unit(x)
    y = unit(KMeans(k, n_init=1, random_state=options.seed).fit(z).cluster_centers_)
    r = np.exp(-2 * (1 - y @ z.T) / sigma)
    r /= r.sum(axis=0)
    out = x
    for _ in range(options.max_iter):
        for _ in range(20):
            y = unit(r @ z)
            for part in np.array_split(rng.permutation(n), 20):
                r[:, part] = 0
                observed, expected = r @ phi.T, np.outer(r.sum(axis=1), share_of_batch)
                r[:, part] = np.exp(-2 * (1 - y @ z[part].T) / sigma)
                r[:, part] *= (((expected + 1) / (observed + 1)) ** theta) @ phi[:, part]
                r[:, part] /= r[:, part].sum(axis=0)
        out = x.copy()
        design = np.vstack([np.ones(n), phi])
        penalty = np.diag([0.0, *[options.ridge] * n_batches])
        for share in r:
            w = np.linalg.solve((design * share) @ design.T + penalty, (design * share) @ x)
            w[0] = 0
            out -= (design * share).T @ w
        z = unit(out)
    return out


def neighbors_of_other_batches(x: np.ndarray, batch: np.ndarray, k: int = 30) -> float:
    """Effective number of batches among the nearest neighbors, from 1: exp of mean entropy."""
    near = np.argsort(((x[:, None] - x[None]) ** 2).sum(axis=2), axis=1)[:, 1 : k + 1]
    share = np.eye(batch.max() + 1)[batch][near].mean(axis=1)
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=1)
    return float(np.exp(entropy.mean()))


def separation(x: np.ndarray, kinds: np.ndarray) -> float:
    """Variance between types as a share of all."""
    means = np.array([x[kinds == t].mean(axis=0) for t in range(TYPES)])
    within = ((x - means[kinds]) ** 2).sum()
    return float(1.0 - within / ((x - x.mean(axis=0)) ** 2).sum())


SIZES = {"a": 300, "b": 220, "c": 260}


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Harmony]:
    rows, kinds = planted_rows(SIZES)
    return rows, kinds, fitted(rows, tmp_path_factory.mktemp("harmony"))


def test_equals_the_published_algorithm(example: tuple[Any, Any, Harmony]) -> None:
    rows, kinds, model = example
    whole, batch = np.concatenate(list(rows.values())), np.repeat(range(3), list(SIZES.values()))
    ours, wanted = corrected(model, rows), in_memory(whole.astype(float), batch, OPTIONS)
    each = [np.corrcoef(ours[:, j], wanted[:, j])[0, 1] for j in range(D)]
    assert min(each) > 0.99
    kind = np.concatenate(list(kinds.values()))
    mixed = [neighbors_of_other_batches(x, batch) for x in (whole, wanted, ours)]
    assert mixed[2] > mixed[0] + 0.5
    assert mixed[2] > mixed[1] - 0.1
    assert separation(ours, kind) > separation(whole, kind)
    assert separation(ours, kind) > separation(wanted, kind) - 0.01


def test_blocks_do_not_matter(example: tuple[Any, Any, Harmony], tmp_path: Path) -> None:
    rows, _, model = example
    again = fitted(rows, tmp_path, block_rows=23)
    np.testing.assert_allclose(corrected(again, rows), corrected(model, rows), atol=1e-4)
    parts = [again.correct(rows["a"][k : k + 50], "a") for k in range(0, 300, 50)]
    np.testing.assert_allclose(np.concatenate(parts), again.correct(rows["a"], "a"), atol=1e-5)


def test_same_seed_same_bytes_and_no_files_stay(
    example: tuple[Any, Any, Harmony], tmp_path: Path
) -> None:
    rows, _, model = example
    again = fitted(rows, tmp_path)
    assert corrected(again, rows).tobytes() == corrected(model, rows).tobytes()
    assert not list(tmp_path.iterdir())


def test_sections_of_one_batch_are_one(tmp_path: Path) -> None:
    rows, _ = planted_rows(SIZES)
    halves = {"a1": rows["a"][:160], "a2": rows["a"][160:], "b": rows["b"]}
    model = fitted(halves, tmp_path, {"a1": "donor 1", "a2": "donor 1", "b": "donor 2"})
    assert model.batches == ("donor 1", "donor 2")


def test_a_new_batch_is_mapped_onto_the_clusters(tmp_path: Path) -> None:
    """Nearly as well as when it takes part; the others' correction does not change."""
    rows, kinds = planted_rows(SIZES)
    part = fitted({name: rows[name] for name in "ab"}, tmp_path)
    with pytest.raises(InvalidArgument, match="batch of a, b, but got 'c'"):
        part.correct(rows["c"], "c")
    mapped = part.with_batch("c", lambda: iter(np.array_split(rows["c"], 3)))
    assert mapped.correct(rows["a"], "a").tobytes() == part.correct(rows["a"], "a").tobytes()
    batch = np.repeat(range(3), list(SIZES.values()))
    before = np.concatenate([part.correct(rows["a"], "a"), part.correct(rows["b"], "b"), rows["c"]])
    after = corrected(mapped, rows)
    assert (
        neighbors_of_other_batches(after, batch) > neighbors_of_other_batches(before, batch) + 0.4
    )
    kind = np.concatenate(list(kinds.values()))
    assert separation(after, kind) > separation(before, kind)


def test_arrays_carry_the_correction(example: tuple[Any, Any, Harmony]) -> None:
    rows, _, model = example
    again = Harmony.from_weights(model.to_weights(), model.batches, model.options)
    assert corrected(again, rows).tobytes() == corrected(model, rows).tobytes()


def test_without_penalty_or_effects_little_moves(tmp_path: Path) -> None:
    """One population cut in two: nothing to correct but sampling noise."""
    rows, _ = planted_rows({"a": 600})
    halves = {"x": rows["a"][::2], "y": rows["a"][1::2]}
    model = fitted(halves, tmp_path)
    moved = corrected(model, halves) - np.concatenate([halves["x"], halves["y"]])
    assert np.sqrt((moved**2).mean()) < 0.15 * rows["a"].std()


def test_odd_rows_are_no_trouble(tmp_path: Path) -> None:
    """Rows of zeros, a batch of one row, fewer rows than piles."""
    rng = np.random.default_rng(0)
    rows = {"a": rng.normal(size=(30, 3)), "one": rng.normal(size=(1, 3)), "few": np.zeros((5, 3))}
    model = fitted(rows, tmp_path, options=HarmonyOptions(n_clusters=50))
    assert np.isfinite(corrected(model, rows)).all()


def test_bad_options_say_what_is_wanted(tmp_path: Path) -> None:
    rows, _ = planted_rows({"a": 40})
    with pytest.raises(InvalidArgument, match="at least two batches, but got 40 rows of a"):
        fitted(rows, tmp_path)
    with pytest.raises(InvalidArgument, match=r"sigma over 0, but got 0.*max_iter of at least 1"):
        HarmonyOptions(sigma=0.0, max_iter=0)
    with pytest.raises(InvalidArgument, match="n_clusters of at least 1, but got 0"):
        HarmonyOptions(n_clusters=0)


# -- in the plain model ----------------------------------------------------------------------


def test_the_plain_model_integrates_and_survives_saving(tmp_path: Path) -> None:
    raws = {
        name: planted(200, seed=k, batch=0.6, metadata={"donor": donor})
        for k, (name, donor) in enumerate({"a": "d1", "b": "d2", "new": "d3"}.items())
    }
    store = make_store(tmp_path, raws)
    options: dict[str, Any] = {"n_comps": 8, "n_hops": 2, "flavor": "seurat", "n_top_genes": 20}
    model = DomainBaseline(
        store, sections=["a", "b"], integrate="harmony", batch_key="donor", **options
    ).fit()
    plain = DomainBaseline(store, sections=["a", "b"], **options).fit()
    assert model.harmony is not None
    assert model.harmony.batches == ("d1", "d2")
    model.save("run")
    loaded = DomainBaseline.load(store, "run")
    # a section of a donor that took no part is embedded too
    for name in ("a", "new"):
        parts = []
        for each in (model, loaded, plain):
            with each.embedded([name]) as tables:
                table = tables[name][0]
                parts.append(table.read(0, table.n_rows))
        assert parts[0].tobytes() == parts[1].tobytes()
        assert np.abs(parts[0] - parts[2]).max() > 0.05
    with pytest.raises(InvalidArgument, match="batch_key='patient' in section 'a', but got none"):
        DomainBaseline(store, integrate="harmony", batch_key="patient").fit()
    with pytest.raises(InvalidArgument, match="one value of batch_key='kind'"):
        DomainBaseline(store, integrate="harmony", batch_key="kind").fit()
    with pytest.raises(InvalidArgument, match="integrate='combat'"):
        DomainBaseline(store, integrate="combat")
    with pytest.raises(InvalidArgument, match="flavor of variance, seurat_v3, seurat, but"):
        DomainBaseline(store, flavor="other")


def test_batches_are_checked_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    donors = {"a": "d1", "b": "d2", "same": "d1", "none": None}
    raws = {
        name: planted(60, seed=k, metadata={} if donor is None else {"donor": donor})
        for k, (name, donor) in enumerate(donors.items())
    }
    store = make_store(tmp_path, raws)
    options: dict[str, Any] = {"n_comps": 4, "n_hops": 1, "batch_key": "donor"}
    DomainBaseline(store, sections=["a", "b"], integrate="harmony", **options).fit().save("run")

    def work(*args: object, **more: object) -> Any:
        raise AssertionError

    monkeypatch.setattr("tisseract.models.lifecycle.fit_components", work)
    monkeypatch.setattr("tisseract.models.lifecycle.write_scores", work)
    with pytest.raises(InvalidArgument, match=r"two batches, but got batch_key='donor', .* d1 in"):
        DomainBaseline(store, sections=["a", "same"], integrate="harmony", **options).fit()
    with pytest.raises(InvalidArgument, match="'donor' in section 'none', but got none"):
        DomainBaseline(store, sections=["a", "b", "none"], integrate="harmony", **options).fit()
    with pytest.raises(InvalidArgument, match="'donor' in section 'none', but got none"):
        DomainBaseline.load(store, "run").embed("new", sections=["none"])


def test_a_run_is_loaded_whatever_became_of_its_sections(tmp_path: Path) -> None:
    raws = {name: planted(60, seed=k, metadata={"donor": name}) for k, name in enumerate("abc")}
    store = make_store(tmp_path, raws)
    options: dict[str, Any] = {"n_comps": 4, "n_hops": 1, "batch_key": "donor"}
    DomainBaseline(store, sections=["a", "b"], integrate="harmony", **options).fit().save("run")
    add_section(store, "a", planted(60, seed=4), replace=True)  # of no known donor
    loaded = DomainBaseline.load(store, "run")
    assert [entry.section for entry in loaded.embed("new", sections=["c"])] == ["c"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_iter", 2.5), ("n_clusters", 2.5), ("n_clusters", 0), ("theta", "2"), ("sigma", 0.0)],
)
def test_wrong_numbers_are_refused_at_once(
    fresh_store: AtlasStore, name: str, value: object
) -> None:
    option: Any = {name: value}
    with pytest.raises(InvalidArgument, match=rf"wanted a .*number .* but got {name}="):
        DomainBaseline(fresh_store, integrate="harmony", **option)
