"""The versions that setup.py allows, and the script that tries the oldest and newest of them."""

import ast
import importlib.metadata
import importlib.util
import re
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def script():
    path = str(CHECKOUT / "scripts" / "test_versions")
    loader = SourceFileLoader("versions_script", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def requirements():
    text = (CHECKOUT / "setup.py").read_text()
    listed = re.search(r"install_requires=\[(.*?)\n    \]", text, re.DOTALL)[1]
    return {found.name: found.specifier for found in map(Requirement, re.findall(r'"([^"]+)"', listed))}


def test_lowest_releases_are_what_the_bounds_say(script):
    setup = 'install_requires=[\n        "torch>=2.1.2,!=2.9.*",\n        "rich>=13",\n        "tqdm",\n    ],\n'
    assert script.lower_bounds(setup) == ["torch==2.1.2", "rich==13.*", "tqdm"]


def imported(path):
    """Top-level names that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
        yield from (name.partition(".")[0] for name in names)


def test_every_import_is_a_requirement(requirements):
    files = [path for folder in ("nnunet_rw", "trainers") for path in (CHECKOUT / folder).rglob("*.py")]
    names = {name for path in files for name in imported(path)} - sys.stdlib_module_names - {"nnunet_rw"}
    # Triton comes with torch, where there is a GPU for it.
    providers = {name: importlib.metadata.packages_distributions()[name] for name in names - {"triton"}}
    known = {canonicalize_name(name) for name in requirements}
    assert {name for name, found in providers.items() if not known & set(map(canonicalize_name, found))} == set()


def test_every_requirement_is_tried(script, requirements):
    pins = script.lower_bounds((CHECKOUT / "setup.py").read_text())
    assert [re.split("==", pin)[0] for pin in pins] == list(requirements)
    assert all((CHECKOUT / path).exists() for path in script.TESTS)


@pytest.mark.parametrize(
    ("package", "version", "allowed"),
    [
        ("nnunetv2", "2.8.0", True),
        ("nnunetv2", "2.9.0", True),
        ("nnunetv2", "2.7.0", False),
        ("torch", "2.1.2", True),
        ("torch", "2.9.0", False),
        ("torch", "2.9.1", False),
        ("torch", "2.11.0", True),
        ("batchgeneratorsv2", "0.3.5", False),
        ("filelock", "3.20.3", False),
        ("filelock", "3.24.0", True),
    ],
)
def test_versions_that_are_allowed(requirements, package, version, allowed):
    assert requirements[package].contains(version) == allowed
