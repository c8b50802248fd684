"""Reads row groups of points and keeps the rows that answer."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..geometry.places import Place
from .plan import SectionPoints

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class GroupReader:
    """Row groups of one section, and what a point must satisfy; picklable."""

    plan: SectionPoints
    """The row groups."""
    place: Place | None
    """Where points must lie."""
    columns: tuple[str, ...]
    """Columns handed out."""
    cells: "pa.Array | None" = None
    """Cells they must belong to, by name; None is any and none."""

    @property
    def schema(self) -> "pa.Schema":
        """Columns as they are stored."""
        import pyarrow as pa

        stored = self.plan.points.schema
        return pa.schema([stored.field(name) for name in self.columns])

    def only_edges(self) -> "GroupReader":
        """Leave out groups that lie wholly in the place."""
        edge = ~self.plan.inside
        return replace(
            self,
            plan=replace(self.plan, groups=self.plan.groups[edge], inside=self.plan.inside[edge]),
        )

    def at(self, index: int) -> "GroupReader":
        """Keep one of its row groups."""
        one = slice(index, index + 1)
        plan = replace(self.plan, groups=self.plan.groups[one], inside=self.plan.inside[one])
        return replace(self, plan=plan)

    def batches(self, columns: tuple[str, ...] | None = None) -> "Iterator[pa.RecordBatch]":
        """Yield the rows that answer, group by group; groups without any are passed over."""
        import pyarrow as pa

        wanted = self.columns if columns is None else columns
        info = self.plan.points.info
        tests = [
            *([info.feature_key] if self.plan.features is not None else []),
            *([info.instance_key] if self.cells is not None else []),
        ]
        edge = dict(zip(self.plan.groups.tolist(), (~self.plan.inside).tolist(), strict=True))
        # Groups wholly inside need no position that was not asked for. Arrow takes a batch without
        # columns for one without rows, so that there is always one.
        outer = tuple(dict.fromkeys([*wanted, *tests, "x", "y"]))
        inner = tuple(dict.fromkeys([*wanted, *tests])) or ("x",)
        requests = [(group, outer if is_edge else inner) for group, is_edge in edge.items()]
        for group, batch in self.plan.points.read(requests):
            keep = self._keep(batch, tested=edge[group])
            if keep is None:
                yield batch.select(list(wanted or inner[:1]))
            elif keep.any():
                yield batch.filter(pa.array(keep)).select(list(wanted or inner[:1]))

    def _keep(self, batch: "pa.RecordBatch", *, tested: bool) -> "NDArray[np.bool_] | None":
        """Rows that answer; None is all of them."""
        info, keep = self.plan.points.info, None
        if tested and self.place is not None:
            xy = np.stack([batch.column(a).to_numpy(zero_copy_only=False) for a in "xy"], axis=1)
            keep = np.asarray(self.place.contains(xy.astype(np.float64, copy=False)))
        if self.plan.features is not None:
            ours = _is_gene(batch.column(info.feature_key), self.plan.features)
            keep = ours if keep is None else keep & ours
        if self.cells is not None:
            ours = _is_cell(batch.column(info.instance_key), self.cells)
            keep = ours if keep is None else keep & ours
        return keep

    def widened(self, batch: "pa.RecordBatch", schema: "pa.Schema") -> "pa.RecordBatch":
        """Bring a batch to the columns of all sections, with the section's name."""
        import pyarrow as pa

        arrays: list[Any] = []
        for one in schema:
            if one.name == "section":
                codes = pa.array(np.zeros(batch.num_rows, np.int32))
                arrays.append(pa.DictionaryArray.from_arrays(codes, [self.plan.section]))
            elif one.name in batch.schema.names:
                values = batch.column(one.name)
                arrays.append(values if values.type == one.type else values.cast(one.type))
            else:
                arrays.append(pa.nulls(batch.num_rows, one.type))
        return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _is_gene(values: Any, features: frozenset[str]) -> "NDArray[np.bool_]":
    """Whether each row is one of the genes; looks names up once a row group."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as kinds

    coded = values if kinds.is_dictionary(values.type) else pc.dictionary_encode(values)
    wanted = pc.is_in(coded.dictionary, value_set=pa.array(sorted(features), coded.dictionary.type))
    table = np.append(wanted.to_numpy(zero_copy_only=False), False)
    return np.asarray(table[pc.fill_null(coded.indices, len(table) - 1).to_numpy()])


def _is_cell(values: Any, cells: Any) -> "NDArray[np.bool_]":
    import pyarrow.compute as pc

    text = values.cast(cells.type) if values.type != cells.type else values
    return np.asarray(pc.is_in(text, value_set=cells).to_numpy(zero_copy_only=False))
