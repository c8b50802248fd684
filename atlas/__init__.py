"""The store: formats, tiles, catalog, commits, lazy graphs and memory budgets.

>>> from tisseract.atlas import create_store
>>> create_store("memory://atlas-example").version
0
"""

import importlib
from typing import TYPE_CHECKING, Any

# Loaded on first use (PEP 562): the command line imports single modules and must start at once.
_NAMES = {
    "AtlasStore": "store",
    "Change": "snapshot",
    "DerivedEntry": "snapshot",
    "GcReport": "garbage",
    "Receipt": "attempt",
    "RunEntry": "snapshot",
    "SectionEntry": "snapshot",
    "Snapshot": "snapshot",
    "Storage": "storage",
    "VerifyReport": "verify",
    "commit": "catalog",
    "create_store": "store",
    "gc": "garbage",
    "history": "catalog",
    "new_attempt": "attempt",
    "open_storage": "storage",
    "open_store": "store",
    "read_snapshot": "catalog",
}

if TYPE_CHECKING:
    from .attempt import Receipt, new_attempt
    from .catalog import commit, history, read_snapshot
    from .garbage import GcReport, gc
    from .snapshot import Change, DerivedEntry, RunEntry, SectionEntry, Snapshot
    from .storage import Storage, open_storage
    from .store import AtlasStore, create_store, open_store
    from .verify import VerifyReport
else:

    def __getattr__(name: str) -> Any:
        if name in _NAMES:
            value = getattr(importlib.import_module(f".{_NAMES[name]}", __name__), name)
            globals()[name] = value
            return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *_NAMES})


# The function `verify` stays in its module of the same name, which it would otherwise hide.
__all__ = [
    "AtlasStore",
    "Change",
    "DerivedEntry",
    "GcReport",
    "Receipt",
    "RunEntry",
    "SectionEntry",
    "Snapshot",
    "Storage",
    "VerifyReport",
    "commit",
    "create_store",
    "gc",
    "history",
    "new_attempt",
    "open_storage",
    "open_store",
    "read_snapshot",
]
