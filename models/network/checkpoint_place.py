"""Where the checkpoint of a training of an atlas lies unless another place is named."""

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ...atlas.errors import Corrupt, InvalidArgument
from ...atlas.keys import check_name
from .weights import unpack_weights

if TYPE_CHECKING:
    from ...atlas.store import AtlasStore

__all__ = ["default_checkpoint", "saved_steps"]


def default_checkpoint(store: "AtlasStore", name: str) -> Path:
    """Return the file in the user's cache that a training of this name is kept in.

    Parameters
    ----------
    store : AtlasStore
        A local atlas or one in a bucket: an atlas itself holds nothing that was not committed.
    name : str
        Name of the run that the training will be saved as.

    Returns
    -------
    Path
        `<cache>/tisseract/checkpoints/<digest of the atlas's URL>-<name>.safetensors`, where
        `<cache>` is `$XDG_CACHE_HOME` or `~/.cache`; its folder exists.

    Raises
    ------
    InvalidArgument
        Not a name, or the folder cannot be made.
    """
    check_name(name, "run")
    known = os.environ.get("XDG_CACHE_HOME")
    try:
        cache = Path(known) if known else Path.home() / ".cache"
        folder = cache / "tisseract" / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a user without a home
        raise InvalidArgument(
            f"a folder for checkpoints is wanted, but got {error}; name a file with checkpoint=, "
            "or set XDG_CACHE_HOME"
        ) from error
    digest = hashlib.sha256(store.url.encode()).hexdigest()[:12]
    return folder / f"{digest}-{name}.safetensors"


def saved_steps(place: Path) -> int | None:
    """Return how many steps a checkpoint has behind it; None if it is no checkpoint."""
    try:
        return len(unpack_weights(place.read_bytes(), str(place))["history.loss"])
    except (Corrupt, KeyError):  # the training itself says what is wrong with it
        return None
