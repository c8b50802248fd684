"""Peak memory of statistics, measured in fresh processes: it must not grow with the edges."""

import json
import subprocess
import sys

import pytest

MIB = 2**20
CELLS = 300_000

# A ring: cell i is beside the degree / 2 cells before and after it. Blocks hold equal numbers of
# edges, as those of a plan do.
CHILD = """
import json, resource, sys
from importlib import import_module
import numpy as np
from scipy.sparse import csc_matrix
from tisseract.atlas.graph.edges import Edges
from tisseract.atlas.panel import Panel
from tisseract.atlas.spatial_statistics import *
from tisseract.atlas.spatial_statistics.labels import Labels
from tisseract.atlas.statistics import GeneTotals

class Ring:
    def __init__(self, n, degree):
        half = np.arange(1, degree // 2 + 1)
        self.n_obs, self.offsets = n, np.concatenate([-half, half])
        step = 2**18 // degree
        self.row_ptr = (*range(0, n, step), n)

    def edges(self, runs):
        (start, stop), = runs
        columns = (np.arange(start, stop)[:, None] + self.offsets) % self.n_obs
        indices = np.sort(columns, axis=1).astype(np.int32).ravel()
        indptr = np.arange(0, indices.size + 1, self.offsets.size)
        return Edges(indptr, indices, np.ones(indices.size, np.float32))

class Cells:
    name, values, n_vars = "cells", "counts", 8
    panel = Panel.of([f"Gene{g}" for g in range(8)])

    def __init__(self, n):
        self.n_obs = n
        one = np.full(8, n // 10)
        self.totals = GeneTotals(one, one, one, one)

    def gene_columns(self, genes):
        rng = np.random.default_rng(int(genes[0]))
        cells = [np.sort(rng.choice(self.n_obs, self.n_obs // 10, False)) for _ in genes]
        ptr = np.arange(len(genes) + 1) * (self.n_obs // 10)
        data = np.ones(ptr[-1], np.float32)
        return csc_matrix((data, np.concatenate(cells), ptr), shape=(self.n_obs, len(genes)))

def labels_of(section, column, kept=None):
    return Labels(np.arange(section.n_obs, dtype=np.int32) * 7919 % 5, tuple("abcde"))

import_module("tisseract.atlas.spatial_statistics.enrichment").read_labels = labels_of

def everything(n, degree):
    graph, section = Ring(n, degree), Cells(n)
    degree_histogram(graph, threads=2)
    edge_length_histogram(graph, threads=2)
    assert connected_components(graph, threads=2).n_components == 1
    spatial_autocorrelation(graph, section, threads=2)
    neighborhood_enrichment(graph, section, "label", n_perms=3, threads=2)
    neighborhood_enrichment(graph, section, "label", n_perms=None, threads=2)

everything(2000, 4)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
everything(int(sys.argv[1]), int(sys.argv[2]))
print(json.dumps(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)))
"""


def peak(degree: int) -> int:
    command = [sys.executable, "-c", CHILD, str(CELLS), str(degree)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(json.loads(done.stdout))


@pytest.mark.slow
@pytest.mark.memory
def test_peak_does_not_grow_with_the_edges() -> None:
    few, many = peak(4), peak(64)
    edges = 60 * CELLS * 8  # bytes of the edges that only the second graph has
    assert many <= few + edges / 8
    assert few <= 48 * CELLS + 64 * MIB  # bytes a cell, and the blocks in work
