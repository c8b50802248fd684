"""Where the checkpoint of a training of an atlas lies unless another place is named."""

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ...atlas.keys import check_name

if TYPE_CHECKING:
    from ...atlas.store import AtlasStore

__all__ = ["default_checkpoint"]


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
        Not a name.
    """
    check_name(name)
    known = os.environ.get("XDG_CACHE_HOME")
    cache = Path(known) if known else Path.home() / ".cache"
    folder = cache / "tisseract" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(store.url.encode()).hexdigest()[:12]
    return folder / f"{digest}-{name}.safetensors"
