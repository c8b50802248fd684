"""One gene across the atlas, from the gene-major copy: no row of the matrix is read."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import GeneNotFound, InvalidArgument
from ..cells.fetch import read_column
from ..cells.rows import as_runs
from ..filters.columns import Columns
from .choice import GeneChoice, UnmeasuredWarning, choose_genes, unmatched_warning

if TYPE_CHECKING:
    import pandas as pd

    from ...atlas.section import Section
    from ...atlas.store import AtlasStore

_NAMED = 8
_OWN = ("n", "n_nonzero", "fraction", "values")


def gene(
    store: "AtlasStore",
    name: str,
    *,
    sections: Sequence[str] | None = None,
    organism: str | None = None,
) -> "GeneView":
    """Find a gene by identifier, symbol or alias.

    Parameters
    ----------
    store
        The atlas.
    name
        The gene.
    sections
        Look at these alone.
    organism
        Whose gene, where several have one of this name; `human:ERBB2` as a name says the same.

    Warns
    -----
    UnmeasuredWarning
        Sections that list identifiers without symbols, where a symbol could not be looked up.

    Raises
    ------
    GeneNotFound, GeneAmbiguous
        No section lists such a gene, or the name fits several.
    """
    sections = [sections] if isinstance(sections, str) else sections
    names = list(store.section_names if sections is None else sections)
    choice = choose_genes(store, names, [f"{organism}:{name}" if organism else name])
    unmatched = unmatched_warning(choice)
    if unmatched:
        warnings.warn(unmatched, UnmeasuredWarning, stacklevel=2)
    return GeneView(store.frozen(), choice, tuple(names))


@dataclass(frozen=True)
class GeneView:
    """One gene: where it was measured, and what was seen."""

    store: "AtlasStore" = field(repr=False)
    choice: GeneChoice = field(repr=False)
    sections: tuple[str, ...] = field(repr=False)

    @property
    def name(self) -> str:
        """The name asked for."""
        return str(self.choice.name[0])

    @property
    def gene_id(self) -> str:
        """Identifier without version, or the symbol where none is known."""
        return str(self.choice.gene_id[0])

    @property
    def symbol(self) -> str:
        """Symbol, empty where unknown."""
        return str(self.choice.symbol[0])

    @property
    def measured_in(self) -> list[str]:
        """Sections that measured it."""
        return [s for s in self.sections if bool(self.choice.measured[s][0])]

    def __repr__(self) -> str:
        return (
            f"Gene {self.name} ({self.gene_id}), measured in {len(self.measured_in)} of "
            f"{len(self.sections)} sections"
        )

    def values(self, section: str) -> NDArray[np.float32]:
        """Read the stored values in a section, one a cell in row order: (n_obs,) float32.

        Raises
        ------
        GeneNotFound
            The section did not measure it; the message names sections that did.
        """
        handle = self.store.section(section)
        if section not in self.choice.measured or not self.choice.measured[section][0]:
            shown = ", ".join(self.measured_in[:_NAMED])
            raise GeneNotFound(
                f"a section that measured {self.name!r} is wanted, but got {section!r}; "
                f"{len(self.measured_in)} did: {shown}"
            )
        column = handle.gene_columns(self.choice.columns[section][:1])
        return np.asarray(column.toarray(), np.float32).ravel()

    def per_section(
        self, by: str | Sequence[str] | None = None, *, domain_key: str | None = None
    ) -> "pd.DataFrame":
        """Summary of the gene in each section, or in each group of its cells.

        Parameters
        ----------
        by
            Columns: obs columns, domain keys, section metadata. Default sections as a whole.
        domain_key
            Which labels `domain` means; needed where there are several.

        Returns
        -------
        DataFrame
            Columns `section`, those of `by`, `n` (cells), `n_nonzero`, `fraction`,
            the mean of stored values named by their kind (`mean_counts`, `mean_normalized`,
            `mean_composition`; NaN in sections of another kind), `mean_log1p` (log1p of cells
            scaled to 10,000), `values`. A section that did not measure the gene has its one row,
            with NaN: not zero.
        """
        import pandas as pd

        names = [] if by is None else [by] if isinstance(by, str) else list(by)
        for name in names:
            if name in _OWN or name.startswith("mean_"):
                raise InvalidArgument(
                    f"columns that the table does not have itself are wanted for by=, but got "
                    f"{name!r}; write obs:{name} for the cells' own column"
                )
        columns = Columns(self.store, domain_key)
        resolved = [columns.resolve(name) for name in names if name != "section"]
        rows: list[dict[str, Any]] = []
        for section in self.sections:
            handle = self.store.section(section)
            if not self.choice.measured[section][0]:
                rows.append(_unmeasured(handle, [c.name for c in resolved]))
            elif not resolved:
                rows.append(self._whole(handle))
            else:
                rows.extend(self._grouped(handle, resolved))
        frame = pd.DataFrame(rows)
        last = [name for name in ("mean_log1p", "values") if name in frame.columns]
        frame = frame[[*(name for name in frame.columns if name not in last), *last]]
        frame.attrs = {
            "gene": self.gene_id,
            "snapshot": self.store.snapshot.number,
            "units": {
                **{
                    name: f"mean of stored {name.removeprefix('mean_')} values"
                    for name in frame.columns
                    if name.startswith("mean_")
                },
                "mean_log1p": "mean log1p(counts per 10,000)",
            },
        }
        return frame

    def _whole(self, section: "Section") -> dict[str, Any]:
        column = int(self.choice.columns[section.name][0])
        totals = section.totals
        return _summary(
            section,
            {},
            n=section.n_obs,
            nonzero=int(totals.nnz[column]),
            total=float(totals.sums[column]),
            logged=float(totals.logged[column]),
        )

    def _grouped(self, section: "Section", columns: Sequence[Any]) -> list[dict[str, Any]]:
        import pandas as pd

        from ..tables.aggregate import groups_of

        runs = as_runs([(0, section.n_obs)])
        table = {}
        for column in columns:
            values = read_column(self.store, section, runs, column)
            table[column.name] = [None] * section.n_obs if values is None else values
        codes, keys = groups_of(pd.DataFrame(table))
        vector = self.values(section.name).astype(np.float64)
        logged = log1p_of(section, vector)
        n = np.bincount(codes, minlength=len(keys))
        nonzero = np.bincount(codes, vector != 0, minlength=len(keys))
        total = np.bincount(codes, vector, minlength=len(keys))
        log_total = np.bincount(codes, logged, minlength=len(keys))
        names = [column.name for column in columns]
        return [
            _summary(
                section,
                dict(zip(names, key, strict=True)),
                n=int(n[i]),
                nonzero=int(nonzero[i]),
                total=float(total[i]),
                logged=float(log_total[i]),
            )
            for i, key in enumerate(keys)
        ]


def log1p_of(section: "Section", vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-normalized values of one gene (n_obs,), by what the section holds.

    Reads the depth of each cell where counts must be scaled.
    """
    if section.values in ("log1p", "composition"):
        return vector
    if section.values == "normalized":
        return np.log1p(vector)
    known = section.depth()
    scale = np.divide(1e4, known, out=np.zeros_like(known), where=known > 0)
    return np.asarray(np.log1p(vector * scale))


def _summary(
    section: "Section",
    group: dict[str, Any],
    *,
    n: int,
    nonzero: int,
    total: float,
    logged: float,
) -> dict[str, Any]:
    share = 1 / n if n else np.nan
    return {
        "section": section.name,
        **group,
        "n": n,
        "n_nonzero": nonzero,
        "fraction": nonzero * share,
        f"mean_{section.values}": total * share,
        "mean_log1p": logged * share if section.values != "composition" else np.nan,
        "values": section.values,
    }


def _unmeasured(section: "Section", names: Sequence[str]) -> dict[str, Any]:
    return {
        "section": section.name,
        **dict.fromkeys(names),
        "n": section.n_obs,
        "n_nonzero": np.nan,
        "fraction": np.nan,
        f"mean_{section.values}": np.nan,
        "mean_log1p": np.nan,
        "values": section.values,
    }
