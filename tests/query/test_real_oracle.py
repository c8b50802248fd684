"""Five hundred generated questions to an atlas of real and simulated tissue, against brute force.

Filters of every kind, places, genes and labels are drawn at random; each answer must have the same
cells in the same order with the same values as all cells loaded by anndata and asked in numpy.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import shapely

from tisseract.atlas.derived import Provenance, tile_histogram, write_derived
from tisseract.atlas.snapshot import Change
from tisseract.atlas.store import AtlasStore, open_store
from tisseract.ingest import ingest
from tisseract.query import place, select
from tisseract.query.filters.predicate import (
    And,
    Compare,
    In,
    Not,
    Null,
    Or,
    Predicate,
    StringTest,
)
from tisseract.simulator import SimulationPlan, simulate

from .brute_force import Cells, Kleene, Values, both, either

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    # Sections hold other values than a gene's unit, or answers are empty: told, and meant here.
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
N_QUESTIONS = 500
LABELS = ("zone a", "zone b", "zone 'c'")
META = ("section", "donor", "organism", "technology", "tissue", "timepoint")
OBS = ("layer", "label", "cell_type", "Region", "ClusterName", "Cell_class", "prob", "fov", "z")
GENES = ("ERBB2", "Slc17a7", "Gad1", "Gfap", "ENSG00000197971", "Niche01", "KRT19", "Sox2")
COMPARES: dict[str, Callable[[Any, Any], Any]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
TEXTS: dict[str, Callable[[str, str], bool]] = {
    "startswith": str.startswith,
    "endswith": str.endswith,
    "contains": str.__contains__,
}


@pytest.fixture(scope="module")
def store(real_atlas: Path, tmp_path_factory: pytest.TempPathFactory) -> AtlasStore:
    """The real sections (linked, not copied), four simulated ones, and labels of every third."""
    folder = tmp_path_factory.mktemp("oracle")
    shutil.copytree(real_atlas, folder / "atlas", copy_function=os.link)
    plan = SimulationPlan(seed=5, n_cells=2000, timepoints=("E10.5", "E11.5"))
    sheet = simulate(plan, folder / "raw").sheet
    rows = pd.read_csv(sheet, dtype=str)  # ages of mice and days of an experiment have no order
    rows = rows.drop(columns=[name for name in rows.columns if str(name).startswith("time")])
    rows.to_csv(sheet, index=False)
    ingest(sheet, folder / "atlas", n_workers=1)
    opened = open_store(folder / "atlas", read_only=False)
    rng = np.random.default_rng(0)
    entries = []
    for name in opened.section_names[::3]:
        section = opened.section(name)
        stripe = np.digitize(
            section.positions()[:, 0], np.quantile(section.positions()[:, 0], [0.4, 0.7])
        )
        codes = np.where(rng.random(section.n_obs) < 0.05, -1, stripe).astype(np.int16)
        arrays: dict[str, np.ndarray[Any, Any]] = {
            "codes": codes,
            "confidence": np.ones(section.n_obs, np.float32),
            "tile_hist": tile_histogram(codes, section.tiles.ptr, len(LABELS)),
        }
        facts = {"categories": list(LABELS)}
        origin = Provenance({f"section:{name}": section.attempt}, {})
        entries.append(
            write_derived(
                opened,
                "domains",
                "zone",
                name,
                arrays=arrays,
                attrs=facts,
                provenance=origin,
                info=facts,
            )
        )
    opened.commit(Change(add_derived=entries), "zones")
    return open_store(folder / "atlas")


@pytest.fixture(scope="module")
def cells(store: AtlasStore) -> Cells:
    return Cells.of(store)


class Questions:
    """Draws questions, and answers them by brute force."""

    def __init__(self, cells: Cells, seed: int) -> None:
        self.cells, self.rng = cells, np.random.default_rng(seed)
        self._columns: dict[str, Values] = {}
        self.look_at(slice(None))

    def look_at(self, rows: slice) -> None:
        """Draw what filters compare with from these cells, so that answers are seldom empty."""
        self.rows = np.arange(len(self.cells.table))[rows]

    def values(self, name: str) -> Values:
        """The column of a name as a filter spells it."""
        if name not in self._columns:
            source, _, key = name.partition(":")
            if source in ("counts", "log1p"):
                self._columns[name] = Values.of(self.cells.gene(key, source))
            elif name == "section":
                self._columns[name] = Values.of(self.cells.section)
            else:
                self._columns[name] = Values.of(self.cells.column(source, key))
        return self._columns[name]

    def name(self) -> str:
        """A column as a filter spells it."""
        draw = self.rng.random()
        if draw < 0.25:
            return str(self.rng.choice(["counts", "log1p"])) + f":{self.rng.choice(GENES)}"
        if draw < 0.5:
            name = str(self.rng.choice(META))
            return name if name == "section" else f"meta:{name}"
        return "domains:zone" if draw < 0.65 else f"obs:{self.rng.choice(OBS)}"

    def leaf(self) -> tuple[Predicate, Kleene]:
        """One test on one column that cells of some section have, and its answer."""
        rows = self.rows[self.rng.integers(len(self.rows), size=50)]
        name, known = "section", list(self.values("section").at(rows))
        for _ in range(20):
            drawn = self.name()
            seen = [value for value in self.values(drawn).at(rows) if value is not None]
            if seen:
                name, known = drawn, seen
                break
        values = self.values(name)
        if self.rng.random() < 0.08:
            return Null(name), (values.missing, ~values.missing)
        return self.test(name, values, [_plain(v) for v in self.rng.choice(known, 4)])

    def test(self, name: str, values: Values, some: list[Any]) -> tuple[Predicate, Kleene]:
        """A comparison, a list or a look at text."""
        draw = self.rng.random()
        if name.startswith("log1p:"):
            # The last bit of a logarithm is nobody's: thresholds lie between values.
            op, bound = str(self.rng.choice(["<", ">="])), float(some[0]) + 1e-4
            return Compare(name, cast("Any", op), bound), values.ask(
                lambda v: COMPARES[op](v, bound).astype(bool)
            )
        if draw < 0.35:
            return In(name, tuple(dict.fromkeys(some))), values.ask(
                lambda v: np.isin(v.astype(type(some[0])), some)
            )
        if isinstance(some[0], str):
            if draw < 0.6:
                how = str(self.rng.choice(list(TEXTS)))
                part = some[0][: 1 + int(self.rng.integers(3))]
                return StringTest(name, cast("Any", how), part), values.ask(
                    lambda v: np.array([TEXTS[how](x, part) for x in v], dtype=bool)
                )
            op = str(self.rng.choice(["==", "!="]))
        else:
            op = str(self.rng.choice(list(COMPARES)))
        return Compare(name, cast("Any", op), some[0]), values.ask(
            lambda v: COMPARES[op](v, some[0]).astype(bool)
        )

    def predicate(self, depth: int = 2) -> tuple[Predicate, Kleene]:
        """A tree of tests."""
        draw = self.rng.random()
        if depth == 0 or draw < 0.4:
            return self.leaf()
        if draw < 0.55:
            inner, (yes, no) = self.predicate(depth - 1)
            return Not(inner), (no, yes)
        parts = [self.predicate(depth - 1) for _ in range(int(self.rng.integers(2, 4)))]
        kind, join = (And, both) if draw < 0.8 else (Or, either)
        return kind(tuple(p for p, _ in parts)), join([k for _, k in parts])

    def place(self, rows: slice) -> dict[str, Any]:
        """A box, circle or polygon through positions of cells of a section."""
        xy = self.cells.table[["x", "y"]].to_numpy()[rows]
        some = xy[self.rng.integers(len(xy), size=6)]
        low, high = some[:2].min(axis=0), some[:2].max(axis=0)
        draw = self.rng.random()
        if draw < 0.4:
            return {"bbox": (*low.tolist(), *high.tolist())}
        if draw < 0.6:
            return {"circle": (*some[0].tolist(), float(np.hypot(*(some[1] - some[0]))))}
        hull = shapely.convex_hull(shapely.MultiPoint(some))
        if hull.geom_type != "Polygon":
            return {"bbox": (*low.tolist(), *high.tolist())}
        hole = shapely.affinity.scale(hull, 0.3, 0.3)
        return {"polygon": hull.difference(hole) if draw < 0.8 else hull}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def test_answers_equal_brute_force(store: AtlasStore, cells: Cells) -> None:
    questions = Questions(cells, seed=20)
    found = n_empty = 0
    for number in range(N_QUESTIONS):
        name = str(questions.rng.choice(list(cells.rows)))
        questions.look_at(cells.rows[name])
        predicate, (yes, _) = questions.predicate()
        options: dict[str, Any] = {}
        if number % 2:
            where = questions.place(cells.rows[name])
            known = store.section(name).um_per_unit is not None
            options = {
                "section": name,
                "region": place(
                    bbox=where.get("bbox"),
                    circle=where.get("circle"),
                    polygon_like=where.get("polygon"),
                ),
                "units": "um" if known else "source",
            }
            yes = yes & (cells.section == name) & cells.inside(where)
        asked = predicate if number % 3 else str(predicate)
        answer = select(store, asked, **options)
        rows = np.flatnonzero(yes)
        context = f"question {number}: {predicate} {options}"
        assert answer.n_obs == len(rows), context
        if number % 10 == 0:  # the plan counts the genes of the answer, which takes longer
            assert len(rows) <= answer.n_obs_bound, context
        check_answer(questions, answer, rows, context)
        found += len(rows)
        n_empty += not len(rows)
    # Questions that find nothing, or everything, would prove little.
    assert n_empty < N_QUESTIONS / 2
    assert found > 100 * N_QUESTIONS


def check_answer(questions: Questions, answer: Any, rows: Any, context: str) -> None:
    """Compare cells, order, columns and, of small answers, all counts."""
    cells = questions.cells
    names = [f"obs:{questions.rng.choice(OBS)}", "domains:zone", "donor"]
    table = answer.to_obs(names)
    assert table.index.equals(cells.table.index[rows]), context
    assert (table["section"].astype(object).to_numpy() == cells.section[rows]).all(), context
    for name in names:
        wanted = questions.values(name if ":" in name else f"meta:{name}").at(rows)
        got = table[name].astype(object)
        got = got.where(got.notna(), None).to_numpy(dtype=object)
        assert np.array_equal(got, wanted), f"{context} {name}"
    if not 0 < len(rows) <= 400 or questions.rng.random() < 0.5:
        return
    for name in dict.fromkeys(cells.section[rows]):
        whole = cells.tables[name]
        here = rows[cells.section[rows] == name] - cells.rows[name].start
        part = answer.only([name]).to_anndata(missing="zero")
        wanted = cast("Any", whole.X)[here].toarray().astype(np.float32)
        dense = part.X.toarray()
        position = {gene: i for i, gene in enumerate(part.var_names)}
        mapped = [position.get(str(g), position.get(str(i))) for g, i in _names(whole)]
        kept = [i for i, m in enumerate(mapped) if m is not None]
        assert kept, context
        assert (dense[:, [mapped[i] for i in kept]] == wanted[:, kept]).all(), context
        assert np.count_nonzero(dense) == np.count_nonzero(wanted), context


def _names(table: Any) -> list[tuple[str, str]]:
    return list(zip(table.var_names, table.var["gene_id"], strict=True))
