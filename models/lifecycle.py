"""What all models have in common: fit over sections, embed any section, save, load."""

import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ..atlas.derived import Provenance
from ..atlas.errors import InvalidArgument
from ..atlas.memory import parse_bytes
from ..atlas.snapshot import Change, DerivedEntry, RunEntry
from .components.pca import Components
from .components.projection import Progress, fit_components, plan_pass, write_scores
from .genes.plan import FeaturePlan, plan_features
from .planned import PlannedModel
from .rows.file import RowFile
from .runs import Run, load_run, save_once, save_run
from .sampling.graph_source import GraphSource
from .writing import describe_embedding, write_embedding

if TYPE_CHECKING:
    from ..atlas.section import Section
    from ..atlas.store import AtlasStore

__all__ = ["AtlasModel"]


class AtlasModel(PlannedModel):
    """A model over the sections of an atlas: principal components first, then whatever it adds.

    Parameters
    ----------
    store : AtlasStore
        The atlas; opened for writing where `embed` or `save` shall commit.
    sections : sequence of str, optional
        Sections to fit on; all without.
    graph : GraphSource
        Neighbors to use.
    n_comps : int
        Principal components.
    n_top_genes : int
        Most variable genes kept when sections share more.
    memory_limit : str or int, optional
        As `tisseract.atlas.memory.parse_bytes` reads it.
    seed : int
        Decides everything random.

    Raises
    ------
    SectionNotFound
        A section is not in the atlas.
    InvalidArgument
        There is nothing to fit on.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        store: "AtlasStore",
        *,
        sections: Sequence[str] | None = None,
        graph: GraphSource | None = None,
        n_comps: int = 30,
        n_top_genes: int = 2000,
        memory_limit: str | int | None = None,
        seed: int = 0,
    ) -> None:
        names = store.section_names if sections is None else list(dict.fromkeys(sections))
        for name in names:
            store.section(name)
        if not names:
            raise InvalidArgument(f"wanted sections to work on, but got none in {store.url}")
        self.store = store
        self.section_names = names
        self.graph = graph or GraphSource()
        self.n_comps, self.n_top_genes, self.seed = n_comps, n_top_genes, int(seed)
        self.limit = parse_bytes(memory_limit)
        self.features: FeaturePlan | None = None
        self.components: Components | None = None
        self.inputs: dict[str, str] = {}
        self.is_loaded = False

    # -- what a model adds -------------------------------------------------------------------

    @abstractmethod
    def _fit(self, progress: Progress | None) -> None:
        """Fit what comes on top of the components."""

    @abstractmethod
    def _embed(self, section: "Section", folder: Path) -> tuple[RowFile, Mapping[str, str]]:
        """Write the centered embedding of a section; return it with its graph's provenance."""

    @abstractmethod
    def _settings(self) -> dict[str, Any]:
        """Parameters of the constructor that are this model's own, as JSON."""

    @abstractmethod
    def _weights(self) -> dict[str, NDArray[Any]]:
        """Fitted arrays on top of the components."""

    @abstractmethod
    def _restore(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Take the arrays of `_weights` back."""

    # -- life cycle --------------------------------------------------------------------------

    def fit(self, *, progress: Progress | None = None) -> Self:
        """Fit on the chosen sections.

        Parameters
        ----------
        progress : callable, optional
            Called with (stage, done, total).

        Returns
        -------
        The model itself.

        Raises
        ------
        InvalidArgument
            Too few genes are shared, or nothing varies.
        BudgetExceeded
            The memory limit is too small; nothing was computed, and the message names what to
            change. `plan` tells before.
        StorageFull
            There is too little room for scratch files.
        """
        self._planned(None, with_fit=True).refuse()
        self.is_loaded = False
        opened = [self.store.section(name) for name in self.section_names]
        first = plan_pass(opened, 1, self._room, gram=False)
        features = plan_features(
            opened,
            n_top_genes=self.n_top_genes,
            block_rows=first.block_rows,
            flavor=self.flavor,
        )
        self.features = features
        self.components = fit_components(
            opened,
            features,
            n_comps=self.n_comps,
            block_rows=plan_pass(opened, features.n_genes, self._room).block_rows,
            masks=self.graph.masks,
            progress=progress,
        )
        self.inputs = {f"section:{s.name}": s.attempt for s in opened}
        self._fit(progress)
        return self

    def fitted(self) -> tuple[FeaturePlan, Components]:
        """Return genes and components.

        Raises
        ------
        InvalidArgument
            The model was not fitted yet.
        """
        if self.features is None or self.components is None:
            raise InvalidArgument(
                f"a fitted model is wanted, but got a {self.kind} model before fit(); "
                "call fit(), or load a saved run"
            )
        return self.features, self.components

    def scores(self, section: "Section", folder: Path) -> RowFile:
        """Write the centered component scores of a section into a scratch folder."""
        features, components = self.fitted()
        rows = plan_pass([section], features.n_genes, self._room, gram=False).block_rows
        path = folder / f"scores-{section.attempt}"
        mask = (self.graph.masks or {}).get(section.name)
        return write_scores(section, features, components, path=path, block_rows=rows, mask=mask)

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
        names = self.section_names if sections is None else list(dict.fromkeys(sections))
        self.fitted()
        self._planned(names, with_fit=False).refuse()
        with tempfile.TemporaryDirectory(prefix="tisseract-") as scratch:
            done: dict[str, tuple[RowFile, Mapping[str, str]]] = {}
            try:
                for i, name in enumerate(names):
                    done[name] = self._embedded(name, Path(scratch))
                    if progress is not None:
                        progress("embed", i + 1, len(names))
                yield done
            finally:
                for table, _ in done.values():
                    table.close()

    def _embedded(self, name: str, folder: Path) -> tuple[RowFile, Mapping[str, str]]:
        section = self.store.section(name)
        table, graph_inputs = self._embed(section, folder)
        return table, {f"section:{name}": section.attempt, **graph_inputs}

    def embed(
        self,
        key_added: str,
        *,
        sections: Sequence[str] | None = None,
        run: str | None = None,
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
        """
        self.fitted()
        if run is None:
            entry, is_new = save_once(self.store, key_added, self.to_run())
        else:
            entry, is_new = self.save(run, commit=False), True
        names = self.section_names if sections is None else list(dict.fromkeys(sections))
        self._planned(names, with_fit=False).refuse()
        entries: list[DerivedEntry] = []
        with tempfile.TemporaryDirectory(prefix="tisseract-") as scratch:
            for i, name in enumerate(names):
                # one section at a time: scratch holds no more than that
                table, inputs = self._embedded(name, Path(scratch))
                with table:
                    entries.append(self.write_embedding(key_added, name, table, inputs, entry))
                if progress is not None:
                    progress("embed", i + 1, len(names))
        change = Change(add_derived=entries, add_runs=[entry] if is_new else [])
        self.store.commit(change, f"Embed {len(entries)} sections as {key_added} ({self.kind})")
        return tuple(entries)

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

    def parameters(self) -> dict[str, Any]:
        """Every parameter of the model, as JSON, defaults included."""
        return {
            "model": self.kind,
            "sections": list(self.section_names),
            "graph_key": self.graph.key,
            "n_neighs": self.graph.n_neighs,
            "graph": self.graph.facts(self.store, self.section_names),
            "n_comps": self.n_comps,
            "n_top_genes": self.n_top_genes,
            "seed": self.seed,
            **self._settings(),
        }

    def to_run(self) -> Run:
        """Return the fitted model as a value that `save_run` writes."""
        features, components = self.fitted()
        weights = {
            "components.loadings": components.loadings,
            "components.variance": components.variance,
            **self._weights(),
        }
        config = {"parameters": self.parameters(), "features": features.to_dict()}
        return Run(self.kind, config, weights, dict(self.inputs), self.seed)

    def save(self, run: str, *, commit: bool = True) -> RunEntry:
        """Save the fitted model as a run of the atlas.

        Parameters
        ----------
        run : str
            Name.
        commit : bool
            Whether to commit at once.

        Returns
        -------
        RunEntry
        """
        return save_run(self.store, run, self.to_run(), commit=commit)

    @classmethod
    def load(
        cls, store: "AtlasStore", run: str, *, memory_limit: str | int | None = None, **options: Any
    ) -> Self:
        """Load a saved model.

        Parameters
        ----------
        store : AtlasStore
            The atlas that holds the run.
        run : str
            Name.
        memory_limit : str or int, optional
        **options
            Options of the constructor that are no part of the fitted model (`device=`).

        Returns
        -------
        A fitted model; its sections are those of the run that the atlas still holds.

        Raises
        ------
        RunNotFound, InvalidArgument, Corrupt
        """
        saved = load_run(store, run, model=cls.kind)
        return cls.from_run(store, saved, memory_limit=memory_limit, **options)

    @classmethod
    def from_run(
        cls, store: "AtlasStore", saved: Run, *, memory_limit: str | int | None, **options: Any
    ) -> Self:
        """Make a model of a loaded run."""
        parameters = dict(saved.config["parameters"])
        parameters.pop("model")
        parameters.pop("graph", None)
        graph = GraphSource(parameters.pop("graph_key"), parameters.pop("n_neighs"))
        names = [name for name in parameters.pop("sections") if store.has_section(name)]
        model = cls(
            store,
            sections=names or None,
            graph=graph,
            memory_limit=memory_limit,
            **{**parameters, **options},
        )
        model.features = FeaturePlan.from_dict(saved.config["features"])
        model.components = Components(
            np.asarray(saved.weights["components.loadings"], dtype=np.float64),
            np.asarray(saved.weights["components.variance"], dtype=np.float64),
        )
        model.inputs = dict(saved.inputs)
        model.is_loaded = True
        model._restore(saved.weights)
        return model
