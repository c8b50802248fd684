"""What an index is made of, as a value: equal parameters make windows that can be compared."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from ...atlas.errors import InvalidArgument

type Unit = Literal["um", "spacing"]

DEFAULT_UM = (100.0, 200.0, 400.0)
PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class IndexParameters:
    """How windows are laid and described."""

    space: str
    """`plain`, or the key of a stored embedding."""
    sizes: tuple[float, ...]
    """Sides of the windows, ascending."""
    unit: Unit
    """Of the sizes: micrometers, or median distances to the nearest cell of each section."""
    columns: tuple[str, ...] = ()
    """Columns of which each window keeps the shares."""
    where: str | None = None
    """Which cells take part; None is those that pass QC, where sections say which do."""
    all_cells: bool = False
    n_genes: int = 2000
    n_dims: int = 30
    min_cells: int = 3

    def __post_init__(self) -> None:
        sizes = np.asarray(self.sizes, float)
        sound = bool(len(sizes)) and bool(np.isfinite(sizes).all()) and bool((sizes > 0).all())
        if not sound or len(set(self.sizes)) < len(self.sizes):
            raise InvalidArgument(
                f"different window sizes above zero are wanted, but got {self.sizes!r}; "
                "write window_um=(100, 200, 400)"
            )
        for name in ("n_genes", "n_dims", "min_cells"):
            if getattr(self, name) < 1:
                raise InvalidArgument(
                    f"{name} of at least 1 is wanted, but got {getattr(self, name)!r}"
                )
        if self.where is not None and self.all_cells:
            raise InvalidArgument("where= or all_cells=True is wanted, but got both")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON knows them."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "IndexParameters":
        """Read plain values back."""
        known = {name: values[name] for name in cls.__slots__ if name in values}
        for name in ("sizes", "columns"):
            known[name] = tuple(known.get(name, ()))
        return cls(**known)

    def differences(self, other: "IndexParameters") -> list[str]:
        """Names of the parameters in which two indexes differ."""
        mine, theirs = self.to_dict(), other.to_dict()
        return [name for name in mine if mine[name] != theirs[name]]

    def size(self, window_um: float | None, window_spacings: float | None) -> int:
        """Find the number of the size that is asked for; the middle one where none is.

        Raises
        ------
        InvalidArgument
            A size that the index does not have.
        """
        if window_um is not None and window_spacings is not None:
            raise InvalidArgument("window_um= or window_spacings= is wanted, but got both")
        asked = window_um if window_um is not None else window_spacings
        if asked is None:
            return len(self.sizes) // 2
        unit: Unit = "um" if window_um is not None else "spacing"
        name = "window_um" if self.unit == "um" else "window_spacings"
        if unit != self.unit or float(asked) not in self.sizes:
            listed = ", ".join(f"{size:g}" for size in self.sizes)
            raise InvalidArgument(
                f"{name} of the index ({listed}) is wanted, but got "
                f"{'window_um' if unit == 'um' else 'window_spacings'}={asked!r}; "
                "build an index with this size"
            )
        return self.sizes.index(float(asked))


def window_sizes(
    window_um: Sequence[float] | float | None, window_spacings: Sequence[float] | float | None
) -> tuple[tuple[float, ...], Unit]:
    """Sizes and their unit, as they were asked for.

    >>> window_sizes(None, 3)
    ((3.0,), 'spacing')
    """
    if window_um is not None and window_spacings is not None:
        raise InvalidArgument("window_um= or window_spacings= is wanted, but got both")
    given = window_spacings if window_spacings is not None else window_um
    unit: Unit = "spacing" if window_spacings is not None else "um"
    if given is None:
        return DEFAULT_UM, unit
    values = [given] if isinstance(given, int | float) else list(given)
    return tuple(sorted(float(value) for value in values)), unit
