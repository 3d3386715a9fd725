"""`nnunet-rw evaluate`: what is written of two folders and of a cross-validation; and `compare` of trained models."""

import json
import sys
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
from segmentation_files import (
    CORE_AND_EDGE,
    EMPTY,
    PREDICTION,
    REFERENCE,
    SHAPE,
    labels,
    write_dataset,
    write_dataset_json,
    write_folders,
    write_image,
    write_model,
    write_probabilities,
)

from nnunet_rw.cli import main
from nnunet_rw.evaluation import evaluate as evaluate_module
from nnunet_rw.evaluation.folder import read_evaluation

TABLES = ["cases.csv", "lesions.csv", "predicted_lesions.csv", "summary.json"]
CASES = ("a", "b", "c", "d", "e", "f")
# Finds B as well, and nothing false.
BETTER = labels((1, np.s_[1, 1, 2:6]), (1, np.s_[3, 4, 7]))


@pytest.fixture
def folders(tmp_path):
    """Predictions and references of three cases."""
    predictions = {"a": PREDICTION, "b": EMPTY, "c": REFERENCE}
    return write_folders(tmp_path / "data", dict.fromkeys("abc", REFERENCE), predictions)


@pytest.fixture
def options(folders):
    return "-p", folders[0], "-g", folders[1]


@pytest.fixture
def models(nnunet):
    """Two trained models, validated in two folds."""
    write_dataset(nnunet, dict.fromkeys(CASES, REFERENCE), [list(CASES[:3]), list(CASES[3:])])
    folders = []
    for trainer, prediction in (("nnUNetTrainer", PREDICTION), ("RWTrainer", BETTER)):
        folds = {fold: dict.fromkeys(CASES[3 * fold : 3 * fold + 3], prediction) for fold in (0, 1)}
        folders.append(write_model(nnunet, trainer, folds))
    return folders


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


def test_two_folders(succeeds, options, folders):
    text = succeeds("evaluate", *options)
    assert text.startswith("predictions: 3 cases\n")
    folder = folders[0] / "evaluation"
    assert text.endswith(f"\n\n{folder}\n")
    assert sorted(path.name for path in folder.iterdir()) == TABLES
    # 4 / 11, 0 and 1.
    assert f"{15 / 33:.3f} (n = 3)" in text
    # Again, with the evaluation there.
    assert succeeds("evaluate", *options) == text


def test_another_folder(succeeds, options, folders, tmp_path):
    out = tmp_path / "new" / "out"
    assert succeeds("evaluate", *options, "-o", out).endswith(f"\n\n{out}\n")
    assert sorted(path.name for path in out.iterdir()) == TABLES
    assert not (folders[0] / "evaluation").exists()


@pytest.mark.parametrize("option", ["-d", "-djfile"])
def test_dataset_json_of_the_dataset_or_a_file(succeeds, fails, options, folders, nnunet, tmp_path, option):
    (folders[0] / "dataset.json").unlink()
    assert fails("evaluate", *options).endswith("Name the dataset with -d, or its dataset.json with -djfile.")
    raw = write_dataset_json(nnunet.root / "nnUNet_raw" / "Dataset900_Tiny", CORE_AND_EDGE)
    succeeds("evaluate", *options, option, "900" if option == "-d" else raw)
    assert read_evaluation(folders[0] / "evaluation").labels == ("1", "2")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("-f", 7), "-f: of a trained model (-d, -tr), not of folders (-p, -g)."),
        (("-c", "nonsense", "--plans", "nonsense"), "-c, --plans: of a trained model (-d, -tr), not of folders"),
        (("-djfile", "other.json", "-d", 900), "-d: its dataset.json, or another (-djfile); not both."),
    ],
)
def test_what_has_no_effect_on_folders_is_refused(fails, options, more, message):
    assert fails("evaluate", *options, *more).startswith(message)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("-djfile", "/nonexistent.json"), "-djfile: of folders (-p, -g); a trained model (-d, -tr) has its own."),
        (("-p", "nnUNetPlans", "--plans", "Other"), "--plans: of a trained model (-d, -tr), whose plans -p names"),
    ],
)
def test_what_has_no_effect_on_a_model_is_refused(fails, models, more, message):
    for command in ("evaluate", "overlay"):
        assert fails(command, "-d", 900, "-tr", "RWTrainer", *more).startswith(message)


def test_settings(succeeds, options, folders):
    succeeds("evaluate", *options)
    settings = summary_of(folders[0] / "evaluation")["settings"]
    assert (settings["connectivity"], settings["min_volume_mm3"]) == (26, 0.0)
    assert (settings["tolerance_mm"], settings["fast"]) == (1.0, False)
    more = ("--connectivity", 6, "--min-volume", 2.5, "--tolerance", 0.5, "--fast", "-np", 1)
    succeeds("evaluate", *options, *more)
    settings = summary_of(folders[0] / "evaluation")["settings"]
    assert (settings["connectivity"], settings["min_volume_mm3"]) == (6, 2.5)
    assert (settings["tolerance_mm"], settings["fast"]) == (0.5, True)


def test_fast_has_no_distances(succeeds, options, folders):
    header, row = (line.split() for line in succeeds("evaluate", *options, "--fast").splitlines()[2:5:2])
    assert header[:3] == ["label", "Dice", "HD95"]
    # After Dice and its n.
    assert row[3:9] == ["(n", "=", "3)", "-", "-", "-"]
    evaluation = read_evaluation(folders[0] / "evaluation")
    assert np.isnan(evaluation.columns["1"]["hd95_mm"]).all()


def test_missing_prediction(succeeds, fails, options, folders):
    (folders[0] / "b.nii.gz").unlink()
    message = f"No prediction in {folders[0]} for b. Predict them, or give --allow-missing to go on."
    assert fails("evaluate", *options) == message
    assert not (folders[0] / "evaluation").exists()
    text = succeeds("evaluate", *options, "--allow-missing")
    assert text.startswith("predictions: 2 cases; 1 without prediction left out\n")
    summary = summary_of(folders[0] / "evaluation")
    assert (summary["num_cases"], summary["num_missing"], summary["missing_cases"]) == (2, 1, ["b"])


def test_probabilities_and_images(succeeds, fails, options, folders, tmp_path):
    assert fails("evaluate", *options, "--probabilities") == (
        f"No {folders[0] / 'a.npz'}. Predict with --save_probabilities, or train with --npz."
    )
    images = tmp_path / "images"
    images.mkdir()
    assert fails("evaluate", *options, "--images", images) == f"No image a_0000.nii.gz in {images}."
    for case in "abc":
        write_probabilities(folders[0] / f"{case}.npz", np.stack([1 - 0.9 * REFERENCE, 0.9 * REFERENCE]))
        write_image(images / f"{case}_0000.nii.gz", np.full(SHAPE, 2.0))
    text = succeeds("evaluate", *options, "--probabilities", "--images", images)
    # All lesions are candidates, none is false.
    assert text.splitlines()[8].split()[-1] == "1.00"
    folder = folders[0] / "evaluation"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*TABLES, "froc.csv", "operating_points.csv", "reliability.csv", "reliability.png", "rules.npz"]
    )
    assert (folder / "cases.csv").read_text().splitlines()[1].split(",")[19:21] == ["15", "18"]


def test_cross_validation(succeeds, fails, models):
    text = succeeds("evaluate", "-d", 900, "-tr", "RWTrainer")
    assert text.startswith("RWTrainer: 6 cases\n")
    folder = models[1] / "evaluation"
    assert text.endswith(f"\n\n{folder}\n")
    evaluation = read_evaluation(folder)
    assert (evaluation.name, evaluation.cases) == ("RWTrainer", CASES)
    text = succeeds("evaluate", "-d", "Dataset900_Tiny", "-c", "3d_fullres", "-tr", "RWTrainer", "-f", 1, "--fast")
    assert text.startswith("RWTrainer: 3 cases\n")
    assert fails("evaluate", "-d", 900, "-tr", "RWTrainer", "-f", 0, 2).startswith("fold_2 of ")
    assert fails("evaluate", "-d", 900, "-tr", "RWTrainer", "-f", 0, 0).startswith("Expected every case in one fold")


def test_cross_validation_takes_what_two_folders_take(succeeds, fails, models, tmp_path):
    validation = models[0] / "fold_1" / "validation"
    (validation / "e.nii.gz").unlink()
    for case in "df":
        write_probabilities(validation / f"{case}.npz", np.stack([1 - 0.9 * REFERENCE, 0.9 * REFERENCE]))
        write_image(tmp_path / f"{case}_0000.nii.gz", np.full(SHAPE, 2.0))
    command = ("evaluate", "-d", 900, "-tr", "nnUNetTrainer", "-f", 1, "--probabilities", "--images", tmp_path)
    assert fails(*command).startswith(f"No prediction in {validation} for e.")
    text = succeeds(*command, "--allow-missing", "-o", tmp_path / "out")
    assert text.startswith("nnUNetTrainer: 2 cases; 1 without prediction left out\n")
    assert (tmp_path / "out" / "froc.csv").is_file()
    assert (tmp_path / "out" / "cases.csv").read_text().splitlines()[1].split(",")[19:21] == ["15", "18"]


def test_other_plans_and_configuration(succeeds, models):
    models[1].rename(models[1].parent / "RWTrainer__tiny__2d")
    command = ("evaluate", "-d", 900, "-c", "2d", "-tr", "RWTrainer", "--fast")
    text = succeeds(*command, "--plans", "tiny")
    # Beside a trainer -p is what nnU-Net calls so.
    assert succeeds(*command, "-p", "tiny") == text
    assert text.endswith(f"{models[1].parent / 'RWTrainer__tiny__2d' / 'evaluation'}\n")


def test_what_is_to_be_evaluated_must_be_told(fails, options, models):
    message = "Give either -p PREDICTIONS and -g REFERENCES, or -d DATASET and -tr TRAINER."
    for wrong in (
        (),
        options[:2],
        options[2:],
        ("-d", 900),
        ("-tr", "RWTrainer"),
    ):
        assert fails("evaluate", *wrong) == message


def test_folders_without_what_is_needed(fails, options, folders, nnunet, tmp_path):
    predictions, references = folders
    empty = tmp_path / "empty"
    empty.mkdir()
    djfile = ("-djfile", predictions / "dataset.json")
    assert fails("evaluate", "-p", tmp_path / "none", "-g", references) == f"No folder {tmp_path / 'none'}."
    message = f"No prediction in {empty} for a, b, c. Predict them."
    assert fails("evaluate", "-p", empty, "-g", references, *djfile) == message
    assert fails("evaluate", "-p", empty, "-g", references, *djfile, "--allow-missing") == message
    assert fails("evaluate", "-p", empty, "-g", empty, *djfile) == f"No *.nii.gz in {empty}."
    message = f"No reference in {empty} for a, b, c of {predictions}."
    assert fails("evaluate", "-p", predictions, "-g", empty) == message
    assert fails("evaluate", *options, "-djfile", references / "a.nii.gz").startswith(
        f"{references / 'a.nii.gz'} is no dataset.json of nnU-Net ("
    )
    assert fails("evaluate", *options, "-d", 900).startswith("No dataset '900'")


def bad_probabilities(folders, values):
    for case in "abc":
        write_probabilities(folders[0] / f"{case}.npz", values)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p, g: write_image(p / "b.nii.gz", EMPTY[1:]), "to have the shape of its reference, (4, 5, 8), but got"),
        (lambda p, g: write_image(p / "b.nii.gz", EMPTY, (1.0, 1.0, 1.0)), "to have the spacing of its reference"),
        (
            lambda p, g: write_image(p / "b.nii.gz", EMPTY, origin=(9.0, 0.0, 0.0)),
            "to have the origin of its reference",
        ),
        (
            lambda p, g: write_image(p / "b.nii.gz", EMPTY + 7),
            "b.nii.gz holds label 7, which the dataset.json does not",
        ),
        (lambda p, g: write_image(p / "b.nii.gz", EMPTY + 0.5), "Expected whole numbers in "),
        (lambda p, g: (p / "b.nii.gz").write_bytes(b"torn"), "b.nii.gz cannot be read ("),
        (lambda p, g: (g / "a.nii.gz").write_bytes(b"torn"), "No reader of nnU-Net reads "),
        (
            lambda p, g: bad_probabilities((p, g), np.full((2, *SHAPE), np.nan)),
            "a.npz holds non-finite values.",
        ),
        (lambda p, g: bad_probabilities((p, g), np.zeros((3, *SHAPE))), "Expected probabilities of shape (2, 4, 5, 8)"),
    ],
    ids=["shape", "spacing", "origin", "label", "float", "torn", "torn reference", "NaN", "heads"],
)
def test_bad_input_is_told_in_one_line(fails, options, folders, spoil, message):
    spoil(*folders)
    more = ["--probabilities"] if (folders[0] / "a.npz").exists() else []
    assert message in fails("evaluate", *options, *more)
    assert not (folders[0] / "evaluation").exists()


def test_progress_comes_before_the_error_on_a_terminal(options, folders, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    (folders[0] / "b.nii.gz").write_bytes(b"torn")
    assert main(["evaluate", *map(str, options)]) == 2
    text = capsys.readouterr().err
    assert "Evaluating:" in text
    assert text.splitlines()[-1].startswith(f"nnunet-rw: {folders[0] / 'b.nii.gz'} cannot be read")


def test_impossible_settings(fails, options):
    for volume, told in ((-1, "-1.0"), ("nan", "nan"), ("inf", "inf")):
        assert fails("evaluate", *options, "--min-volume", volume) == (
            f"Case 'a': Expected min_volume_mm3 of at least 0, but got {told}."
        )
    assert (
        fails("evaluate", *options, "--tolerance", "nan")
        == "Case 'a': Expected a tolerance of at least 0 mm, but got nan."
    )


def test_folder_that_cannot_be_written_to(fails, options, tmp_path):
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in fails("evaluate", *options, "-o", tmp_path / "file")


def test_process_that_dies(fails, options, monkeypatch):
    def die(*arguments):
        raise BrokenProcessPool("A process in the process pool was terminated abruptly")

    monkeypatch.setattr(evaluate_module, "write_evaluation", die)
    assert fails("evaluate", *options) == "a process died, most likely for want of memory; give a smaller -np"


def test_compare_evaluates_trained_models(succeeds, models):
    command = ("compare", "-d", 900, "-c", "3d_fullres", "-tr", "nnUNetTrainer", "RWTrainer")
    text = succeeds(*command, "--metrics", "dice", "hd95_mm")
    assert text.startswith("Against nnUNetTrainer, 6 cases\n")
    dice = next(line for line in text.splitlines() if line.startswith("dice"))
    # 4 / 11 and, with 4 of 5 voxels shared, 8 / 10, in all cases: differences of 0.436.
    assert " ".join(dice.split()).startswith("dice RWTrainer 6 0 0.364 0.800 0.436")
    assert [read_evaluation(model / "evaluation").name for model in models] == ["nnUNetTrainer", "RWTrainer"]


def test_compare_at_equal_false_positives(succeeds, fails, models):
    command = ("compare", "-d", 900, "-tr", "nnUNetTrainer", "RWTrainer", "--fast", "--metrics", "dice")
    assert "--npz" in fails(*command, "--probabilities")
    for model in models:
        for path in model.glob("fold_*/validation/*.nii.gz"):
            name = path.name.replace(".nii.gz", ".npz")
            write_probabilities(path.with_name(name), np.stack([1 - 0.8 * REFERENCE, 0.8 * REFERENCE]))
    assert "no more false positives" not in succeeds(*command)
    text = succeeds(*command, "--probabilities")
    # The baseline's one in each case; from 0.1 to 0.75 all lesions are found without any: the middle.
    table = text[text.index("By rules that other folds chose for no more") :].splitlines()[4:8]
    rows = [line.split() for line in table]
    assert [row[0] for row in rows] == ["nnUNetTrainer"] * 2 + ["RWTrainer"] * 2
    assert rows[0][:4] == ["nnUNetTrainer", "as", "segmented", "1.00"]
    assert rows[3][:5] == ["RWTrainer", "above", "0.5", "0.00", "1.000"]
    assert (models[1] / "evaluation" / "operating_points.csv").is_file()
    assert not (models[1] / "evaluation" / "connectivity_6" / "operating_points.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-tr", "nnUNetTrainer"), "Expected at least two evaluations to compare, the baseline first, but got 1."),
        (("-tr", "nnUNetTrainer", "nnUNetTrainer"), "Expected every trainer once, but got nnUNetTrainer twice."),
        (("-tr", "nnUNetTrainer", "RWTrainer", "--metrics", "sice"), "Expected metrics out of dice"),
        (("-tr", "nnUNetTrainer", "RWTrainer", "--edges", 5, 1), "Expected two or more ascending edges in mm3"),
    ],
)
def test_compare_refuses_before_it_evaluates(fails, models, arguments, message):
    assert fails("compare", "-d", 900, *arguments).startswith(message)
    assert not any((model / "evaluation").exists() for model in models)


def test_compare_evaluates_what_is_missing_alone(succeeds, models):
    succeeds("evaluate", "-d", 900, "-tr", "nnUNetTrainer")
    first = times(models[0])
    command = ("compare", "-d", 900, "-tr", "nnUNetTrainer", "RWTrainer", "--metrics", "dice")
    text = succeeds(*command)
    assert times(models[0]) == first
    second = times(models[1])
    assert succeeds(*command) == text
    assert (times(models[0]), times(models[1])) == (first, second)
    # With other settings both are made again.
    assert "6-connected" in succeeds(*command, "--connectivity", 6, "--fast", "--also-connectivity")
    assert times(models[0]) != first
    assert times(models[1]) != second


def times(model):
    return {path.name: path.stat().st_mtime_ns for path in (model / "evaluation").iterdir() if path.is_file()}


def test_compare_into_a_folder_writes_nothing_elsewhere(succeeds, models, nnunet, tmp_path):
    succeeds("evaluate", "-d", 900, "-tr", "nnUNetTrainer")
    before = {path: path.lstat().st_mtime_ns for path in nnunet.root.rglob("*")}
    out = tmp_path / "out"
    command = ("compare", "-d", 900, "-tr", "nnUNetTrainer", "RWTrainer", "--metrics", "dice", "-o", out)
    text = succeeds(*command)
    assert {path: path.lstat().st_mtime_ns for path in nnunet.root.rglob("*")} == before
    # The evaluation that is there counts; those that were missing are below the output, and count the next time.
    of_models = out / "evaluations"
    assert not (of_models / "nnUNetTrainer" / "cases.csv").exists()
    assert read_evaluation(of_models / "nnUNetTrainer" / "connectivity_6").settings["connectivity"] == 6
    assert read_evaluation(of_models / "RWTrainer").columns["1"]["dice"].tolist() == [0.8] * 6
    made = {path: path.stat().st_mtime_ns for path in of_models.rglob("*.csv")}
    assert succeeds(*command) == text
    assert {path: path.stat().st_mtime_ns for path in of_models.rglob("*.csv")} == made


def test_compare_ranks_with_lesions_of_another_connectivity(succeeds, models):
    command = ("compare", "-d", 900, "-tr", "nnUNetTrainer", "RWTrainer", "--metrics", "dice")
    text = succeeds(*command)
    assert read_evaluation(models[0] / "evaluation" / "connectivity_6").settings["connectivity"] == 6
    places = [line.split()[:2] for line in text.splitlines() if line.startswith(("hit", "matched"))]
    assert places[0] == ["hit", "26"]
    assert places[-2:] == [["hit", "6"], ["matched", "6"]]
    assert "18" in {
        line.split()[1] for line in succeeds(*command, "--also-connectivity", 18).splitlines() if line[:3] == "hit"
    }


def test_compare_of_some_folds(succeeds, models):
    command = ("compare", "-d", 900, "-tr", "nnUNetTrainer", "RWTrainer", "-f", 1, "--fast", "--metrics", "dice")
    assert succeeds(*command).startswith("Against nnUNetTrainer, 3 cases\n")


def test_compare_needs_to_know_what(fails, models, tmp_path):
    message = "Give either folders of evaluations, or -d DATASET and -tr TRAINER TRAINER."
    for wrong in (
        (),
        ("-d", 900),
        ("-tr", "nnUNetTrainer", "RWTrainer"),
        (tmp_path, tmp_path, "-d", 900, "-tr", "nnUNetTrainer"),
    ):
        assert fails("compare", *wrong) == message
    # Most often a typing error, or other plans: what there is helps more than how to train it.
    told = fails("compare", "-d", 900, "-tr", "nnUNetTrainer", "RWOther")
    assert told.startswith("No trained model ")
    assert f" There are: {', '.join(sorted(model.name for model in models))}. Run: nnUNetv2_train" in told
    assert not (models[0] / "evaluation").exists()


def test_scores_of_challenges(succeeds, fails, options, folders):
    message = fails("evaluate", *options, "--scores", "panoptic")
    assert message.startswith("Expected scores out of brats-gli, ")
    assert not (folders[0] / "evaluation").exists()
    text = succeeds("evaluate", *options, "--scores", "brats-met", "cc")
    assert "\nbrats-met: connectivity 26, dilation 1, " in text
    assert "\ncc: connectivity 26, nearness voxels, penalty image diagonal, nsd_tolerance_mm 1\n" in text
    assert (
        "brats_dice,brats_hd95_mm,brats_nsd_0.5mm,brats_nsd_1mm,cc_dice,cc_hd95_mm,cc_assd_mm,cc_nsd"
        in (folders[0] / "evaluation" / "cases.csv").read_text()
    )


@pytest.mark.parametrize("wrong", ["missing", "nan", "shape"])
def test_probabilities_of_one_case_that_are_wrong(fails, options, folders, wrong):
    good = np.stack([1 - 0.5 * REFERENCE, 0.5 * REFERENCE])
    for case in "ac":
        write_probabilities(folders[0] / f"{case}.npz", good)
    path = folders[0] / "b.npz"
    if wrong != "missing":
        write_probabilities(path, good * np.nan if wrong == "nan" else good[:, 1:])
    message = fails("evaluate", *options, "--probabilities", "--scores", "cc", "-np", 1)
    assert str(path) in message
    assert not (folders[0] / "evaluation").exists()
