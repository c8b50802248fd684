"""Reader of h5ad files, any of them: opened with h5py alone, streamed, nothing in it trusted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atlas.errors import Fault, InputError
from ..atlas.genes import Panel
from ..atlas.image_sources import LazyImage, file_image, open_pixels
from ..atlas.images import Affine
from ..atlas.obs_names import stored_names
from .anndata_parts import (
    check_ids,
    check_one_section,
    locate_matrix,
    obs_kinds,
    read_positions,
    split_codes,
)
from .embedded import Embedded, EmbeddedImage, embedded, unit_of
from .frame import LazyColumn, MaskedColumn, OpenedNode, TextColumn, index_name, kinds
from .guard import Hdf5Node, is_hdf5, open_hdf5
from .hdf5 import Hdf5Matrix
from .matrix import MatrixFacts
from .meaning import check_meaning, check_values
from .missing_words import BlankedColumn, missing_words, suspects
from .read_memory import ReadMemory, chunk_bytes, image_bytes, text_bytes
from .reader import FaultList, Inspection, ReadOptions, check_reader_kwargs
from .source import ColumnKind, CountsSource, ImageSource, ObsColumn, RawSection
from .spaceranger_files import image_scale
from .split import MaskedCounts
from .units import FoundUnit, find_unit, technology_unit
from .var_columns import read_panel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["H5adReader", "H5adSurvey"]

_OPTIONS = frozenset(
    {
        "cell_id_column",
        "drop_columns",
        "feature_type_column",
        "gene_id_column",
        "image_scale",
        "images",
        "library",
        "missing_values",
        "panel",
        "position_columns",
        "symbol_column",
        "zero_padded",
    }
)
_VISIUM_SPOT_UM = 55.0  # diameter, 10x Genomics


@dataclass(slots=True)
class H5adSurvey:
    """What a file holds, as far as it could be read; parts with faults stay empty."""

    key: str = "X"
    facts: MatrixFacts | None = None
    panel: Panel | None = None
    positions: NDArray[np.float64] | None = None
    positions_from: str = ""
    columns: dict[str, ColumnKind] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    index: str = ""
    codes: NDArray[np.int64] | None = None
    labels: tuple[str, ...] = ()
    libraries: dict[str, Embedded] = field(default_factory=dict)
    reading: ReadMemory = field(default_factory=ReadMemory)
    said_unit: tuple[float | str, str] | None = None
    notes: list[str] = field(default_factory=list)
    faults: FaultList = field(default_factory=FaultList)


class H5adReader:
    """h5ad, by whatever version of anndata: counts in X, raw or a layer, positions in obsm.

    reader_kwargs: `position_columns` [x, y] (obs columns instead of obsm), `cell_id_column`,
    `drop_columns` [...], `gene_id_column`, `symbol_column`, `feature_type_column`, `panel`
    (`complete` when an unlisted gene was not measured), `zero_padded` (true when all-zero genes
    may be padding), `images` (false leaves embedded images out), `library` (which of several),
    `missing_values` [...] (words in text and categories that mean missing, such as `NA`),
    `image_scale` (pixels of `image` per coordinate unit; else from Space Ranger's scale factors
    beside the image, else 1).
    """

    format: str = "h5ad"
    _what, _got = "an h5ad file", "HDF5"

    def _opened(self, path: Path) -> AbstractContextManager[Any]:
        return open_hdf5(path, self._what)

    def _node(self, path: Path, key: str) -> Callable[[], AbstractContextManager[Any]]:
        return Hdf5Node(path, key)

    def recognizes(self, path: Path) -> bool:
        """Whether the file is HDF5 with obs and var; never raises."""
        import h5py

        if not path.is_file() or not is_hdf5(path):
            return False
        if path.suffix == ".h5ad":
            return True
        try:
            with h5py.File(path, "r", locking=False) as file:
                return {"obs", "var"} <= set(file)
        except (OSError, RuntimeError):
            return False

    def files(self, path: Path, options: ReadOptions) -> tuple[Path, ...]:
        """Return the file itself, the gene map and the image."""
        beside = image_scale(options.image) if options.image is not None else None
        scale = beside[0] if beside else None
        given = (path, options.gene_map, options.image, scale)
        return tuple(one for one in given if one is not None)

    def inspect(self, path: Path, options: ReadOptions) -> Inspection:
        """Tell what the file holds and everything wrong with it."""
        survey, units = self._survey(path, options)
        facts, panel = survey.facts, survey.panel
        scales = {unit.um_per_unit for unit in units.values()}
        splits = {}
        if survey.codes is not None:
            sizes = np.bincount(survey.codes, minlength=len(survey.labels)).tolist()
            splits = dict(zip(survey.labels, sizes, strict=True))
        images, reading = tuple[str, ...](), survey.reading
        with survey.faults.part():
            found = self._images(path, options, survey, FoundUnit(None, ""), None)
            images, reading = tuple(found), reading | ReadMemory(image=image_bytes(found))
        return Inspection(
            self.format,
            path,
            n_obs=facts.n_obs if facts else 0,
            n_vars=facts.n_vars if facts else 0,
            nnz=facts.nnz if facts else None,
            technology=options.technology or ("Visium" if _is_visium(survey, options) else None),
            organism=options.organism or (panel.organism if panel else None) or None,
            um_per_unit=scales.pop() if len(scales) == 1 else None,
            unit_source="; ".join(dict.fromkeys(unit.how for unit in units.values())) or "unknown",
            columns=survey.columns,
            splits=splits,
            images=images,
            reading=reading,
            notes=tuple(survey.notes),
            faults=tuple(survey.faults.faults),
        )

    def open(self, path: Path, options: ReadOptions) -> RawSection:
        """Open one section lazily; positions and genes are read, obs and counts are not."""
        survey, units = self._survey(path, options)
        value = options.split_value
        if survey.codes is not None and value not in survey.labels:
            survey.faults.add(
                str(path),
                f"expected split_value out of {', '.join(survey.labels)}, but got {value!r}",
            )
        survey.faults.raise_all(path)
        positions, panel = survey.positions, survey.panel
        assert positions is not None
        assert panel is not None
        rows = None
        if survey.codes is not None and value is not None:
            rows = np.flatnonzero(survey.codes == survey.labels.index(value))
            positions = positions[rows]
        unit = units[value if rows is not None else None]

        def masked(column: ObsColumn) -> ObsColumn:
            return column if rows is None else MaskedColumn(column, rows)

        counts: CountsSource = self._counts(path, survey)
        obs = self._node(path, "obs")
        words = missing_words(options, str(path))
        name = str(options.reader_kwargs.get("cell_id_column") or survey.index)
        ids = LazyColumn(obs, name, "string")
        images = self._images(path, options, survey, unit, value)
        radius = None
        if _is_visium(survey, options) and unit.um_per_unit is not None:
            radius = _VISIUM_SPOT_UM / 2 / unit.um_per_unit
        return RawSection(
            positions=positions,
            instance_ids=masked(TextColumn(ids)),
            obs={
                column: masked(BlankedColumn(LazyColumn(obs, column, kind), words))
                for column, kind in survey.columns.items()
            },
            panel=panel,
            counts=counts if rows is None else MaskedCounts(counts, rows),
            values=options.matrix_values,
            um_per_unit=unit.um_per_unit,
            y_axis=options.y_axis or "down",
            radius=radius,
            images=images,
            reading=survey.reading | ReadMemory(image=image_bytes(images)),
            metadata=dict(options.metadata),
            provenance=_provenance(self, path, options, survey, unit),
        )

    def _counts(self, path: Path, survey: H5adSurvey) -> CountsSource:
        assert survey.facts is not None
        return Hdf5Matrix(self._node(path, survey.key), survey.facts)

    def _survey(
        self, path: Path, options: ReadOptions
    ) -> tuple[H5adSurvey, dict[str | None, FoundUnit]]:
        """Read every part; a part with a fault leaves the others to be read."""
        survey = H5adSurvey()
        units: dict[str | None, FoundUnit] = {}
        where = str(path)
        with survey.faults.part():
            check_reader_kwargs(options, _OPTIONS, where)
        with survey.faults.part(), self._opened(path) as file:
            lacking = " and ".join(name for name in ("obs", "var") if name not in file)
            if lacking:
                raise InputError(
                    Fault(
                        where,
                        f"expected {self._what}, but got {self._got} without {lacking}; name the "
                        "reader in the `format` column",
                    )
                )
            self._read_parts(file, options, survey, where)
            units = _find_units(options, survey, where)
        return survey, units

    def _read_parts(self, file: Any, options: ReadOptions, survey: H5adSurvey, where: str) -> None:
        obs, part = file["obs"], survey.faults.part
        survey.libraries = embedded(file)
        survey.index = index_name(obs)
        with part():
            survey.key, var, survey.facts = locate_matrix(file, options.layer, where)
            layers = file.get("layers", {})
            choices = {name: layers[name] for name in layers if f"layers/{name}" != survey.key}
            with part():
                survey.notes += check_meaning(file[survey.key], options, f"{where}:{survey.key}")
                check_values(file[survey.key], options, choices, f"{where}:{survey.key}")
            survey.reading |= ReadMemory(chunk=chunk_bytes(file[survey.key]))
            with part():
                survey.panel = read_panel(file[var], options, where)
        with part():
            survey.columns = obs_kinds(obs, options, where)
            words = missing_words(options, where)
            survey.notes += suspects(obs, survey.columns, words)
            survey.renamed = stored_names(survey.columns, f"{where}:obs")
            changed = {a: b for a, b in survey.renamed.items() if a != b}
            if changed:
                listed = ", ".join(f"{a!r} as {b!r}" for a, b in changed.items())
                survey.notes.append(f"obs columns stored under names SpatialData accepts: {listed}")
        with part():
            # A split reads a column whole and takes its part.
            copies = 1 if options.split_by in (None, "none") else 2
            wide = text_bytes(obs, [survey.index, *survey.columns])
            survey.reading |= ReadMemory(text=copies * wide)
            self._check_ids(obs, options, survey, where)
        if options.split_by not in (None, "none"):
            with part():
                survey.codes, survey.labels = split_codes(obs, str(options.split_by), where)
        with part():
            found = read_positions(file, options, where)
            survey.positions, survey.positions_from = found[:2]
            survey.notes.extend(found[2])
            if options.split_by is None:
                check_one_section(obs, survey.positions, where)
        survey.said_unit = unit_of(survey.libraries, set(kinds(obs)))

    def _check_ids(self, obs: Any, options: ReadOptions, survey: H5adSurvey, where: str) -> None:
        asked = options.reader_kwargs.get("cell_id_column")
        if asked is not None and str(asked) not in kinds(obs):
            raise InputError(
                Fault(
                    f"{where}:obs", f"expected the column {asked!r} (cell_id_column), but got none"
                )
            )
        name = str(asked or survey.index)
        ids = TextColumn(LazyColumn(OpenedNode(obs), name, "string")).read()
        check_ids(ids, f"{where}:obs/{name}", "or name another with reader_kwargs cell_id_column")

    def _images(
        self,
        path: Path,
        options: ReadOptions,
        survey: H5adSurvey,
        unit: FoundUnit,
        value: str | None,
    ) -> dict[str, ImageSource]:
        """Choose the image given, else the best embedded one of the section's library."""
        factor = unit.um_per_unit or 1.0
        sign = -1.0 if options.y_axis == "up" else 1.0

        def affine(scale: float) -> Affine:
            return ((factor / scale, 0.0, 0.0), (0.0, sign * factor / scale, 0.0))

        if options.image is not None:
            beside = image_scale(options.image)
            scale = options.reader_kwargs.get("image_scale", beside[1] if beside else 1.0)
            if not isinstance(scale, (int, float)) or not 0 < float(scale) < np.inf:
                raise InputError(
                    Fault(
                        str(path),
                        "expected reader_kwargs image_scale above zero (image pixels per "
                        f"coordinate unit), but got {scale!r}",
                    )
                )
            with open_pixels(options.image):  # the header alone
                pass
            return {"image": file_image(options.image, affine(float(scale)))}
        if options.reader_kwargs.get("images", True) is False:
            return {}
        libraries = survey.libraries
        wanted = options.reader_kwargs.get("library", value if value in libraries else None)
        if wanted is not None and str(wanted) not in libraries:
            raise InputError(
                Fault(
                    f"{path}:uns/spatial",
                    f"expected the library {wanted!r}, but got {', '.join(libraries) or 'none'}",
                )
            )
        if wanted is None and len(libraries) > 1:
            note = f"images of {len(libraries)} libraries left out; choose one with `library`"
            if note not in survey.notes:
                survey.notes.append(note)
            return {}
        chosen = (
            libraries[str(wanted)] if wanted is not None else next(iter(libraries.values()), None)
        )
        if chosen is None or not chosen.images:
            return {}
        name = "hires" if "hires" in chosen.images else next(iter(chosen.images))
        key, scale = chosen.images[name]
        return {name: LazyImage(EmbeddedImage(self._node(path, key)), affine(scale))}


def _is_visium(survey: H5adSurvey, options: ReadOptions) -> bool:
    said = survey.said_unit[0] if survey.said_unit else technology_unit(options.technology)
    return said == "lattice:100"


def _find_units(
    options: ReadOptions, survey: H5adSurvey, where: str
) -> dict[str | None, FoundUnit]:
    """Find the unit of the file, or of each of its sections."""
    positions, codes = survey.positions, survey.codes
    if positions is None or (codes is None and options.split_by not in (None, "none")):
        return {}
    wanted: list[tuple[str | None, NDArray[np.float64]]] = [(None, positions)]
    if codes is not None:
        value = options.split_value
        values = survey.labels if value not in survey.labels or value is None else (value,)
        wanted = [(value, positions[codes == survey.labels.index(value)]) for value in values]
    units: dict[str | None, FoundUnit] = {}
    for label, cells in wanted:
        place = f"{where}:um_per_unit" + (f" of {options.split_by}={label}" if label else "")
        with survey.faults.part():
            units[label] = find_unit(
                cells,
                options.um_per_unit,
                technology=options.technology,
                from_file=survey.said_unit,
                where=place,
            )
            survey.notes += [n for n in units[label].notes if n not in survey.notes]
        if survey.faults.faults and options.um_per_unit is None:
            break  # the same sentence for every split would say nothing new
    return units


def _provenance(
    reader: H5adReader, path: Path, options: ReadOptions, survey: H5adSurvey, unit: FoundUnit
) -> dict[str, object]:
    facts = survey.facts
    own = [one for one in reader.files(path, options) if one == path or path in one.parents]
    return {
        "reader": reader.format,
        "file": path.name,
        "file_bytes": sum(one.stat().st_size for one in own),
        "matrix": survey.key,
        "matrix_layout": facts.layout if facts else "",
        "matrix_dtype": str(facts.dtype) if facts else "",
        "values": options.matrix_values,
        "positions": survey.positions_from,
        "unit": unit.how,
        "um_per_unit": unit.um_per_unit,
        "y_axis": options.y_axis or "down",
        "y_flipped": options.y_axis == "up",
        "split_by": options.split_by,
        "split_value": options.split_value,
        "renamed_columns": {a: b for a, b in survey.renamed.items() if a != b},
        "notes": list(survey.notes),
    }
