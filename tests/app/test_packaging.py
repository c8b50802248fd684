"""The wheel holds what the tree holds, and the tree's links point where they should."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("atlas", "ingest", "models", "query")
OWN = (
    "__main__.py",
    "handle.py",
    "graph_verbs.py",
    "model_choices.py",
    "model_verbs.py",
    "query_verbs.py",
    "graph_statistics.py",
    "gr.py",
    "pl.py",
    "tl.py",
    "testing.py",
    "cli",
    "simulator",
    "demo",
)


def python_files(folder: Path, prefix: str) -> set[str]:
    return {
        f"{prefix}/{path.relative_to(folder).as_posix()}"
        for path in folder.rglob("*.py")
        if "__pycache__" not in path.parts
    }


def test_links_are_relative_and_complete() -> None:
    package = ROOT / "src" / "tisseract"
    links = {path.name: path.readlink() for path in package.iterdir() if path.is_symlink()}
    assert links == {name: Path("../..") / name for name in FOLDERS}


def test_wheel_names_every_own_module() -> None:
    package = ROOT / "src" / "tisseract"
    own = {
        path.name
        for path in package.iterdir()
        if not path.is_symlink() and path.name not in {"__pycache__", "__init__.py", "py.typed"}
    }
    assert own == set(OWN)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    named = set(settings["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"])
    assert named == {f"src/tisseract/{name}" for name in (*own, "__init__.py", "py.typed")} | set(
        FOLDERS
    )


@pytest.mark.slow
def test_wheel_equals_tree(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = next(name for name in archive.namelist() if name.endswith("/METADATA"))
        text = archive.read(metadata).decode()
        archive.extractall(tmp_path / "site")
    package = ROOT / "src" / "tisseract"
    expected = {"tisseract/__init__.py", "tisseract/py.typed"}
    expected |= {f"tisseract/query/quality/page.{kind}" for kind in ("css", "js")}
    for folder in FOLDERS:
        expected |= python_files(ROOT / folder, f"tisseract/{folder}")
    for name in OWN:
        path = package / name
        expected |= (
            {f"tisseract/{name}"} if path.is_file() else python_files(path, f"tisseract/{name}")
        )
    assert held == expected
    for extra in ("ml", "cloud", "viz"):
        assert f"Provides-Extra: {extra}" in text
    # Installed elsewhere: the command answers without the checkout on the path.
    answer = subprocess.run(
        [sys.executable, "-P", "-c", "import tisseract; print(tisseract.__file__)"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": ""},
        check=True,
        capture_output=True,
        text=True,
    )
    assert answer.stdout.strip().startswith(str(tmp_path / "site"))


def test_no_bare_folder_is_imported() -> None:
    code = (
        "import sys, tisseract.atlas, tisseract.query, tisseract.models, tisseract.ingest\n"
        "bare = {'atlas', 'ingest', 'models', 'query'} & set(sys.modules)\n"
        "assert not bare, bare\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_import_works_without_torch() -> None:
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "sys.modules['torch_geometric'] = None\n"
        "import tisseract\n"
        "tisseract.models, tisseract.query, tisseract.ingest, tisseract.Atlas\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
