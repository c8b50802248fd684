"""What the colors of a figure mean: a gene, a column of labels, or one of numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import ColumnNotFound, GeneNotFound, InvalidArgument, near
from ..cells.fetch import read_column, read_counts
from ..cells.rows import RunArray, count
from ..expression.choice import GeneChoice, choose_genes
from ..expression.mixture import LOG_RULES
from ..expression.normalize import depth_of, log_normalize
from ..filters.columns import Column
from .palette import natural_order

if TYPE_CHECKING:
    from ...atlas.section import Section
    from ..cells.selection import Selection

__all__ = ["Coloring", "coloring_of"]

type Kind = Literal["gene", "number", "label", "none"]

_PREFIXES = ("meta:", "obs:", "domains:", "annotations:")
_UNITS = ("counts:", "log1p:")


@dataclass(slots=True)
class Coloring:
    """One value a cell; labels are met while they are read, where the catalog lists none."""

    name: str
    kind: Kind
    unit: str = ""
    """What numbers are, for the color bar."""
    labels: list[str] = field(default_factory=list)
    """Labels in order; codes count them."""
    column: Column | None = None
    genes: GeneChoice | None = None
    log: bool = False

    def measured(self, section: str) -> bool:
        """Whether a section has any value."""
        return self.genes is None or bool(self.genes.measured[section][0])

    def read(
        self, selection: "Selection", section: "Section", runs: RunArray
    ) -> NDArray[np.float64]:
        """Read the values of some rows, (m,): numbers, or codes of labels; NaN where missing."""
        if self.kind == "none":
            return np.zeros(count(runs))
        if self.genes is not None:
            return self._expression(section, runs)
        assert self.column is not None
        values = read_column(selection.store, section, runs, self.column)
        if values is None:
            return np.full(count(runs), np.nan)
        if self.kind == "number":
            return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))
        return self._codes(values)

    def _expression(self, section: "Section", runs: RunArray) -> NDArray[np.float64]:
        assert self.genes is not None
        if not self.measured(section.name):
            return np.full(count(runs), np.nan)
        at = self.genes.columns[section.name]
        if at[0] < 0:
            return np.zeros(count(runs))
        matrix = read_counts(section, runs, at)
        if self.log:
            matrix = log_normalize(matrix, section.values, depth_of(section, runs))
        return np.asarray(matrix.toarray(), np.float64).ravel()

    def _codes(self, values: Any) -> NDArray[np.float64]:
        import pandas as pd

        own, found = pd.factorize(values, use_na_sentinel=True)
        names = [str(name) for name in found.tolist()]
        known = {name: i for i, name in enumerate(self.labels)}
        for name in names:
            if name not in known:
                known[name] = len(self.labels)
                self.labels.append(name)
        places = np.array([*(known[name] for name in names), np.nan])
        return np.asarray(places[own], np.float64)


def coloring_of(
    selection: "Selection", color: str | None, *, normalize: str | None = "auto"
) -> Coloring:
    """Find what a name means: a column of cells or sections first, else a gene.

    Parameters
    ----------
    selection
        The answer that is drawn.
    color
        A name; `log1p:Sox2` and `counts:Sox2` say what of a gene; None is one color.
    normalize
        Of genes: `log1p` scales counts to 10,000 a cell and takes log1p, None takes what is
        stored, `auto` is log1p unless some section holds compositions.

    Raises
    ------
    ColumnNotFound
        Neither a column nor a gene; near names are offered.
    GeneNotFound
        A gene that no section of the answer measured.
    InvalidArgument
        A normalization that is not known.
    """
    if normalize not in ("auto", "log1p", None):
        raise InvalidArgument(f"normalize='auto', 'log1p' or None is wanted, but got {normalize!r}")
    if color is None:
        return Coloring("cells", "none")
    columns = selection.columns
    known = [
        *columns.metadata,
        *columns.obs,
        *columns.domain_keys,
        *columns.annotation_keys,
        "section",
        "domain",
    ]
    if color in known or color.startswith(_PREFIXES):
        return _of_column(selection, columns.resolve(color))
    unit = next((prefix for prefix in _UNITS if color.startswith(prefix)), None)
    if unit is not None:
        color, normalize = color.removeprefix(unit), "log1p" if unit == "log1p:" else None
    try:
        genes = choose_genes(selection.store, selection.sections or selection.candidates, [color])
    except GeneNotFound as error:
        raise ColumnNotFound(
            f"a column or a gene is wanted for color=, but got {color!r}.{near(color, known)} "
            f"As a gene: {error}"
        ) from error
    return _of_gene(selection, color, genes, normalize)


def _of_gene(
    selection: "Selection", name: str, genes: GeneChoice, normalize: str | None
) -> Coloring:
    if not any(bool(measured[0]) for measured in genes.measured.values()):
        raise GeneNotFound(
            f"a gene that some section of the answer measured is wanted, but got {name!r}, which "
            f"none of {len(genes.measured)} did; see atlas.genes"
        )
    kinds = sorted({selection.store.snapshot.sections[s].values for s in genes.measured})
    log = normalize == "log1p" or (normalize == "auto" and all(k in LOG_RULES for k in kinds))
    unit = "log1p(counts per 10,000)" if log else "stored " + ", ".join(kinds)
    if log and kinds == ["log1p"]:
        unit = "log1p, as stored"
    return Coloring(name, "gene", unit, genes=genes, log=log)


def _of_column(selection: "Selection", column: Column) -> Coloring:
    if column.kinds == {"numeric"}:
        return Coloring(column.name, "number", column.name, column=column)
    return Coloring(column.name, "label", labels=_labels(selection, column), column=column)


def _labels(selection: "Selection", column: Column) -> list[str]:
    """Every label that the atlas has, in their own order where they have one."""
    if column.order is not None:
        return list(column.order)
    if column.source in ("domains", "annotations"):
        kind = "annotation" if column.source == "annotations" else "domains"
        found: dict[str, None] = {}
        for entry in selection.store.snapshot.derived.values():
            if entry.kind == kind and entry.key == column.key:
                found |= dict.fromkeys(_listed(entry.info.get("categories")))
        if found:
            return natural_order(found) if all(n.isdigit() for n in found) else list(found)
    if column.kinds == {"boolean"}:
        return ["False", "True"]
    return natural_order(column.values or ())


def _listed(categories: object) -> Sequence[str]:
    return [str(name) for name in categories] if isinstance(categories, list | tuple) else []
