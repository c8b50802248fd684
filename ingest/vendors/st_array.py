"""Reader of Spatial Transcriptomics arrays (Ståhl et al., Science 353:78): spots by genes as text.

Spots are printed 200 um apart, center to center, and have 100 um. Where the list of spots says
their pixels, the length of a pixel comes from that lattice; without a list, the names of the rows
are places on the array, 200 um a step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, override

import numpy as np

from ...atlas.errors import Fault, InputError
from ...atlas.image_sources import file_image, open_pixels
from ..missing import name_rows
from ..source import ArrayColumn, NumericValues, StringValues
from ..units import find_unit
from .column_values import numbers_of
from .dense import DenseCounts
from .listed_genes import fill_genes
from .st_files import SPOT_NAME, Bundle, is_count_table, locate
from .table import Table, open_table
from .vendor import Survey, VendorReader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ..reader import ReadOptions
    from ..source import ObsColumn

__all__ = ["StArrayReader"]

_PITCH_UM = 200.0
_RADIUS_UM = 50.0
_OPTIONS = frozenset({"image_scale", "images", "panel", "sample", "selected_only"})
_FAR = 1e9
_SHOWN = 3


class StArrayReader(VendorReader):
    """A count table (`10x13` rows), a list of spots (`x y new_x new_y pixel_x pixel_y selected`).

    reader_kwargs: `sample` (the array, where a folder has several), `selected_only` (false keeps
    spots that the list does not select), `images` (false writes none), `image_scale` (pixels of the
    image per pixel of the list), `panel` (`complete` when genes that are not listed were not
    measured).
    """

    format: str = "st"
    technology: str = "Spatial Transcriptomics"
    takes_image = True
    known_options: ClassVar[frozenset[str]] = _OPTIONS

    @override
    def recognizes(self, path: Path) -> bool:
        """Whether rows of a table are named like spots; never raises."""
        try:
            if path.is_dir():
                locate(path)
                return True
            return path.is_file() and is_count_table(path)
        except InputError as error:
            return "reader_kwargs sample" in str(error)
        except OSError:
            return False

    @override
    def files(self, path: Path, options: ReadOptions) -> tuple[Path, ...]:
        """Return counts, spots, image and gene map."""
        bundle = locate(path, options.reader_kwargs.get("sample"), by_names=True)
        image = options.image or (bundle.image if _with_images(options) else None)
        some = (bundle.counts, bundle.spots, image, options.gene_map)
        return tuple(one for one in some if one is not None)

    @override
    def survey(self, path: Path, options: ReadOptions) -> Survey:
        """Read names and places of the spots; counts are not read."""
        survey = Survey(path)
        bundle = locate(path, options.reader_kwargs.get("sample"))
        survey.faults.faults.extend(bundle.faults)
        if bundle.faults:
            return survey  # nothing outside the folder is opened
        survey.versions["sample"] = bundle.sample
        in_pixels = False
        with survey.faults.part():
            in_pixels = _fill_spots(survey, bundle, options)
        if survey.positions is None:
            return survey
        with survey.faults.part():
            step = (f"lattice:{_PITCH_UM:g}", "spots of the array")
            survey.unit = find_unit(
                survey.positions,
                options.um_per_unit,
                from_file=step if in_pixels else (_PITCH_UM, "steps of the array"),
                where=f"{path}:um_per_unit",
            )
            unit = survey.unit.um_per_unit
            survey.radius = None if unit is None else _RADIUS_UM / unit
        with survey.faults.part():
            _fill_image(survey, bundle, options, in_pixels=in_pixels)
        return survey


def _with_images(options: ReadOptions) -> bool:
    return options.reader_kwargs.get("images", True) is not False


@dataclass(frozen=True, slots=True)
class _Spots:
    """Spots that are kept."""

    rows: NDArray[np.int64]
    """(k,) rows of the counts, ascending."""
    positions: NDArray[np.float64]
    """(k, 2) x, y: pixels, or places on the array."""
    places: NDArray[np.float64]
    """(k, 2) x, y on the array."""
    obs: Mapping[str, ObsColumn] = field(default_factory=dict)
    """Columns of the list of spots."""
    in_pixels: bool = False


def _fill_spots(survey: Survey, bundle: Bundle, options: ReadOptions) -> bool:
    """Fill everything but the image; returns whether positions are pixels."""
    table = open_table(bundle.counts)
    where = str(bundle.counts)
    ids = table.strings(table.names[0])
    if twice := ids.repeated():
        raise InputError(Fault(where, f"expected every spot once, but got {twice[0]!r} again"))
    steps = _steps(ids, where)
    if bundle.spots is not None:
        spots = _joined(survey, bundle.spots, steps, ids, options)
    else:
        spots = _Spots(np.arange(len(ids)), steps, steps)
        survey.missing.append(
            "no list of spots in the folder (*selection*.tsv): positions are places on the array, "
            "and no image can be laid under them"
        )
    wrong = np.flatnonzero(~(np.abs(spots.positions) < _FAR).all(axis=1))
    if wrong.size:
        got = f"expected places of all spots, but got none, or far ones, in {name_rows(wrong)}"
        raise InputError(Fault(str(bundle.spots or where), got))
    genes = tuple(name for name in table.names[1:] if not name.startswith("column_"))
    fill_genes(survey, genes, None, options, where)
    whole = spots.rows.size == len(ids)
    survey.counts = DenseCounts(table, genes, None if whole else spots.rows)
    survey.ids, survey.positions = ids.take(spots.rows), spots.positions
    column, row = spots.places.T
    survey.obs = {
        "array_row": ArrayColumn("numeric", NumericValues(row)),
        "array_col": ArrayColumn("numeric", NumericValues(column)),
    } | dict(spots.obs)
    return spots.in_pixels


def _steps(ids: StringValues, where: str) -> NDArray[np.float64]:
    """(n, 2) x, y on the array, from the names of the rows."""
    words = ids.to_list()  # an array has at most some thousands of spots
    found = np.empty((len(words), 2))
    for k, word in enumerate(words):
        fits = SPOT_NAME.fullmatch(word or "")
        if fits is None:
            raise InputError(
                Fault(
                    f"{where} row {k + 1}", f"expected a spot such as 10x13, but got {word!r:.40}"
                )
            )
        found[k] = float(fits[1]), float(fits[2])
    if not found.size:
        raise InputError(Fault(where, "expected spots, but got a header alone"))
    return found


def _joined(
    survey: Survey, path: Path, steps: NDArray[np.float64], ids: StringValues, options: ReadOptions
) -> _Spots:
    """Spots of the counts that the list selects, with its columns."""
    table = open_table(path)
    lacking = [name for name in ("x", "y") if name not in table.names]
    if lacking:
        raise InputError(
            Fault(
                str(path),
                "expected the columns x, y, pixel_x, pixel_y, but got "
                f"{', '.join(table.names[:8])}",
            )
        )
    at = _matched(table, steps)
    kept = _selected(survey, table, at, ids, options)
    rows = np.flatnonzero(kept)

    def listed(x: str, y: str) -> NDArray[np.float64]:
        return numbers_of(table, x, y)[at[rows]]

    places = listed("x", "y")
    in_pixels = {"pixel_x", "pixel_y"} <= set(table.names)
    if not in_pixels:
        survey.missing.append(
            f"no pixel_x and pixel_y in {path.name}: positions are places on the array"
        )
    positions = listed("pixel_x", "pixel_y") if in_pixels else steps[rows]
    others = [name for name in table.names if name not in {"x", "y"}]
    others = [name for name in others if not name.startswith("column_")]
    return _Spots(rows, positions, places, table.columns(others, at[rows]), in_pixels)


def _selected(
    survey: Survey, table: Table, at: NDArray[np.int64], ids: StringValues, options: ReadOptions
) -> NDArray[np.bool_]:
    """Spots of the counts that the list has and selects; at least one."""
    path = table.path
    kept = at >= 0
    if not kept.any():
        some = ", ".join(map(str, ids.take(np.arange(min(_SHOWN, len(ids)))).to_list()))
        raise InputError(
            Fault(str(path), f"expected the spots of the counts ({some}), but got none of them")
        )
    if lost := int((~kept).sum()) if not kept.all() else 0:
        survey.notes.append(f"{lost} spots of the counts are not in {path.name}: left out")
    if "selected" in table.names and options.reader_kwargs.get("selected_only", True) is not False:
        chosen = np.nan_to_num(table.numbers("selected")) != 0
        apart = kept & ~chosen[np.maximum(at, 0)]
        if apart.any():
            survey.notes.append(f"{int(apart.sum())} spots that are not selected left out")
        kept &= ~apart
        if not kept.any():
            raise InputError(Fault(str(path), "expected selected spots, but got none"))
    return kept


def _matched(table: Table, steps: NDArray[np.float64]) -> NDArray[np.int64]:
    """Row of the list for each spot: by its place, or by that as corrected for the print."""
    best = np.full(len(steps), -1, np.int64)
    for one, two in (("x", "y"), ("new_x", "new_y")):
        if one not in table.names or two not in table.names:
            continue
        listed = _named(numbers_of(table, one, two))
        if listed.repeated():
            continue
        at = _named(steps).find_in(listed)
        if (at >= 0).sum() > (best >= 0).sum():
            best = at
    return best


def _named(steps: NDArray[np.float64]) -> StringValues:
    return StringValues.from_strings([f"{x:.3f}x{y:.3f}" for x, y in steps.tolist()])


def _fill_image(survey: Survey, bundle: Bundle, options: ReadOptions, *, in_pixels: bool) -> None:
    path = options.image or (bundle.image if _with_images(options) else None)
    if path is None:
        if _with_images(options):
            survey.missing.append(
                "no image, or several, of this array in the folder: none is written"
            )
        return
    if not in_pixels:
        survey.notes.append(f"{path.name} left out: nothing says where the spots lie in it")
        return
    scale = options.reader_kwargs.get("image_scale", 1.0)
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 < scale < np.inf:
        raise InputError(
            Fault("reader_kwargs image_scale", f"expected a number above zero, but got {scale!r}")
        )
    with open_pixels(path):
        unit = (survey.unit.um_per_unit or 1.0) / float(scale)
    sign = -1.0 if options.y_axis == "up" else 1.0
    survey.images["image"] = file_image(path, ((unit, 0.0, 0.0), (0.0, sign * unit, 0.0)))
