"""`nnunet-rw msd`: names, the list, and messages; downloads themselves are in tests/datasets/test_download.py."""

import hashlib
import io
import re
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from nnunet_rw.datasets import msd as msd_tasks
from nnunet_rw.datasets.msd import TASKS

NAME = "Task09_Spleen"


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """Address of a plain web server that has one task, and its published checksum replaced."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "mirror"
    folder.mkdir()
    with tarfile.open(folder / f"{NAME}.tar", "w") as archive:
        for name in ("dataset.json", "imagesTr/spleen_1.nii.gz", "labelsTr/spleen_1.nii.gz", "._dataset.json"):
            member = tarfile.TarInfo(f"{NAME}/{name}")
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    md5 = hashlib.md5((folder / f"{NAME}.tar").read_bytes()).hexdigest()
    task = TASKS[NAME]
    replaced = msd_tasks.DecathlonTask(NAME, task.target, task.modality, task.num_training, md5)
    monkeypatch.setitem(TASKS, NAME, replaced)
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_msd_list(succeeds):
    lines = succeeds("msd", "--list").splitlines()
    assert re.split("  +", lines[0]) == [
        "task",
        "target",
        "modality",
        "training cases",
        "Dice, cross-validation",
        "Dice, test set",
    ]
    assert [line.split()[0] for line in lines[2:12]] == list(TASKS)
    assert lines[2 + 8].split() == ["Task09_Spleen", "spleen", "CT", "41", "96.6", "97.2"]
    assert re.split("  +", lines[2 + 3])[-2:] == ["89.9 / 88.2", "90.1 / 88.8"]
    assert lines[12] == ""
    for said in ("AutoNNUnet", "official test set", "five", "3d_fullres"):
        assert said in lines[13]


def test_msd_downloads_once(succeeds, mirror, tmp_path):
    folder = tmp_path / "data" / NAME
    first = succeeds("msd", "spleen", "-o", folder.parent, "--url", mirror).splitlines()
    assert first == [
        f"Downloading {mirror}/{NAME}.tar",
        f"Unpacking {folder}.tar",
        str(folder),
        f"Convert with: nnUNetv2_convert_MSD_dataset -i {folder}",
    ]
    assert sorted(path.name for path in folder.iterdir()) == ["dataset.json", "imagesTr", "imagesTs", "labelsTr"]
    assert not folder.with_name(f"{NAME}.tar").exists()
    assert succeeds("msd", NAME, "-o", folder.parent, "--url", mirror).startswith(f"{folder} is there already\n")


def test_msd_into_this_folder_by_variable(succeeds, mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("NNUNET_RW_MSD_URL", mirror)
    monkeypatch.chdir(tmp_path)
    succeeds("msd", "9", "--keep-archive")
    assert (tmp_path / NAME / "dataset.json").is_file()
    assert (tmp_path / f"{NAME}.tar").is_file()


@pytest.mark.parametrize("names", [("Spleeen",), (NAME, "Spleeen")])
def test_msd_unknown(fails, mirror, tmp_path, names):
    message = fails("msd", *names, "-o", tmp_path / "data", "--url", mirror)
    assert message.startswith(
        f"No task 'Spleeen' in the Decathlon. Did you mean {NAME}? There are: Task01_BrainTumour,"
    )
    assert not (tmp_path / "data").exists()


def test_msd_without_a_task(fails):
    assert fails("msd") == "No task. Name some, such as Task04_Hippocampus, or see them with: nnunet-rw msd --list"


def test_msd_that_the_server_does_not_have(mirror, tmp_path, capsys):
    from nnunet_rw.cli import main

    assert main(["msd", "Heart", "-o", str(tmp_path), "--url", mirror]) == 2
    output = capsys.readouterr()
    assert output.out == f"Downloading {mirror}/Task02_Heart.tar\n"
    assert output.err == (
        f"nnunet-rw: The server does not give {mirror}/Task02_Heart.tar (404 File not found). Get Task02_Heart "
        "elsewhere: a folder in MSD layout will do.\n"
    )
