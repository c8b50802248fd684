"""What a model will need, from metadata alone: passes, bytes read, scratch on disk, peak memory."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..atlas.errors import StorageFull
from ..atlas.memory import format_bytes, refuse_above
from .components.projection import plan_pass
from .sizes import LEFT_BEHIND, OVERHEAD, writing_bytes

if TYPE_CHECKING:
    from ..atlas.section import Section

__all__ = ["CountsPlan", "ModelPlan", "StagePlan", "one_after_another", "refuse_full_disk"]


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage of the work.

    Attributes
    ----------
    name : str
    passes : int
        Over the counts of all sections.
    read_bytes : int
        Stored bytes of counts read by those passes.
    peak_bytes : int
        Projected growth of the process.
    knob : str
        What makes it smaller.
    """

    name: str
    passes: int
    read_bytes: int
    peak_bytes: int
    knob: str


def one_after_another(stages: Sequence[StagePlan]) -> list[StagePlan]:
    """Add to each stage what those before it leave behind with the allocator.

    Examples
    --------
    >>> stages = [StagePlan(name, 0, 0, OVERHEAD + 2**25, "") for name in "abcd"]
    >>> [(stage.peak_bytes - OVERHEAD) >> 20 for stage in one_after_another(stages)]
    [32, 64, 96, 96]
    """
    found, left = [], 0
    for stage in stages:
        found.append(replace(stage, peak_bytes=stage.peak_bytes + left))
        left = min(left + max(stage.peak_bytes - OVERHEAD, 0), LEFT_BEHIND)
    return found


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """How fitting and embedding will go: prints itself.

    Attributes
    ----------
    kind : str
        Kind of model.
    n_obs, n_sections, n_genes : int
    limit : int
        Memory limit, bytes.
    scratch_bytes : int
        Most that lies in the scratch folder at a time.
    stages : tuple of StagePlan
    """

    kind: str
    n_obs: int
    n_sections: int
    n_genes: int
    limit: int
    scratch_bytes: int
    stages: tuple[StagePlan, ...]

    @property
    def peak_bytes(self) -> int:
        """Projected peak above what the imports take."""
        return max((stage.peak_bytes for stage in self.stages), default=0)

    @property
    def read_bytes(self) -> int:
        """Stored bytes of counts read by all passes."""
        return sum(stage.read_bytes for stage in self.stages)

    @property
    def passes(self) -> int:
        """Passes over the counts."""
        return sum(stage.passes for stage in self.stages)

    def __str__(self) -> str:
        head = (
            f"{self.kind}: {self.n_obs:,} cells in {self.n_sections} sections x {self.n_genes:,} "
            f"genes; {self.passes} passes over the counts, {format_bytes(self.read_bytes)} read; "
            f"scratch {format_bytes(self.scratch_bytes)}; peak {format_bytes(self.peak_bytes)} of "
            f"{format_bytes(self.limit)}"
        )
        lines = [
            f"  {stage.name}: {stage.passes} passes, peak {format_bytes(stage.peak_bytes)}"
            for stage in self.stages
        ]
        return "\n".join([head, *lines])

    def refuse(self) -> None:
        """Refuse work that would not fit.

        Raises
        ------
        BudgetExceeded
            A stage needs more memory than the limit; the message says what makes it smaller.
        StorageFull
            The scratch folder has too little room.
        """
        for stage in self.stages:
            what = f"the stage {stage.name!r} of a {self.kind} model"
            refuse_above(self.limit, stage.peak_bytes, what, stage.knob)
        refuse_full_disk(self.scratch_bytes)


def refuse_full_disk(need: int) -> None:
    """Refuse work whose scratch files would not fit.

    Raises
    ------
    StorageFull
        The folder for temporary files has less room than `need` bytes.
    """
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if need > free:
        raise StorageFull(
            f"{format_bytes(need)} of scratch space are wanted, but got {format_bytes(free)} free "
            f"in {folder}; free some, or name a roomier folder in the variable TMPDIR"
        )


@dataclass(frozen=True, slots=True)
class CountsPlan:
    """Plans the stages that read counts and write embeddings.

    Attributes
    ----------
    sections : sequence of Section
    read_bytes : int
        Stored bytes of one pass over their counts.
    room : int
        Memory for blocks.
    """

    sections: Sequence["Section"]
    read_bytes: int
    room: int

    def fitting(self, n_shared: int, n_genes: int, flavor: str) -> list[StagePlan]:
        """Plan the choice of genes, where there is one, and the components."""
        knob = "choose fewer genes with `n_top_genes=`, or raise `memory_limit`"
        stages = []
        if n_shared > n_genes:
            passes = 2 if flavor == "seurat_v3" else 1
            sums = 100 * n_shared * (len(self.sections) + 1)
            peak = plan_pass(self.sections, 1, self.room, gram=False).peak_bytes + sums
            stages.append(
                StagePlan("genes", passes, passes * self.read_bytes, OVERHEAD + peak, knob)
            )
        peak = plan_pass(self.sections, n_genes, self.room).peak_bytes
        return [*stages, StagePlan("components", 1, self.read_bytes, OVERHEAD + peak, knob)]

    def scores(self, n_genes: int) -> StagePlan:
        """Plan the projection of every cell."""
        peak = plan_pass(self.sections, n_genes, self.room, gram=False).peak_bytes
        return StagePlan("scores", 1, self.read_bytes, OVERHEAD + peak, "raise `memory_limit`")

    def writing(self, width: int) -> StagePlan:
        """Plan the writing of embeddings of some width."""
        peak = OVERHEAD + writing_bytes(self.sections, width)
        return StagePlan("writing", 0, 0, peak, "keep fewer dimensions, or raise `memory_limit`")
