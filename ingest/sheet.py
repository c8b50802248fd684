"""Read a sample sheet: everything wrong with it that shows without opening the data, at once."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from ..atlas.errors import Fault, near
from .annotate_sheet import ATTACHED, attached_files
from .columns import COLUMNS, canonical, names_time_column, placeholder_faults, resembles
from .near_inputs import is_there, near_files, said_path
from .samples import SampleRow, SampleSheet, SheetReading, Unit
from .scalars import Scalar, infer_column, is_missing
from .section_names import is_name, plain_name
from .sheet_file import Record, SheetText, read_sheet_file
from .source import MatrixValues
from .staging import is_remote, remote_name
from .time import parse_unit

__all__ = ["read_samples"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_TEXT_METADATA = ("technology", "organism", "donor", "condition", "tissue", "batch")
_RESERVED = ("n_obs", "n_vars", "nnz", "nbytes", "values", "attempt", "digest", "fingerprint")


def read_samples(
    samples: str | Path | Sequence[Mapping[str, object]], *, base: Path | None = None
) -> SheetReading:
    """Read a sheet, or take its rows from Python.

    Parameters
    ----------
    samples : path or sequence of mappings
        CSV, TSV or YAML file, or one mapping of columns per section.
    base : Path, optional
        Folder that relative paths start from; the sheet's own, or the working directory.

    Returns
    -------
    SheetReading
        Sheet, faults and notes. Costs memory in proportion to the sheet alone.

    Raises
    ------
    InputError
        If the sheet cannot be taken apart at all.

    Examples
    --------
    >>> reading = read_samples([{"sample": "a b", "data_path": "nowhere.h5ad"}])
    >>> for fault in reading.faults: print(fault)  # doctest: +ELLIPSIS
    row 1: expected a sample name of letters, digits, '_', '-' and '.', but got 'a b'; try 'a-b'
    row 1: data_path: there is no 'nowhere.h5ad' ...
    """
    if isinstance(samples, str | Path):
        path = Path(samples)
        text, source = read_sheet_file(path), str(samples)
        base = path.parent if base is None else base
    else:
        records = tuple(Record(i, dict(row)) for i, row in enumerate(samples, start=1))
        text, source = SheetText(records), "samples"
        base = Path() if base is None else base
    return _Parser(source, base.absolute()).parse(text)


@dataclass(frozen=True, slots=True)
class _Cells:
    """Cells of one row, by the names of the known columns."""

    cells: Mapping[str, object]
    headers: Mapping[str, str]

    def cell(self, name: str) -> object:
        value = self.cells.get(self.headers[name]) if name in self.headers else None
        return None if is_missing(value) else value

    def word(self, name: str) -> str | None:
        value = self.cell(name)
        return None if value is None else str(value).strip()


def _texts(facts: Mapping[str, Scalar], timepoint: str | None) -> dict[str, str]:
    """Facts of a row that are text, the timepoint among them."""
    found = {name: fact for name, fact in facts.items() if isinstance(fact, str)}
    return found if timepoint is None else {**found, "timepoint": timepoint}


class _Parser:
    """One pass over a sheet; gathers faults instead of raising."""

    def __init__(self, source: str, base: Path) -> None:
        self.source, self.base = source, base
        self.faults: list[Fault] = []
        self.notes: list[Fault] = []
        self.where = ""

    def fault(self, message: str) -> None:
        self.faults.append(Fault(self.where, message))

    def parse(self, text: SheetText) -> SheetReading:
        self.faults += text.faults
        known, extra = self._headers(text.records)
        rows: list[SampleRow] = []
        if not any(f.location == "header" for f in self.faults):
            metadata = self._metadata(text.records, known, extra)
            for record, facts in zip(text.records, metadata, strict=True):
                before = len(self.faults)
                row = self._row(record, known, facts)
                if len(self.faults) == before:
                    rows.append(row)
            self._repeated(text.records, known)
        order = self._timepoints(text, known)
        torn = {fault.location for fault in text.faults if fault.location != "header"}
        n_rows = len(text.records) + len(torn)
        sheet = SampleSheet(self.source, tuple(rows), order)
        return SheetReading(sheet, tuple(self.faults), tuple(self.notes), n_rows)

    def _headers(self, records: Sequence[Record]) -> tuple[dict[str, str], list[str]]:
        """Headers of the known columns by canonical name, and the unknown ones."""
        headers = list(dict.fromkeys(name for record in records for name in record.cells))
        known: dict[str, str] = {}
        extra: list[str] = []
        self.where = "header"
        for header in headers:
            name = canonical(header)
            if name is None:
                extra.append(header)
                if header.strip().lower() in _RESERVED:
                    self.fault(f"column {header!r} has a name the catalog fills itself; rename it")
            elif name in known:
                self.fault(f"columns {known[name]!r} and {header!r} both mean {name!r}; remove one")
            else:
                known[name] = header
        for name in ("sample", "data_path"):
            if name not in known and records:
                aliases = next(column.aliases for column in COLUMNS if column.name == name)
                also = ", ".join(aliases)
                self.fault(f"there is no column {name!r} (or {also}).{near(name, extra)}")
        for header in extra:
            if names_time_column(header):
                self.fault(
                    f"column {header!r}: the time of sections that `split_by` makes goes into "
                    "`timepoint`, with '{split}' for the value of the split"
                )
            elif (meant := resembles(header)) and canonical(meant) not in known:
                self.notes.append(
                    Fault(
                        "header",
                        f"column {header!r}: did you mean {meant!r}? It is kept as metadata of the "
                        "section",
                    )
                )
        return known, extra

    def _metadata(
        self, records: Sequence[Record], known: Mapping[str, str], extra: Sequence[str]
    ) -> list[dict[str, Scalar]]:
        facts: list[dict[str, Scalar]] = [{} for _ in records]
        for header in extra:
            for record in records:
                if isinstance(record.cells.get(header), list | tuple | dict):
                    self.where = f"row {record.row}"
                    self.fault(
                        f"{header}: expected one text or number, but got "
                        f"{record.cells[header]!r:.80}; give one value, or one column for each"
                    )
            column = infer_column([record.cells.get(header) for record in records])
            for fact, value in zip(facts, column, strict=True):
                fact[header.strip()] = value
        for name in _TEXT_METADATA:
            if name in known:
                for fact, record in zip(facts, records, strict=True):
                    cell = record.cells.get(known[name])
                    if isinstance(cell, list | tuple | dict):
                        self.where = f"row {record.row}"
                        self.fault(f"{name}: expected one text, but got {cell!r:.80}")
                    fact[name] = None if is_missing(cell) else str(cell).strip()
        return facts

    def _row(self, record: Record, known: Mapping[str, str], facts: dict[str, Scalar]) -> SampleRow:
        self.where = f"row {record.row}"
        cells = _Cells(record.cells, known)
        cell, word = cells.cell, cells.word
        sample, data_path = word("sample") or "", word("data_path") or ""
        url = data_path if is_remote(data_path) else None
        self._sample(sample)
        facts["z_um"] = self._number(cell("z_um"), "z_um")
        facts["section_index"] = self._whole(cell("section_index"), "section_index")
        timepoint, value, unit = self._time(cells)
        for message in placeholder_faults(_texts(facts, timepoint), word("split_by")):
            self.fault(message)
        splits = word("split_by") not in {None, "none"}
        attached = {
            name: attached_files(cell(name), name, self.base, splits, self.fault)
            for name in ATTACHED
        }
        path = self._path(data_path, "data_path") if url is None else Path(remote_name(url))
        return SampleRow(
            **attached,
            row=record.row,
            sample=sample,
            data_path=data_path,
            path=path or Path(),
            url=url,
            format=word("format"),
            values=self._choice(word("values"), "values", get_args(MatrixValues)),
            um_per_unit=self._unit(cell("um_per_unit")),
            y_axis=self._choice(word("y_axis"), "y_axis", ("down", "up")),
            split_by=word("split_by"),
            gene_map=self._path(word("gene_map"), "gene_map"),
            image=self._path(word("image"), "image"),
            layer=word("layer"),
            spatial_key=word("spatial_key"),
            reader_kwargs=self._options(cell("reader_kwargs")),
            timepoint=timepoint,
            time_value=value,
            time_unit=unit,
            metadata={name: value for name, value in facts.items() if value is not None},
        )

    def _sample(self, sample: str) -> None:
        if not sample:
            self.fault("sample: expected a name, but the cell is empty")
        elif not is_name(sample):
            try_this = plain_name(sample)[:100].lstrip(".")
            self.fault(
                "expected a sample name of letters, digits, '_', '-' and '.', "
                f"but got {sample!r:.150}; try {try_this!r}"
            )

    def _path(self, text: str | None, column: str) -> Path | None:
        if text is None:
            return None
        if not text:
            self.fault(f"{column}: expected a file or folder, but the cell is empty")
            return None
        if _URL.match(text):
            self.fault(
                f"{column}: expected a local file, but got {text!r}; copy it here first (only "
                "data_path may be in a bucket)"
            )
            return None
        if "\0" in text:
            self.fault(f"{column}: expected a path, but got {text!r}")
            return None
        path = said_path(self.base, text)
        if not is_there(path):
            self.fault(
                f"{column}: there is no {text!r} (looked in {path.parent}).{near_files(path)}"
            )
            return None
        return path

    def _choice(self, word: str | None, column: str, choices: Sequence[str]) -> Any:
        if word is None or word in choices:
            return word
        self.fault(
            f"{column}: expected {' | '.join(choices)}, but got {word!r}.{near(word, choices)}"
        )
        return None

    def _number(self, cell: object, column: str) -> float | None:
        if cell is None:
            return None
        try:
            number = float(str(cell))
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or isinstance(cell, bool):
            self.fault(f"{column}: expected a number, but got {cell!r}")
            return None
        return number

    def _whole(self, cell: object, column: str) -> int | None:
        number = self._number(cell, column)
        if number is not None and number != int(number):
            self.fault(f"{column}: expected a whole number, but got {number:g}")
        return None if number is None else int(number)

    def _unit(self, cell: object) -> Unit:
        """Check a unit and return it as a number, `lattice:PITCH` or `unknown`."""
        word = "" if cell is None else str(cell).strip().lower()
        if word in {"", "unknown"}:
            return word or None
        pitch = word.removeprefix("lattice:")
        try:
            number = float(pitch)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number > 0) or isinstance(cell, bool):
            self.fault(
                "um_per_unit: expected micrometres per coordinate unit (a number above 0), "
                f"lattice:PITCH (such as lattice:100 for Visium) or unknown, but got {cell!r}"
            )
            return None
        return number if pitch == word else f"lattice:{number:g}"

    def _time(self, cells: _Cells) -> tuple[str | None, float | None, str | None]:
        value, unit, text = (
            cells.cell("time_value"),
            cells.word("time_unit"),
            cells.word("timepoint"),
        )
        number = self._number(value, "time_value")
        if unit is not None and number is None and value is None and text is None:
            self.fault("time_unit: a unit without a time; give time_value or timepoint")
        if number is not None and unit is None:
            self.fault("time_unit: time_value needs its unit, such as day or hour")
        if unit is not None and (known := parse_unit(unit)):
            unit = known[1]
        if text is None and number is not None:
            text = f"{number:g} {unit}"
        return text, number, unit

    def _options(self, cell: object) -> Mapping[str, object]:
        if cell is None:
            return {}
        options = cell
        if isinstance(cell, str):
            try:
                options = json.loads(cell)
            except (ValueError, RecursionError) as error:
                self.fault(f"reader_kwargs: not readable as JSON ({error})")
                return {}
        if not isinstance(options, Mapping):
            self.fault(f"reader_kwargs: expected a JSON object, but got {options!r:.80}")
            return {}
        return dict(cast("Mapping[str, object]", options))

    def _repeated(self, records: Sequence[Record], known: Mapping[str, str]) -> None:
        first: dict[str, int] = {}
        for record in records:
            name = str(record.cells.get(known["sample"]) or "").strip()
            self.where = f"row {record.row}"
            if name and name in first:
                self.fault(
                    f"section {name!r} stands in row {first[name]} already; names are unique"
                )
            first.setdefault(name, record.row)

    def _timepoints(self, text: SheetText, known: Mapping[str, str]) -> tuple[str, ...] | None:
        """Explicit order: the YAML list, or the column of ranks."""
        if "timepoint_order" not in known:
            return text.timepoints
        self.where = "header"
        if text.timepoints is not None:
            self.fault("timepoint_order and the `timepoints:` list both order the labels; keep one")
        ranks: dict[str, float] = {}
        for record in text.records:
            label = str(record.cells.get(known.get("timepoint", "")) or "").strip()
            self.where = f"row {record.row}"
            cell = record.cells.get(known["timepoint_order"])
            rank = self._number(None if is_missing(cell) else cell, "timepoint_order")
            if not label or rank is None:
                continue
            if ranks.setdefault(label, rank) != rank:
                self.fault(
                    f"timepoint_order: {label!r} is {rank:g} here but {ranks[label]:g} above"
                )
            twin = next((a for a, r in ranks.items() if r == rank and a != label), None)
            if twin is not None:
                self.fault(f"timepoint_order: {label!r} and {twin!r} are both {rank:g}")
        return tuple(sorted(ranks, key=ranks.__getitem__))
