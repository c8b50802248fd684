"""Embeddings, labels and scores that `bench_integration.py` compares."""

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tisseract.atlas.store import AtlasStore
from tisseract.models import DomainBaseline, DomainGNN, ari, jensen_shannon, lisi
from tisseract.models.components.pca import GramSum, principal_components
from tisseract.models.domains.labeling import RIDGE, STARTS
from tisseract.models.domains.mixture import Mixture
from tisseract.models.domains.mixture_fit import fit_mixture
from tisseract.models.domains.shifts import ROUNDS, fit_shifts, section_shifts
from tisseract.models.domains.smoothing import majority
from tisseract.models.genes.plan import locate_genes, section_blocks

UNLABELED = ("NA", "nan", "None", "", "undetermined")
ROWS = 4096

type Arrays = dict[str, np.ndarray]


class Fitted(NamedTuple):
    """What labels are read from."""

    mixture: Mixture
    shifts: Mapping[str, np.ndarray]


class Uncorrected(DomainBaseline):
    """The plain model without any correction: one mean for all sections, total variation."""

    def _fit(self, progress: Any) -> None:
        features, _ = self.fitted()
        sums = GramSum(features.n_genes)
        for section in map(self.store.section, self.section_names):
            where = locate_genes(section, features)
            for _, block in section_blocks(section, features, where, ROWS):
                sums.add(block)
        self.components = principal_components(sums.scatter(), sums.n_rows, self.n_comps)
        self.mean = sums.mean @ self.components.loadings

    def scores(self, section: Any, folder: Path, done: Any = None) -> Any:
        """Write the components of each cell, the section's own mean put back."""
        table = super().scores(section, folder, done)
        table.center(-self._own(section))
        return table

    def _embed(self, section: Any, folder: Path, done: Any) -> tuple[Any, Mapping[str, str]]:
        table, inputs = super()._embed(section, folder, done)  # it centers what it smoothed
        table.center(-np.tile(self._own(section), self.n_hops))
        return table, inputs

    def _own(self, section: Any) -> np.ndarray:
        """Mean of a section, from the mean of all."""
        features, components = self.fitted()
        where, sums = locate_genes(section, features), GramSum(features.n_genes)
        for _, block in section_blocks(section, features, where, ROWS):
            sums.total += np.asarray(block.sum(axis=0, dtype=np.float64)).ravel()
        return sums.total / section.n_obs @ components.loadings - self.mean


METHODS: dict[str, Callable[..., Any]] = {
    "uncorrected": Uncorrected,
    "plain": DomainBaseline,
    "harmony": partial(DomainBaseline, integrate="harmony"),
    "gnn": DomainGNN,
}


def model_of(method: str, store: AtlasStore, batch_key: str, options: Mapping[str, Any]) -> Any:
    """Return a model, not fitted; only the network takes the options."""
    more = {"batch_key": batch_key} if method == "harmony" else {}
    return partial(METHODS[method], store, **more, **(options if method == "gnn" else {}))


def arrays(model: Any, names: Iterable[str], *, cells: bool = False) -> Arrays:
    """Return the embedding of each section, or the components of each cell alone."""
    if not cells:
        with model.embedded(list(names)) as tables:
            return {name: t.read(0, t.n_rows) for name, (t, _) in tables.items()}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            with model.scores(model.store.section(name), Path(folder)) as table:
                found[name] = table.read(0, table.n_rows)
    return found


def readout_of(embedding: Arrays, k: int) -> Fitted:
    """Fit the mixture and the shifts that `find_domains` reads labels from."""
    n_rows = sum(map(len, embedding.values()))
    mixture = fit_mixture(
        lambda: iter(embedding.values()),
        k,
        n_rows=n_rows,
        covariance="tied",
        ridge=RIDGE,
        n_init=STARTS,
    )
    return Fitted(*fit_shifts(mixture, embedding.items, ridge=RIDGE))


def labels_of(model: Any, fitted: Fitted, embedding: Arrays) -> Arrays:
    """Return refined labels, as `find_domains` gives them; sections it never saw are placed."""
    unseen = {name: rows for name, rows in embedding.items() if name not in fitted.shifts}
    placed: dict[str, np.ndarray] = {}
    for _ in range(ROUNDS if fitted.shifts else 0):
        placed = section_shifts(fitted.mixture, unseen.items, placed)
    shifts, found = {**fitted.shifts, **placed}, {}
    for name, rows in embedding.items():
        graph = model.graph.open(model.store, name).graph
        codes, _ = fitted.mixture.assign(rows - shifts.get(name, 0.0))
        found[name] = majority(graph, codes, fitted.mixture.n_components)
    return found


def truths(store: AtlasStore, column: str) -> Arrays:
    """Return the labels of experts of the sections that have any; "" where there is none."""
    found = {}
    for name in store.section_names:
        section = store.section(name)
        if column in section.obs_columns:
            values = section.obs(columns=[column], index=False)[column].astype(str)
            found[name] = values.where(~values.isin(UNLABELED), "").to_numpy(dtype=str)
    return {name: values for name, values in found.items() if (values != "").any()}


def agreement(truth: Arrays, found: Arrays, names: Iterable[str]) -> float:
    """ARI with the experts, mean over sections."""
    each = [ari(truth[n][truth[n] != ""], found[n][truth[n] != ""]) for n in names]
    return float(np.mean(each))


def mixing(x: np.ndarray, batch: np.ndarray, n_neighs: int, sample: int = 2000) -> dict[str, float]:
    """Scaled iLISI, median and mean, and the mean with the batches of the cells shuffled."""
    score = partial(lisi, x, n_neighs=n_neighs, perplexity=n_neighs / 3, sample=sample)
    found, shuffled = score(batch), score(np.random.default_rng(0).permutation(batch))
    rest = found.n_labels - 1
    return {
        "ilisi": found.scaled,
        "ilisi_mean": (found.mean - 1) / rest,
        "ilisi_mean_shuffled": (shuffled.mean - 1) / rest,
    }


def contacts(graph: Any, codes: np.ndarray, k: int) -> np.ndarray:
    """Count neighbors by their two domains: how domains lie, whatever the frame of the section."""
    rows = graph.rows([(0, len(codes))]).tocoo()
    pair = np.sort([codes[rows.row], codes[rows.col]], axis=0)
    return np.bincount(pair[0] * k + pair[1], minlength=k * k)


def siblings(model: Any, found: Arrays, k: int) -> dict[str, float]:
    """Mean divergence of domains, and of their contacts, within and between patients."""
    graphs = {n: model.graph.open(model.store, n).graph for n in found}
    tables = {
        "shares": {n: np.bincount(codes, minlength=k) for n, codes in found.items()},
        "contacts": {n: contacts(graphs[n], codes, k) for n, codes in found.items()},
    }
    result = {}
    for what, table in tables.items():
        apart: dict[bool, list[float]] = {True: [], False: []}
        for i, left in enumerate(table):
            for right in list(table)[:i]:
                apart[left[0] == right[0]].append(jensen_shannon(table[left], table[right]))
        result[f"{what}_jsd_siblings"] = float(np.mean(apart[True]))
        result[f"{what}_jsd_strangers"] = float(np.mean(apart[False]))
    return result


def told(
    x: Arrays, domains: Arrays, truth: Arrays, train: Sequence[str], held: Sequence[str]
) -> dict[str, np.ndarray]:
    """Return (expert, told) labels of held-out cells whose label the others have, told by each way.

    `probe`: a linear classifier on the embedding, classes balanced. `domains`: the most frequent
    label of each domain. Both see the labels of `train` alone; a domain without any gets "".
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def labeled(table: Arrays, names: Sequence[str]) -> np.ndarray:
        return np.concatenate([table[n][truth[n] != ""] for n in names])

    known, expert = labeled(truth, train), labeled(truth, held)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced"))
    probe.fit(labeled(x, train), known)
    seen, own = labeled(domains, train), labeled(domains, held)
    names, codes = np.unique(known, return_inverse=True)
    frequent = {d: names[np.bincount(codes[seen == d]).argmax()] for d in np.unique(seen)}
    by_domain = np.array([frequent.get(d, "") for d in own])
    scored = np.isin(expert, known)
    answers = {"probe": probe.predict(labeled(x, held)), "domains": by_domain}
    return {way: np.stack([expert[scored], found[scored]]) for way, found in answers.items()}


def score_told(pairs: Sequence[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """Agreement with the experts and macro-F1 of each way, over the cells of some folds."""
    from sklearn.metrics import f1_score

    scores = {}
    for way in pairs[0]:
        expert, found = np.concatenate([p[way] for p in pairs], axis=1)
        f1 = f1_score(expert, found, labels=np.unique(expert), average="macro", zero_division=0)
        scores[f"{way}_agreement"] = float((expert == found).mean())
        scores[f"{way}_macro_f1"] = float(f1)
    return scores
