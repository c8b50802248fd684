"""The reader option `panel`: whether genes that a file does not list were measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ...atlas.errors import Fault, InputError

if TYPE_CHECKING:
    from ..reader import ReadOptions

__all__ = ["completeness"]


def completeness(
    options: ReadOptions, where: str, usual: Literal["partial", "complete"]
) -> Literal["partial", "complete"]:
    """Tell whether the genes of a file are all that were measured.

    Parameters
    ----------
    options : ReadOptions
        What the sheet says.
    where : str
        Place to name in messages.
    usual : {"partial", "complete"}
        `partial` for files that list what was seen, `complete` for those that list their probes.

    Raises
    ------
    InputError
        The option is neither word.

    Examples
    --------
    >>> from tisseract.ingest.reader import ReadOptions
    >>> completeness(ReadOptions(reader_kwargs={"panel": "complete"}), "", "partial")
    'complete'
    """
    panel = options.reader_kwargs.get("panel", usual)
    if panel == "partial":
        return "partial"
    if panel == "complete":
        return "complete"
    raise InputError(
        Fault(where, f"expected reader_kwargs panel partial or complete, but got {panel!r}")
    )
