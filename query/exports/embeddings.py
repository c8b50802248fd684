"""What was computed of the cells of an answer: embeddings, and how sure their labels are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.derived_read import read_domains, read_embedding
from ...atlas.errors import DerivedNotFound, InvalidArgument, StaleDerived, near
from ..cells.rows import RunArray, coalesce, count, pairs_of, rows_of, within
from ..telling import tell

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from ...atlas.store import AtlasStore
    from ..cells.selection import Selection

__all__ = [
    "Embeddings",
    "PartialEmbeddingWarning",
    "choose_embeddings",
    "confidence_columns",
    "join_derived",
    "read_rows",
]

_NAMED = 5
_PREFIX = "X_"
_GAP_ROWS = 256


class PartialEmbeddingWarning(UserWarning):
    """Embeddings are left out of an answer, as some of its sections have none."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Embeddings that every section of an answer has, by key, with their dimensions."""

    dims: dict[str, int]

    @property
    def row_bytes(self) -> int:
        """Memory of one cell: float32, once."""
        return 4 * sum(self.dims.values())


def choose_embeddings(
    selection: "Selection", sections: Sequence[str], wanted: bool | str | Sequence[str]
) -> Embeddings:
    """Find the embeddings to join in; reads one small object of each section.

    Parameters
    ----------
    selection
        The answer.
    sections
        Those of it that are handed out.
    wanted
        True is every embedding that all sections have; or names, as `gnn` or `X_gnn`.

    Raises
    ------
    DerivedNotFound
        A section has no embedding of a name that was asked for; near names are offered.
    StaleDerived
        A section was replaced since.
    InvalidArgument
        Sections have it in different dimensions.

    Warns
    -----
    PartialEmbeddingWarning
        Under True, of embeddings that some section lacks.
    """
    store = selection.store
    known = store.derived_keys("embedding")
    if isinstance(wanted, bool):
        keys, lacking = [], {}
        for key in sorted(known) if wanted else []:
            without = [name for name in sections if not _has(store, key, name)]
            if without:
                lacking[key] = without
            else:
                keys.append(key)
        _tell(lacking, len(sections))
    else:
        keys = [_key(name, known) for name in ([wanted] if isinstance(wanted, str) else wanted)]
        for key in keys:
            _check(store, key, sections, known)
    return Embeddings({key: _dimension(store, key, sections) for key in dict.fromkeys(keys)})


def _key(name: str, known: Any) -> str:
    """Key of an embedding, spelled with or without the prefix it has in `obsm`."""
    bare = name.removeprefix(_PREFIX)
    return name if name in known or bare not in known else bare


def _check(store: "AtlasStore", key: str, sections: Sequence[str], known: Any) -> None:
    if key not in known:
        raise DerivedNotFound(
            f"an embedding of this snapshot is wanted, but got {key!r}.{near(key, sorted(known))}"
        )
    without = [name for name in sections if name not in known[key]]
    if without:
        raise DerivedNotFound(
            f"embedding {key!r} of every section of the answer is wanted, but {_listed(without)} "
            "have none; embed them with the same run, or narrow the query"
        )


def _has(store: "AtlasStore", key: str, section: str) -> bool:
    try:
        store.derived("embedding", key, section)
    except (DerivedNotFound, StaleDerived):
        return False
    return True


def _tell(lacking: dict[str, list[str]], total: int) -> None:
    for key, sections in lacking.items():
        tell(
            f"embedding {key!r} is left out, as {len(sections)} of {total} sections have none, or "
            f"one of what was replaced since: {_listed(sections)}",
            PartialEmbeddingWarning,
        )


def _listed(sections: Sequence[str]) -> str:
    more = f" and {len(sections) - _NAMED:,} more" if len(sections) > _NAMED else ""
    return ", ".join(sections[:_NAMED]) + more


def _dimension(store: "AtlasStore", key: str, sections: Sequence[str]) -> int:
    dims = {name: read_embedding(store, key, name, [(0, 0)]).shape[1] for name in sections}
    if len(set(dims.values())) > 1:
        shown = ", ".join(f"{name}: {dim}" for name, dim in list(dims.items())[:_NAMED])
        raise InvalidArgument(
            f"one dimension of embedding {key!r} is wanted, but got {shown}; narrow the query"
        )
    return next(iter(dims.values()), 0)


def read_rows(store: "AtlasStore", key: str, section: str, runs: RunArray) -> NDArray[np.float32]:
    """Read an embedding of some rows, (m, d) float32."""
    wide = coalesce(runs, _GAP_ROWS)
    values = read_embedding(store, key, section, pairs_of(wide))
    return values if len(wide) == len(runs) else values[within(rows_of(runs), wide)]


def join_derived(
    selection: "Selection", adata: "AnnData", embeddings: Embeddings, *, confidence: bool
) -> None:
    """Write embeddings into `obsm`, and how sure labels are into `obs`, of an AnnData in place."""
    parts = selection.parts()
    for key, dim in embeddings.dims.items():
        rows = [read_rows(selection.store, key, section.name, runs) for section, runs in parts]
        adata.obsm[f"{_PREFIX}{key}"] = np.concatenate([*rows, np.zeros((0, dim), np.float32)])
    if confidence:
        for name, values in confidence_columns(selection).items():
            adata.obs[name] = values.to_numpy()


def confidence_columns(selection: "Selection") -> "pd.DataFrame":
    """Tabulate how sure the label of each cell is, a column `<key>_confidence` a domain key.

    Float32 in [0, 1]; NaN where a section has no labels, or stale ones, and where a cell has none.
    """
    import pandas as pd

    store = selection.store
    data: dict[str, Any] = {}
    for key, having in sorted(store.derived_keys("domains").items()):
        parts = []
        for section, runs in selection.parts():
            part = np.full(count(runs), np.nan, np.float32)
            entry = store.snapshot.derived.get(f"domains/{key}/{section.name}")
            if section.name in having and entry and not store.snapshot.stale_inputs(entry):
                wide = coalesce(runs, _GAP_ROWS)
                read = read_domains(store, key, section.name, pairs_of(wide))
                sure = np.where(read.codes >= 0, read.confidence, np.float32(np.nan))
                part = sure[within(rows_of(runs), wide)]
            parts.append(part)
        data[f"{key}_confidence"] = np.concatenate([*parts, np.zeros(0, np.float32)])
    return pd.DataFrame(data)
