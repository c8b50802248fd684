"""Which graphs are still to be built, and which must not be replaced unasked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...errors import InvalidArgument
from ..serial.stored import Z_KIND, split_key

if TYPE_CHECKING:
    from ...snapshot import DerivedEntry
    from .order import Order

__all__ = ["unbuilt_orders"]

# Parameters that differ from graph to graph of one name.
_OWN_OF_SECTION = frozenset({"mask"})
_OWN_OF_PAIR = frozenset({"gap_um", "transform", "transform_to"})


def unbuilt_orders(orders: Iterable[Order], *, overwrite: bool) -> list[Order]:
    """Return the orders whose graph is not there yet, having refused what building would refuse.

    Raises
    ------
    InvalidArgument
        Such a graph is there, built otherwise; or a section lies on no lattice.
    """
    missing = [order for order in orders if order.committed() is None]
    if not overwrite:
        _refuse_replacing(missing)
    for order in missing:
        # Before the first is built: a section without a lattice should not show up hours later.
        order.graph.check()
    return missing


def _refuse_replacing(missing: Sequence[Order]) -> None:
    """Refuse to replace good graphs unasked: labels that hang on them would become stale.

    Nor is a stale graph replaced by another kind while others of its name hold what it was: one
    name would then mean two things.
    """
    rebuilt = {order.name for order in missing}
    for order in missing:
        entry = order.found()
        if entry is None:
            continue
        cost = ""
        if dict(entry.inputs) != dict(order.graph.inputs):
            cost = _kept(order, entry, rebuilt)
            if not cost:
                continue
        hanging = sorted(
            other.name
            for other in order.store.snapshot.derived.values()
            if entry.name in other.inputs
        )
        if hanging and not cost:
            cost = f", which would make {', '.join(hanging[:3])} stale"
        raise InvalidArgument(
            f"a new name is wanted for this graph, but section {_words(entry)} has a graph "
            f"{order.key!r} built with {entry.info.get('kind')} "
            f"{dict(entry.info.get('parameters', {}))}; "
            f"give another key_added, or overwrite=True{cost}"
        )


def _kept(order: Order, entry: DerivedEntry, rebuilt: set[str]) -> str:
    """Say which others keep what a stale graph was, if the one wanted is something else."""
    plan = order.graph.plan
    if _recipe(entry) == (plan.kind, _lasting(order.kind, plan.parameters)):
        return ""
    same = [
        _words(other)
        for other in order.store.snapshot.derived.values()
        if (other.kind, split_key(other)[0]) == (order.kind, order.key)
        and other.name not in rebuilt
        and _recipe(other) == _recipe(entry)
    ]
    return f"; sections {', '.join(same[:3])} keep theirs" if same else ""


def _words(entry: DerivedEntry) -> str:
    """Name of the section of a graph that is there, and of the neighbor if there is one."""
    neighbor = split_key(entry)[1]
    return f"{entry.section!r}" + (f" to {neighbor!r}" if neighbor else "")


def _recipe(entry: DerivedEntry) -> tuple[object, dict[str, object]]:
    """Kind and parameters of a graph that is there."""
    return entry.info.get("kind"), _lasting(entry.kind, entry.info.get("parameters", {}))


def _lasting(kind: str, parameters: Mapping[str, Any]) -> dict[str, object]:
    """Parameters without those that differ from graph to graph."""
    own = _OWN_OF_PAIR if kind == Z_KIND else _OWN_OF_SECTION
    return {name: value for name, value in parameters.items() if name not in own}
