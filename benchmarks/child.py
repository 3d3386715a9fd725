"""Functions run by another Python: nnU-Net reads its folders from the environment once, when it is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
_CALL = """
import json, sys
from importlib import import_module
from pathlib import Path
module, function, arguments, result = sys.argv[1:]
value = getattr(import_module(module), function)(*json.loads(arguments))
Path(result).write_text(json.dumps(value))
"""


def folders(root: Path) -> dict[str, str]:
    """nnU-Net's three folders under one root, made where they are not there."""
    named = {name: root / name for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    for folder in named.values():
        folder.mkdir(parents=True, exist_ok=True)
    return {name: str(folder) for name, folder in named.items()}


def in_child(module: str, function: str, arguments: list[Any], environment: Mapping[str, str]) -> Any:
    """What a function returns; it and its arguments must fit into JSON.

    Parameters
    ----------
    environment : mapping of str to str
        Set besides what is set already.

    Raises
    ------
    RuntimeError
        It failed; the end of what it wrote follows.
    """
    path = os.pathsep.join([str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, "-c", _CALL, module, function, json.dumps(arguments), str(result)]
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": path, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode or not result.is_file():
            raise RuntimeError(f"{module}.{function} failed with exit code {done.returncode}:\n{done.stdout[-4000:]}")
        return json.loads(result.read_text())
