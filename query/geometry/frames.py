"""Common frames: an affine from each section's coordinates into a named coordinate system.

The derived kind `frame`, one attempt a section and frame. The matrix stands in the snapshot
itself, so asking by a frame opens nothing.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import (
    DerivedNotFound,
    Fault,
    InputError,
    InvalidArgument,
    SectionNotFound,
    near,
    near_or_all,
)
from ...atlas.frames import FRAME, Matrix, affine, write_frame
from ...atlas.keys import check_name
from ...atlas.snapshot import Change
from .by_section import PlacesBySection, fresh_and_stale
from .framed import Framed
from .places import Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from ...atlas.store import AtlasStore

_NAMED = 10


class UnregisteredWarning(UserWarning):
    """Sections that a frame does not know are left out of an answer."""


def register(
    store: "AtlasStore",
    frame: str,
    transforms: Mapping[str, object],
    *,
    overwrite: bool = False,
) -> None:
    """Commit the affines of sections into a common frame, all in one snapshot.

    Parameters
    ----------
    store
        Opened for writing.
    frame
        Name of the frame, such as `ccf_um`.
    transforms
        Section name to an affine from its coordinates (micrometers, source units where these are
        unknown) into those of the frame; see `affine`.
    overwrite
        Replace affines that are there already; those of replaced sections always are.

    Raises
    ------
    InputError
        Unknown sections or bad affines, all at once; nothing is committed.
    InvalidArgument
        No section, a bad name, or affines that are there already.
    CommitConflict
        Others registered these sections meanwhile.
    ReadOnly
        The atlas was opened for reading.
    """
    check_name(frame, "frame")
    store.storage.forbid_writing(f"registering sections in frame {frame!r}")
    given: object = transforms
    if not isinstance(given, Mapping) or not given:
        raise InvalidArgument(
            f"a mapping of section names to affines is wanted, but got {str(transforms)[:80]}"
        )
    matrices: dict[str, Matrix] = {}
    faults: list[Fault] = []
    for section, value in transforms.items():
        try:
            if not store.has_section(section):
                hint = near(section, store.section_names)
                raise SectionNotFound(f"a section of this snapshot is wanted.{hint}")
            matrices[section] = affine(value)
        except (InvalidArgument, SectionNotFound) as error:
            faults.append(Fault(f"section {str(section)[:128]!r}", str(error)))
    if faults:
        raise InputError(faults, f"frame {frame!r}")
    seen = store.snapshot
    there = [
        name
        for name in matrices
        if f"{FRAME}/{frame}/{name}" in store.snapshot.derived
        and not store.is_stale(FRAME, frame, name)
    ]
    if there and not overwrite:
        raise InvalidArgument(
            f"sections not yet in frame {frame!r} are wanted, but got {', '.join(there[:_NAMED])}; "
            "pass overwrite=True to replace their affines"
        )
    entries = [write_frame(store, frame, section, matrix) for section, matrix in matrices.items()]
    change = Change(add_derived=entries, expect={} if overwrite else seen.attempts_at(entries))
    store.commit(change, f"register {len(entries)} sections in {frame}")


def read_affine(store: "AtlasStore", frame: str, section: str) -> Matrix:
    """Affine of one section into a frame, from the snapshot.

    Raises
    ------
    DerivedNotFound, StaleDerived, InvalidArgument
    """
    return affine(store.derived(FRAME, frame, section).info.get("matrix"))


def frame_table(store: "AtlasStore") -> "pd.DataFrame":
    """Every section of every frame with its affine; columns frame, section, a to f, stale.

    `stale`: the section was replaced since, and is left out of answers until it is registered.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for frame, sections in store.derived_keys(FRAME).items():
        for section in sections:
            entry = store.snapshot.derived[f"{FRAME}/{frame}/{section}"]
            numbers = np.ravel(affine(entry.info.get("matrix"))).tolist()
            row = {"frame": frame, "section": section} | dict(zip("abcdef", numbers, strict=True))
            rows.append(row | {"stale": bool(store.snapshot.stale_inputs(entry))})
    return pd.DataFrame(rows, columns=["frame", "section", *"abcdef", "stale"])


def framed_places(
    store: "AtlasStore", frame: str, place: Place, sections: "Sequence[str] | None"
) -> PlacesBySection:
    """Pull a place of a frame back into each of its sections.

    Parameters
    ----------
    store
        The atlas.
    frame
        Name of the frame.
    place
        In its coordinates.
    sections
        Only these, each of which must be registered; None is all that are, but for those that
        were replaced since.

    Raises
    ------
    DerivedNotFound
        No such frame, or sections that were named and are not registered in it.
    StaleDerived
        One that was named, or every one, was replaced since it was registered.
    """
    known = store.derived_keys(FRAME)
    if frame not in known:
        raise DerivedNotFound(
            f"a registered frame is wanted for coordinate_system=, but got {frame!r}."
            f"{near_or_all(frame, known)} atlas.register(frame, transforms) adds one"
        )
    absent = [name for name in sections or () if name not in known[frame]]
    if absent:
        raise DerivedNotFound(
            f"sections registered in frame {frame!r} are wanted, but got "
            f"{', '.join(map(repr, absent[:_NAMED]))}; register them, or leave them out"
        )
    chosen, stale = fresh_and_stale(store, FRAME, frame, sections)
    chosen = chosen or known[frame]  # where all are stale, the first of them raises
    places = {name: Framed(place, read_affine(store, frame, name), frame) for name in chosen}
    words, why_not = f"{place} of frame {frame!r}", f"is not in frame {frame!r}"
    return replace(PlacesBySection.of(places, words, why_not), **stale)
