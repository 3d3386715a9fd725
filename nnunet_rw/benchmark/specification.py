"""What a benchmark is: the YAML file that is kept with its results."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from nnunet_rw.evaluation.protocols import PROTOCOLS, check_protocols
from nnunet_rw.util.advice import command
from nnunet_rw.util.files import is_plain_name, portable_path, whole_path, write_atomically

SMALL = "small"
_SMALL = re.compile(rf"{SMALL}(\d+)?")
# Of nnUNet_raw.
DATASET = re.compile(r"Dataset\d{3}_[^/]+")
_TRAINER = re.compile(r"[A-Za-z]\w*")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SlurmSettings(_Strict):
    """How jobs are handed to Slurm; what is None is left to the cluster.

    Attributes
    ----------
    partition, account, qos, constraint : str, optional
    minutes : int
        Time limit of a job. A training that reaches it is put into the queue again and resumes from its checkpoint.
    timeouts : int
        How often; one that reaches the limit once more has failed.
    gpus, cpus : int
        Of a job; `gpus` of a training only.
    memory_gb : int, optional
    array_size : int
        Most jobs of an array that run at a time; what may run at the same time is handed over as one array.
    setup : tuple of str
        Shell lines before each job, such as ``module load cuda``.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    minutes: int = Field(default=24 * 60, ge=5)
    timeouts: int = Field(default=10, ge=0)
    gpus: int = Field(default=1, ge=0)
    cpus: int = Field(default=8, ge=1)
    memory_gb: int | None = Field(default=None, ge=1)
    array_size: int = Field(default=16, ge=1)
    setup: tuple[str, ...] = ()


class Execution(_Strict):
    """Where jobs run.

    Attributes
    ----------
    executor : "local" or "slurm"
    jobs : int
        Of this machine at a time. With several GPUs each job gets its own, by CUDA_VISIBLE_DEVICES.
    slurm : SlurmSettings
    """

    executor: Literal["local", "slurm"] = "local"
    jobs: int = Field(default=1, ge=1)
    slurm: SlurmSettings = SlurmSettings()


class EvaluationOptions(_Strict):
    """As of `nnunet_rw.evaluation.case.EvaluationSettings`, and how cases are predicted.

    Attributes
    ----------
    connectivity, min_volume_mm3, tolerance_mm
    scores : tuple of str
        What challenges rank by, of `nnunet_rw.evaluation.protocols.PROTOCOLS`; compared as all other metrics are.
    froc : bool
        Write and read probabilities, for FROC curves and thresholds.
    tta : bool
        Mirror each case along each axis (test-time augmentation), as nnU-Net does.
    """

    connectivity: Literal[6, 18, 26] = 26
    min_volume_mm3: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    tolerance_mm: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    scores: tuple[str, ...] = ()
    froc: bool = True
    tta: bool = True

    @field_validator("scores")
    @classmethod
    def _known_scores(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        try:
            check_protocols(values)
        except ValueError:
            raise ValueError(f"scores out of {', '.join(PROTOCOLS)}, each once, of one BraTS challenge") from None
        return values


class Specification(_Strict):
    """A benchmark: every trainer on every task, fold and seed.

    Attributes
    ----------
    tasks : tuple of str
        Decathlon names (``Task04_Hippocampus``), folders in MSD layout, or datasets in nnUNet_raw
        (``Dataset004_Hippocampus``).
    trainers : tuple of str
        Without length and seed; the first is the baseline.
    splits : dict of str to str
        By task, without the path of its folder: a file like nnU-Net's ``splits_final.json``. Without one the task has
        nnU-Net's five folds.
    configuration : str
    folds : tuple of int
    seeds : int
        Trainings of each trainer and fold, seeded 0, 1, ...
    seeds_of : dict of str to int
        Of trainers with another number of them: more of the baseline, whose spread is the noise, or of finalists.
    groups : str, optional
        A CSV file with the patient of every case of all tasks (columns case and patient): intervals and tests are then
        over patients.
    epochs, iterations : int, optional
        Default: the trainer's own; iterations with epochs alone.
    plans : str
        Plans name, or "small" for `nnunet_rw.datasets.planning`; "small32" has patches of at most 32 voxels an axis.
    device : "cpu", "cuda" or "mps"
    num_gpus : int
        Of one training (nnU-Net's ``-num_gpus``).
    execution : Execution
    evaluation : EvaluationOptions
    """

    tasks: tuple[str, ...] = Field(min_length=1)
    trainers: tuple[str, ...] = Field(min_length=1)
    splits: dict[str, str] = Field(default_factory=dict)
    configuration: str = "3d_fullres"
    folds: tuple[int, ...] = Field(default=(0, 1, 2, 3, 4), min_length=1)
    seeds: int = Field(default=1, ge=1)
    seeds_of: dict[str, int] = Field(default_factory=dict)
    groups: str | None = None
    epochs: int | None = Field(default=None, ge=1)
    iterations: int | None = Field(default=None, ge=1)
    plans: str = "nnUNetPlans"
    device: Literal["cpu", "cuda", "mps"] = "cuda"
    num_gpus: int = Field(default=1, ge=1)
    execution: Execution = Execution()
    evaluation: EvaluationOptions = EvaluationOptions()

    @property
    def small_options(self) -> dict[str, Any] | None:
        """For `nnunet_rw.datasets.planning`; None where the plans are others."""
        match = _SMALL.fullmatch(self.plans)
        if match is None:
            return None
        return {"max_patch": int(match[1])} if match[1] else {}

    @field_validator("tasks", "trainers", "folds")
    @classmethod
    def _each_once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            raise ValueError(f"each once, but {twice[0]} is given twice")
        return values

    @field_validator("trainers")
    @classmethod
    def _plain_names(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for name in values:
            if not _TRAINER.fullmatch(name) or re.search(r"_\d+epochs|_seed\d+$", name):
                raise ValueError(
                    f"names of trainers without length or seed (epochs and seeds tell those), not {name!r}"
                )
        return values

    @field_validator("plans")
    @classmethod
    def _no_path(cls, value: str) -> str:
        if not is_plain_name(value):
            raise ValueError("a name of plans, not a path")
        return value

    @field_validator("splits")
    @classmethod
    def _of_tasks(cls, values: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        unknown = sorted(set(values) - {Path(task).name for task in info.data.get("tasks", ())})
        if unknown:
            raise ValueError(f"tasks of the benchmark, not {unknown[0]!r}")
        return values

    @field_validator("seeds_of")
    @classmethod
    def _of_trainers(cls, values: dict[str, int], info: ValidationInfo) -> dict[str, int]:
        unknown = sorted(set(values) - set(info.data.get("trainers", ())))
        if unknown:
            raise ValueError(f"trainers of the benchmark, not {unknown[0]!r}")
        if any(seeds < 1 for seeds in values.values()):
            raise ValueError("at least one seed of each trainer")
        return values

    @field_validator("iterations")
    @classmethod
    def _with_epochs(cls, value: int | None, info: ValidationInfo) -> int | None:
        # The length stands in the trainer's name, which nnU-Net takes with its epochs alone.
        if value is not None and "epochs" in info.data and info.data["epochs"] is None:
            raise ValueError("'epochs' as well")
        return value

    @field_validator("num_gpus")
    @classmethod
    def _of_cuda(cls, value: int, info: ValidationInfo) -> int:
        device = info.data.get("device", "cuda")
        if value > 1 and device != "cuda":
            raise ValueError(f"1 on {device!r}")
        return value

    @field_validator("folds")
    @classmethod
    def _from_zero(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if min(values) < 0:
            raise ValueError(f"folds from 0, not {min(values)}")
        return values


def specification_of(values: dict[str, Any], origin: str) -> Specification:
    """Validate values that come from a file or from the command line.

    Parameters
    ----------
    values : dict
    origin : str
        Named in the message.

    Raises
    ------
    ValueError
        One line with every key that is unknown, missing or wrong.
    """
    try:
        return Specification.model_validate(values)
    except ValidationError as error:
        # What is wrong is left out, so that pydantic finds too few as well.
        found = [one for one in error.errors() if one["type"] != "too_short" or not _has_others_below(one, error)]
        problems = "; ".join(_problem(one) for one in found)
        raise ValueError(f"{origin}: {problems}.") from error


def is_path(task: str) -> bool:
    """Whether a task is given as a folder, and not by the name of a dataset of nnUNet_raw, where that may be one."""
    return os.sep in task or (Path(task).is_dir() and not DATASET.fullmatch(task))


def with_paths(specification: Specification, change: Callable[[str], str]) -> Specification:
    """The same with other paths: of tasks where these are folders, of splits and of the patients' file."""
    tasks = tuple(change(task) if is_path(task) else task for task in specification.tasks)
    splits = {task: change(path) for task, path in specification.splits.items()}
    groups = specification.groups and change(specification.groups)
    return specification.model_copy(update={"tasks": tasks, "splits": splits, "groups": groups})


class _EachKeyOnce(yaml.SafeLoader):
    """YAML whose keys are given once: of two, the first would be dropped in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise _GivenTwice(f"key {key.value!r} is given twice, again in line {key.start_mark.line + 1}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _GivenTwice(ValueError):
    pass


def read_specification(path: str | Path) -> Specification:
    """Read a YAML file.

    Paths in it that begin with a dot are of the file's folder, unless they are only found from where the command runs;
    those that begin with a tilde are of the home folder.

    Raises
    ------
    FileNotFoundError
        There is none.
    ValueError
        It is no YAML, has a key twice, or unknown, missing or wrong ones.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No {path}. Run: {command('benchmark', help=True)}")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _EachKeyOnce)
    except _GivenTwice as error:
        raise ValueError(f"{path}: {error}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected keys such as 'tasks: [Task04_Hippocampus]', but got {values!r}.")

    def beside_the_file(text: str) -> str:
        text = os.path.expanduser(text)
        found = whole_path(text, path.parent) if text.startswith(os.curdir) else text
        return text if os.path.exists(text) and not os.path.exists(found) else found

    return with_paths(specification_of(values, str(path)), beside_the_file)


def write_specification(specification: Specification, path: str | Path) -> None:
    """Write the YAML file that `read_specification` reads, complete or not at all.

    Paths in the file's folder or beside it are relative, so that all can be moved together.
    """
    path = Path(path)
    moveable = with_paths(specification, lambda text: portable_path(text, path.parent))
    text = yaml.safe_dump(moveable.model_dump(mode="json"), sort_keys=False)
    write_atomically(path, text.encode())


def _has_others_below(found: Any, error: ValidationError) -> bool:
    place = found["loc"]
    return any(len(other["loc"]) > len(place) and other["loc"][: len(place)] == place for other in error.errors())


def _problem(found: Any) -> str:
    place = ".".join(str(part) for part in found["loc"])
    if found["type"] == "extra_forbidden":
        return f"unknown key {place!r}"
    if found["type"] == "missing":
        return f"no {place!r}"
    if found["type"] == "tuple_type":
        return f"{place!r}: expected a list, but got {found['input']!r}"
    expected = found["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return f"{place!r}: expected {expected}, but got {found['input']!r}"
