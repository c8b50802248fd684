"""Which graph is wanted, as a value: kind and options under squidpy's names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from ..errors import InvalidArgument, near
from .spec_checks import CHECKS, Unfit

__all__ = [
    "GraphKind",
    "GraphSpec",
    "Lattice",
    "ParameterValue",
    "Radius",
    "Transform",
    "describe",
]

type GraphKind = Literal["knn", "radius", "delaunay", "grid"]
type Lattice = Literal["hex", "square", "auto"]
type Transform = Literal["spectral", "cosine"]
type Radius = float | tuple[float, float]
type ParameterValue = str | int | float | bool | list[float] | None

_KINDS = ("knn", "radius", "delaunay", "grid")
_COMMON = ("transform", "set_diag")
_OPTIONS: dict[str, tuple[str, ...]] = {
    "knn": ("n_neighs", "radius", "percentile", "symmetrize", *_COMMON),
    "radius": ("radius", "percentile", "symmetrize", *_COMMON),
    "delaunay": ("radius", "percentile", "symmetrize", *_COMMON),
    "grid": ("lattice", "n_rings", "symmetrize", *_COMMON),
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "knn": {"n_neighs": 6},
    "radius": {},
    "delaunay": {},
    "grid": {"lattice": "auto", "n_rings": 1},
}


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """A kind of neighborhood graph with its options; says nothing about where it is wanted.

    Made by `knn(10)`, `within(30)` (all within a radius), `delaunay()`, `grid()` or
    `of("radius", radius=30)`, which check the options; fields that a kind has no use for are at
    their defaults. `radius` itself is a field.

    Examples
    --------
    >>> print(GraphSpec.knn(10))
    knn graph: n_neighs=10
    >>> print(GraphSpec.delaunay(radius=50, percentile=99))
    delaunay graph: radius=[0.0, 50.0], percentile=99.0
    """

    kind: GraphKind
    """knn, radius, delaunay or grid."""
    n_neighs: int | None = None
    """Neighbors of a cell (knn)."""
    radius: Radius | None = None
    """Greatest length of an edge, or shortest and greatest, both included, in the unit of the
    positions. A cap for knn, pruning for delaunay."""
    lattice: Lattice | None = None
    """Kind of lattice (grid)."""
    n_rings: int | None = None
    """Rings of neighbors (grid)."""
    percentile: float | None = None
    """Edges longer than this percentile of all edges of the section are left out."""
    symmetrize: bool = False
    """Edges in either direction become edges in both (knn, grid; the others are so already)."""
    transform: Transform | None = None
    """What squidpy's form does to the connectivities; nothing on disk depends on it."""
    set_diag: bool = False
    """Whether squidpy's form has ones on the diagonal; nothing on disk depends on it."""

    @classmethod
    def knn(
        cls,
        n_neighs: int = 6,
        *,
        radius: Radius | None = None,
        percentile: float | None = None,
        symmetrize: bool = False,
        transform: Transform | None = None,
        set_diag: bool = False,
    ) -> GraphSpec:
        """Ask for the k nearest others of each cell, perhaps only those within a radius."""
        return cls.of(
            "knn",
            n_neighs=n_neighs,
            radius=radius,
            percentile=percentile,
            symmetrize=symmetrize,
            transform=transform,
            set_diag=set_diag,
        )

    @classmethod
    def within(
        cls,
        radius: Radius,
        *,
        percentile: float | None = None,
        transform: Transform | None = None,
        set_diag: bool = False,
    ) -> GraphSpec:
        """Ask for all others within a radius (kind `radius`), or at distances of an interval."""
        return cls.of(
            "radius", radius=radius, percentile=percentile, transform=transform, set_diag=set_diag
        )

    @classmethod
    def delaunay(
        cls,
        *,
        radius: Radius | None = None,
        percentile: float | None = None,
        transform: Transform | None = None,
        set_diag: bool = False,
    ) -> GraphSpec:
        """Ask for the edges of the Delaunay triangulation, perhaps only those of some lengths."""
        return cls.of(
            "delaunay", radius=radius, percentile=percentile, transform=transform, set_diag=set_diag
        )

    @classmethod
    def grid(
        cls,
        lattice: Lattice = "auto",
        *,
        n_rings: int = 1,
        symmetrize: bool = False,
        transform: Transform | None = None,
        set_diag: bool = False,
    ) -> GraphSpec:
        """Ask for neighbors on a lattice of spots or bins, ring by ring."""
        return cls.of(
            "grid",
            lattice=lattice,
            n_rings=n_rings,
            symmetrize=symmetrize,
            transform=transform,
            set_diag=set_diag,
        )

    @classmethod
    def of(cls, kind: str, **options: Any) -> GraphSpec:
        """Check a kind and its options, all of them before anything is refused.

        Parameters
        ----------
        kind : str
            knn, radius, delaunay or grid; hex and square are grids of that lattice.
        **options
            Fields of this class; None is the default of the kind.

        Returns
        -------
        GraphSpec

        Raises
        ------
        InvalidArgument
            Names every option that is unknown, does not belong to the kind or has no good value.

        Examples
        --------
        >>> GraphSpec.of("hex", n_rings=2).parameters()
        {'lattice': 'hex', 'n_rings': 2}
        """
        kind, options = _spell_out(kind, options)
        if kind not in _KINDS:
            raise InvalidArgument(
                f"a graph 'knn', 'radius', 'delaunay' or 'grid' is wanted, but got {kind!r}."
                f"{near(kind, _KINDS)}"
            )
        faults: list[str] = []
        values: dict[str, Any] = {}
        given = {name: value for name, value in options.items() if value is not None}
        for name, value in (_DEFAULTS[kind] | given).items():
            if name not in _OPTIONS[kind]:
                if value is not False:
                    faults.append(_stranger(kind, name, value))
                continue
            try:
                values[name] = CHECKS[name](value)
            except Unfit as unfit:
                faults.append(str(unfit))
        if kind == "radius" and "radius" not in given:
            faults.append("a radius graph wants a radius, but got none; give one, such as 30")
        if faults:
            head = "" if len(faults) == 1 else f"{len(faults)} faults in the graph asked for:\n  "
            raise InvalidArgument(head + "\n  ".join(faults))
        if kind in ("radius", "delaunay"):
            values["symmetrize"] = False  # d(i, j) = d(j, i): nothing to add
        if kind == "delaunay" and isinstance(values.get("radius"), float):
            values["radius"] = (0.0, values["radius"])  # as squidpy has it
        return cls(kind=cast("GraphKind", kind), **values)

    @classmethod
    def read(cls, kind: str, parameters: Mapping[str, Any]) -> GraphSpec:
        """Return the spec of a stored graph; see `parameters`."""
        known = {name: value for name, value in parameters.items() if name in CHECKS}
        return cls.of(kind, **known)

    @property
    def interval(self) -> tuple[float, float]:
        """Shortest and greatest length of an edge, both included.

        Examples
        --------
        >>> GraphSpec.within(30).interval, GraphSpec.knn().interval
        ((0.0, 30.0), (0.0, inf))
        """
        if self.radius is None:
            return 0.0, math.inf
        return self.radius if isinstance(self.radius, tuple) else (0.0, self.radius)

    @property
    def prunes(self) -> bool:
        """Whether edges of the base graph are left out for their length."""
        capped = self.kind != "radius" and self.radius is not None
        return capped or self.percentile is not None

    def parameters(self) -> dict[str, ParameterValue]:
        """Return what is stored and compared on resume: options of the kind that are not at rest.

        Examples
        --------
        >>> GraphSpec.knn(6).parameters()
        {'n_neighs': 6}
        >>> GraphSpec.within((30, 10), set_diag=True).parameters()
        {'radius': [10.0, 30.0], 'set_diag': True}
        """
        found: dict[str, ParameterValue] = {}
        for name in _OPTIONS[self.kind]:
            value = getattr(self, name)
            if value is not None and value is not False:
                found[name] = list(value) if isinstance(value, tuple) else value
        return found

    def __str__(self) -> str:
        return describe(self.kind, self.parameters())


def describe(kind: str, parameters: Mapping[str, ParameterValue], of: str = "") -> str:
    """Name a graph by kind and parameters; of a mask without a filter, the head of its digest.

    Examples
    --------
    >>> describe("delaunay", {"where": "qc_pass", "mask": "sha256:155fb37aaaf840d3"}, of=" of S1")
    'delaunay graph of S1: where=qc_pass'
    """
    shown = dict(parameters)
    mask = str(shown.pop("mask", ""))
    if mask and "where" not in shown:
        shown["mask"] = mask.removeprefix("sha256:")[:12]
    listed = ", ".join(f"{name}={value}" for name, value in shown.items())
    return f"{kind} graph{of}" + (f": {listed}" if listed else "")


def _spell_out(kind: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if kind in ("hex", "square"):
        return "grid", {**options, "lattice": kind}
    return kind, options


def _stranger(kind: str, name: str, value: object) -> str:
    if name == "delaunay":
        return f"a triangulation is a kind of its own, but got {name}={value!r}; ask for 'delaunay'"
    owners = [other for other in _KINDS if name in _OPTIONS[other]]
    if not owners:
        return f"an option of graphs is wanted, but got {name}={value!r}.{near(name, CHECKS)}"
    return (
        f"{name} belongs to {' and '.join(owners)} graphs, but got {name}={value!r} for a {kind} "
        "graph; leave it out"
    )
