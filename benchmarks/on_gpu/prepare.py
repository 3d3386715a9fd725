"""Gather what `run.sh` needs on a machine without a network: wheels, and small preprocessed datasets with maps.

    python -m benchmarks.on_gpu.prepare FOLDER --tasks Task04_Hippocampus Task51_TabrizMS

``FOLDER/first`` holds SimpleITK's wheel, which is as large as all else; ``FOLDER/second`` the others and
``nnUNet_preprocessed``. So each can travel by itself where a transfer takes at most 64 MiB. Torch and Triton are not
among them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.child import folders, in_child

# What an image with torch has not; all others of what nnU-Net asks for are there, or are not imported.
LARGE = ("SimpleITK",)
WHEELS = (
    "nnunetv2",
    "acvl-utils",
    "dynamic-network-architectures",
    "batchgenerators",
    "batchgeneratorsv2",
    "blosc2",
    "ndindex",
    "numexpr",
    "msgpack",
    "edt",
    "connected-components-3d",
    "nibabel",
    "pydantic",
    "pydantic-core",
    "annotated-types",
    "pooch",
    "platformdirs",
    "typing-inspection",
)
_PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17", "manylinux2014", "manylinux1")
# Of 64 MiB that a transfer takes the checkout itself needs 8.
LIMIT_MB = 56
PRETEND_PLANS = "nnUNetPlansSmall"
CASES = (16, 8)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.on_gpu.prepare", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tasks", nargs="+", type=Path, required=True, help="folders in MSD layout")
    parser.add_argument("--cases", type=int, nargs="+", default=CASES, help="of each task, at most; default: 16 8")
    parser.add_argument("--python", default="3.12", help="of the other machine; default: %(default)s")
    parser.add_argument("--no-wheels", action="store_true", help="the datasets alone")
    options = parser.parse_args()
    if len(options.tasks) != len(options.cases):
        parser.error(f"expected a number of --cases for each of {len(options.tasks)} tasks, but got {options.cases}")
    first, second = options.folder / "first", options.folder / "second"
    for folder in (first, second):
        folder.mkdir(parents=True, exist_ok=True)
    if not options.no_wheels:
        gather_wheels(first, LARGE, options.python)
        gather_wheels(second, WHEELS, options.python)
    preprocess(second, options.tasks, options.cases)
    for folder in (first, second):
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
        print(f"{folder}: {size:.0f} MB{f', more than {LIMIT_MB}: take fewer --cases' if size > LIMIT_MB else ''}")
    return 0


def gather_wheels(folder: Path, packages: Sequence[str], python: str) -> None:
    """Wheels of the versions that this environment has, for the other machine's Python on x86-64 Linux."""
    from importlib.metadata import version

    platforms = [word for name in _PLATFORMS for word in ("--platform", f"{name}_x86_64")]
    for package in packages:
        wanted = [f"{package}=={version(package)}", "--no-deps", "--quiet"]
        binary = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python, *platforms]
        pip = [sys.executable, "-m", "pip"]
        if subprocess.run([*pip, "download", *wanted, *binary, "-d", folder], stderr=subprocess.DEVNULL).returncode:
            # Published as source alone: of pure Python, the wheel fits any.
            subprocess.run([*pip, "wheel", *wanted, "-w", folder], check=True)


def preprocess(folder: Path, tasks: Sequence[Path], cases: Sequence[int]) -> None:
    """nnU-Net's stock plans and arrays of 3d_fullres, and every kind of map, in ``folder/nnUNet_preprocessed``."""
    with tempfile.TemporaryDirectory(dir=folder) as root:
        environment = folders(Path(root))
        for task, number in zip(tasks, cases, strict=True):
            part = _first_cases(task, Path(root) / "tasks" / task.name, number)
            in_child("benchmarks.on_gpu.prepare", "preprocessed", [str(part)], environment)
        target = folder / "nnUNet_preprocessed"
        shutil.rmtree(target, ignore_errors=True)
        shutil.move(environment["nnUNet_preprocessed"], target)
    for ground_truth in target.glob("*/gt_segmentations"):
        shutil.rmtree(ground_truth)  # for validation, which is not run


def preprocessed(task: str) -> str:
    """The dataset of a task, planned and preprocessed with its maps in the folders that the environment names."""
    from nnunet_rw.datasets.folders import dataset_folder
    from nnunet_rw.datasets.msd import dataset_name_of, ensure_converted
    from nnunet_rw.datasets.planning import preprocess_with_maps, write_small_plans
    from nnunet_rw.maps.kinds import KINDS

    ensure_converted(Path(task))
    name = dataset_name_of(Path(task).name)
    number = name.removeprefix("Dataset").partition("_")[0]
    # Arrays and maps are of the stock plans; those of a tiny network serve a trial on a CPU.
    preprocess_with_maps(["-d", number, "-c", "3d_fullres", "--no_pbar", "-np", "2", "-npfp", "2"], kinds=tuple(KINDS))
    write_small_plans(dataset_folder(name), "nnUNetPlans", PRETEND_PLANS, max_patch=32)
    return name


def _first_cases(task: Path, target: Path, cases: int) -> Path:
    """A copy of a task with its first cases alone."""
    description = json.loads((task / "dataset.json").read_text(encoding="utf-8"))
    description["training"], description["test"] = description["training"][:cases], []
    description["numTraining"], description["numTest"] = len(description["training"]), 0
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (target / name).mkdir(parents=True)
    for case in description["training"]:
        for part in ("image", "label"):
            shutil.copyfile(task / case[part], target / case[part])
    (target / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    return target


if __name__ == "__main__":
    sys.exit(main())
