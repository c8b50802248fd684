"""What lies beside the cells of an answer: transcripts, shapes, an image, to a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .answers import check_place
from .errors import UsageError
from .text import size

if TYPE_CHECKING:
    from ..query.cells.selection import Selection
    from ..query.points.transcripts import Transcripts
    from .output import Output

__all__ = ["Beside", "Element", "UmPerPx", "What", "check_beside", "tell_beside"]

What = Annotated[
    Literal["cells", "transcripts", "shapes", "image"],
    typer.Option("--what", help="What to hand out of the place."),
]
Element = Annotated[
    str | None,
    typer.Option("--element", metavar="NAME", help="Which transcripts, shapes or image."),
]
UmPerPx = Annotated[
    float | None, typer.Option("--um-per-px", help="Of an image: pixels no larger than this.")
]
_FORMS = {
    "transcripts": (".parquet", ".csv"),
    "shapes": (".parquet", ".geojson"),
    "image": (".tif", ".png"),
}


@dataclass(frozen=True, slots=True)
class Beside:
    """What is wanted beside cells, and where it goes."""

    what: str
    """`transcripts`, `shapes` or `image`."""
    path: Path | None
    """File; None tells what reading it would take."""
    genes: list[str] | None
    """Genes of transcripts."""
    element: str | None
    """Name of the points, shapes or image."""
    um_per_px: float | None
    """Largest pixel of an image."""
    memory_limit: str | None
    """Refuse above it."""


def check_beside(
    what: str,
    output: str | None,
    *,
    genes: list[str] | None,
    element: str | None,
    um_per_px: float | None,
    memory_limit: str | None,
    overwrite: bool,
    unfit: Mapping[str, object],
) -> Beside | None:
    """Check options before anything is read; None where cells are wanted.

    Raises
    ------
    UsageError
        An option or an ending that does not fit, or a file that exists.
    """
    image_only: dict[str, object] = {"--um-per-px": um_per_px}
    if what == "cells":
        _refuse(image_only | {"--element": element}, "--what transcripts, shapes or image")
        if output is None:
            writing: dict[str, object] = {
                "--memory-limit": memory_limit,
                "--overwrite": overwrite or None,
            }
            # Genes that a section lacks are told of without a file too.
            writing |= {key: value for key, value in unfit.items() if key != "--missing"}
            _refuse(writing, "a file to write: add -o PATH")
        return None
    _refuse(unfit, "--what cells")
    if what != "transcripts":
        _refuse({"--genes": genes}, "--what transcripts and cells")
    if what != "image":
        _refuse(image_only, "--what image")
    if output is None:
        if what != "transcripts":
            raise UsageError(f"--what {what} goes with a file to write: add -o PATH")
        return Beside(what, None, genes, element, um_per_px, memory_limit)
    path = Path(output)
    if path.suffix.lower() not in _FORMS[what]:
        raise UsageError(
            f"an output ending in {' or '.join(_FORMS[what])} is wanted for --what {what}, but "
            f"got {output!r}"
        )
    check_place(output, overwrite=overwrite)
    return Beside(what, path, genes, element, um_per_px, memory_limit)


def _refuse(options: Mapping[str, object], place: str) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise UsageError(f"{', '.join(given)} goes with {place}")


def tell_beside(chosen: Selection, asked: Beside, say: Output) -> dict[str, Any]:
    """Write what is wanted, or tell what it takes; returns the facts that were printed."""
    from ..query.appearing import appearing

    if asked.what == "transcripts":
        return _transcripts(chosen.transcripts(asked.genes, name=asked.element), asked, say)
    assert asked.path is not None
    facts: dict[str, Any] = {"output": str(asked.path)}
    if asked.what == "shapes":
        frame = chosen.shapes(asked.element or "cells", memory_limit=asked.memory_limit)
        with appearing(asked.path) as part:
            if asked.path.suffix.lower() == ".parquet":
                frame.to_parquet(part)
            else:
                part.write_text(frame.to_json(), encoding="utf-8")
        facts["n_shapes"] = len(frame)
        say.data(facts, f"{len(frame):,} shapes -> {asked.path}")
        return facts
    facts |= _image(chosen, asked)
    say.data(facts, f"image {facts['image']} of {facts['shape']} pixels -> {asked.path}")
    return facts


def _transcripts(found: Transcripts, asked: Beside, say: Output) -> dict[str, Any]:
    import pyarrow.csv as pc
    import pyarrow.parquet as pq

    from ..query.appearing import appearing

    plan = found.explain()
    facts: dict[str, Any] = {"n_bound": plan.n_bound, "nbytes": plan.read_bytes}
    if asked.path is None:
        say.detail(str(plan))
        text = f"at most {plan.n_bound:,} transcripts, about {size(plan.read_bytes)} to read"
        say.data(facts, text)
        return facts
    make = pq.ParquetWriter if asked.path.suffix.lower() == ".parquet" else pc.CSVWriter
    schema = found.schema if make is pq.ParquetWriter else _plain(found.schema)
    n = 0
    with appearing(asked.path) as part, make(str(part), schema) as writer:
        for batch in found.batches():
            writer.write_batch(batch.cast(schema) if schema != found.schema else batch)
            n += batch.num_rows
    facts |= {"n_transcripts": n, "output": str(asked.path)}
    say.data(facts, f"{n:,} transcripts -> {asked.path}")
    return facts


def _plain(schema: Any) -> Any:
    """Text in place of categories, which CSV has not."""
    import pyarrow as pa

    words = [pa.types.is_dictionary(one.type) for one in schema]
    fields = [pa.field(f.name, pa.string()) if w else f for f, w in zip(schema, words, strict=True)]
    return pa.schema(fields)


def _image(chosen: Selection, asked: Beside) -> dict[str, Any]:
    from ..atlas.memory import parse_bytes, refuse_above
    from ..query.appearing import appearing

    assert asked.path is not None
    crops = chosen.images(asked.element, um_per_px=asked.um_per_px)
    if len(crops) != 1:
        known = ", ".join(crops) or "none"
        raise UsageError(f"one image is wanted, but the place has {known}; say --element NAME")
    name, crop = next(iter(crops.items()))
    refuse_above(
        parse_bytes(asked.memory_limit),
        3 * crop.nbytes,
        f"a picture of {crop.shape[-1]} x {crop.shape[-2]} pixels",
        "ask for coarser pixels (--um-per-px), or a smaller place",
    )
    pixels = crop.to_numpy()
    with appearing(asked.path) as part:
        if asked.path.suffix.lower() == ".tif":
            _write_tiff(part, pixels, float(crop.attrs["um_per_px"]))
        else:
            _write_png(part, pixels)
    return {"image": name, "shape": list(crop.shape), "um_per_px": crop.attrs["um_per_px"]}


def _write_tiff(path: Path, pixels: Any, um_per_px: float) -> None:
    import tifffile

    per_cm = 10_000 / um_per_px
    tifffile.imwrite(
        path,
        pixels,
        metadata={"axes": "CYX"},
        photometric="minisblack",
        resolution=(per_cm, per_cm),
        resolutionunit="CENTIMETER",
    )


def _write_png(path: Path, pixels: Any) -> None:
    from PIL import Image

    if pixels.dtype != "uint8" or pixels.shape[0] not in (1, 3, 4):
        raise UsageError(
            f"a PNG holds 1, 3 or 4 channels of 8 bit, but got {pixels.shape[0]} of "
            f"{pixels.dtype}; write a .tif"
        )
    picture = pixels[0] if pixels.shape[0] == 1 else pixels.transpose(1, 2, 0)
    Image.fromarray(picture).save(path, format="PNG")
