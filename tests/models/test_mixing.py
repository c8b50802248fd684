"""Mixing of batches, against a transcription of the published formula and scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas.errors import InvalidArgument
from tisseract.models.metrics.mixing import lisi
from tisseract.models.metrics.silhouettes import batch_asw, label_asw


def published_lisi(x: np.ndarray, labels: list[int], k: int, perplexity: float) -> list[float]:
    """One cell at a time: weights exp(-beta d) of the wanted entropy; 1 / sum of squared shares."""
    found = []
    for i in range(len(x)):
        near = sorted((math.dist(x[i], x[j]), j) for j in range(len(x)) if j != i)[:k]
        beta, low, high = 1.0, -math.inf, math.inf
        weights: list[float] = []
        for _ in range(51):
            raw = [math.exp(-beta * d) for d, _ in near]
            total = sum(raw)
            weights = [w / total for w in raw]
            entropy = -sum(w * math.log(w) for w in weights if w > 0)
            gap = entropy - math.log(perplexity)
            if abs(gap) < 1e-5:
                break
            if gap > 0:
                low = beta
                beta = beta * 2 if math.isinf(high) else (beta + high) / 2
            else:
                high = beta
                beta = beta / 2 if math.isinf(low) else (beta + low) / 2
        shares: dict[int, float] = {}
        for weight, (_, j) in zip(weights, near, strict=True):
            shares[labels[j]] = shares.get(labels[j], 0.0) + weight
        found.append(1.0 / sum(share**2 for share in shares.values()))
    return found


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 99), n_labels=st.integers(2, 5), scale=st.sampled_from([0.1, 1.0, 20.0]))
def test_lisi_is_the_published_one(seed: int, n_labels: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 3)) * scale
    labels = np.concatenate([np.arange(n_labels), rng.integers(0, n_labels, 60 - n_labels)])
    found = lisi(x, labels, n_neighs=21, perplexity=7.0)
    wanted = published_lisi(x, labels.tolist(), 21, 7.0)
    np.testing.assert_allclose(found.values, wanted, rtol=2e-4)  # where bisections may stop
    assert found.median == pytest.approx(float(np.median(wanted)), rel=2e-4)


def test_lisi_of_mixed_and_of_parted_batches() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 2))
    batch = np.repeat(["s", "t", "u"], 200)
    mixed = lisi(x, batch)
    assert mixed.scaled > 0.85
    assert mixed.values.min() >= 1.0
    assert mixed.values.max() <= 3.0
    x[batch == "t"] += 50.0
    x[batch == "u"] -= 50.0
    parted = lisi(x, batch)
    assert parted.scaled == pytest.approx(0.0, abs=1e-12)
    assert parted.scaled_apart == pytest.approx(1.0)


def test_lisi_at_one_place_is_the_plain_count() -> None:
    """Equal distances weigh alike whatever beta: 45 and 45 of 90 neighbors is 2 labels."""
    labels = ["a"] * 46 + ["b"] * 45
    found = lisi(np.zeros((91, 2)), labels)
    assert found.values[0] == pytest.approx(2.0)
    share = 46 / 90
    assert found.values[-1] == pytest.approx(1 / (share**2 + (1 - share) ** 2))


def test_a_sample_gives_the_values_of_its_cells() -> None:
    rng = np.random.default_rng(2)
    x, labels = rng.normal(size=(300, 4)), rng.integers(0, 3, 300)
    whole, part = lisi(x, labels), lisi(x, labels, sample=40, seed=7)
    assert (part.sample, part.seed, part.n_cells, len(part.rows)) == (40, 7, 300, 40)
    assert (whole.sample, whole.seed) == (None, None)
    np.testing.assert_allclose(part.values, whole.values[part.rows], rtol=1e-12)
    widths, some = label_asw(x, labels), label_asw(x, labels, sample=40, seed=7)
    np.testing.assert_allclose(some.values, widths.values[some.rows], rtol=1e-9)
    assert (some.sample, some.seed) == (40, 7)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 99), n_labels=st.integers(2, 6))
def test_silhouettes_equal_scikit_learn(seed: int, n_labels: int) -> None:
    from sklearn.metrics import silhouette_samples, silhouette_score

    rng = np.random.default_rng(seed)
    x = rng.normal(size=(40, 3)) + 100.0
    labels = np.concatenate([np.arange(n_labels), rng.integers(0, n_labels - 1, 40 - n_labels)])
    found = label_asw(x, labels)
    np.testing.assert_allclose(found.values, silhouette_samples(x, labels), atol=1e-9)
    assert found.asw == pytest.approx(silhouette_score(x, labels), abs=1e-9)
    assert found.scaled == pytest.approx((found.asw + 1) / 2)


def test_batch_width_is_that_of_scib() -> None:
    from sklearn.metrics import silhouette_samples

    rng = np.random.default_rng(3)
    x = rng.normal(size=(120, 3))
    labels, batches = rng.integers(0, 4, 120), rng.integers(0, 3, 120)
    x[batches == 0] += 1.0
    batches[labels == 3] = 1
    found = batch_asw(x, batches, labels)
    wanted = {}
    for label in range(3):
        here = labels == label
        wanted[str(label)] = np.mean(1 - np.abs(silhouette_samples(x[here], batches[here])))
    assert found.by_label == pytest.approx(wanted)
    assert found.asw == pytest.approx(np.mean(list(wanted.values())))
    assert found.left_out == ("3",)
    assert found.sample is None
    part = batch_asw(x, batches, labels, sample=10, seed=1)
    assert (part.sample, part.seed) == (10, 1)
    assert part.by_label == pytest.approx(wanted, abs=0.15)


def test_batches_at_one_place_are_mixed() -> None:
    assert batch_asw(np.ones((6, 2)), [0, 1] * 3, ["a"] * 6).asw == 1.0


def test_wrong_calls() -> None:
    x = np.zeros((200, 2))
    batch = np.arange(200) % 2
    with pytest.raises(InvalidArgument, match="two labels or more to see them mix, but got 1"):
        lisi(x, np.zeros(200))
    with pytest.raises(InvalidArgument, match=r"more than 90 cells.*got 50"):
        lisi(x[:50], batch[:50])
    with pytest.raises(InvalidArgument, match="below the 90 neighbors, but got 90"):
        lisi(x, batch, perplexity=90)
    with pytest.raises(InvalidArgument, match=r"each of 200 cells, but got shape \(3,\)"):
        lisi(x, [0, 1, 0])
    with pytest.raises(InvalidArgument, match="wanted two batches or more, but got 1"):
        batch_asw(x, np.zeros(200), batch)
    with pytest.raises(InvalidArgument, match="cells of two batches, but got none among 2"):
        batch_asw(x, batch, batch)
    with pytest.raises(InvalidArgument, match=r"two labels or more.*but got 1"):
        label_asw(x, np.zeros(200))
    with pytest.raises(InvalidArgument, match="fewer than the 200 cells, but got 200"):
        label_asw(x, np.arange(200))
    with pytest.raises(InvalidArgument, match=r"\(cells, columns\) of rows, but got shape \(200,"):
        label_asw(x[:, 0], batch)
    x[7, 1] = np.nan
    with pytest.raises(InvalidArgument, match="infinity in 1 of 200, the first at row 7"):
        lisi(x, batch)
    with pytest.raises(InvalidArgument, match="infinity in 1 of 200"):
        batch_asw(x, batch, np.zeros(200))
