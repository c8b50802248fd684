"""How often the number of planted components is found, by their distance.

    python benchmarks/bench_number.py

Mixtures of 3 to 10 round components in 8 dimensions, 1,200 rows, two seeds each; the distance is
the standard deviation of their means over that of a component. One core, about two minutes.
"""

import argparse

import numpy as np

from tisseract.models import choose_number
from tisseract.models.domains.labeling import RIDGE

DISTANCES = (3.0, 2.0, 1.5)
COMPONENTS = range(3, 11)
SEEDS = 2
N, D = 1200, 8
NUMBERS = (2, 14)


def planted(k: int, distance: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, k])
    means = rng.normal(size=(k, D)) * distance
    return np.asarray(means[rng.integers(0, k, N)] + rng.normal(size=(N, D)))


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    exact = near = 0
    for distance in DISTANCES:
        off = []
        for k in COMPONENTS:
            for seed in range(SEEDS):
                x = planted(k, distance, seed)
                rows = [x]
                found = choose_number(
                    lambda rows=rows: rows, n_rows=N, numbers=NUMBERS, ridge=RIDGE, seed=seed
                )
                off.append(found.n_domains - k)
        hits, ones = sum(d == 0 for d in off), sum(abs(d) == 1 for d in off)
        print(f"distance {distance}: {hits} of {len(off)} found, {ones} off by one", flush=True)
        exact, near = exact + hits, near + ones
    total = len(DISTANCES) * len(COMPONENTS) * SEEDS
    print(f"all: {exact} of {total} found, {near} off by one")


if __name__ == "__main__":
    main()
