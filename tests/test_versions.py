"""The versions that setup.py allows, and the script that tries the oldest and newest of them."""

import importlib.util
import re
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest
from packaging.requirements import Requirement

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
