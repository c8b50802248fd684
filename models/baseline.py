"""The plain models: principal components, smoothed over the neighborhood or left as they are.

Deterministic, without torch. `docs/decisions/003-domain-baseline.md` says what was tried.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, override

import numpy as np
from numpy.typing import NDArray

from ..atlas.errors import InvalidArgument
from .components.harmony import Harmony, HarmonyOptions, fit_harmony
from .components.harmony_memory import correction_bytes, harmony_bytes
from .components.projection import CellsDone, Progress, cells_counted
from .domains.smoothing import BLOCK_ROWS, smooth_section
from .genes.plan import CHOICES
from .lifecycle import AtlasModel
from .numbers import refuse_wrong
from .planning import CountsPlan, StagePlan
from .rows.file import RowFile, kept_blocks
from .sampling.graph_source import GraphSource
from .sizes import (
    LEFT_BEHIND,
    OVERHEAD,
    HaloSize,
    largest_block,
    mean_degree,
    smoothing_bytes,
)

if TYPE_CHECKING:
    from ..atlas.section import Section
    from ..atlas.store import AtlasStore

__all__ = ["DomainBaseline", "ExpressionBaseline"]

CORRECT_ROWS = 4096
_FEWER_CLUSTERS = "take fewer `n_clusters`, `n_comps` or `n_hops`, or raise `memory_limit`"


def batch_of(section: "Section", key: str) -> str:
    """Return the batch that a section belongs to.

    Parameters
    ----------
    section : Section
    key : str
        "section" for its own name; else a key of its metadata, or an obs column that has one
        value in it.

    Raises
    ------
    InvalidArgument
        The section has no such value, or several.
    """
    if key == "section":
        return section.name
    value = section.metadata.get(key)
    if value is None and key in section.obs_columns:
        found = section.obs(columns=[key], index=False)[key].unique().tolist()
        if len(found) != 1:
            raise InvalidArgument(
                f"wanted one value of batch_key={key!r} in section {section.name!r}, but got "
                f"{len(found)}, such as {found[:3]}; name a column that tells sections apart"
            )
        value = found[0]
    if value is None or (isinstance(value, float) and np.isnan(value)):
        raise InvalidArgument(
            f"wanted a value of batch_key={key!r} in section {section.name!r}, but got none; name "
            'a key of the metadata of every section, an obs column, or "section"'
        )
    return str(value)


class DomainBaseline(AtlasModel):
    """Neighbor-smoothed principal components: means over hop shells, centered per section.

    Parameters
    ----------
    store, sections, graph, n_comps, n_top_genes, memory_limit, seed
        See `AtlasModel`; the seed is recorded, nothing here is random.
    n_hops : int
        Shells; the embedding has `n_hops * n_comps` columns.
    flavor : {"variance", "seurat_v3", "seurat"}
        How genes are chosen when sections share more than `n_top_genes`.
    integrate : {"harmony"}, optional
        Remove batch effects from the smoothed components; nothing without.
    batch_key : str
        What a batch is: "section", a key of the sections' metadata (patient, donor), or an obs
        column of one value per section.
    theta, sigma, n_clusters, max_iter
        See `HarmonyOptions`.

    Notes
    -----
    Two passes over the counts (three when genes must be chosen, one more to integrate), one over
    the graph (two to integrate). A section of a batch that took no part in the fit is mapped onto
    the clusters by itself (`Harmony.with_batch`); one of a known batch gets that batch's
    correction.
    """

    kind: ClassVar[str] = "plain"

    def __init__(
        self,
        store: "AtlasStore",
        *,
        sections: Sequence[str] | None = None,
        graph: GraphSource | None = None,
        n_comps: int = 30,
        n_top_genes: int = 2000,
        n_hops: int = 4,
        flavor: str = "variance",
        integrate: str | None = None,
        batch_key: str = "section",
        theta: float = 2.0,
        sigma: float = 0.1,
        n_clusters: int | None = None,
        max_iter: int = 10,
        memory_limit: str | int | None = None,
        seed: int = 0,
    ) -> None:
        refuse_wrong(locals())
        super().__init__(
            store,
            sections=sections,
            graph=graph,
            n_comps=n_comps,
            n_top_genes=n_top_genes,
            memory_limit=memory_limit,
            seed=seed,
        )
        if flavor not in CHOICES:
            raise InvalidArgument(f"wanted a flavor of {', '.join(CHOICES)}, but got {flavor!r}")
        if integrate not in (None, "harmony"):
            raise InvalidArgument(
                f'wanted integrate="harmony" or nothing, but got integrate={integrate!r}'
            )
        self.n_hops, self.flavor = n_hops, flavor
        self.integrate, self.batch_key = integrate, batch_key
        self.harmony_options = HarmonyOptions(theta, sigma, 1.0, n_clusters, max_iter, self.seed)
        self.harmony: Harmony | None = None

    @property
    @override
    def width(self) -> int:
        """Columns of the embedding."""
        return self.n_hops * self.n_comps

    @override
    def _fit(self, progress: Progress | None) -> None:
        """Fit the correction of batch effects, where one is wanted."""
        if self.integrate is None:
            return
        sections = [self.store.section(name) for name in self.section_names]
        tables: dict[str, RowFile] = {}
        with tempfile.TemporaryDirectory(prefix="tisseract-") as scratch:
            try:
                done = cells_counted(progress, "integrate", sum(s.n_obs for s in sections), 2)
                for section in sections:
                    tables[section.name] = self._counted(section, Path(scratch), done)
                self.harmony = fit_harmony(
                    tables,
                    {s.name: batch_of(s, self.batch_key) for s in sections},
                    scratch=Path(scratch),
                    options=self.harmony_options,
                )
            finally:
                for table in tables.values():
                    table.close()

    def _counted(self, section: "Section", folder: Path, done: CellsDone) -> RowFile:
        """Write the smoothed components of the cells that take part."""
        table, _ = self._smoothed(section, folder, done)
        mask = self._mask(section)
        if mask is None:
            return table
        with table:
            kept = RowFile(folder / f"kept-{section.attempt}", int(mask.sum()), table.width)
            start = 0
            for block in kept_blocks(table, mask, CORRECT_ROWS):
                kept.write(start, block)
                start += len(block)
        return kept

    def _mask(self, section: "Section") -> NDArray[np.bool_] | None:
        return self.graph.mask_of(section.name)

    def _correct(self, section: "Section", table: RowFile) -> None:
        """Remove the batch effect from the smoothed components of a section, in place."""
        if self.harmony is None:
            return
        model, batch = self.harmony, batch_of(section, self.batch_key)
        if batch not in model.batches:
            model = model.with_batch(
                batch, lambda: kept_blocks(table, self._mask(section), CORRECT_ROWS)
            )
        start = 0
        for block in table.blocks(CORRECT_ROWS):
            table.write(start, model.correct(block, batch))
            start += len(block)

    @override
    def _embed(
        self, section: "Section", folder: Path, done: CellsDone
    ) -> tuple[RowFile, Mapping[str, str]]:
        table, inputs = self._smoothed(section, folder, done)
        # components corrected before part again once noise is averaged away
        self._correct(section, table)
        return table, inputs

    def _smoothed(
        self, section: "Section", folder: Path, done: CellsDone
    ) -> tuple[RowFile, Mapping[str, str]]:
        neighbors = self.graph.open(self.store, section.name)
        with self.scores(section, folder, done) as scores:
            table = smooth_section(
                neighbors.graph,
                scores,
                hops=self.n_hops,
                path=folder / f"plain-{section.attempt}",
                mask=self._mask(section),
                block_rows=self._smoothing([section])[0],
                done=done,
            )
        return table, neighbors.inputs

    def _smoothing(self, sections: Sequence["Section"]) -> tuple[int, int]:
        """Rows smoothed at once, and the bytes that takes."""
        degree = mean_degree(self.graph, self.store, sections)
        width, hops = self.n_comps, self.n_hops

        most = max(section.n_obs for section in sections)

        def need(rows: int) -> int:
            halo = HaloSize.of(rows, hops=hops, degree=degree, most=most)
            return smoothing_bytes(halo, width, hops)

        room = self._room - LEFT_BEHIND
        rows = largest_block(min(BLOCK_ROWS, max(most, 1)), room, need)
        return rows, need(rows)

    @override
    def _embed_stages(self, counts: CountsPlan, n_genes: int) -> list[StagePlan]:
        peak = OVERHEAD + self._smoothing(counts.sections)[1]
        knob = "take fewer hops or a graph of fewer neighbors, or raise `memory_limit`"
        return [
            counts.scores(n_genes),
            StagePlan("smoothing", 0, 0, peak, knob),
            *self._correction(counts),
            counts.writing(self.width),
        ]

    def _correction(self, counts: CountsPlan) -> list[StagePlan]:
        """Plan the correction of a block, where there is one."""
        if self.integrate is None:
            return []
        for section in counts.sections:
            batch_of(section, self.batch_key)  # refused before anything is computed
        rows = sum(section.n_obs for section in counts.sections)
        clusters = self.harmony_options.clusters(rows)
        peak = OVERHEAD + correction_bytes(rows, self.width, clusters)
        return [StagePlan("correction", 0, 0, peak, _FEWER_CLUSTERS)]

    @override
    def _fit_stages(self, counts: CountsPlan) -> list[StagePlan]:
        if self.integrate is None:
            return []
        batches = {batch_of(section, self.batch_key) for section in counts.sections}
        if len(batches) < 2:
            raise InvalidArgument(
                f"wanted sections of at least two batches, but got batch_key={self.batch_key!r}, "
                f"which is {', '.join(batches)} in every one; choose another `batch_key`, or do "
                "not integrate"
            )
        rows = sum(section.n_obs for section in counts.sections)
        need = harmony_bytes(
            rows,
            self.width,
            n_clusters=self.harmony_options.clusters(rows),
            n_batches=len(batches),
            max_iter=self.harmony_options.max_iter,
        )
        return [StagePlan("integration", 0, 0, OVERHEAD + need, _FEWER_CLUSTERS)]

    @override
    def _scratch(self, n_obs: Sequence[int], *, with_fit: bool) -> int:
        # a correction is fitted on the smoothed rows, and keeps two more copies of them
        copies = 3 if with_fit and self.integrate else 1
        return 4 * self.n_comps * (copies * self.n_hops * sum(n_obs) + max(n_obs, default=0))

    @override
    def _settings(self) -> dict[str, Any]:
        own: dict[str, Any] = {"n_hops": self.n_hops, "flavor": self.flavor}
        if self.integrate is None:
            return own
        options = self.harmony_options
        return own | {
            "integrate": self.integrate,
            "batch_key": self.batch_key,
            "theta": options.theta,
            "sigma": options.sigma,
            "n_clusters": options.n_clusters,
            "max_iter": options.max_iter,
        }

    @override
    def _weights(self) -> dict[str, NDArray[Any]]:
        if self.harmony is None:
            return {}
        # names are no numbers: their JSON is kept as bytes
        names = np.frombuffer(json.dumps(self.harmony.batches).encode(), dtype=np.uint8)
        arrays = {f"harmony.{name}": v for name, v in self.harmony.to_weights().items()}
        return {**arrays, "harmony.batches": names}

    @override
    def _restore(self, weights: Mapping[str, NDArray[Any]]) -> None:
        if self.integrate is None:
            return
        arrays = {
            name.removeprefix("harmony."): value
            for name, value in weights.items()
            if name.startswith("harmony.")
        }
        names = json.loads(np.asarray(arrays.pop("batches"), np.uint8).tobytes())
        self.harmony = Harmony.from_weights(arrays, names, self.harmony_options)


class ExpressionBaseline(AtlasModel):
    """Principal components of each cell alone: what clustering without neighbors sees."""

    kind: ClassVar[str] = "expression"
    embed_passes: ClassVar[int] = 1

    @override
    def _fit(self, progress: Progress | None) -> None:
        """Nothing on top of the components is fitted."""

    @override
    def _embed(
        self, section: "Section", folder: Path, done: CellsDone
    ) -> tuple[RowFile, Mapping[str, str]]:
        return self.scores(section, folder, done), {}

    @override
    def _settings(self) -> dict[str, Any]:
        return {}

    @override
    def _weights(self) -> dict[str, NDArray[Any]]:
        return {}

    @override
    def _restore(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Nothing to take back."""
