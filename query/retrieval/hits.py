"""What a search found: a table of windows, with pictures of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ..appearing import appearing
from ..cells.fetch import read_column
from ..filters.columns import Columns
from ..geometry.ask import region
from .search import read_rows
from .windows import WindowGrid

if TYPE_CHECKING:
    import pandas as pd

    from ...atlas.store import AtlasStore
    from ..cells.selection import Selection
    from .opened import Index
    from .search import Found

_PIXELS = 32
_COLUMNS = ["section", "score", "n_cells", "xmin", "ymin", "xmax", "ymax"]


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """Windows of tissue, the most alike first."""

    table: "pd.DataFrame"
    """One row a window: section, score, n_cells, xmin, ymin, xmax, ymax; index `rank`, from 1."""
    store: "AtlasStore"
    words: str
    """What was asked for."""
    unit: str
    """Of the boxes: `um`, or `source` where the unit of a section is unknown."""
    like: "Selection | None" = None
    notes: tuple[str, ...] = ()
    """What the reader should know, such as sections that lack a gene."""

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        told = "".join(f"\n  note: {note}" for note in self.notes)
        return f"{len(self)} windows {self.words}\n{self.table.to_string()}{told}"

    def _repr_html_(self) -> str:
        return str(self.table.to_html())

    def to_pandas(self) -> "pd.DataFrame":
        """Copy of the table."""
        return self.table.copy()

    def region(self, rank: int) -> "Selection":
        """Cells of a hit, as a lazy selection; cells on its upper edges come along."""
        if rank not in self.table.index:
            raise InvalidArgument(
                f"a rank from 1 to {len(self)} is wanted, but got {rank!r}; see hits.table"
            )
        row: Any = self.table.loc[rank]
        box = [float(row[name]) for name in ("xmin", "ymin", "xmax", "ymax")]
        name = str(row["section"])
        known = self.store.snapshot.sections[name].um_per_unit is not None
        return region(self.store, name, bbox=box, units="um" if known else "source")

    def scores(self, section: str, **options: Any) -> "pd.DataFrame":
        """Score every cell of a section against the example; see `rank_cells`."""
        from .ranking import rank_cells

        if self.like is None:
            raise InvalidArgument(
                "hits of an example are wanted for scores(), but got those of a gene programme; "
                "ask atlas.similar(selection)"
            )
        return rank_cells(self.store, self.like, section, **options)

    def to_geojson(self) -> dict[str, Any]:
        """Boxes as a GeoJSON FeatureCollection, the other columns as properties."""
        features = []
        for rank, row in self.table.iterrows():
            x0, y0, x1, y1 = (float(row[n]) for n in ("xmin", "ymin", "xmax", "ymax"))
            ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
            facts = {"rank": int(str(rank)), "section": row["section"]}
            facts |= {"score": float(row["score"]), "n_cells": int(row["n_cells"])}
            shape = {"type": "Polygon", "coordinates": [ring]}
            features.append({"type": "Feature", "geometry": shape, "properties": facts})
        return {"type": "FeatureCollection", "unit": self.unit, "features": features}

    def write(self, path: str | Path) -> None:
        """Write a .csv, .geojson or .png, by the end of the name.

        It appears under its name only when complete.

        Raises
        ------
        InvalidArgument
            Another ending.
        """
        from ..plots.canvas import style

        target = Path(path)
        if target.suffix not in (".csv", ".geojson", ".json", ".png"):
            raise InvalidArgument(
                f"a file .csv, .geojson or .png is wanted, but got {target.name!r}"
            )
        with appearing(target) as part:
            if target.suffix == ".csv":
                self.table.to_csv(part)
            elif target.suffix == ".png":
                # Without a table beside it, which might replace the hits as .csv.
                with style():
                    self.plot().savefig(part, format="png", dpi=200)
            else:
                part.write_text(json.dumps(self.to_geojson(), indent=1) + "\n", encoding="utf-8")

    def thumbnails(self, column: str | None = None, pixels: int = _PIXELS) -> NDArray[np.int32]:
        """Small rasters of the hits, (hits, pixels, pixels); rows go down as y does.

        Parameters
        ----------
        column
            A column of labels: each pixel holds the number of its most frequent value (of all
            values in alphabetical order), -1 where it has none. Without: cells in each pixel.
        pixels
            Pixels a side.
        """
        return _rasters(self, column, pixels)[0]

    def plot(self, column: str | None = None, *, ncols: int = 5, **options: Any) -> Any:
        """Draw the first hits, at most 64, with their cells and what lies around each.

        Parameters
        ----------
        column
            A gene or a column; default the only labels, if there is one key.
        ncols
            Pictures in a row.
        **options
            `margin`, `n_hits`, `image`, `palette`, `normalize` of `tisseract.pl.thumbnails`.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        InvalidArgument
            Nothing was found, or matplotlib is not installed.
        """
        from ..plots.thumbnails import thumbnails

        if not len(self):
            raise InvalidArgument("hits are wanted for a plot, but got none; widen the search")
        return thumbnails(self.store, self.table, column, ncols=max(ncols, 1), **options)


def hits_of(
    store: "AtlasStore",
    index: "Index",
    found: "Found",
    grid: NDArray[np.int64],
    size: int,
    *,
    words: str,
    like: "Selection",
) -> Hits:
    """Tabulate windows of an index."""
    names = list(index.rows)
    sections = [names[i] for i in found.section.tolist()]
    n_cells = read_rows(index, found, f"w{size}.n_cells")[:, 0]
    grids = {name: index.grid(name, size) for name in set(sections)}
    unit = unit_of(store, sections)
    table = table_of(sections, found.score, n_cells, grid, grids)
    return Hits(table, store, words, unit, like)


def unit_of(store: "AtlasStore", sections: Sequence[str]) -> str:
    """Tell the unit of the boxes of some sections."""
    known = all(store.snapshot.sections[name].um_per_unit is not None for name in sections)
    return "um" if known else "source"


def table_of(
    sections: Sequence[str],
    score: NDArray[np.float64],
    n_cells: NDArray[np.int64],
    windows: NDArray[np.int64],
    grids: dict[str, WindowGrid],
) -> "pd.DataFrame":
    """Table of windows, ranked from 1."""
    import pandas as pd

    boxes = np.zeros((len(sections), 4))
    for name, grid in grids.items():
        mine = np.array([section == name for section in sections], bool)
        boxes[mine] = grid.boxes(windows[mine])
    data = [sections, score, n_cells, *boxes.T]
    index = pd.RangeIndex(1, len(sections) + 1, name="rank")
    return pd.DataFrame(dict(zip(_COLUMNS, data, strict=True)), index=index)


def _rasters(
    hits: Hits, column: str | None, pixels: int
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    if pixels < 1:
        raise InvalidArgument(f"pixels of at least 1 are wanted, but got {pixels!r}")
    drawn = [_raster(hits, int(str(rank)), column, pixels) for rank in hits.table.index]
    values = tuple(sorted({value for _, names, _ in drawn for value in names}))
    out = np.zeros((len(drawn), pixels, pixels), np.int32)
    for i, (place, names, codes) in enumerate(drawn):
        if column is None:
            out[i] = np.bincount(place, minlength=pixels**2).reshape(pixels, pixels)
            continue
        own = np.array([values.index(name) for name in names] or [0], np.int64)
        counts = np.zeros((pixels**2, max(len(values), 1)), np.int64)
        known = codes >= 0
        np.add.at(counts, (place[known], own[codes[known]]), 1)
        most = np.where(counts.any(axis=1), counts.argmax(axis=1), -1)
        out[i] = most.reshape(pixels, pixels)
    return out, values


def _raster(
    hits: Hits, rank: int, column: str | None, pixels: int
) -> tuple[NDArray[np.int64], list[str], NDArray[np.int64]]:
    """Pixel of each cell of a hit, and its label."""
    import pandas as pd

    row: Any = hits.table.loc[rank]
    low = np.array([row["xmin"], row["ymin"]], float)
    side = float(row["xmax"]) - float(row["xmin"])
    chosen = hits.region(rank)
    places, labels = [np.zeros(0, np.int64)], []
    for section, runs in chosen.parts():
        points = section.positions([(a, b) for a, b in runs.tolist()])
        at = np.clip((points - low) / side * pixels, 0, pixels - 1).astype(np.int64)
        places.append(at[:, 1] * pixels + at[:, 0])
        if column is not None:
            resolved = Columns(hits.store).resolve(column)
            found = read_column(hits.store, section, runs, resolved)
            labels += [] if found is None else [found.astype(object)]
    place = np.concatenate(places)
    if not labels:
        return place, [], np.full(len(place), -1, np.int64)
    codes, names = pd.factorize(pd.concat(labels, ignore_index=True).map(str, na_action="ignore"))
    return place, [str(name) for name in names], np.asarray(codes, np.int64)
