"""The genes of one section: identity, symbols, aliases, and how complete the list is.

A gene is known by (organism, identifier without version). Files name genes in many ways: Ensembl
ids with or without version, symbols, symbols in lower case. A `Panel` keeps the name as given
beside the identity, refuses lists that name one gene twice, and finds a gene by any of its names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from .errors import Corrupt, Fault, GeneAmbiguous, GeneNotFound, InputError, near
from .gene_names import (
    KNOWN_ORGANISMS,
    GeneName,
    is_accession,
    organism_of,
    species_of,
    strip_version,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Completeness", "Panel"]

Completeness = Literal["complete", "partial"]
"""Whether a gene that the panel does not list is known to be unmeasured."""

GENE_EXPRESSION = "Gene Expression"
PANEL_FORMAT = "tisseract-panel/1"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Panel:
    """The genes of a section in the order of its matrix columns; no gene appears twice.

    Build one with `Panel.of`, which cleans and checks; the constructor takes the parts as they are.
    Two panels are equal when their digests are.
    """

    organism: str
    """Common name in lower case, "" when unknown."""
    name: NDArray[np.object_]
    """(n,) str: as given in the file, version and all; unique."""
    gene_id: NDArray[np.object_]
    """(n,) str: identifier without version; the symbol where the file gives no identifier."""
    symbol: NDArray[np.object_]
    """(n,) str: symbol, "" when unknown; may repeat when the identifiers differ."""
    aliases: tuple[tuple[str, ...], ...]
    """Further names of each gene."""
    feature_type: NDArray[np.object_]
    """(n,) str: "Gene Expression", "Antibody Capture" and so on, as vendors write them."""
    completeness: Completeness = "partial"
    """"complete": what is not listed was not measured; "partial": it may have been left out."""
    zero_padded: bool = False
    """Whether an all-zero gene may be padding that was never measured."""
    _cache: dict[str, object] = field(default_factory=dict, init=False)

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        *,
        organism: str = "",
        gene_ids: Sequence[str] | None = None,
        symbols: Sequence[str] | None = None,
        aliases: Sequence[Sequence[str]] | None = None,
        feature_types: Sequence[str] | None = None,
        gene_map: Mapping[str, GeneName] | None = None,
        completeness: Completeness = "partial",
        zero_padded: bool = False,
        where: str = "genes",
    ) -> Panel:
        """Build a panel from what a file says, or refuse with every fault at once.

        Parameters
        ----------
        names : sequence of str, (n,)
            Names of the matrix columns.
        gene_ids, symbols, feature_types : sequence of str, (n,), optional
            Columns beside the names; an empty string says nothing.
        gene_map : mapping, optional
            What names stand for; wins over the file.
        where : str
            File and place, for messages.

        Raises
        ------
        InputError
            If a name is empty, two columns are the same gene, lengths differ, or the identifiers
            belong to another organism.

        Examples
        --------
        >>> panel = Panel.of(["ENSG00000139618.19", "TP53"], organism="Homo sapiens")
        >>> panel.gene_id.tolist(), panel.find("ENSG00000139618")
        (['ENSG00000139618', 'TP53'], 0)
        """
        n = len(names)
        given = {"gene ids": gene_ids, "symbols": symbols, "feature types": feature_types}
        faults = [
            Fault(where, f"expected {n} {what}, one a gene, but got {len(column)}")
            for what, column in given.items()
            if column is not None and len(column) != n
        ]
        if faults:
            raise InputError(faults)
        ids, labels, others = _resolve(names, gene_ids, symbols, aliases, gene_map or {})
        kinds = [str(kind) or GENE_EXPRESSION for kind in feature_types or [GENE_EXPRESSION] * n]
        organism = organism_of(organism)
        inferred = species_of(ids)
        faults = _duplicates(names, ids, kinds, where)
        if organism and inferred and organism in KNOWN_ORGANISMS and inferred != organism:
            faults.append(
                Fault(
                    where,
                    f"expected genes of {organism}, but got {inferred} identifiers "
                    f"(such as {ids[0]!r}); set `organism` to {inferred!r}",
                )
            )
        if faults:
            raise InputError(faults)
        return cls(
            organism or inferred,
            _strings(names),
            _strings(ids),
            _strings(labels),
            tuple(others),
            _strings(kinds),
            completeness,
            zero_padded,
        )

    def __len__(self) -> int:
        return self.gene_id.size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Panel) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Panel({len(self)} genes, organism={self.organism!r}, {self.digest[:12]})"

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the content, the same for any version of the Parquet writer."""
        if "digest" not in self._cache:
            rows = [
                PANEL_FORMAT,
                self.organism,
                self.completeness,
                self.zero_padded,
                *zip(
                    self.name.tolist(),
                    self.gene_id.tolist(),
                    self.symbol.tolist(),
                    self.aliases,
                    self.feature_type.tolist(),
                    strict=True,
                ),
            ]
            text = json.dumps(rows, ensure_ascii=True, separators=(",", ":"))
            self._cache["digest"] = hashlib.sha256(text.encode("ascii")).hexdigest()
        return str(self._cache["digest"])

    def candidates(self, name: str) -> tuple[int, ...]:
        """Columns that a name may mean, by the first rule that fits any.

        Rules in order: name or identifier exactly, symbol exactly, any of them whatever the case,
        alias. Empty when nothing fits.

        Examples
        --------
        >>> Panel.of(["Sox2", "Pax6"]).candidates("SOX2")
        (0,)
        """
        exact, symbol, folded, alias = self._index()
        bare = strip_version(name)
        found = exact.get(name) or exact.get(bare) or symbol.get(name)
        return found or folded.get(bare.casefold()) or alias.get(name.casefold()) or ()

    def find(self, name: str) -> int:
        """Column of a gene, by identifier, symbol or alias.

        Raises
        ------
        GeneNotFound
            If no gene has this name; near names are offered.
        GeneAmbiguous
            If several have; they are listed.

        Examples
        --------
        >>> Panel.of(["sox2", "Pax6"]).find("Sox2")
        0
        """
        found = self.candidates(name)
        if len(found) == 1:
            return found[0]
        if not found:
            known = [*self.name.tolist(), *filter(None, self.symbol.tolist())]
            raise GeneNotFound(
                f"expected a gene of this panel, but got {name!r}.{near(name, known)}"
            )
        listed = ", ".join(f"{self.gene_id[i]} ({self.symbol[i] or self.name[i]})" for i in found)
        raise GeneAmbiguous(
            f"expected one gene, but got {name!r}, which fits {len(found)}: {listed}; "
            "ask by identifier"
        )

    def find_many(self, names: Iterable[str]) -> NDArray[np.int64]:
        """Columns of several genes, in the order asked; all unknown names in one error.

        Examples
        --------
        >>> Panel.of(["Sox2", "Pax6"]).find_many(["Pax6", "Sox2"]).tolist()
        [1, 0]
        """
        columns: list[int] = []
        missing: list[GeneNotFound] = []
        for name in names:
            try:
                columns.append(self.find(name))
            except GeneNotFound as error:
                missing.append(error)
        if missing:
            raise missing[0] if len(missing) == 1 else GeneNotFound("\n".join(map(str, missing)))
        return np.asarray(columns, dtype=np.int64)

    def to_parquet(self) -> bytes:
        """Bytes of a Parquet file: name, gene_id, symbol, aliases, feature_type.

        Examples
        --------
        >>> panel = Panel.of(["Sox2", "Pax6"], organism="mouse")
        >>> Panel.from_parquet(panel.to_parquet()) == panel
        True
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        facts = {
            "format": PANEL_FORMAT,
            "organism": self.organism,
            "completeness": self.completeness,
            "zero_padded": json.dumps(self.zero_padded),
        }
        text = pa.string()
        table = pa.table(
            {
                "name": pa.array(self.name, text),
                "gene_id": pa.array(self.gene_id, text),
                "symbol": pa.array(self.symbol, text),
                "aliases": pa.array([list(one) for one in self.aliases], pa.list_(text)),
                "feature_type": pa.array(self.feature_type, text),
            }
        ).replace_schema_metadata(facts)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        return bytes(sink.getvalue().to_pybytes())

    @classmethod
    def from_parquet(cls, data: bytes) -> Panel:
        """Read what `to_parquet` wrote.

        Raises
        ------
        Corrupt
            If the bytes are no panel.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(pa.BufferReader(data), use_threads=False)
            facts = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
            if facts.get("format") != PANEL_FORMAT:
                raise Corrupt(
                    f"expected a gene panel ({PANEL_FORMAT}), but got {facts.get('format')!r}"
                )
            columns = {name: table[name].to_pylist() for name in table.column_names}
            return cls(
                facts["organism"],
                _strings(columns["name"]),
                _strings(columns["gene_id"]),
                _strings(columns["symbol"]),
                tuple(tuple(one) for one in columns["aliases"]),
                _strings(columns["feature_type"]),
                "complete" if facts["completeness"] == "complete" else "partial",
                bool(json.loads(facts["zero_padded"])),
            )
        except (pa.ArrowException, OSError, KeyError, TypeError, UnicodeDecodeError) as error:
            raise Corrupt(f"expected a gene panel, but got unreadable Parquet: {error}") from error

    def _index(self) -> tuple[dict[str, tuple[int, ...]], ...]:
        """Four dictionaries: exact name or id, exact symbol, folded, folded alias."""
        if "index" not in self._cache:
            exact: dict[str, tuple[int, ...]] = {}
            symbol: dict[str, tuple[int, ...]] = {}
            folded: dict[str, tuple[int, ...]] = {}
            alias: dict[str, tuple[int, ...]] = {}
            for i, (name, gene, label) in enumerate(
                zip(self.name, self.gene_id, self.symbol, strict=True)
            ):
                for one in {name, gene}:
                    exact[one] = (*exact.get(one, ()), i)
                if label:
                    symbol[label] = (*symbol.get(label, ()), i)
                for one in {name.casefold(), gene.casefold(), label.casefold()} - {""}:
                    folded[one] = (*folded.get(one, ()), i)
                for one in {other.casefold() for other in self.aliases[i]}:
                    alias[one] = (*alias.get(one, ()), i)
            self._cache["index"] = (exact, symbol, folded, alias)
        index = self._cache["index"]
        assert isinstance(index, tuple)
        return index


def _strings(values: Sequence[str]) -> NDArray[np.object_]:
    """Turn names into a read-only array of Python strings."""
    array = np.empty(len(values), dtype=object)
    array[:] = [str(value) for value in values]
    array.flags.writeable = False
    return array


def _resolve(
    names: Sequence[str],
    gene_ids: Sequence[str] | None,
    symbols: Sequence[str] | None,
    aliases: Sequence[Sequence[str]] | None,
    gene_map: Mapping[str, GeneName],
) -> tuple[list[str], list[str], list[tuple[str, ...]]]:
    """Find identifier, symbol and aliases of each name; the gene map wins over the file."""
    ids: list[str] = []
    labels: list[str] = []
    others: list[tuple[str, ...]] = []
    for i, given in enumerate(names):
        name = str(given)
        entry = gene_map.get(name) or gene_map.get(strip_version(name)) or GeneName("")
        gene = entry.gene_id or (str(gene_ids[i]) if gene_ids is not None else "") or name
        label = entry.symbol or (str(symbols[i]) if symbols is not None else "")
        if not label and not is_accession(name):
            label = name
        ids.append(strip_version(gene))
        # An accession in the symbol column (genes without a symbol) says nothing new.
        labels.append("" if label != gene and is_accession(label) else label)
        others.append((*entry.aliases, *(aliases[i] if aliases is not None else ())))
    labels = ["" if is_accession(label) else label for label in labels]
    return ids, labels, others


def _duplicates(
    names: Sequence[str], ids: Sequence[str], kinds: Sequence[str], where: str
) -> list[Fault]:
    """List empty names, and genes or names given twice: no column could be told from another."""
    faults = []
    empty = [i for i, name in enumerate(names) if not str(name).strip()]
    if empty:
        faults.append(Fault(where, f"expected a name for every gene, but got none at {empty[:5]}"))
    for keys, what in ((list(zip(ids, kinds, strict=True)), "gene"), (list(names), "gene name")):
        first: dict[object, int] = {}
        again: dict[object, list[str]] = {}
        for i, key in enumerate(keys):
            if first.setdefault(key, i) != i:
                again.setdefault(key, [str(names[first[key]])]).append(str(names[i]))
        if again and not faults:
            shown = "; ".join(" = ".join(group) for group in list(again.values())[:5])
            faults.append(
                Fault(
                    where,
                    f"expected each {what} once, but got {len(again)} given several times: "
                    f"{shown}; rename or merge them, or tell them apart with `gene_map`",
                )
            )
    return faults
