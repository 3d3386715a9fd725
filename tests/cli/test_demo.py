"""`nnunet-rw demo`: folders that it refuses."""

import pytest


def msd_folder(root, name, leave_out=()):
    folder = root / name
    for subfolder in {"imagesTr", "labelsTr", "imagesTs"} - set(leave_out):
        (folder / subfolder).mkdir(parents=True)
    if "dataset.json" not in leave_out:
        (folder / "dataset.json").write_text("{}")
    return folder


@pytest.mark.parametrize("missing", ["dataset.json", "imagesTr", "labelsTr", "imagesTs"])
def test_demo_of_an_incomplete_folder(fails, tmp_path, missing):
    folder = msd_folder(tmp_path, "Task04_Hippocampus", [missing])
    message = fails("demo", "--msd", folder, "-o", tmp_path / "out")
    advice = f"Run: mkdir {folder / 'imagesTs'}" if missing == "imagesTs" else "Give a folder in MSD layout, such as"
    assert message.startswith(f"No {missing} in {folder}. {advice}")
    assert not (tmp_path / "out").exists()


def test_demo_of_a_folder_that_does_not_exist(fails, tmp_path):
    message = fails("demo", "--msd", tmp_path / "Task04_Hippocampus", "-o", tmp_path / "out")
    assert message.startswith(f"No folder {tmp_path / 'Task04_Hippocampus'} of a task. Was it moved? Give its place")


@pytest.mark.parametrize(
    "name", ["Hippocampus", "Task_Hippocampus", "Task04", "Task04_", "TaskX_A", "Task04_Left_Half"]
)
def test_demo_of_a_folder_that_nnunet_would_not_convert(fails, tmp_path, name):
    folder = msd_folder(tmp_path, name)
    message = fails("demo", "--msd", folder, "-o", tmp_path / "out")
    assert message == f"Expected a folder named like Task04_Hippocampus, but got {name}."
    assert not (tmp_path / "out").exists()
