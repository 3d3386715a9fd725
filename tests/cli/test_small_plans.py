"""`nnunet-rw small-plans`: plans beside the stock ones."""

import json

import pytest

from nnunet_rw.cli import main


def test_small_plans_stand_beside_the_others(dataset, succeeds):
    lines = succeeds("small-plans", "-d", "900").splitlines()
    path = dataset.folder / "nnUNetPlansSmall.json"
    assert lines == [str(path), "Train with: nnUNetv2_train 900 3d_fullres 0 -p nnUNetPlansSmall"]
    assert '"plans_name": "nnUNetPlansSmall"' in path.read_text()
    # They use the same arrays, and so the same maps.
    succeeds("maps", "-d", "900")
    assert succeeds("maps", "-d", "900", "-p", "nnUNetPlansSmall").endswith(
        "maps of 0 cases written, all are current\n"
    )


def test_small_plans_under_another_name(dataset, succeeds):
    assert "-p mine" in succeeds("small-plans", "-d", dataset.name, "-o", "mine")
    assert (dataset.folder / "mine.json").is_file()


def test_small_plans_of_another_patch_and_batch(dataset, succeeds):
    def configuration(name="nnUNetPlansSmall"):
        return json.loads((dataset.folder / f"{name}.json").read_text())["configurations"]["3d_fullres"]

    succeeds("small-plans", "-d", "900")
    # The stock patch.
    assert (configuration()["patch_size"], configuration()["batch_size"]) == ([16, 16, 16], 2)
    succeeds("small-plans", "-d", "900", "--max-patch", "12", "--batch-size", "5", "-o", "smaller")
    assert (configuration("smaller")["patch_size"], configuration("smaller")["batch_size"]) == ([12, 12, 12], 5)


@pytest.mark.parametrize("option", ["--max-patch", "--batch-size"])
def test_small_plans_refuse_numbers_below_1(option, capsys):
    with pytest.raises(SystemExit):
        main(["small-plans", "-d", "900", option, "0"])
    assert f"{option}: expected a number above 0, but got 0" in capsys.readouterr().err


def test_small_plans_refuse_a_patch_for_which_no_network_is_small_enough(dataset, fails):
    assert "Raise max_patch (it is 4)" in fails("small-plans", "-d", "900", "--max-patch", "4")


def test_small_plans_refuse(dataset, fails):
    message = fails("small-plans", "-d", "900", "-p", "other")
    there, run = "There are: nnUNetPlans.", "nnUNetv2_plan_experiment -d 900 -overwrite_plans_name other"
    assert message == f"No plans {dataset.folder / 'other.json'}. {there} Run: {run}"
    message = fails("small-plans", "-d", "900", "-o", "../../x")
    assert message == "Expected a name for plans, not a path or one that begins with a dot, but got '../../x'."
    assert not list(dataset.folder.parents[2].rglob("x.json"))
    before = (dataset.folder / "nnUNetPlans.json").read_text()
    message = fails("small-plans", "-d", "900", "-o", "nnUNetPlans")
    assert message == "'nnUNetPlans' are the stock plans. Choose another name for the small ones."
    assert (dataset.folder / "nnUNetPlans.json").read_text() == before
