"""The commands that messages tell the user to run: all of them are put together here, from values."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# The options of every command that is printed, by what they say; "" is a word without an option. In this order.
COMMANDS: dict[str, dict[str, str]] = {
    "audit": {"dataset": "-d"},
    "benchmark": {"folder": "-o", "tasks": "--tasks", "trainers": "--trainers", "help": "--help"},
    "doctor": {"dataset": "-d"},
    "ensemble": {"fit": "--fit", "dataset": "-d", "configuration": "-c", "trainers": "-tr", "output": "-o"},
    "env": {},
    "evaluate": {"predictions": "-p", "references": "-g", "output": "-o"},
    "maps": {
        "dataset": "-d",
        "configuration": "-c",
        "plans": "-p",
        "kind": "--kind",
        "overwrite": "--overwrite",
        "processes": "-np",
    },
    "msd": {"list": "--list"},
    "new-trainer": {"name": "", "loss": "--loss"},
    "preprocess": {"dataset": "-d"},
    "report": {"folder": "", "allow_fewer": "--allow-fewer"},
    "small-plans": {"dataset": "-d"},
    "splits": {"dataset": "-d", "groups": "--groups", "overwrite": "--overwrite"},
    "threshold": {
        "fit": "--fit",
        "dataset": "-d",
        "configuration": "-c",
        "trainer": "-tr",
        "like": "--like",
        "predictions": "-i",
        "chosen": "--chosen",
        "output": "-o",
    },
    "trainers": {},
    "nnUNetv2_convert_MSD_dataset": {"folder": "-i"},
    "nnUNetv2_plan_and_preprocess": {"dataset": "-d"},
    "nnUNetv2_plan_experiment": {"dataset": "-d", "plans": "-overwrite_plans_name"},
    "nnUNetv2_predict": {
        "images": "-i",
        "output": "-o",
        "dataset": "-d",
        "configuration": "-c",
        "trainer": "-tr",
        "plans": "-p",
    },
    "nnUNetv2_predict_from_modelfolder": {
        "images": "-i",
        "output": "-o",
        "model": "-m",
        "folds": "-f",
        "checkpoint": "-chk",
    },
    "nnUNetv2_preprocess": {"dataset": "-d", "plans": "-plans_name", "configuration": "-c"},
    "nnUNetv2_train": {
        "dataset": "",
        "configuration": "",
        "fold": "",
        "trainer": "-tr",
        "plans": "-p",
        "probabilities": "--npz",
        "validate": "--val",
        "resume": "--c",
    },
}
# These take a dataset's number, not its name.
_BY_NUMBER = ("preprocess", "nnUNetv2_plan_and_preprocess", "nnUNetv2_plan_experiment", "nnUNetv2_preprocess")


def command(name: str, /, **values: Any) -> str:
    """A command as a shell takes it.

    Parameters
    ----------
    name : str
        Of `COMMANDS`.
    **values
        By the names that stand there. A sequence gives several words, True the option alone, None and False nothing.
        What is not known where the message is made is given as a word in capitals, such as ``"CONFIGURATION"``.
    """
    unknown = values.keys() - COMMANDS[name].keys()
    if unknown:
        raise TypeError(f"Expected {', '.join(COMMANDS[name])} of {name}, but got {', '.join(sorted(unknown))}.")
    words = [name] if name.startswith("nnUNetv2_") else ["nnunet-rw", name]
    for key, option in COMMANDS[name].items():
        value = values.get(key)
        if value is None or value is False:
            continue
        words += [option] if option else []
        if value is True:
            continue
        several = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        words += [dataset_number(item) if key == "dataset" and name in _BY_NUMBER else str(item) for item in several]
    return shlex.join(words)


def dataset_number(dataset: str | int) -> str:
    """``4`` of ``Dataset004_Hippocampus``; anything else as it is."""
    found = re.match(r"Dataset(\d{3})_", str(dataset))
    return str(int(found[1])) if found else str(dataset)


def preprocess(data_folder: str | Path, plans: str | None = None, configuration: str | None = None) -> str:
    """``Run: ...``, for arrays that are missing or damaged; without plans, those and all else anew."""
    dataset = Path(data_folder).parent.name
    if plans is None:
        return f"Run: {command('nnUNetv2_plan_and_preprocess', dataset=dataset)}"
    return f"Run: {command('nnUNetv2_preprocess', dataset=dataset, plans=plans, configuration=configuration)}"
