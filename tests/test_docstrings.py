"""Every public loss, map and metric has an example, and it is right."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import nnunet_rw.losses
import nnunet_rw.maps
from nnunet_rw.evaluation import metrics


def public_names():
    """Losses by what `build` knows, maps by what the package hands out, metrics by their functions."""
    objects = [nnunet_rw.losses, nnunet_rw.losses.build, nnunet_rw.losses.CompoundLoss]
    objects += nnunet_rw.losses.LOSSES.values()
    objects += [found for name in nnunet_rw.maps.__all__ if inspect.isfunction(found := getattr(nnunet_rw.maps, name))]
    modules = {name for _, name, _ in pkgutil.iter_modules(metrics.__path__)}
    for module in (importlib.import_module(f"{metrics.__name__}.{name}") for name in sorted(modules)):
        functions = inspect.getmembers(module, inspect.isfunction)
        objects += [
            function
            for name, function in functions
            if function.__module__ == module.__name__ and not name.startswith(("_", "check_"))
        ]
    return {getattr(found, "__qualname__", found.__name__): found for found in objects}


def test_losses_maps_and_metrics_are_found():
    assert {"DiceLoss", "CompoundLoss", "interior_distance", "overlap", "froc_curve"} <= set(public_names())
    assert len(public_names()) > 50


@pytest.mark.parametrize(("name", "documented"), public_names().items(), ids=public_names())
def test_its_example_is_right(name, documented):
    globs = dict(vars(inspect.getmodule(documented)))
    (found,) = doctest.DocTestFinder(recurse=False).find(documented, name, globs=globs)
    assert found.examples, f"{name} has no example."
    said = []
    doctest.DocTestRunner(verbose=False).run(found, out=said.append)
    assert not said, "".join(said)
