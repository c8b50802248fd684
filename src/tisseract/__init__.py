"""Tissue + tesseract (x, y, section, time): an engine for tissue atlases that do not fit in memory.

>>> import tisseract as ts
>>> ts.__version__
'0.1.0'
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Everything below is loaded on first use (PEP 562), so that `import tisseract` costs milliseconds
# and brings in neither torch nor spatialdata.
_NAMES = {
    "Atlas": "handle",
    "col": "query.filters.expression",
    "create": "handle",
    "open": "handle",
    "check_samples": "ingest.check",
    "get_anndata": "query.exports.census",
    "get_obs": "query.exports.census",
    "get_presence_matrix": "query.exports.census",
    "get_var": "query.exports.census",
    "TisseractError": "atlas.errors",
    "EmptyAnswerWarning": "query.cells.empty",
    "MixedValuesWarning": "query.expression.mixture",
    "StaleLabelsWarning": "query.tables.obs",
    "UnmeasuredWarning": "query.expression.choice",
}
_MODULES = ("atlas", "gr", "ingest", "models", "pl", "query", "simulator", "testing", "tl")

if TYPE_CHECKING:
    from . import atlas, gr, models, pl, query, tl
    from .atlas.errors import TisseractError
    from .handle import Atlas, create, open  # noqa: A004
    from .ingest.check import check_samples
    from .ingest.pipeline import ingest
    from .query.cells.empty import EmptyAnswerWarning
    from .query.exports.census import get_anndata, get_obs, get_presence_matrix, get_var
    from .query.expression.choice import UnmeasuredWarning
    from .query.expression.mixture import MixedValuesWarning
    from .query.filters.expression import col
    from .query.tables.obs import StaleLabelsWarning
else:

    def __getattr__(name: str) -> Any:
        if name in _NAMES:
            value = getattr(importlib.import_module(f".{_NAMES[name]}", __name__), name)
            globals()[name] = value
            return value
        if name in _MODULES:
            return importlib.import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted([*globals(), *_NAMES, *_MODULES])


__all__ = [
    "Atlas",
    "EmptyAnswerWarning",
    "MixedValuesWarning",
    "StaleLabelsWarning",
    "TisseractError",
    "UnmeasuredWarning",
    "__version__",
    "atlas",
    "check_samples",
    "col",
    "create",
    "get_anndata",
    "get_obs",
    "get_presence_matrix",
    "get_var",
    "gr",
    "ingest",
    "models",
    "open",
    "pl",
    "query",
    "tl",
]
