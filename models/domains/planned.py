"""How much memory domains take once cells are embedded: the mixture, labels, the vote on them."""

from collections.abc import Sequence
from dataclasses import replace

from ..planned import PlannedModel
from ..planning import ModelPlan, StagePlan
from ..sizes import LEFT_BEHIND, OVERHEAD, HaloSize, mean_degree
from .mixture_fit import SAMPLE_ROWS
from .smoothing import BLOCK_ROWS
from .stability import MOST_RUNS, NUMBERS

__all__ = ["mixture_bytes", "plan_domains", "readout_stages"]

_STARTS = 20 + 3  # kept until the best is known
_LABEL = 7  # bytes of a cell for its label, its confidence and whether it takes part
_VOTE_HOPS = 2


def mixture_bytes(n_rows: int, width: int, n_domains: int, *, tied: bool) -> int:
    """Return about what fitting a mixture takes, `fit_mixture` and the choice of its number.

    Parameters
    ----------
    n_rows : int
        Rows of all sections together.
    width : int
        Columns.
    n_domains : int
        Components.
    tied : bool
        Whether they share one covariance.

    Examples
    --------
    >>> mixture_bytes(10**6, 120, 8, tied=True) // 2**20
    100
    """
    rows = min(n_rows, SAMPLE_ROWS)
    # the sample as it is, centered and whitened; then what a turn makes of it
    sample = 8 * rows * (3 * width + (2 if tied else 3) * width + 5 * n_domains)
    matrix = 8 * width**2 * (1 if tied else n_domains)
    return sample + (_STARTS + 6) * matrix


def readout_stages(
    n_obs: Sequence[int],
    width: int,
    n_domains: int | None,
    *,
    tied: bool,
    degree: float | None,
) -> list[StagePlan]:
    """Plan the stages from embeddings to labels.

    Parameters
    ----------
    n_obs : sequence of int
        Cells of each section.
    width : int
        Columns of the embedding.
    n_domains : int, optional
        Chosen among 2 to 20 without.
    tied : bool
        Whether domains share one covariance.
    degree : float, optional
        Neighbors per cell, where they vote on labels.

    Returns
    -------
    list of StagePlan
    """
    every, most = sum(n_obs), max(n_obs, default=0)
    components = NUMBERS[1] + 1 if n_domains is None else n_domains
    peak = mixture_bytes(every, width, components, tied=tied)
    if n_domains is None:
        peak += 2 * MOST_RUNS * components * min(every, SAMPLE_ROWS)
    fewer = "keep fewer dimensions (`n_comps`, `n_hops`) or domains, or raise `memory_limit`"
    stages = [StagePlan("mixture", 0, 0, OVERHEAD + peak, fewer)]
    labels = _LABEL * (every + 2 * most)
    if degree is not None:
        halo = HaloSize.of(min(BLOCK_ROWS, most), hops=_VOTE_HOPS, degree=degree, most=most)
        labels += halo.nbytes
    knob = "take fewer sections or a graph of fewer neighbors, or raise `memory_limit`"
    return [*stages, StagePlan("labels", 0, 0, OVERHEAD + labels, knob)]


def plan_domains(
    model: PlannedModel,
    names: Sequence[str],
    n_domains: int | None,
    *,
    tied: bool,
    vote: bool,
) -> ModelPlan:
    """Plan domains from the model that embeds to the labels, before anything is computed.

    Parameters
    ----------
    model : PlannedModel
    names : sequence of str
        Sections.
    n_domains : int, optional
        Chosen among 2 to 20 without.
    tied, vote : bool
        Whether domains share one covariance; whether neighbors vote on labels.

    Returns
    -------
    ModelPlan
    """
    embedding = model.plan(names)
    sections = [model.store.section(name) for name in names]
    degree = mean_degree(model.graph, model.store, sections) if vote else None
    left = min(max(embedding.peak_bytes - OVERHEAD, 0), LEFT_BEHIND)
    n_obs = [section.n_obs for section in sections]
    stages = readout_stages(n_obs, model.width, n_domains, tied=tied, degree=degree)
    added = (replace(stage, peak_bytes=stage.peak_bytes + left) for stage in stages)
    return replace(embedding, stages=(*embedding.stages, *added))
