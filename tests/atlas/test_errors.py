"""The error tree: builtins one would guess, stable kinds, readable messages, safe pickles."""

import inspect
import pickle

import pytest

from tisseract.atlas import errors
from tisseract.atlas.errors import Fault, InputError, TisseractError, near

KINDS = {
    "TisseractError": ("error", Exception),
    "AtlasError": ("atlas", Exception),
    "AtlasNotFound": ("atlas-not-found", FileNotFoundError),
    "AtlasExists": ("atlas-exists", FileExistsError),
    "FormatUnsupported": ("format-unsupported", ValueError),
    "CommitConflict": ("commit-conflict", RuntimeError),
    "CommitUncertain": ("commit-uncertain", RuntimeError),
    "ReadOnly": ("read-only", PermissionError),
    "AccessDenied": ("access-denied", PermissionError),
    "StorageUnsupported": ("storage-unsupported", ValueError),
    "StorageUnavailable": ("storage-unavailable", ConnectionError),
    "StorageFull": ("storage-full", OSError),
    "MissingKey": ("missing-key", KeyError),
    "Corrupt": ("corrupt", ValueError),
    "AlreadyExists": ("already-exists", FileExistsError),
    "NotInAtlas": ("not-in-atlas", KeyError),
    "SectionNotFound": ("section-not-found", KeyError),
    "GeneNotFound": ("gene-not-found", KeyError),
    "GeneAmbiguous": ("gene-ambiguous", KeyError),
    "ColumnNotFound": ("column-not-found", KeyError),
    "DerivedNotFound": ("derived-not-found", KeyError),
    "SnapshotNotFound": ("snapshot-not-found", KeyError),
    "RunNotFound": ("run-not-found", KeyError),
    "StaleDerived": ("stale-derived", ValueError),
    "UnitUnknown": ("unit-unknown", ValueError),
    "BudgetExceeded": ("budget-exceeded", MemoryError),
    "QuerySyntax": ("query-syntax", ValueError),
    "InvalidArgument": ("invalid-argument", ValueError),
    "InputError": ("input", ValueError),
}


def classes() -> dict[str, type[TisseractError]]:
    return {
        name: value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, TisseractError)
    }


def test_every_class_is_pinned_here_and_drawn() -> None:
    assert set(classes()) == set(KINDS)
    assert set(classes()) <= set(errors.__all__)
    assert all(name in (errors.__doc__ or "") for name in classes())
    assert len({kind for kind, _ in KINDS.values()}) == len(KINDS)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_kind_builtin_text_and_pickle(name: str) -> None:
    kind, builtin = KINDS[name]
    error = classes()[name]("what was wanted, but got 'x'")
    assert error.kind == kind
    assert isinstance(error, builtin)
    assert isinstance(error, TisseractError)
    assert str(error) == "what was wanted, but got 'x'"
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))


@pytest.mark.parametrize("name", sorted(KINDS))
def test_errors_of_a_dask_worker_arrive(name: str) -> None:
    from tblib.pickling_support import pickle_exception

    error = classes()[name]("what was wanted, but got 'x'")
    rebuild, parts, *_ = pickle_exception(error)
    again = rebuild(*parts)
    assert (type(again), str(again)) == (type(error), str(error))


def test_no_text() -> None:
    assert str(TisseractError()) == ""


class TestInputError:
    def test_all_faults_at_once(self) -> None:
        faults = [Fault("row 1", "x is empty"), Fault("", "no rows")]
        error = InputError(faults, "sheet.csv")
        assert error.faults == tuple(faults)
        assert str(error) == "sheet.csv: 2 faults\n  row 1: x is empty\n  no rows"
        again = pickle.loads(pickle.dumps(error))
        assert (again.faults, str(again)) == (error.faults, str(error))

    def test_one(self) -> None:
        assert str(InputError(Fault("a.h5ad", "is truncated"))) == "a.h5ad: is truncated"
        assert str(InputError(Fault("x", "y"), "sheet")) == "sheet: x: y"
        assert str(InputError([Fault("x", "y"), Fault("x", "z")])) == "2 faults\n  x: y\n  x: z"


def test_near() -> None:
    assert near("Sox", ["Sox2", "SOX2"]).startswith(" Did you mean '")
    assert near("zzz", map(str, range(100, 200))) == ""
    assert near("zzz", []) == ""
    assert near(3, ["a"]) == " There are: 'a'."
