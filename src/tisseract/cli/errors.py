"""From exception to exit code: one clear message on stderr, a traceback only on request."""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer

from .text import as_options, clean

__all__ = ["DONE", "FAILURE", "PARTIAL", "USAGE", "UsageError", "as_typed", "command", "finish"]

_AS_TYPED = "_tisseract_as_typed"
DONE, FAILURE, USAGE, PARTIAL = 0, 1, 2, 3
INTERRUPTED, TERMINATED = 130, 143  # 128 and the number of the signal, as shells count


class UsageError(ValueError):
    """Options that do not go together or cannot be read; exit code 2."""

    kind = "usage"


def as_typed[E: Exception](error: E) -> E:
    """Mark an error whose message repeats names of a file, which are not to be spelled anew."""
    setattr(error, _AS_TYPED, True)
    return error


def command[F: Callable[..., Any]](function: F) -> F:
    """Give a command its error handling; `json` and `verbose` are looked up by name."""

    @functools.wraps(function)
    def guarded(*args: Any, **options: Any) -> Any:
        writes = "dry_run" in options
        try:
            with _plain_warnings(quiet=bool(options.get("quiet"))), _heeding_sigterm(writes=writes):
                return function(*args, **options)
        except typer.Exit:
            raise
        except KeyboardInterrupt as interrupt:
            again = "; run the same command again to go on" if writes else ""
            if "checkpoint" in options:  # a training starts anew unless told otherwise
                again += ", with --resume"
            sys.stderr.write(f"interrupted{again}\n")
            terminated = isinstance(interrupt, _Terminated)
            raise typer.Exit(TERMINATED if terminated else INTERRUPTED) from None
        except BrokenPipeError:
            # the reader has left (`| head`): stdout must not be flushed again at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(DONE) from None
        except Exception as error:
            verbose = int(options.get("verbose") or 0)
            known = _report(error, as_json=bool(options.get("json")), verbose=verbose)
            if not known:
                raise
            raise typer.Exit(USAGE if isinstance(error, UsageError) else FAILURE) from None

    return guarded  # type: ignore[return-value]  # same signature, as functools.wraps declares


class _Terminated(KeyboardInterrupt):
    """SIGTERM, treated as Ctrl-C."""


@contextmanager
def _heeding_sigterm(*, writes: bool) -> Iterator[None]:
    """Let a command that writes commit what is finished when a batch system ends its job."""
    if not writes or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise _Terminated

    usual = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, usual)


@contextmanager
def _plain_warnings(*, quiet: bool) -> Iterator[None]:
    """Show our warnings as one line without a source line, and other people's not at all.

    Filters stay as they are: asked for by ``PYTHONWARNINGS`` or ``-W``, all are shown as usual.
    """
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        ours = category.__module__.partition(".")[0] == "tisseract"
        # Of an answer without cells every command tells by itself.
        if ours and not quiet and category.__name__ != "EmptyAnswerWarning":
            sys.stderr.write("warning: " + clean(as_options(str(message)), lines=True) + "\n")

    if not sys.warnoptions:
        warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = usual


def _report(error: Exception, *, as_json: bool, verbose: int) -> bool:
    """Print one message; False for a fault of the program, whose traceback is wanted."""
    from ..atlas.errors import TisseractError

    known = isinstance(error, TisseractError | UsageError | OSError | MemoryError)
    # a missing extra (torch, matplotlib) is the user's to install; a missing part of ours is not
    if isinstance(error, ImportError):
        known = not (error.name or "").startswith("tisseract")
    if not known:
        sys.stderr.write("tisseract failed in a way it should not; please report what follows\n")
        return False
    if verbose > 1:
        traceback.print_exception(error, file=sys.stderr)
    text = str(error) or type(error).__name__
    # A filter is repeated with a mark below it: its text must stay as it was typed.
    typed = getattr(error, "kind", "") == "query-syntax" or hasattr(error, _AS_TYPED)
    spelled = text if typed else as_options(text)
    lines = [spelled, *getattr(error, "__notes__", ())]
    sys.stderr.write("error: " + clean("\n".join(lines), lines=True) + "\n")
    if as_json:
        kind = getattr(error, "kind", type(error).__name__)
        faults = [
            {"location": fault.location, "message": fault.message}
            for fault in getattr(error, "faults", ())
        ]
        answer: dict[str, object] = {"kind": kind, "message": lines[0]}
        if faults:
            answer["faults"] = faults
        sys.stdout.write(json.dumps({"error": answer}, indent=1) + "\n")
    return True


def finish(code: object) -> int:
    """Exit code of a SystemExit.

    Examples
    --------
    >>> finish(None), finish(3), finish("message")
    (0, 3, 1)
    """
    if code is None:
        return DONE
    return code if isinstance(code, int) else FAILURE
