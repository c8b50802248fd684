"""Every error tisseract raises on purpose: one tree, each class also the builtin one would guess.

A message says what was wanted, what was found instead ("but got ..."), where, and the next step.

::

    TisseractError
     ├ AtlasError ─ the store itself
     │   ├ AtlasNotFound (FileNotFoundError)    ├ AtlasExists (FileExistsError)
     │   ├ FormatUnsupported (ValueError)       ├ Corrupt (ValueError)
     │   ├ CommitConflict (RuntimeError)        ├ CommitUncertain (RuntimeError)
     │   ├ ReadOnly (PermissionError)           ├ AccessDenied (PermissionError)
     │   ├ StorageUnsupported (ValueError)      ├ StorageUnavailable (ConnectionError)
     │   ├ StorageFull (OSError)                ├ MissingKey (KeyError)
     │   └ AlreadyExists (FileExistsError)
     ├ NotInAtlas (KeyError) ─ a name that the snapshot does not hold
     │   └ SectionNotFound, GeneNotFound, GeneAmbiguous, ColumnNotFound,
     │     DerivedNotFound, SnapshotNotFound, RunNotFound
     ├ StaleDerived (ValueError)                ├ UnitUnknown (ValueError)
     ├ BudgetExceeded (MemoryError)             ├ QuerySyntax (ValueError)
     ├ InvalidArgument (ValueError)
     └ InputError (ValueError) ─ carries every fault found, not only the first

`kind` is a stable, machine-readable name: programs match on it, messages may change.
"""

# ruff: noqa: N818 - the names are what users catch; "AtlasNotFound" reads better than "...Error"
from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

__all__ = [
    "AccessDenied",
    "AlreadyExists",
    "AtlasError",
    "AtlasExists",
    "AtlasNotFound",
    "BudgetExceeded",
    "ColumnNotFound",
    "CommitConflict",
    "CommitUncertain",
    "Corrupt",
    "DerivedNotFound",
    "Fault",
    "FormatUnsupported",
    "GeneAmbiguous",
    "GeneNotFound",
    "InputError",
    "InvalidArgument",
    "MissingKey",
    "NotInAtlas",
    "QuerySyntax",
    "ReadOnly",
    "RunNotFound",
    "SectionNotFound",
    "SnapshotNotFound",
    "StaleDerived",
    "StorageFull",
    "StorageUnavailable",
    "StorageUnsupported",
    "TisseractError",
    "UnitUnknown",
    "near",
    "near_or_all",
]


class TisseractError(Exception):
    """Root of the tree; catching it catches everything tisseract raises on purpose."""

    kind: ClassVar[str] = "error"

    def __str__(self) -> str:
        # KeyError would print repr(message), OSError a tuple; one plain sentence for all.
        return str(self.args[0]) if self.args else ""


class AtlasError(TisseractError):
    """The store cannot do what was asked."""

    kind = "atlas"


class AtlasNotFound(AtlasError, FileNotFoundError):
    """There is no atlas at this place."""

    kind = "atlas-not-found"


class AtlasExists(AtlasError, FileExistsError):
    """An atlas, or something else, already stands where a new one should be created."""

    kind = "atlas-exists"


class FormatUnsupported(AtlasError, ValueError):
    """Written by a newer version, or needing a feature this version does not know."""

    kind = "format-unsupported"


class CommitConflict(AtlasError, RuntimeError):
    """The change no longer fits the newest snapshot; nothing was committed."""

    kind = "commit-conflict"


class CommitUncertain(AtlasError, RuntimeError):
    """The storage answered neither yes nor no; the history tells whether the commit is there."""

    kind = "commit-uncertain"


class ReadOnly(AtlasError, PermissionError):
    """A write through a handle that was opened for reading."""

    kind = "read-only"


class AccessDenied(AtlasError, PermissionError):
    """The storage refused the credentials, or had none to judge."""

    kind = "access-denied"


class StorageUnsupported(AtlasError, ValueError):
    """A URL scheme, option or storage guarantee that tisseract cannot work with."""

    kind = "storage-unsupported"


class StorageUnavailable(AtlasError, ConnectionError):
    """The storage could not be reached, or failed in the middle of an answer."""

    kind = "storage-unavailable"


class StorageFull(AtlasError, OSError):
    """No space is left, or a quota is reached, where something had to be written."""

    kind = "storage-full"


class MissingKey(AtlasError, KeyError):
    """The storage holds no object of this key."""

    kind = "missing-key"


class Corrupt(AtlasError, ValueError):
    """What was read is damaged, incomplete or hostile."""

    kind = "corrupt"


class AlreadyExists(AtlasError, FileExistsError):
    """A put-if-absent found the key taken."""

    kind = "already-exists"


class NotInAtlas(TisseractError, KeyError):
    """A name that the opened snapshot does not hold."""

    kind = "not-in-atlas"


class SectionNotFound(NotInAtlas):
    """No section of this name in the opened snapshot."""

    kind = "section-not-found"


class GeneNotFound(NotInAtlas):
    """No gene of this identifier, symbol or alias."""

    kind = "gene-not-found"


class GeneAmbiguous(NotInAtlas):
    """A gene name that fits several genes; the message lists them."""

    kind = "gene-ambiguous"


class ColumnNotFound(NotInAtlas):
    """No column of this name."""

    kind = "column-not-found"


class DerivedNotFound(NotInAtlas):
    """No graph, embedding, domain key or other derived data of this name."""

    kind = "derived-not-found"


class SnapshotNotFound(NotInAtlas):
    """No snapshot of this number, or one that was removed."""

    kind = "snapshot-not-found"


class RunNotFound(NotInAtlas):
    """No training run of this name."""

    kind = "run-not-found"


class StaleDerived(TisseractError, ValueError):
    """Derived data whose inputs have been replaced since it was computed."""

    kind = "stale-derived"


class UnitUnknown(TisseractError, ValueError):
    """A length in micrometres asked of a section whose unit is not known."""

    kind = "unit-unknown"


class BudgetExceeded(TisseractError, MemoryError):
    """The work would need more memory than it may use; refused before it starts."""

    kind = "budget-exceeded"

    def __new__(cls, *args: object) -> Self:
        """Make an instance as any exception is made.

        `MemoryError` has a constructor of its own, which refuses the classes below it when they
        are rebuilt without `__init__`, as tblib does for what a Dask worker raised.
        """
        return Exception.__new__(cls, *args)


class QuerySyntax(TisseractError, ValueError):
    """A query string that does not parse."""

    kind = "query-syntax"


class InvalidArgument(TisseractError, ValueError):
    """An argument outside what the call accepts."""

    kind = "invalid-argument"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with an input.

    Attributes
    ----------
    location : str
        Where, as the user knows it: a file, a row of the sheet, a key.
    message : str
        What was wanted, what was found, and the next step.
    """

    location: str
    message: str

    def __str__(self) -> str:
        return f"{self.location}: {self.message}" if self.location else self.message


class InputError(TisseractError, ValueError):
    r"""An input that cannot be taken in; carries every fault at once.

    Parameters
    ----------
    faults : iterable of Fault, Fault or str
        All that is wrong.
    title : str
        What was being read; printed before the faults when there are several.

    Examples
    --------
    >>> str(InputError([Fault("row 3", "x is empty"), Fault("row 9", "y is empty")], "sheet.csv"))
    'sheet.csv: 2 faults\n  row 3: x is empty\n  row 9: y is empty'
    """

    kind = "input"
    faults: tuple[Fault, ...]

    def __init__(self, faults: Iterable[Fault] | Fault | str, title: str = "") -> None:
        if isinstance(faults, str):
            faults = Fault("", faults)
        self.faults = (faults,) if isinstance(faults, Fault) else tuple(faults)
        # Plain values as args: an exception is rebuilt from them on the far side of a pickle.
        super().__init__(self.faults, title)

    def __str__(self) -> str:
        title = str(self.args[1])
        if len(self.faults) == 1:
            return f"{title}: {self.faults[0]}" if title else str(self.faults[0])
        head = f"{title}: {len(self.faults)} faults" if title else f"{len(self.faults)} faults"
        return "\n  ".join([head, *map(str, self.faults)])


def near(value: object, choices: Iterable[object], limit: int = 3) -> str:
    """Say which known names resemble an unknown one, as the end of an error message.

    Parameters
    ----------
    value : object
        The name that was not found.
    choices : iterable of object
        The names that exist.
    limit : int
        How many names to offer.

    Returns
    -------
    str
        `" Did you mean 'a' or 'b'?"` with its leading blank, else the names when there are few,
        else an empty string.

    Examples
    --------
    >>> near("sox2", ["Sox2", "Pax6"])
    " Did you mean 'Sox2'?"
    >>> near("x", ["Sox2", "Pax6"])
    " There are: 'Pax6', 'Sox2'."
    """
    names = sorted({str(choice) for choice in choices})
    wanted = str(value)
    folded: dict[str, str] = {}
    for name in names:
        folded.setdefault(name.casefold(), name)
    found = difflib.get_close_matches(wanted.casefold(), folded, n=limit, cutoff=0.6)
    if found:
        return f" Did you mean {' or '.join(repr(folded[name]) for name in found)}?"
    if names and len(names) <= 2 * limit:
        return f" There are: {', '.join(map(repr, names))}."
    return ""


def near_or_all(value: object, choices: Iterable[object], most: int = 30) -> str:
    """Say which known names resemble an unknown one, or name all where none does and they are few.

    Examples
    --------
    >>> near_or_all("x", map(str, range(7)))
    " There are: '0', '1', '2', '3', '4', '5', '6'."
    """
    names = sorted({str(choice) for choice in choices})
    listed = f" There are: {', '.join(map(repr, names))}." if 0 < len(names) <= most else ""
    return near(value, names) or listed
