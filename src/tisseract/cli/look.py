"""Commands that look at an atlas: `ls`, `info`, `values`, `history`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .errors import command
from .options import (
    AtlasArgument,
    DomainKey,
    Json,
    Quiet,
    StorageOptions,
    Verbose,
    Version,
    storage_options,
)
from .output import Output
from .session import open_atlas
from .text import clean, size

__all__ = ["register"]

_FIRST = ("section", "timepoint", "technology", "n_obs", "n_vars")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("ls")(list_sections)
    app.command("info")(info)
    app.command("values")(values)
    app.command("history")(history)


@command
def list_sections(
    atlas: AtlasArgument,
    *,
    storage_option: StorageOptions = None,
    version: Version = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """List the sections of an atlas."""
    output = Output(json, quiet, verbose)
    opened = open_atlas(atlas, storage_option, version=version)
    rows = section_rows(opened)
    columns = [*_FIRST, *(("donor", "condition", "values", "bytes") if verbose else ())]
    output.rows(rows, columns, empty="the atlas holds no sections yet; see: tisseract ingest")


@command
def info(
    atlas: AtlasArgument,
    *,
    section: Annotated[
        str | None, typer.Option("--section", help="Show this section instead of the atlas.")
    ] = None,
    storage_option: StorageOptions = None,
    version: Version = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Show what an atlas, or one section, holds."""
    output = Output(json, quiet, verbose)
    opened = open_atlas(atlas, storage_option, version=version)
    facts = atlas_facts(opened) if section is None else section_facts(opened, section)
    output.data(facts, text=_facts_text(facts))


@command
def values(
    atlas: AtlasArgument,
    column: Annotated[str, typer.Argument(help="Column of obs, of the sections, or 'domain'.")],
    *,
    domain_key: DomainKey = None,
    storage_option: StorageOptions = None,
    version: Version = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Show the values of a column, with their numbers of cells: what can be asked for."""
    output = Output(json, quiet, verbose)
    opened = open_atlas(atlas, storage_option, version=version)
    found = opened.values(column, domain_key=domain_key)
    rows = [
        {"value": value if isinstance(value, str) else _scalar(value), "n_obs": int(count)}
        for value, count in found.items()
    ]
    output.rows(rows, ["value", "n_obs"], empty=f"no cell has a value of {column}")


@command
def history(
    atlas: AtlasArgument,
    *,
    storage_option: StorageOptions = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """List the snapshots of an atlas, newest first; pin one with --version N."""
    from ..atlas import catalog
    from ..atlas.storage import open_storage

    output = Output(json, quiet, verbose)
    storage = open_storage(atlas, storage_options(storage_option))
    rows = [_snapshot_row(snapshot) for snapshot in catalog.history(storage)]
    output.rows(rows, ["number", "created", "message", "sections", "derived"])


def _snapshot_row(snapshot: Any) -> dict[str, Any]:
    row = {"number": snapshot.number, "created": getattr(snapshot, "created", None)}
    row["message"] = getattr(snapshot, "message", "(removed)")
    for name in ("sections", "derived", "runs"):
        held = getattr(snapshot, name, None)
        row[name] = None if held is None else len(held)
    return row


def section_rows(atlas: Any) -> list[dict[str, Any]]:
    """One mapping per section: its metadata, and `section`, `n_obs`, `n_vars` ... first."""
    rows = []
    for name, entry in sorted(atlas.snapshot.sections.items()):
        row: dict[str, Any] = {"section": name}
        row |= {key: entry.metadata.get(key) for key in ("timepoint", "technology")}
        row |= {"n_obs": entry.n_obs, "n_vars": entry.n_vars}
        row |= {key: value for key, value in entry.metadata.items() if key not in row}
        row |= {"values": entry.values, "um_per_unit": entry.um_per_unit, "bytes": entry.nbytes}
        rows.append(row)
    return sorted(rows, key=lambda row: (_time_of(row), row["section"]))


def _time_of(row: dict[str, Any]) -> float:
    value = row.get("time_value")
    return float(value) if isinstance(value, int | float) else float("inf")


def atlas_facts(atlas: Any) -> dict[str, Any]:
    """Collect what `info` shows of a whole atlas."""
    snapshot = atlas.snapshot
    entries = list(snapshot.sections.values())
    facts: dict[str, Any] = {
        "url": atlas.url,
        "snapshot": snapshot.number,
        "created": snapshot.created,
        "sections": len(entries),
        "cells": sum(entry.n_obs for entry in entries),
        "non_zeros": sum(entry.nnz for entry in entries),
        "bytes": sum(entry.nbytes for entry in entries),
    }
    rows = section_rows(atlas)
    plurals = {"timepoint": "timepoints", "technology": "technologies", "organism": "organisms"}
    for name, plural in plurals.items():
        counts: dict[str, int] = {}
        for row in rows:
            if row.get(name) is not None:
                counts[str(row[name])] = counts.get(str(row[name]), 0) + 1
        facts[plural] = counts
    derived: dict[str, dict[str, int]] = {}
    for entry in snapshot.derived.values():
        keys = derived.setdefault(entry.kind, {})
        keys[entry.key] = keys.get(entry.key, 0) + 1
    facts["derived"] = derived
    if stale := _stale(snapshot):
        facts["stale"] = stale
    if found := _graph_facts(snapshot):
        facts["graphs"] = found
    facts["runs"] = sorted(snapshot.runs)
    return facts


def section_facts(atlas: Any, name: str) -> dict[str, Any]:
    """Collect what `info --section` shows."""
    held = atlas.section(name)
    entry = held.entry
    graphs = _graph_facts(atlas.snapshot, name)
    unit = "um" if entry.um_per_unit is not None else "source units"
    return {
        "section": name,
        "attempt": entry.attempt,
        "n_obs": entry.n_obs,
        "n_vars": entry.n_vars,
        "non_zeros": entry.nnz,
        "bytes": entry.nbytes,
        "tiles": entry.n_tiles,
        "values": entry.values,
        "um_per_unit": entry.um_per_unit,
        f"bounds ({unit})": list(entry.bounds),
        "metadata": dict(entry.metadata),
        "columns": {key: dict(value) for key, value in entry.columns.items()},
        "points": {name: points.info.n_points for name, points in held.points.items()},
        **{kind: list(held.elements.get(kind, ())) for kind in ("shapes", "images", "labels")},
        "apart": list(held.apart_names),
        "notes": list(held.group["tisseract/provenance"].attrs.get("notes", ())),
        "derived": sorted(
            f"{derived.kind}/{derived.key}"
            for derived in atlas.snapshot.derived.values()
            if derived.section == name
        ),
        **({"stale": stale} if (stale := _stale(atlas.snapshot, name)) else {}),
        **({"graphs": graphs} if graphs else {}),
    }


def _stale(snapshot: Any, section: str | None = None) -> dict[str, list[str]]:
    """Sections in which derived data hang on what was replaced since, by kind and key.

    Graphs are marked where they are listed.
    """
    found: dict[str, list[str]] = {}
    for _, entry in sorted(snapshot.derived.items()):
        asked = entry.kind != "graph" and section in (None, entry.section)
        if asked and snapshot.stale_inputs(entry):
            found.setdefault(f"{entry.kind}/{entry.key}", []).append(entry.section)
    return found


def _graph_facts(snapshot: Any, section: str | None = None) -> list[dict[str, Any]]:
    """Graphs of an atlas, or of one section: what was asked, how many there are, which stale."""
    found: dict[str, dict[str, Any]] = {}
    for _, entry in sorted(snapshot.derived.items()):
        if entry.kind != "graph" or section not in (None, entry.section):
            continue
        # A mask has another digest in each section.
        asked = {n: v for n, v in entry.info.get("parameters", {}).items() if n != "mask"}
        kind = entry.info.get("kind")
        fact = found.setdefault(
            repr((entry.key, kind, asked)),
            {"key": entry.key, "kind": kind, "parameters": asked, "sections": 0, "stale": []},
        )
        fact["sections"] += 1
        if snapshot.stale_inputs(entry):
            fact["stale"].append(entry.section)
    return list(found.values())


def _graph_text(fact: dict[str, Any]) -> str:
    """One line about graphs of one name."""
    asked = ", ".join(f"{clean(name)}={clean(value)}" for name, value in fact["parameters"].items())
    stale = fact["stale"]
    plural = "s" if fact["sections"] > 1 else ""
    text = f"{clean(fact['key'])}: {fact['kind']} {asked} ({fact['sections']} section{plural})"
    if not stale:
        return text
    return f"{text}; stale: {_few(stale)}"


def _few(names: list[str]) -> str:
    return ", ".join(map(clean, names[:5])) + (" ..." if len(names) > 5 else "")


def _facts_text(facts: dict[str, Any]) -> str:
    width = max(len(key) for key in facts)
    lines = []
    for key, value in facts.items():
        lines += [f"{key:<{width}}  {line}" for line in _fact_lines(key, value)]
    return "\n".join(lines)


def _fact_lines(key: str, value: Any) -> list[str]:
    if key == "bytes":
        return [size(value)]
    if key == "graphs":
        return [_graph_text(fact) for fact in value]
    if key == "stale":
        return [f"{clean(name)}: {_few(sections)}" for name, sections in value.items()]
    if key == "notes":
        return list(map(clean, value)) or ["-"]
    if key == "columns":
        return [f"{clean(name)} ({info.get('kind')})" for name, info in value.items()] or ["-"]
    if isinstance(value, dict):
        return [", ".join(f"{clean(name)}: {_inner(item)}" for name, item in value.items()) or "-"]
    if isinstance(value, list):
        return [", ".join(_inner(item) for item in value) or "-"]
    return [_inner(value)]


def _inner(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{clean(name)} ({count})" for name, count in value.items())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-" if value is None else clean(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _scalar(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
