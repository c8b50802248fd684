"""Graphs whose cells were chosen by labels are stale once the labels are replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tisseract as ts
from tisseract.atlas.derived import Provenance, tile_histogram, write_derived
from tisseract.atlas.errors import StaleDerived
from tisseract.atlas.snapshot import Change, DerivedEntry
from tisseract.query.filters.masks import derived_inputs

from ..sections import make_raw, make_store


def label(atlas: ts.Atlas, seed: int) -> DerivedEntry:
    """Replace the labels `dom` of a section."""
    section = atlas.section("s1")
    codes = np.random.default_rng(seed).integers(0, 2, section.n_obs).astype(np.int16)
    entry = write_derived(
        atlas,
        "domains",
        "dom",
        "s1",
        arrays={
            "codes": codes,
            "confidence": np.ones(section.n_obs, np.float32),
            "tile_hist": tile_histogram(codes, section.tiles.ptr, 2),
        },
        attrs={"categories": ["in", "out"]},
        provenance=Provenance({"section:s1": section.attempt}, {}),
        info={"categories": ["in", "out"]},
    )
    atlas.commit(Change(add_derived=[entry]), "label")
    return entry


def test_new_labels_make_the_graphs_of_the_old_ones_stale(tmp_path: Path) -> None:
    store = make_store(tmp_path, {"s1": make_raw(n_obs=300), "s2": make_raw(n_obs=90, seed=1)})
    atlas = ts.open(store.url, read_only=False)
    first = label(atlas, 1)
    where = "section == 's1' and not dom == 'out'"
    read = {"s1": {"domains/dom/s1": first.attempt}, "s2": {}}
    assert derived_inputs(atlas, where, ["s1", "s2"]) == read
    assert derived_inputs(atlas, "domain == 'in'", ["s1"]) == {"s1": read["s1"]}
    assert derived_inputs(atlas, "section == 's1'", ["s1"]) == {"s1": {}}
    options: dict[str, Any] = {"sections": "s1", "where": where, "key_added": "inside"}
    (entry,) = atlas.build_graphs("knn", n_neighs=3, **options)
    assert entry.inputs["domains/dom/s1"] == first.attempt
    assert atlas.build_graphs("knn", n_neighs=3, **options) == [entry]
    second = label(atlas, 2)
    with pytest.raises(StaleDerived, match="one: 'domains/dom/s1' was replaced"):
        atlas.graph("s1", "inside")
    # Rebuilt without asking, as graphs of a section that was replaced are.
    (again,) = atlas.build_graphs("knn", n_neighs=3, **options)
    assert again.inputs["domains/dom/s1"] == second.attempt
    assert atlas.graph("s1", "inside").entry == again
