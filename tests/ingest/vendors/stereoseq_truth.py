"""What the Stereo-seq tests compare with: one tissue, its bins by pandas alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tisseract.ingest.reader import ReadOptions
from tisseract.ingest.source import NumericValues, RawSection
from tisseract.ingest.vendors.stereoseq import StereoSeqReader

from ...contracts import matrix_of
from . import stereoseq_bundle as bundle
from .tissue import SimTissue

READER = StereoSeqReader()
TISSUE = SimTissue(120, n_genes=40, mean_counts=30, seed=1)
CELLS = ReadOptions(reader_kwargs={"bin_size": "cell"})


def size(n: int, **more: Any) -> ReadOptions:
    return ReadOptions(reader_kwargs={"bin_size": n, **more})


def binned(n: int) -> pd.DataFrame:
    """Counts by bin and gene, with pandas alone."""
    rows = bundle.all_rows(TISSUE)
    table = pd.DataFrame({"x": rows.x // n, "y": rows.y // n, "gene": rows.gene, "n": rows.count})
    found = table.pivot_table(index=["x", "y"], columns="gene", values="n", aggfunc="sum")
    return found.reindex(columns=range(TISSUE.n_genes)).fillna(0).astype(int)


def dense(raw: RawSection) -> Any:
    """Matrix with genes in the order of the tissue."""
    names = list(TISSUE.gene_names)
    if raw.panel.gene_id[0].startswith("ENSMUSG"):
        names = bundle.gene_ids(TISSUE)
    place = {str(name): k for k, name in enumerate(raw.panel.gene_id)}
    matrix = matrix_of(raw).toarray()
    filled = np.zeros((raw.n_obs, len(names)), int)
    for k, name in enumerate(names):
        if name in place:
            filled[:, k] = matrix[:, place[name]]
    return filled


def numbers(raw: RawSection, name: str) -> Any:
    values = raw.obs[name].read()
    assert isinstance(values, NumericValues)
    return values.values
