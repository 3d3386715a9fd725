"""Folders in the Decathlon's layout, and their conversion into nnUNet_raw."""

import gzip
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nnunet_rw.datasets import msd as msd_folder
from nnunet_rw.datasets.msd import check_msd_folder, dataset_name_of, ensure_converted
from nnunet_rw.util.files import locked

HIPPOCAMPUS = Path(__file__).parents[1] / "data" / "Task04_Hippocampus"
RAW, PREPROCESSED = "nnUNet_raw", "nnUNet_preprocessed"


@pytest.fixture
def task(tmp_path):
    folder = tmp_path / HIPPOCAMPUS.name
    shutil.copytree(HIPPOCAMPUS, folder)
    (folder / "imagesTs").mkdir(exist_ok=True)
    return folder


@pytest.fixture
def raw(tmp_path, monkeypatch):
    folder = tmp_path / "raw"
    folder.mkdir()
    monkeypatch.setenv("nnUNet_raw", str(folder))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    return folder


def test_dataset_name():
    assert dataset_name_of("Task04_Hippocampus") == "Dataset004_Hippocampus"
    assert dataset_name_of("Task123_X") == "Dataset123_X"
    for name in ("Hippocampus", "Task_Hippocampus", "Task04", "Task04_", "TaskX_A", "Task04_Left_Half"):
        with pytest.raises(ValueError, match=f"named like Task04_Hippocampus, but got {name}"):
            dataset_name_of(name)


def test_converted_once(task, raw, thread_pools):
    target = ensure_converted(task, processes=1)
    assert target == raw / "Dataset004_Hippocampus"
    images = sorted(path.name for path in (target / "imagesTr").iterdir())
    assert images == sorted(path.name.replace(".nii.gz", "_0000.nii.gz") for path in (task / "imagesTr").iterdir())
    assert [path.name for path in raw.iterdir() if not path.name.endswith(".lock")] == [target.name]
    # nnU-Net's folders are what they were.
    assert os.environ[RAW] == str(raw)
    assert PREPROCESSED not in os.environ

    before = (target / "dataset.json").stat().st_mtime_ns
    shutil.rmtree(task)
    assert ensure_converted(task) == target
    assert (target / "dataset.json").stat().st_mtime_ns == before


def test_a_conversion_that_fails_leaves_nothing(task, raw, monkeypatch):
    def fail(source, num_processes):
        (Path(os.environ[RAW]) / "Dataset004_Hippocampus" / "imagesTr").mkdir(parents=True)
        raise OSError("No space left on device")

    monkeypatch.setattr(msd_folder, "convert_msd_dataset", fail)
    with pytest.raises(OSError, match="No space left"):
        ensure_converted(task)
    assert [path.name for path in raw.iterdir()] == [".Dataset004_Hippocampus.lock"]
    assert os.environ[RAW] == str(raw)


def test_another_process_that_was_first_is_taken(task, raw, monkeypatch):
    target = raw / "Dataset004_Hippocampus"
    monkeypatch.setattr(msd_folder, "convert_msd_dataset", lambda *_, **__: pytest.fail("converted once more"))
    with ThreadPoolExecutor() as threads:
        with locked(raw / f".{target.name}.lock"):
            waiting = threads.submit(ensure_converted, task)
            time.sleep(0.3)
            assert not waiting.done()
            target.mkdir()
            (target / "dataset.json").write_text("{}")
        assert waiting.result(timeout=60) == target
    assert [path.name for path in target.iterdir()] == ["dataset.json"]


_CONVERT = """
import os, sys, time
from pathlib import Path
from nnunet_rw.datasets import msd
def convert(source, num_processes):
    (Path(os.environ["nnUNet_raw"]) / "Dataset004_Hippocampus").mkdir()
    print("converts", flush=True)
    time.sleep(60)
msd.convert_msd_dataset = convert
msd.ensure_converted(Path(sys.argv[1]))
"""


def test_what_a_terminated_conversion_left_is_removed_by_the_next(task, raw, thread_pools):
    process = subprocess.Popen([sys.executable, "-c", _CONVERT, str(task)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"converts\n"
    process.terminate()
    process.communicate()
    target = ensure_converted(task, processes=1)
    assert [path.name for path in raw.iterdir() if not path.name.endswith(".lock")] == [target.name]


@pytest.mark.parametrize(
    ("part", "absent"), [("imagesTr", "hippocampus_011.nii.gz"), ("labelsTr", "hippocampus_004.nii.gz")]
)
def test_a_case_that_is_missing_is_named_and_nothing_converted(task, raw, part, absent, thread_pools):
    path = task / part / absent
    uncompressed = path.with_suffix("")
    uncompressed.write_bytes(gzip.decompress(path.read_bytes()))
    compressed = path.read_bytes()
    path.unlink()
    with pytest.raises(ValueError, match=rf"^No {path}, of a case .* nnU-Net converts \.nii\.gz alone"):
        ensure_converted(task)
    assert list(raw.iterdir()) == []
    # Corrected, it is converted.
    path.write_bytes(compressed)
    assert len(list((ensure_converted(task, processes=1) / "labelsTr").iterdir())) == 6


def test_a_folder_of_uncompressed_files_that_lists_none(task, raw):
    for path in (task / "labelsTr").iterdir():
        path.rename(path.with_suffix(""))
    file = task / "dataset.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "training": []}))
    with pytest.raises(ValueError, match=rf"^No \.nii\.gz in {task / 'labelsTr'}"):
        ensure_converted(task)


def test_a_folder_of_the_user_s_is_left_alone(task, raw):
    (raw / "Dataset004_Hippocampus" / "imagesTr").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"is there without a dataset\.json\. Complete or remove it"):
        ensure_converted(task)
    assert (raw / "Dataset004_Hippocampus" / "imagesTr").is_dir()


@pytest.mark.parametrize("missing", ["dataset.json", "imagesTr", "labelsTr", "imagesTs"])
def test_incomplete_folder(task, missing):
    path = task / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    advice = f"Run: mkdir {task / 'imagesTs'}" if missing == "imagesTs" else "Give a folder in MSD layout"
    with pytest.raises(FileNotFoundError, match=f"No {missing} in {task}. {advice}"):
        check_msd_folder(task)


@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"labels": {"0": "background"}, "modality": 3}'])
def test_damaged_dataset_json_is_named_before_anything_is_converted(task, raw, content):
    (task / "dataset.json").write_text(content)
    with pytest.raises(ValueError, match=rf"^{task / 'dataset.json'} is no dataset\.json in MSD layout \("):
        ensure_converted(task)
    assert list(raw.iterdir()) == []
