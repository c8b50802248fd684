"""Steps that both tours share: run a command as typed, label domains, close with a report."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..atlas.errors import InvalidArgument, TisseractError

if TYPE_CHECKING:
    from ..handle import Atlas

__all__ = ["Command", "Say", "StepFailed", "Tour", "new_folder"]


Command = Callable[[list[str]], int]


class Say(Protocol):
    """How a tour speaks; `tisseract.cli.output.Output` is one."""

    @property
    def as_json(self) -> bool:
        """Whether stdout belongs to one JSON document."""
        ...

    @property
    def quiet(self) -> bool:
        """Whether to say nothing."""
        ...


class StepFailed(TisseractError, RuntimeError):  # noqa: N818 - named like its siblings
    """A command of the tour did not succeed; its own message stands above."""

    kind = "step-failed"


@dataclass(slots=True)
class Tour:
    """A tour on its way: runs commands in this process, prints each as one could type it.

    Attributes
    ----------
    folder : Path
        Everything is written below it.
    seed : int
        Given to the commands that take one.
    say : Say
        How to speak.
    command : callable
        The command line: takes arguments, gives back an exit code.
    keys : list of str
        Domain labels made so far.
    """

    folder: Path
    seed: int
    say: Say
    command: Command
    keys: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    @property
    def atlas(self) -> str:
        """Where the atlas is."""
        return str(self.folder / "demo.atlas")

    @property
    def seconds(self) -> float:
        """Wall time so far."""
        return time.perf_counter() - self.started

    def tell(self, text: str) -> None:
        """Print words of the tour itself."""
        if not (self.say.as_json or self.say.quiet):
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

    def run(self, *arguments: str) -> None:
        """Run one command.

        Raises
        ------
        StepFailed
            If its exit code is not 0.
        """
        line = shlex.join(["tisseract", *arguments])
        self.tell(f"\n$ {line}")
        silent = self.say.as_json or self.say.quiet
        given = [*arguments, "--quiet"] if self.say.quiet else list(arguments)
        capture = io.StringIO()
        with contextlib.redirect_stdout(capture) if silent else contextlib.nullcontext():
            code = self.command(given)
        if code:
            raise StepFailed(
                f"every step of the tour should end with exit code 0, but got {code} from\n"
                f"  {line}\nwhat is wrong stands above"
            )

    def build(self, sheet: Path, *, knn: int, memory_limit: str) -> None:
        """Ingest and connect."""
        self.run("ingest", str(sheet), self.atlas, "--memory-limit", memory_limit)
        self.run("graph", self.atlas, "--knn", str(knn))
        self.run("ls", self.atlas)

    def learn(self, n_domains: int, *, expression: bool) -> None:
        """Train and label; without torch the trained part is left out, and said so."""
        methods = ["plain"]
        if importlib.util.find_spec("torch") and importlib.util.find_spec("torch_geometric"):
            self.run("train", self.atlas, "--seed", str(self.seed))
            methods.append("gnn")
        else:
            self.tell("\n(training is left out: it needs torch; pip install 'tisseract[ml]')")
        if expression:
            methods.append("expression")
        for method in methods:
            key = f"domain_{method}"
            options = ["--method", method, "--n-domains", str(n_domains)]
            options += ["--key-added", key, "--seed", str(self.seed)]
            if method == "expression":  # a vote among neighbors would tell of them after all
                options.append("--no-refine")
            self.run("domains", self.atlas, *options)
            self.keys.append(key)

    @property
    def best_key(self) -> str:
        """Labels to show: the trained ones where there are any."""
        return "domain_gnn" if "domain_gnn" in self.keys else "domain_plain"

    def open(self) -> Atlas:
        """Open the atlas at its newest snapshot."""
        from ..handle import open as open_atlas

        return open_atlas(self.atlas)


def new_folder(folder: str | Path, parts: Sequence[str]) -> Path:
    """Create the folder of a tour; refuse one that holds an earlier tour.

    Raises
    ------
    InvalidArgument
        If any of `parts` exists below it.
    """
    path = Path(folder)
    there = [name for name in parts if (path / name).exists()]
    if there:
        raise InvalidArgument(
            f"a folder without an earlier demo is wanted, but got {str(path)!r}, which holds "
            f"{', '.join(there)}; remove them or name another folder"
        )
    path.mkdir(parents=True, exist_ok=True)
    return path
