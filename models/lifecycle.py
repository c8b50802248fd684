"""What all models have in common: fit over sections, embed any section, save, load."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ..atlas.errors import InvalidArgument
from ..atlas.memory import parse_bytes
from ..atlas.snapshot import RunEntry
from .components.pca import Components
from .components.projection import CellsDone, Progress, fit_components, plan_pass, write_scores
from .embedding import EmbeddingModel
from .genes.plan import FeaturePlan, plan_features
from .numbers import refuse_wrong
from .rows.file import RowFile
from .runs import Run, load_run, save_run
from .sampling.graph_source import GraphSource

if TYPE_CHECKING:
    from ..atlas.section import Section
    from ..atlas.store import AtlasStore

__all__ = ["AtlasModel"]


class AtlasModel(EmbeddingModel):
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
        There is nothing to fit on, or numbers are none that they can be, all told at once.
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
        refuse_wrong(locals())
        names = store.section_names if sections is None else list(dict.fromkeys(sections))
        for name in names:
            store.section(name)
        if not names:
            raise InvalidArgument(f"wanted sections to work on, but got none in {store.url}")
        self.store = store
        self.section_names = names
        self.trained_on = tuple(names)
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

    def scores(self, section: "Section", folder: Path, done: CellsDone | None = None) -> RowFile:
        """Write the centered component scores of a section into a scratch folder."""
        features, components = self.fitted()
        rows = plan_pass([section], features.n_genes, self._room, gram=False).block_rows
        path = folder / f"scores-{section.attempt}"
        return write_scores(
            section,
            features,
            components,
            path=path,
            block_rows=rows,
            mask=self.graph.mask_of(section.name),
            done=done,
        )

    def parameters(self) -> dict[str, Any]:
        """Every parameter of the model, as JSON, defaults included.

        `sections` are those it was fitted on, also where the atlas no longer holds them; `where`
        tells which of their cells take part, in words.
        """
        return {
            "model": self.kind,
            "sections": list(self.trained_on),
            "graph_key": self.graph.key,
            # of a stored graph, `graph` tells what it was built with
            "n_neighs": self.graph.n_neighs if self.graph.key is None else None,
            "graph": self.graph.facts(self.store, self.section_names),
            "where": self.graph.where,
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
        A fitted model; its sections are those of the run that the atlas still holds, and
        `graph.where` tells which cells it was fitted on. It takes every cell of what it embeds,
        unless its graph is told others: `model.graph = model.graph.keeping(store, names)`.

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
        key, n_neighs = parameters.pop("graph_key"), parameters.pop("n_neighs")
        graph = GraphSource(key, n_neighs or GraphSource().n_neighs)
        graph = replace(graph, where=parameters.pop("where", None))
        trained_on = tuple(parameters.pop("sections"))
        names = [name for name in trained_on if store.has_section(name)]
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
        model.section_names, model.trained_on = names, trained_on
        model.is_loaded = True
        model._restore(saved.weights)
        return model
