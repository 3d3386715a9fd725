"""The folder of a benchmark: what lies where."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from nnunet_rw.benchmark.specification import Specification, read_specification, write_specification
from nnunet_rw.training.catalogue import VARIABLE, search_path, trainers_folder
from nnunet_rw.util.files import NNUNET_FOLDERS, nnunet_folder, portable_path, whole_path, write_atomically
from nnunet_rw.util.readers import read_json, told


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
    def folders_file(self) -> Path:
        return self.folder / "folders.json"

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
        """Make the folder and write what it is about.

        Folders in it or beside it are written as relative, so that all can be moved together.
        """
        folders = self.nnunet_folders()
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in NNUNET_FOLDERS:
            Path(folders[name]).mkdir(parents=True, exist_ok=True)
        kept = {name: portable_path(folders[name], self.folder) for name in NNUNET_FOLDERS}
        # Those of this package are found wherever it is installed.
        trainers = [path for path in folders[VARIABLE].split(os.pathsep) if path != str(trainers_folder())]
        kept[VARIABLE] = os.pathsep.join(portable_path(path, self.folder) for path in trainers)
        write_atomically(self.folders_file, (json.dumps(kept, indent=2) + "\n").encode())
        write_specification(specification, self.specification_file)

    def nnunet_folders(self) -> dict[str, str]:
        """nnU-Net's three folders, and those of trainers, by the name of their variable.

        Raises
        ------
        FileNotFoundError
            A variable, or the file that keeps them, names no folder.
        DamagedFile
            The file is.
        """
        if self.folders_file.is_file():
            folders, kept_trainers = self._kept_folders()
        else:
            inside = {name: str(self.folder / name) for name in NNUNET_FOLDERS}
            folders = {
                name: str(nnunet_folder(name).absolute()) if os.environ.get(name, path) != path else path
                for name, path in inside.items()
            }
            kept_trainers = []
        # What the shell adds is searched too, after those that trainings have been made with.
        return {**folders, VARIABLE: search_path(before=[Path(path) for path in kept_trainers])}

    def _kept_folders(self) -> tuple[dict[str, str], list[str]]:
        """nnU-Net's folders and the further folders of trainers, as ``folders.json`` has them."""
        advice = "Correct it, or delete it and set nnU-Net's variables as they were when the benchmark began."
        kept = read_json(self.folders_file, advice, dict[str, str])
        with told(self.folders_file, advice):
            folders = {name: whole_path(kept[name], self.folder) for name in NNUNET_FOLDERS}
        trainers = [whole_path(path, self.folder) for path in kept.get(VARIABLE, "").split(os.pathsep) if path]
        for name, path in folders.items():
            if not Path(path).is_dir():
                raise FileNotFoundError(
                    f"{self.folders_file} names {path} as {name}, which is no folder. Was it moved, or the benchmark? "
                    "Write its place into that file, or make the folder."
                )
        return folders, trainers

    def activate(self) -> None:
        """Let nnU-Net, in this process and those it starts, see these folders.

        And let threads of a training on a CPU sleep while they wait: where another job has the core, threads that spin
        hold each other up, many times over.
        """
        os.environ.update(self.nnunet_folders())
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        # For processes that import torch; in this one it may be too late.
        os.environ.setdefault("PYTHONWARNINGS", "ignore")
