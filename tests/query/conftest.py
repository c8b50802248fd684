"""One small atlas with every difference sections can have, and the same cells in pandas."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from tisseract.atlas.derived import Provenance, tile_histogram, write_derived
from tisseract.atlas.snapshot import Change
from tisseract.atlas.store import AtlasStore, create_store, open_store

from ..sections import add_section, make_raw

DOMAINS = ("cortex", "fiber tract", "ventricle")
SECTIONS: dict[str, dict[str, Any]] = {
    "a_e9": {"timepoint": "E9.5", "time_value": 9.5, "donor": "m1", "batch": 1},
    "b_e10": {"timepoint": "E10.5", "time_value": 10.5, "donor": "m2", "batch": 2},
    "c_e10": {"timepoint": "E10.5", "time_value": 10.5, "donor": "m3", "batch": None},
    "d_p7": {"timepoint": "P7", "time_value": 27.0, "donor": None, "batch": 2},
}


@dataclass(frozen=True)
class Atlas:
    """A store and all its cells as one table in the documented order."""

    store: AtlasStore
    cells: pd.DataFrame
    """Metadata, obs columns, labels `dom`, x and y; index `{section}:{id}`."""
    counts: pd.DataFrame
    """Cells by genes; NaN where a section did not measure a gene."""


def _genes(section: str) -> list[str]:
    shared = [f"Gene{k}" for k in range(8)]
    return [*shared, "OnlyD", "Extra"] if section == "d_p7" else [*shared, "Sox2"]


def _raw(section: str, seed: int, n: int) -> Any:
    from tisseract.ingest.source import ArrayColumn

    rng = np.random.default_rng(seed)
    genes = _genes(section)
    dense = rng.poisson(2.0, (n, len(genes))) * (rng.random((n, len(genes))) < 0.4)
    raw = make_raw(
        n_obs=n,
        seed=seed,
        counts=sparse.csr_matrix(dense.astype(np.float32)),
        positions=rng.integers(0, 200, (n, 2)) / 2.0,
        genes=genes,
        um_per_unit=None if section == "c_e10" else 1.0,
        metadata={"section": section, "time_unit": "day", **SECTIONS[section]},
    )
    if section == "b_e10":
        return raw
    obs = dict(raw.obs) | {"cell_type": ArrayColumn.of(rng.choice(["Neuron", "Glia"], n).tolist())}
    from dataclasses import replace

    return replace(raw, obs=obs)


@pytest.fixture(scope="session")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    folder: Path = tmp_path_factory.mktemp("query") / "atlas"
    store = create_store(folder)
    frames, counts = [], []
    for seed, section in enumerate(SECTIONS):
        raw = _raw(section, seed, 300 + 70 * seed)
        add_section(store, section, raw, tile_cells=32)
        frames.append(_frame(store, section, raw))
        counts.append(_counts(store, section, raw, frames[-1].index))
    cells = pd.concat(frames)
    cells["dom"] = None
    for section in ("a_e9", "d_p7"):
        _label(store, section, cells)
    return Atlas(open_store(folder), cells, pd.concat(counts))


def _frame(store: AtlasStore, section: str, raw: Any) -> pd.DataFrame:
    handle = store.section(section)
    order = handle.source_rows()
    frame = pd.DataFrame(
        {"section": section, **SECTIONS[section]},
        index=[f"{section}:cell-{row}" for row in order],
    )
    for name, column in raw.obs.items():
        frame[name] = _plain(column.read())[order]
    frame["x"], frame["y"] = raw.positions[order].T
    return frame


def _plain(column: Any) -> Any:
    if hasattr(column, "categories"):
        names = np.array([*column.categories, None], dtype=object)
        return names[column.codes]
    if hasattr(column, "to_list"):
        return np.array(column.to_list(), dtype=object)
    values = column.values.astype(object)
    if column.mask is not None:
        values[column.mask] = None
    if column.values.dtype.kind == "f":
        values[np.isnan(column.values)] = None
    return values


def _counts(store: AtlasStore, section: str, raw: Any, index: pd.Index) -> pd.DataFrame:
    dense = raw.counts.matrix.toarray()[store.section(section).source_rows()]
    return pd.DataFrame(dense, index=index, columns=_genes(section))


def _label(store: AtlasStore, section: str, cells: pd.DataFrame) -> None:
    handle = store.section(section)
    rng = np.random.default_rng(len(section))
    codes = rng.integers(-1, 3, handle.n_obs).astype(np.int16)
    # Domains are compact, so that tiles differ in them.
    codes[handle.positions()[:, 0] < 40] = 0
    entry = write_derived(
        store,
        "domains",
        "dom",
        section,
        arrays={
            "codes": codes,
            "confidence": np.ones(handle.n_obs, np.float32),
            "tile_hist": tile_histogram(codes, handle.tiles.ptr, len(DOMAINS)),
        },
        attrs={"categories": list(DOMAINS)},
        provenance=Provenance({f"section:{section}": handle.attempt}, {}),
        info={"categories": list(DOMAINS)},
    )
    store.commit(Change(add_derived=[entry]), "label")
    names = np.array([*DOMAINS, None], dtype=object)[codes]
    cells.loc[cells["section"] == section, "dom"] = names


EMBEDDED = ["a_e9", "b_e10", "d_p7"]


@pytest.fixture(scope="session")
def derived_store(atlas: Atlas, tmp_path_factory: pytest.TempPathFactory) -> AtlasStore:
    """The common atlas with graphs and embeddings; a copy, as others count what it holds."""
    import shutil

    import tisseract

    source = atlas.store.storage.local_path()
    assert source is not None
    folder = tmp_path_factory.mktemp("exports") / "atlas"
    shutil.copytree(source, folder)
    store = tisseract.open(str(folder), read_only=False)
    store.build_graphs("knn", n_neighs=4, key_added="near", sections=EMBEDDED, units="source")
    for key, sections in (("gnn", EMBEDDED), ("part", ["a_e9"])):
        store.commit(Change(add_derived=[_embed(store, key, s) for s in sections]), "embed")
    return open_store(folder)


def _embed(store: AtlasStore, key: str, section: str) -> Any:
    handle = store.section(section)
    values = np.random.default_rng(handle.n_obs).random((handle.n_obs, 3), np.float32)
    return write_derived(
        store,
        "embedding",
        key,
        section,
        arrays={"values": values},
        attrs={},
        provenance=Provenance({f"section:{section}": handle.attempt}, {}),
        info={},
    )
