"""`nnunet-rw small-plans`: plans beside the stock ones."""


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


def test_small_plans_refuse(dataset, fails):
    message = fails("small-plans", "-d", "900", "-p", "other")
    assert message == f"No plans {dataset.folder / 'other.json'}. Run: nnUNetv2_plan_experiment -d 900"
    before = (dataset.folder / "nnUNetPlans.json").read_text()
    message = fails("small-plans", "-d", "900", "-o", "nnUNetPlans")
    assert message == "'nnUNetPlans' are the stock plans. Choose another name for the small ones."
    assert (dataset.folder / "nnUNetPlans.json").read_text() == before
