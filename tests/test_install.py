"""The package as `pip install .` leaves it, away from the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
SOURCES = ("nnunet_rw", "trainers", "setup.py", "pyproject.toml", "README.md", "LICENSE")


def checked(command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    root = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, root / "checkout" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, root / "checkout" / name)
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", root]
    checked([sys.executable, "-m", "pip", "wheel", *options, root / "checkout"])
    (path,) = root.glob("nnunet_rw-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Folder of the commands of a fresh environment with the wheel, and with the packages of this one but for it."""
    root = tmp_path_factory.mktemp("environment") / "with space"
    checked([sys.executable, "-m", "venv", "--without-pip", root])
    commands, packages = root / "bin", Path(checked([root / "bin" / "python", "-c", PACKAGES]).strip())
    # A .pth file in a folder that another .pth file names is not read, so an editable installation stays out.
    (packages / "outer.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    checked([sys.executable, "-m", "pip", "--python", commands / "python", "install", "--no-deps", "--quiet", wheel])
    # nnU-Net's own command, run by this environment's Python.
    train = commands / "nnUNetv2_train"
    train.write_text(f"#!/bin/sh\nexec '{commands / 'python'}' '{packages / 'train.py'}' \"$@\"\n")
    train.chmod(0o755)
    (packages / "train.py").write_text(TRAIN)
    return commands


PACKAGES = "import sysconfig; print(sysconfig.get_path('purelib'))"
TRAIN = """
from nnunetv2.run.run_training import run_training_entry
if __name__ == "__main__":
    run_training_entry()
"""


def outside(commands, **folders):
    """Environment of a shell in which only the fresh environment is active."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("nnUNet_", "PYTHON"))}
    return {**kept, "PATH": f"{commands}{os.pathsep}/usr/bin{os.pathsep}/bin", **folders}


@pytest.mark.slow
def test_wheel_holds_the_package_with_its_trainers_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    data = [
        path
        for ending in ("j2", "css", "js", "bib")
        for path in CHECKOUT.glob(f"nnunet_rw/benchmark/report/*.{ending}")
    ]
    assert len(data) == 4
    sources = [*CHECKOUT.glob("nnunet_rw/**/*.py"), *CHECKOUT.glob("trainers/*.py"), *data]
    expected = {str(path.relative_to(CHECKOUT)).replace("trainers/", "nnunet_rw/trainers/") for path in sources}
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert any(name.endswith("entry_points.txt") for name in names)
    assert any("LICENSE" in name for name in names)


@pytest.mark.slow
def test_commands_work_away_from_the_checkout(installed, tmp_path):
    environment = outside(installed)
    where = checked(["python", "-c", "import nnunet_rw; print(nnunet_rw.__file__)"], cwd=tmp_path, env=environment)
    assert Path(where.strip()).is_relative_to(installed.parent)
    table = checked(["nnunet-rw", "trainers"], cwd=tmp_path, env=environment)
    assert "RWTrainer_IWDiceCE_RRW" in table
    line = checked(["nnunet-rw", "env"], cwd=tmp_path, env=environment)
    assert str(installed.parent) in line
    assert str(CHECKOUT) not in line


@pytest.mark.slow
def test_training_away_from_the_checkout(installed, make_dataset, blobs, nnunet, tmp_path):
    # As large as the patch: validation then is a single tile.
    dataset = make_dataset({case: blobs((16, 16, 16), seed=seed) for seed, case in enumerate("abc")})
    folders = {name: value for name, value in nnunet.environment.items() if name != "nnUNet_extTrainer"}
    script = """
        set -euo pipefail
        eval "$(nnunet-rw env)"
        nnunet-rw doctor > doctor.txt
        nnUNetv2_train 900 3d_fullres 0 -tr RWTrainer_1epochs_1iterations -device cpu
    """
    environment = {**outside(installed, **folders), "nnUNet_def_n_proc": "1", "OMP_NUM_THREADS": "1"}
    log = checked(["bash", "-c", script], cwd=tmp_path, env=environment)
    assert "Mean Validation Dice" in log
    assert f"nnU-Net finds RWTrainer in {installed.parent}" in (tmp_path / "doctor.txt").read_text()
    model = nnunet.results / dataset.name / "RWTrainer_1epochs_1iterations__nnUNetPlans__3d_fullres"
    assert (model / "fold_0" / "checkpoint_final.pth").is_file()
    assert list((dataset.data_folder() / "rw_maps").glob("interior_distance/*/*.b2nd"))
