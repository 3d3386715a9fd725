"""The ten tasks of the Medical Segmentation Decathlon."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class DecathlonTask:
    """One of the ten.

    Attributes
    ----------
    name : str
        Of its folder, and of its archive before ``.tar``.
    target : str
        What is segmented.
    modality : str
    num_training : int
        Cases with labels, as the archive's dataset.json counts them.
    md5 : str
        Of the archive.
    """

    name: str
    target: str
    modality: str
    num_training: int
    md5: str


# Address and checksums: monai.apps.DecathlonDataset of MONAI 1.6; the archives lie in AWS Open Data. Targets and
# modalities: Antonelli et al. 2022, doi:10.1038/s41467-022-30695-9.
TASKS = {
    task.name: task
    for task in (
        DecathlonTask(
            "Task01_BrainTumour", "glioma: oedema, tumour", "MRI, 4 sequences", 484, "240a19d752f0d9e9101544901065d872"
        ),
        DecathlonTask("Task02_Heart", "left atrium", "MRI", 20, "06ee59366e1e5124267b774dbd654057"),
        DecathlonTask("Task03_Liver", "liver, tumours", "CT", 131, "a90ec6c4aa7f6a3d087205e23d4e6397"),
        DecathlonTask(
            "Task04_Hippocampus", "anterior, posterior hippocampus", "MRI", 260, "9d24dba78a72977dbd1d2e110310f31b"
        ),
        DecathlonTask(
            "Task05_Prostate", "peripheral, transition zone", "MRI, 2 sequences", 32, "35138f08b1efaef89d7424d2bcc928db"
        ),
        DecathlonTask("Task06_Lung", "lung tumours", "CT", 63, "8afd997733c7fc0432f71255ba4e52dc"),
        DecathlonTask("Task07_Pancreas", "pancreas, tumours", "CT", 281, "4f7080cfca169fa8066d17ce6eb061e4"),
        DecathlonTask("Task08_HepaticVessel", "liver vessels, tumours", "CT", 303, "641d79e80ec66453921d997fbf12a29c"),
        DecathlonTask("Task09_Spleen", "spleen", "CT", 41, "410d4a301da4e5b2f6f86ec3ddba524e"),
        DecathlonTask("Task10_Colon", "colon tumours", "CT", 126, "bad7a188931dc2f6acf72b08eb6202d0"),
    )
}


def decathlon_task(text: str) -> DecathlonTask:
    """The task that is meant: ``Task04_Hippocampus``, ``Task04``, ``4``, ``Hippocampus``, ``hippo``.

    Raises
    ------
    ValueError
        It is none of the ten, or could be several.
    """
    wanted = _plain(text)
    aliases = {name: _aliases(name) for name in TASKS}
    found = [name for name in TASKS if wanted in aliases[name]]
    if not found and wanted:
        found = [name for name in TASKS if any(alias.startswith(wanted) for alias in aliases[name])]
    if len(found) == 1:
        return TASKS[found[0]]
    if found:
        raise ValueError(f"{text!r} could be any of {', '.join(found)}. Give more of the name.")
    near = [name for name in TASKS if difflib.get_close_matches(wanted, aliases[name], n=1)]
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(f"No task {text!r} in the Decathlon.{meant} There are: {', '.join(TASKS)}.")


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _aliases(name: str) -> tuple[str, ...]:
    number, organ = name.removeprefix("Task").split("_")
    return tuple(
        _plain(text) for text in (name, f"Task{number}", f"Task{int(number)}", number, f"{int(number)}", organ)
    )
