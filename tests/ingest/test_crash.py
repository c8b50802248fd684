"""SIGKILL at random instants: nothing committed is lost, nothing half-written is visible."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    # On the path, not loaded by it: the killed processes import the module by name.
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("crash_campaign")


def check(result: object, kills: int) -> None:
    assert result.kills >= kills  # type: ignore[attr-defined]
    assert result.ok, result  # type: ignore[attr-defined]
    assert result.finished >= 1  # type: ignore[attr-defined]


def test_eight_kills_lose_nothing(rig: ModuleType, tmp_path: Path) -> None:
    check(rig.campaign(tmp_path, kills=8, seed=8, n_sections=4, n_obs=60), 8)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_sixty_kills_lose_nothing(rig: ModuleType, tmp_path: Path) -> None:
    result = rig.campaign(tmp_path, kills=60, seed=60)
    check(result, 60)
    assert len(set(result.committed_at_kill)) > 2  # the kills are spread over the ingest's life
