"""A selection as dask arrays: its shape is known, its values are read when they are computed."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import InvalidArgument
from ...atlas.memory import parse_bytes
from ..expression.choice import GeneChoice, Missing, settle
from ..expression.mixture import check_log, warn_mixed
from .blocks import Block, cut, rows_within
from .reading import Recipe, of_section, read_names, read_places, read_sections, read_values

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr

    from ..cells.rows import RunArray
    from ..cells.selection import Selection

__all__ = ["to_dask", "to_xarray"]

# A value in memory as CSR: float32 and int32; twice while the genes wanted are picked.
_ENTRY_BYTES = 16
_VALUE_BYTES = 4


def to_dask(
    selection: "Selection",
    *,
    normalize: str | None = None,
    missing: Missing | None = None,
    dense: bool = False,
    block_bytes: str | int = "64 MiB",
) -> "da.Array":
    """Hand out the values of a selection as one dask array that is not read yet.

    Parameters
    ----------
    selection
        What to read. Its cells are found now (positions and columns of the filter, where tile
        statistics leave them open), so that the shape is known; counts are not.
    normalize, missing
        As for `to_anndata`.
    dense
        NumPy blocks; otherwise blocks are `scipy.sparse.csr_matrix`, of which dask's own
        reductions know little: map a function over the blocks.
    block_bytes
        Memory of a block while it is read. A block is a run of tiles of one section.

    Returns
    -------
    dask.array.Array
        (n, g) float32, cells in the order of the selection, genes as in `selection.genes`.

    Raises
    ------
    InvalidArgument, GeneNotFound
        As for `to_anndata`.
    """
    choice, parts, recipe = _settled(selection, normalize, missing, dense=dense)
    blocks = _blocks(selection, parts, choice, recipe=recipe, block_bytes=block_bytes)
    return _values(recipe, choice, blocks)


def to_xarray(
    selection: "Selection",
    *,
    normalize: str | None = None,
    missing: Missing | None = None,
    block_bytes: str | int = "64 MiB",
) -> "xr.Dataset":
    """Hand out a selection as an xarray Dataset that is not read yet.

    Parameters
    ----------
    selection
        What to read; its cells are found now, as for `to_dask`.
    normalize, missing
        As for `to_anndata`.
    block_bytes
        Memory of a block of dense values.

    Returns
    -------
    xarray.Dataset
        Dimensions `cell` and `gene`. `X` (cell, gene) float32 in dense blocks; coordinates over
        cells `x`, `y` (float64), `section` and `cell_id` (`{section}:{id}`), chunked as `X` is;
        over genes `gene` (index), `gene_id`, `symbol`. Attributes say snapshot, query and units.

    Raises
    ------
    InvalidArgument, GeneNotFound
        As for `to_anndata`.
    """
    import xarray as xr

    from ..exports.to_anndata import describe

    choice, parts, recipe = _settled(selection, normalize, missing, dense=True)
    blocks = _blocks(selection, parts, choice, recipe=recipe, block_bytes=block_bytes)
    store = recipe.store
    points = _per_cell(read_places, blocks, (store,), np.dtype(np.float64), width=2)
    longest = max([1, *(len(block.section) for block in blocks)])
    names = np.dtype(f"<U{longest}")
    notes = describe(selection.only([name for name, _ in parts]), normalize)
    return xr.Dataset(
        {"X": (("cell", "gene"), _values(recipe, choice, blocks))},
        coords={
            "gene": np.asarray(choice.name, dtype=object),
            "gene_id": ("gene", np.asarray(choice.gene_id, dtype=object)),
            "symbol": ("gene", np.asarray(choice.symbol, dtype=object)),
            "x": ("cell", points[:, 0], {"units": "um, source units where unknown"}),
            "y": ("cell", points[:, 1], {"units": "um, source units where unknown"}),
            "section": ("cell", _per_cell(_section, blocks, (str(names),), names)),
            "cell_id": ("cell", _per_cell(read_names, blocks, (store,), np.dtype(object))),
        },
        attrs={key: str(value) for key, value in notes.items()},
    )


def _section(dtype: str, block: Block) -> Any:
    return read_sections(block, dtype)


def _settled(
    selection: "Selection", normalize: str | None, missing: Missing | None, *, dense: bool
) -> tuple[GeneChoice, "list[tuple[str, RunArray]]", Recipe]:
    """Genes, sections and their rows, by the rules of `to_anndata`."""
    if normalize not in (None, "log1p"):
        raise InvalidArgument(f"normalize=None or 'log1p' is wanted, but got {normalize!r}")
    found = list(selection.runs)
    asked = selection.question.genes is not None
    choice, kept = settle(selection.genes, found, asked=asked, join="outer", missing=missing)
    entries = [selection.store.snapshot.sections[name] for name in kept]
    if normalize:
        check_log(entries)
    # Positions are handed out by the dataset alone, which names their units.
    warn_mixed(entries, normalize, ["values"])
    recipe = Recipe(selection.store, normalize, missing, dense)
    return choice, [(name, selection.runs[name]) for name in kept], recipe


def _blocks(
    selection: "Selection",
    parts: "Sequence[tuple[str, RunArray]]",
    choice: GeneChoice,
    *,
    recipe: Recipe,
    block_bytes: str | int,
) -> list[Block]:
    """Cut the rows of each section so that a block takes no more than `block_bytes`."""
    limit = parse_bytes(block_bytes)
    blocks = []
    for name, runs in parts:
        section = selection.store.section(name)
        row_bytes = _ENTRY_BYTES * section.entry.nnz / max(section.n_obs, 1)
        if recipe.missing == "nan":
            row_bytes += _ENTRY_BYTES * int((~choice.measured[name]).sum())
        if recipe.dense:
            row_bytes += _VALUE_BYTES * len(choice)
        n_rows = rows_within(limit, row_bytes)
        blocks += [Block(name, part) for part in cut(runs, section.tiles.ptr, n_rows)]
    return blocks


def _values(recipe: Recipe, choice: GeneChoice, blocks: "list[Block]") -> "da.Array":
    import dask.array
    import scipy.sparse as sp

    # Its own annotations are narrower than what it takes.
    da: Any = dask.array
    token = _token(recipe, choice, blocks)
    name = f"tisseract-values-{token}"
    graph: dict[Any, Any] = {
        f"tisseract-genes-{section}-{token}": of_section(choice, section)
        for section in dict.fromkeys(block.section for block in blocks)
    }
    for row, block in enumerate(blocks):
        genes = f"tisseract-genes-{block.section}-{token}"
        graph[name, row, 0] = (read_values, recipe, block, genes)
    shape = (0, len(choice))
    meta = np.empty(shape, np.float32) if recipe.dense else sp.csr_matrix(shape, dtype=np.float32)
    heights = tuple(block.n_obs for block in blocks)
    if not blocks:
        return da.from_array(meta, chunks=(1, max(len(choice), 1)))
    return da.Array(graph, name, (heights, (len(choice),)), meta=meta)


def _per_cell(
    read: "Callable[..., Any]",
    blocks: "list[Block]",
    first: tuple[Any, ...],
    dtype: "np.dtype[Any]",
    width: int | None = None,
) -> "da.Array":
    """Values of cells, (n,) or (n, width), by a function of a block."""
    import dask.array
    from dask.base import tokenize

    da: Any = dask.array
    shape = () if width is None else (width,)
    if not blocks:
        return da.from_array(np.empty((0, *shape), dtype), chunks=(1, *shape))
    token = tokenize(read.__name__, dtype, *_facts(blocks), *map(repr, first))
    name = f"tisseract-{read.__name__}-{token}"
    graph: dict[Any, Any] = {
        (name, row, *(0 for _ in shape)): (read, *first, block) for row, block in enumerate(blocks)
    }
    chunks = (tuple(block.n_obs for block in blocks), *((size,) for size in shape))
    return da.Array(graph, name, chunks, dtype=dtype)


def _token(recipe: Recipe, choice: GeneChoice, blocks: "list[Block]") -> str:
    """Name an answer, the same name each time: what is computed once may be reused."""
    from dask.base import tokenize

    how = (recipe.store.url, recipe.store.version, recipe.normalize, recipe.missing, recipe.dense)
    found: str = tokenize(how, choice.name.tolist(), *_facts(blocks))
    return found


def _facts(blocks: "list[Block]") -> tuple[Any, ...]:
    return [block.section for block in blocks], [block.runs for block in blocks]
