"""How every model writes its embeddings: one section in scratch at a time, or all of them."""

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..atlas.derived import Provenance
from ..atlas.errors import InvalidArgument
from ..atlas.snapshot import Change, DerivedEntry, RunEntry
from .components.projection import CellsDone, Progress, cells_counted
from .planned import PlannedModel
from .rows.file import RowFile
from .runs import Run, save_once
from .writing import describe_embedding, write_embedding

if TYPE_CHECKING:
    from ..atlas.section import Section
    from .components.pca import Components
    from .genes.plan import FeaturePlan

__all__ = ["EmbeddingModel"]


class EmbeddingModel(PlannedModel, ABC):
    """The part of a fitted model that embeds sections."""

    embed_passes: ClassVar[int] = 2  # over the cells: their scores, then what is made of them
    seed: int

    @abstractmethod
    def _embed(
        self, section: "Section", folder: Path, done: CellsDone
    ) -> tuple[RowFile, Mapping[str, str]]:
        """Write the centered embedding of a section; return it with its graph's provenance."""

    @abstractmethod
    def fitted(self) -> "tuple[FeaturePlan, Components]":
        """Return genes and components, or refuse."""

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """Every parameter of the model, as JSON."""

    @abstractmethod
    def to_run(self) -> Run:
        """Return the fitted model as a value."""

    @abstractmethod
    def save(self, run: str, *, commit: bool = True) -> RunEntry:
        """Save the fitted model as a run of the atlas."""

    def _chosen(self, sections: Sequence[str] | None) -> list[str]:
        """Name the sections to embed: those fitted on, unless others are wanted."""
        names = list(dict.fromkeys(self.section_names if sections is None else sections))
        if not names:
            raise InvalidArgument(
                f"wanted sections to embed, but got none: {self.store.url} holds none that this "
                "model was fitted on; name others with sections="
            )
        return names

    def _counter(self, names: Sequence[str], progress: Progress | None) -> CellsDone:
        total = sum(self.store.section(name).n_obs for name in names)
        return cells_counted(progress, "embed", total, self.embed_passes)

    @contextmanager
    def embedded(
        self, sections: Sequence[str] | None = None, *, progress: Progress | None = None
    ) -> Iterator[dict[str, tuple[RowFile, Mapping[str, str]]]]:
        """Embed sections into scratch files, removed at the end of the `with` statement.

        Parameters
        ----------
        sections : sequence of str, optional
            Those fitted on, without; others may be embedded too.
        progress : callable, optional

        Yields
        ------
        dict of str to (RowFile, mapping)
            Embedding `(n_obs, d)` of each section and what it was computed from.
        """
        names = self._chosen(sections)
        self.fitted()
        self._planned(names, with_fit=False).refuse()
        counter = self._counter(names, progress)
        with tempfile.TemporaryDirectory(prefix="tisseract-") as scratch:
            done: dict[str, tuple[RowFile, Mapping[str, str]]] = {}
            try:
                for name in names:
                    done[name] = self._embedded(name, Path(scratch), counter)
                yield done
            finally:
                for table, _ in done.values():
                    table.close()

    def _embedded(
        self, name: str, folder: Path, done: CellsDone
    ) -> tuple[RowFile, Mapping[str, str]]:
        section = self.store.section(name)
        table, graph_inputs = self._embed(section, folder, done)
        return table, {f"section:{name}": section.attempt, **graph_inputs}

    def embed(
        self,
        key_added: str,
        *,
        sections: Sequence[str] | None = None,
        run: str | None = None,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> tuple[DerivedEntry, ...]:
        """Embed sections and commit the embeddings under one key.

        Parameters
        ----------
        key_added : str
            Key of the embedding.
        sections : sequence of str, optional
            Those fitted on, without; others may be embedded too.
        run : str, optional
            Name to save the model under; one made of the key and the content without.
        overwrite : bool
            Replace whatever has this key by then; without, only what the store's snapshot shows.
        progress : callable, optional

        Returns
        -------
        tuple of DerivedEntry
            One per section.

        Raises
        ------
        ReadOnly
            The atlas was opened for reading.
        InvalidArgument
            The model was not fitted, or a section lacks its genes.
        CommitConflict
            Others committed embeddings of this key meanwhile.
        """
        self.fitted()
        seen = self.store.snapshot
        if run is None:
            entry, is_new = save_once(self.store, key_added, self.to_run())
        else:
            entry, is_new = self.save(run, commit=False), True
        entries = self.write_embeddings(
            key_added, entry, sections=self._chosen(sections), progress=progress
        )
        change = Change(
            add_derived=entries,
            add_runs=[entry] if is_new else [],
            expect={} if overwrite else seen.attempts_at(entries),
        )
        self.store.commit(change, f"Embed {len(entries)} sections as {key_added} ({self.kind})")
        return tuple(entries)

    def write_embeddings(
        self,
        key: str,
        run: RunEntry,
        *,
        sections: Sequence[str],
        hangs_on: Mapping[str, Mapping[str, str]] | None = None,
        progress: Progress | None = None,
    ) -> list[DerivedEntry]:
        """Embed sections and write the embeddings, uncommitted; scratch holds one at a time.

        Parameters
        ----------
        key : str
            Key of the embedding.
        run : RunEntry
            Of this model.
        sections : sequence of str
        hangs_on : mapping of str to mapping, optional
            More derived data that an embedding was made from, name -> attempt by section.
        progress : callable, optional

        Returns
        -------
        list of DerivedEntry
            One per section.

        Raises
        ------
        InvalidArgument
            The model was not fitted, or a section lacks its genes.
        BudgetExceeded, StorageFull
        """
        self._planned(sections, with_fit=False).refuse()
        counter = self._counter(sections, progress)
        entries: list[DerivedEntry] = []
        with tempfile.TemporaryDirectory(prefix="tisseract-") as scratch:
            for name in sections:
                table, inputs = self._embedded(name, Path(scratch), counter)
                told = {**inputs, **(hangs_on or {}).get(name, {})}
                with table:
                    entries.append(self.write_embedding(key, name, table, told, run))
        return entries

    def write_embedding(
        self,
        key: str,
        section: str,
        table: RowFile,
        inputs: Mapping[str, str],
        run: RunEntry,
    ) -> DerivedEntry:
        """Write one embedding, uncommitted."""
        features, _ = self.fitted()
        info = describe_embedding(self.kind, self.store.section(section), features, table.width)
        provenance = Provenance(
            inputs={**inputs, **self.training_inputs(run)},
            parameters={**self.parameters(), **info},
            seed=self.seed,
            run=run.run,
        )
        return write_embedding(self.store, key, section, table, info=info, provenance=provenance)

    def training_inputs(self, run: RunEntry) -> dict[str, str]:
        """Return the input that makes results stale together with what the model was fitted on.

        A loaded model has none: it is applied as it is, also where a section it was fitted on has
        been replaced since.
        """
        return {} if self.is_loaded else {f"run:{run.run}": run.attempt}
