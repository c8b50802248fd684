"""How shares of domains change over time or condition, with replicates as the unit."""

from dataclasses import dataclass, field
from itertools import combinations, product
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ..filters.columns import Columns

if TYPE_CHECKING:
    import pandas as pd

    from .view import DomainView

__all__ = ["DomainChange", "change_of"]

# Cells added to every count before the logarithm of a share: a domain may be absent.
_PRIOR = 0.5
_MOST_ARRANGEMENTS = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class DomainChange:
    """Shares of domains in each replicate, and tests between the levels of a column."""

    values: "pd.DataFrame" = field(repr=False)
    """One row a replicate, level and domain: `n`, `fraction`, `clr`."""
    tests: "pd.DataFrame"
    """One row a domain and pair of levels: `difference` of mean CLR, `p`, `p_adj`, ..."""
    paired: bool
    """Whether every replicate has all levels, so that levels are exchanged within replicates."""
    smallest_p: float
    """Smallest p that any of these tests can give."""


def change_of(
    view: "DomainView", over: str, replicate: str, *, where: str | None, all_cells: bool, seed: int
) -> DomainChange:
    """Compare shares between levels; see `DomainView.change`."""
    import pandas as pd
    from scipy.stats import false_discovery_control

    values = _values(view, over, replicate, where=where, all_cells=all_cells)
    levels = list(dict.fromkeys(values[over]))
    units = values.groupby([replicate], observed=True)[over].nunique()
    if len(levels) < 2:
        raise InvalidArgument(
            f"two or more values are wanted for over={over!r}, but got "
            f"{', '.join(map(str, levels))}"
        )
    paired = bool((units == len(levels)).all()) and len(units) > 1
    if not paired and (units > 1).any():
        raise InvalidArgument(
            f"replicates with one value of {over!r} each, or with all of them, are wanted, but "
            f"{', '.join(map(str, units.index[units > 1][:3]))} have several; name another "
            "replicate=, or leave sections out with within()"
        )
    wide: Any = values.pivot_table("clr", [replicate, over], "domain", observed=True, sort=False)
    rows: list[dict[str, Any]] = []
    for first, second in combinations(levels, 2):
        left, right = (wide.xs(level, level=over) for level in (first, second))
        if paired:
            right = right.loc[left.index]
        rows += _pair(left, right, (first, second), paired=paired, seed=seed)
    tests = pd.DataFrame(rows)
    known = tests["p"].notna()
    tests["p_adj"] = np.nan
    if known.any():
        tests.loc[known, "p_adj"] = false_discovery_control(tests.loc[known, "p"])
    smallest = float(tests["smallest_p"].min())
    values.attrs = tests.attrs = {
        "key": view.key,
        "over": over,
        "replicate": replicate,
        "transform": f"CLR of (n + {_PRIOR}) of each replicate",
        "test": "difference of mean CLR, two-sided permutation of replicates",
        "where": where,
        "snapshot": view.store.snapshot.number,
    }
    return DomainChange(values, tests, paired, smallest)


def _values(
    view: "DomainView", over: str, replicate: str, *, where: str | None, all_cells: bool
) -> "pd.DataFrame":
    """Cells, share and CLR of every domain in every replicate and level."""
    import pandas as pd

    by = list(dict.fromkeys([replicate, over]))
    if len(by) < 2:
        raise InvalidArgument(f"another column than over={over!r} is wanted for replicate=")
    table = view.composition(by, where=where, all_cells=all_cells)
    lacking = [name for name in by if table[name].isna().any()]
    if lacking:
        raise InvalidArgument(
            f"a value of {lacking[0]!r} in every section is wanted, but some have none; choose "
            "sections with within(), or name another column"
        )
    order = Columns(view.store).resolve(over).order or sorted(table[over].unique())
    counts = table.pivot_table("n", by, "domain", aggfunc="sum", fill_value=0, observed=True)
    counts = counts.reindex(columns=[n for n in view.names if n in counts.columns])
    log = np.log(counts.to_numpy(dtype=np.float64) + _PRIOR)
    clr = pd.DataFrame(log - log.mean(axis=1, keepdims=True), counts.index, counts.columns)
    shares = counts.div(counts.sum(axis=1), axis=0)
    long = pd.concat(
        {"n": counts.stack(), "fraction": shares.stack(), "clr": clr.stack()}, axis=1
    ).reset_index()
    rank = {value: number for number, value in enumerate(order)}
    return long.sort_values(
        over, key=lambda column: column.map(rank), kind="stable", ignore_index=True
    )


def _pair(
    left: "pd.DataFrame",
    right: "pd.DataFrame",
    levels: tuple[Any, Any],
    *,
    paired: bool,
    seed: int,
) -> list[dict[str, Any]]:
    """Test all domains between two levels."""
    a, b = left.to_numpy(), right.to_numpy()
    found = b.mean(axis=0) - a.mean(axis=0)
    drawn, exact = _arrangements(a, b, paired=paired, seed=seed)
    # Arrangements as extreme as the true one but for rounding count as such.
    extreme = np.abs(drawn) >= np.abs(found) * (1 - 1e-9) - 1e-12
    hits, total = extreme.sum(axis=0), len(drawn)
    p = hits / total if exact else (hits + 1) / (total + 1)
    smallest = _smallest(len(a), len(b), paired=paired) if exact else 1 / (total + 1)
    able = min(len(a), len(b)) > 1
    return [
        {
            "domain": domain,
            "from": levels[0],
            "to": levels[1],
            "difference": float(found[k]),
            "p": float(p[k]) if able else float("nan"),
            "smallest_p": smallest if able else float("nan"),
            "n_from": len(a),
            "n_to": len(b),
        }
        for k, domain in enumerate(left.columns)
    ]


def _smallest(n: int, m: int, *, paired: bool) -> float:
    """Smallest p of a two-sided permutation test of means; its mirror image is as extreme."""
    if paired:
        return float(min(1.0, 2.0 / 2**n))
    return (2.0 if n == m else 1.0) / comb(n + m, n)


def _arrangements(
    a: NDArray[np.float64], b: NDArray[np.float64], *, paired: bool, seed: int
) -> tuple[NDArray[np.float64], bool]:
    """Differences of means (k, domains) under all arrangements of labels, or under 10,000."""
    rng = np.random.default_rng(seed)
    n, m = len(a), len(b)
    if paired:
        exact = 2**n <= _MOST_ARRANGEMENTS
        signs = (
            np.array(list(product((1.0, -1.0), repeat=n)))
            if exact
            else rng.choice([1.0, -1.0], (_MOST_ARRANGEMENTS, n))
        )
        return signs @ (b - a) / n, exact
    both = np.concatenate([a, b])
    exact = comb(n + m, m) <= _MOST_ARRANGEMENTS
    if exact:
        chosen = np.array(list(combinations(range(n + m), m)))
    else:
        chosen = np.argsort(rng.random((_MOST_ARRANGEMENTS, n + m)), axis=1)[:, :m]
    pick = np.zeros((len(chosen), n + m))
    np.put_along_axis(pick, chosen, 1.0, axis=1)
    total = both.sum(axis=0)
    inside = pick @ both
    return inside / m - (total - inside) / n, exact
