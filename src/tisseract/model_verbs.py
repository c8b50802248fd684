"""Verbs of an atlas that train models, embed sections and find domains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .graph_verbs import GraphVerbs

if TYPE_CHECKING:
    import pandas as pd

    from .atlas.snapshot import DerivedEntry
    from .models import DomainGNN
    from .models.sampling.neighbor_loader import AtlasLoader
    from .models.sampling.tile_loader import TileLoader

__all__ = ["ModelVerbs"]


class ModelVerbs(GraphVerbs):
    """An atlas with its verbs on graphs and models; see `Atlas`."""

    def train(
        self,
        key_added: str = "gnn",
        *,
        sections: Sequence[str] | None = None,
        where: str | None = None,
        mask: Mapping[str, Any] | None = None,
        graph_key: str | None = None,
        n_neighs: int = 6,
        seed: int = 0,
        epochs: float | None = None,
        checkpoint: str | Path | None = None,
        resume: bool = False,
        overwrite: bool = False,
        memory_limit: str | int | None = None,
        progress: Any = None,
        on_step: Callable[[Any], None] | None = None,
        **options: Any,
    ) -> DomainGNN:
        """Train the graph network on sampled tiles, embed the sections, commit run and embedding.

        Parameters
        ----------
        key_added
            Name of the run and of the embedding.
        sections
            These alone; None is all.
        where
            Filter string, as of `query`: only these cells take part, as in `find_domains`. None
            are the cells whose boolean obs column `qc_pass` is true, in sections that have one.
        mask
            The cells themselves, `(n_obs,)` bool by section, in place of `where`; sections that
            it does not name are taken whole, so `{}` takes every cell.
        graph_key
            A stored graph; None is `spatial` where every section has it, else the `n_neighs`
            nearest neighbors, found on the way. The run records which.
        n_neighs
            Neighbors of a graph that is found on the way.
        seed
            Of everything random.
        epochs
            How often each cell is learned from on average, in place of `steps`; counted from the
            batches that the sections make.
        checkpoint
            File that the training is saved to as it goes; None is one in the user's cache,
            removed once the run is committed.
        resume
            Go on from that file where there is one, instead of starting anew.
        overwrite
            Replace an embedding of this name, in all sections that have one. Runs are never
            replaced: the new one is named `<key_added>-2` and so on.
        memory_limit
            Passes over counts stay below it.
        progress
            Called with (stage, done, total).
        on_step
            Called with a report of each training step: `.done`, `.total`, `.loss`,
            `.cells_per_second`, `.eta_seconds`.
        **options
            Of `tisseract.models.DomainGNN`: `steps`, `n_layers`, `device`, `precision` and so on.

        Returns
        -------
        DomainGNN
            The trained model, with its `history`.

        Raises
        ------
        InvalidArgument
            The name is taken, or the checkpoint belongs to another training.
        SectionNotFound, DerivedNotFound, StaleDerived, ReadOnly, BudgetExceeded
        """
        from .model_choices import default_graph, free_run_name, steps_of
        from .models import DomainGNN, GraphSource
        from .models.network.checkpoint_place import default_checkpoint

        self.storage.forbid_writing(f"a run named {key_added!r}")
        names = list(dict.fromkeys(sections if sections is not None else self.section_names))
        read: Mapping[str, Mapping[str, str]] = {}
        if where is not None:
            chosen = self._chosen(where, names, mask, named=sections is not None)
            mask, read = chosen["mask"], chosen["chosen_by"]
            names = list(chosen["mask"])
        self._check_new(key_added, names, overwrite=overwrite)
        stored = default_graph(self, graph_key, names)
        graph = GraphSource(stored, n_neighs).keeping(self, names, mask, where)
        if epochs is not None:
            options["steps"] = steps_of(self, graph, names, epochs, {**options, "seed": seed})
        model = DomainGNN(
            self,
            sections=names,
            graph=graph,
            seed=seed,
            memory_limit=memory_limit,
            checkpoint=default_checkpoint(self, key_added) if checkpoint is None else checkpoint,
            resume=resume,
            **options,
        )
        model.fit(progress=progress, on_step=on_step)
        for inputs in read.values():
            model.inputs.update(inputs)
        run = free_run_name(self, key_added)
        model.embed(key_added, run=run, overwrite=overwrite, progress=progress)
        if checkpoint is None:
            model.discard_checkpoint()
        return model

    def _check_new(self, key: str, names: Sequence[str], *, overwrite: bool) -> None:
        """Refuse a name that is taken before hours of training, not after."""
        from .atlas.errors import InvalidArgument
        from .atlas.keys import check_name
        from .model_choices import check_others

        check_name(key, "run")
        taken = "run" if key in self.snapshot.runs else ""
        taken = taken or ("embedding" if key in self.derived_keys("embedding") else "")
        if taken and not overwrite:
            raise InvalidArgument(
                f"a new name is wanted, but got {key!r}, which names a {taken} of this atlas; "
                "give another key_added, or overwrite=True to replace the embedding"
            )
        check_others(self, key, names)

    def embed(
        self,
        run: str,
        *,
        sections: Sequence[str] | None = None,
        key_added: str | None = None,
        where: str | None = None,
        mask: Mapping[str, Any] | None = None,
        graph_key: str | None = None,
        device: str | None = None,
        overwrite: bool = False,
        memory_limit: str | int | None = None,
        progress: Any = None,
    ) -> tuple[DerivedEntry, ...]:
        """Embed sections with a saved run, also sections that it was never trained on.

        Parameters
        ----------
        run
            Name of a saved model.
        sections
            These; None is all that this run has not embedded under `key_added` yet.
        key_added
            Name of the embedding; None is the name of the run.
        where, mask
            Cells that take part, as of `train`: the others have no neighbors, are nobody's, and
            count in no mean. None is the expression that the run was trained with, else the cells
            that pass quality control.
        graph_key
            A stored graph in place of the kind that the run was trained with.
        device
            "auto", "cpu", "cuda" or "mps"; only a network makes use of it.
        overwrite
            Replace embeddings of this name.
        memory_limit, progress
            As of `train`.

        Returns
        -------
        tuple of DerivedEntry
            One a section; empty where nothing was left to do.

        Raises
        ------
        RunNotFound
        InputError
            Whatever stands against it, of all sections at once: no such section, too few of the
            run's genes measured, no such graph, a name that is taken.
        """
        from .atlas.snapshot import Change
        from .model_choices import (
            check_device,
            check_embedding,
            filter_of,
            model_class,
            to_embed,
            trained_run,
        )
        from .models import GraphSource

        if device is not None:
            check_device(device)
        trained_run(self, run)
        key = run if key_added is None else key_added
        self.storage.forbid_writing(f"an embedding named {key!r}")
        seen = self.snapshot
        names = to_embed(self, run, key, sections, overwrite=overwrite)
        saved = check_embedding(self, run, key, names, graph_key=graph_key, overwrite=overwrite)
        if not names:
            return ()
        options = {} if device is None or saved.model != "gnn" else {"device": device}
        model = model_class(saved.model).from_run(self, saved, memory_limit=memory_limit, **options)
        if where is None and mask is None:
            where = filter_of(saved)
        read: Mapping[str, Mapping[str, str]] = {}
        if where is not None:
            chosen = self._chosen(where, names, mask, named=sections is not None)
            mask, read, names = chosen["mask"], chosen["chosen_by"], list(chosen["mask"])
        graph = model.graph if graph_key is None else GraphSource(graph_key)
        model.graph = graph.keeping(self, names, mask, where)
        entries = tuple(
            model.write_embeddings(
                key, self.snapshot.runs[run], sections=names, hangs_on=read, progress=progress
            )
        )
        change = Change(add_derived=entries, expect={} if overwrite else seen.attempts_at(entries))
        self.commit(change, f"Embed {len(entries)} sections as {key} ({run})")
        return entries

    def tile_loader(self, sections: Sequence[str] | None = None, **options: Any) -> TileLoader:
        """Load blocks of cells and their exact surroundings; see `tisseract.models.tile_loader`."""
        from .models import tile_loader

        return tile_loader(self, sections, **options)

    def node_loader(self, sections: Sequence[str] | None = None, **options: Any) -> AtlasLoader:
        """Load sampled neighborhoods; see `tisseract.models.node_loader`."""
        from .models import node_loader

        return node_loader(self, sections, **options)

    def find_domains(
        self,
        method: Literal["plain", "gnn", "expression"] = "plain",
        *,
        n_domains: int | Literal["auto"],
        key_added: str = "domain",
        sections: Sequence[str] | None = None,
        seed: int = 0,
        graph_key: str | None = None,
        run: str | None = None,
        where: str | None = None,
        **options: Any,
    ) -> pd.DataFrame:
        """Label every cell of every section with a domain and commit the labels.

        Parameters
        ----------
        method
            `plain` (neighbor-smoothed PCA and a mixture, deterministic), `gnn` (a small inductive
            graph network; needs the `ml` extra) or `expression` (no neighbors, to compare with).
        n_domains
            How many; "auto" takes the number of 2 to 20 whose labels are stable.
        key_added
            Name of the labels.
        sections
            These alone; None is all.
        seed
            Of everything random.
        graph_key
            A stored graph; None is `spatial` where every section has it, else the nearest
            neighbors, found on the way; with a run, the kind of graph it was trained with.
        run
            A saved model to use. None fits one; of `gnn`, None is the only trained run of this
            atlas, as in `tisseract domains`, and one is trained where there is none.
        where
            Filter string, as of `query`: only these cells take part and get a label. None are
            the cells whose boolean obs column `qc_pass` is true, in sections that have one.
        **options
            `resolutions`, `mask`, `refine`, `n_neighs`, `overwrite`, `memory_limit`, `progress`
            and more; see `tisseract.models.find_domains`.

        Returns
        -------
        DataFrame
            Cells of each domain in each section; `atlas.domains(key_added).table()` tells more.
        """
        from .model_choices import default_graph, trained_run
        from .models.domains.find import find_domains

        if method == "gnn":
            run = trained_run(self, run)
        names = list(sections if sections is not None else self.section_names)
        if where is not None:
            options |= self._chosen(where, names, options.get("mask"), named=sections is not None)
            sections = names = list(options["mask"])
        return find_domains(
            self,
            method=method,
            n_domains=n_domains,
            key_added=key_added,
            sections=sections,
            seed=seed,
            graph_key=graph_key if run is not None else default_graph(self, graph_key, names),
            run=run,
            **options,
        )

    def _chosen(
        self, where: str, names: Sequence[str], mask: Any, *, named: bool
    ) -> dict[str, Any]:
        """Turn a filter into the arguments of `find_domains` that say which cells take part."""
        from .query.filters.masks import derived_inputs

        masks = self._masks(where, mask, names, named=named)
        return {
            "mask": masks,
            "where": where,
            "chosen_by": derived_inputs(self, where, list(masks)),
        }
