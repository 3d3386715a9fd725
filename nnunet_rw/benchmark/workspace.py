"""The folder of a benchmark: what lies where."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from nnunet_rw.benchmark.specification import Specification, read_specification, write_specification
from nnunet_rw.training.catalogue import VARIABLE, searched_folders, trainers_folder
from nnunet_rw.util.files import nnunet_folder, write_atomically

VARIABLES = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


@dataclass(frozen=True)
class Workspace:
    """Paths below the folder of a benchmark.

    nnU-Net's own folders are those of the shell in which the benchmark was begun, or else lie inside. They are written
    to ``folders.json``, so that jobs on other machines and later commands find them whatever their shell says.
    """

    folder: Path

    @property
    def specification_file(self) -> Path:
        return self.folder / "benchmark.yaml"

    @property
    def downloads(self) -> Path:
        return self.folder / "msd"

    def job_file(self, job: str, ending: str) -> Path:
        """``.json``, ``.log`` or ``.lock`` of a job."""
        return self.folder / "jobs" / f"{job}{ending}"

    def evaluation_folder(self, dataset: str, trainer: str) -> Path:
        return self.folder / "evaluations" / dataset / trainer

    def specification(self) -> Specification:
        """The one that is kept here.

        Raises
        ------
        FileNotFoundError
            There is no benchmark in the folder.
        """
        if not self.specification_file.is_file():
            raise FileNotFoundError(f"No benchmark.yaml in {self.folder}. Give the folder of a benchmark.")
        return read_specification(self.specification_file)

    def keep(self, specification: Specification) -> None:
        """Make the folder and write what it is about."""
        folders = self.nnunet_folders()
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in folders.values():
            Path(path).mkdir(parents=True, exist_ok=True)
        text = json.dumps(folders, indent=2) + "\n"
        write_atomically(self.folder / "folders.json", text.encode())
        write_specification(specification, self.specification_file)

    def nnunet_folders(self) -> dict[str, str]:
        """nnU-Net's three folders, and those of trainers, by the name of their variable.

        Raises
        ------
        FileNotFoundError
            A variable names no folder.
        """
        path = self.folder / "folders.json"
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
        inside = {name: str(self.folder / name) for name in VARIABLES}
        own = {
            name: str(nnunet_folder(name)) if os.environ.get(name, path) != path else path
            for name, path in inside.items()
        }
        trainers = os.pathsep.join(dict.fromkeys(map(str, (trainers_folder(), *searched_folders()))))
        return {**own, VARIABLE: trainers}

    def activate(self) -> None:
        """Let nnU-Net, in this process and those it starts, see these folders.

        And let threads of a training on a CPU sleep while they wait: where another job has the core, threads that spin
        hold each other up, many times over.
        """
        os.environ.update(self.nnunet_folders())
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        # For processes that import torch; in this one it may be too late.
        os.environ.setdefault("PYTHONWARNINGS", "ignore")
