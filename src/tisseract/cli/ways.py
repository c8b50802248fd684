"""What becomes of an answer: it is told, written to a file, or gives way to what lies beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .answers import check_measured, check_target, tell_apart, without_dropped, write_answer
from .beside import Beside, check_beside, tell_beside
from .output import Output
from .text import size

if TYPE_CHECKING:
    from ..query.cells.selection import Selection

__all__ = ["Ways", "tell"]


@dataclass(frozen=True, slots=True)
class Ways:
    """What becomes of an answer: it is told, or written; or what lies beside its cells is."""

    output: str | None
    beside: Beside | None
    """What is wanted instead of cells."""
    target: Path | None
    """File for cells."""
    genes: list[str] | None
    """Those that cells are asked with."""
    missing: str | None
    options: Mapping[str, Any]
    """Of `write_answer`."""

    @classmethod
    def checked(
        cls,
        what: str,
        output: str | None,
        *,
        genes: list[str] | None,
        element: str | None,
        um_per_px: float | None,
        memory_limit: str | None,
        overwrite: bool,
        missing: str | None,
        **options: Any,
    ) -> Ways:
        """Check what is wanted before anything is read.

        Raises
        ------
        UsageError
            See `check_beside` and `check_target`.
        """
        options = {"missing": missing, **options}
        beside = check_beside(
            what,
            output,
            genes=genes,
            element=element,
            um_per_px=um_per_px,
            memory_limit=memory_limit,
            overwrite=overwrite,
            unfit={f"--{name.replace('_', '-')}": value for name, value in options.items()},
        )
        if beside is not None:
            return cls(output, beside, None, None, missing, {})
        target = None if output is None else check_target(output, overwrite=overwrite)
        options |= {"memory_limit": memory_limit, "overwrite": overwrite}
        return cls(output, None, target, genes, missing, options)

    def write(self, asked: Selection) -> Selection:
        """Write cells, if they go to a file; returns those of sections that are not left out."""
        if self.beside is not None:
            return asked
        chosen = without_dropped(asked, self.missing)
        if self.target is None:
            check_measured(chosen, self.missing)
        else:
            # Each form has its own rule for genes that a section lacks: a figure names them.
            write_answer(chosen, self.target, **self.options)
        return chosen

    def tell(self, asked: Selection, chosen: Selection, say: Output) -> dict[str, Any]:
        """Tell of the answer, and write what lies beside its cells; returns the facts."""
        if self.beside is not None:
            return tell_beside(asked, self.beside, say)
        dropped = [name for name in asked.runs if name not in chosen.runs]
        facts = tell(say, chosen, self.output, dropped)
        if self.target is not None and self.target.suffix.lower() in (".h5ad", ".zarr"):
            tell_apart(say, chosen)
        return facts


def _facts(chosen: Selection, output: str | None, dropped: Sequence[str] = ()) -> dict[str, Any]:
    per_section = {name: int((runs[:, 1] - runs[:, 0]).sum()) for name, runs in chosen.runs.items()}
    return {
        "n_obs": chosen.n_obs,
        "n_vars": chosen.n_vars,
        "nbytes": chosen.nbytes,
        "sections": per_section,
        "output": output,
        **({"dropped": list(dropped)} if dropped else {}),
    }


def tell(
    say: Output, chosen: Selection, output: str | None, dropped: Sequence[str] = ()
) -> dict[str, Any]:
    """Tell of an answer; returns its facts."""
    facts = _facts(chosen, output, dropped)
    if dropped:
        say.note(f"note: left out, as they did not measure every gene: {', '.join(dropped)}")
    elif not facts["n_obs"]:
        from ..query.cells.empty import nothing_found

        say.note(f"note: {nothing_found(chosen)}")
    if say.as_json:
        say.data(facts)
        return facts
    head = (
        f"{facts['n_obs']:,} cells x {facts['n_vars']:,} genes in {len(facts['sections'])} sections"
    )
    if output is not None:
        say.data(f"{head} -> {output}")
        return facts
    lines = [f"{head}, about {size(facts['nbytes'])} to read"]
    width = max(map(len, facts["sections"]), default=0)
    lines += [f"  {name:<{width}} {count:>12,}" for name, count in facts["sections"].items()]
    say.data("\n".join(lines))
    say.detail(str(chosen.explain()))
    return facts
