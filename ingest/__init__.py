"""Vendor bundles in, committed sections out.

The verbs are `ingest` (write), `preview` (what would be written) and `check_samples` (what is
wrong with a sheet). They are loaded on first use.

The folder and its verb share a name, as users expect of `tisseract.ingest(sheet, atlas)` and
`from tisseract.ingest import check_samples`: so the module itself can be called.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

_NAMES = {
    "IngestPlan": "plan",
    "IngestReport": "report",
    "Progress": "progress",
    "ReadOptions": "reader",
    "Reader": "reader",
    "SheetReport": "check",
    "check_samples": "check",
    "formats": "reader",
    "ingest": "pipeline",
    "preview": "pipeline",
    "register": "reader",
}

if TYPE_CHECKING:
    from .check import SheetReport, check_samples
    from .pipeline import ingest, preview
    from .plan import IngestPlan
    from .progress import Progress
    from .reader import Reader, ReadOptions, formats, register
    from .report import IngestReport
else:

    def __getattr__(name: str) -> Any:
        if name in _NAMES:
            from importlib import import_module

            return getattr(import_module(f".{_NAMES[name]}", __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    class _CallableFolder(ModuleType):
        def __call__(self, *args: Any, **options: Any) -> Any:
            return self.ingest(*args, **options)

    sys.modules[__name__].__class__ = _CallableFolder


__all__ = [
    "IngestPlan",
    "IngestReport",
    "Progress",
    "ReadOptions",
    "Reader",
    "SheetReport",
    "check_samples",
    "formats",
    "ingest",
    "preview",
    "register",
]
