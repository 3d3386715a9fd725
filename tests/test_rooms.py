"""The rooms of the package, and the one direction of imports between them."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "nnunet_rw"
ROOMS = [
    *("util", "maps", "store", "datasets", "losses", "training"),
    *("evaluation", "pictures", "postprocessing", "audit", "benchmark", "cli"),
]
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] in ROOMS]


def imported_rooms(path):
    """The rooms that a module imports from, at its top or within a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            assert node.level == 0, f"{path} has a relative import"
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("nnunet_rw."))


def test_the_top_level_has_the_rooms_and_nothing_else():
    # Trainers stand beside the package in a checkout, and within it where it is installed.
    names = {path.name for path in PACKAGE.iterdir()} - {"__pycache__", "trainers"}
    assert names == {*ROOMS, "__init__.py", "__main__.py"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_in_one_direction(path):
    room = ROOMS.index(path.relative_to(PACKAGE).parts[0])
    assert [name for name in imported_rooms(path) if name in ROOMS and ROOMS.index(name) > room] == []


def test_the_map_of_the_code_names_files_that_exist():
    text = (PACKAGE.parent / "docs" / "how_it_works.md").read_text()
    assert " <- ".join(ROOMS) in text
    named = {word for word in text.replace("`", " ").split() if word.startswith(("nnunet_rw/", "trainers/"))}
    assert len(named) > 10
    assert [name for name in named if not (PACKAGE.parent / name.rstrip(".,;:")).exists()] == []
