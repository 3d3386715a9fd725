import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from segmentation_files import (
    CORE_AND_EDGE,
    EMPTY,
    LESION,
    PREDICTION,
    REFERENCE,
    SHAPE,
    SPACING_MM,
    source_of,
    write_folders,
    write_image,
)

from nnunet_rw.evaluation import evaluate as module
from nnunet_rw.evaluation.case import EvaluationSettings
from nnunet_rw.evaluation.evaluate import evaluate, write_evaluation
from nnunet_rw.evaluation.folder import read_evaluation
from nnunet_rw.evaluation.sources import folders_source
from nnunet_rw.util import parallel

DEFAULT, FAST = EvaluationSettings(), EvaluationSettings(fast=True)
CASE_HEADER = (
    "case,label,status,dice,jaccard,ppv,sensitivity,specificity,hd_mm,hd95_mm,assd_mm,nsd,volume_reference_mm3,"
    "volume_prediction_mm3,n_lesions,n_hit,n_predicted,n_false_positive"
)
LESION_HEADER = "case,label,lesion,voxels,volume_mm3,z_mm,y_mm,x_mm,hit,matched,dice,iou,kind"
CENTROID = ("z_mm", "y_mm", "x_mm")
# Reference and prediction.
FOUR_CASES = {
    "both": (REFERENCE, PREDICTION),
    "false": (EMPTY, PREDICTION),
    "missed": (REFERENCE, EMPTY),
    "nothing": (EMPTY, EMPTY),
}
WHOLE_AND_CORE = {"background": 0, "whole": [1, 2], "core": 2}


@pytest.fixture
def written(tmp_path):
    """Function that evaluates such cases and returns the folder."""

    def write(cases=FOUR_CASES, settings=DEFAULT, **options):
        write_evaluation(source_of(tmp_path / "data", cases, **options), settings, tmp_path / "out")
        return tmp_path / "out"

    return write


def read_rows(path):
    """Rows of texts by column."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def random_cases(number, num_classes=2, shape=(14, 16, 18), ignore=None):
    """Boxes, of which the prediction has some, shifted; the last case but one has no lesion, the last no prediction."""
    rng = np.random.default_rng(number)
    cases = {}
    for index in range(number):
        sides = np.zeros((2, *shape), np.uint8)
        for box in range(8):
            start = rng.integers(0, np.array(shape) - 4)
            stop = start + rng.integers(1, 5, 3)
            value = rng.integers(1, num_classes)
            sides[0][tuple(map(slice, start, stop))] = value
            if box % 3:
                shift = rng.integers(0, 2, 3)
                sides[1][tuple(map(slice, start + shift, stop + shift))] = value
        if index == number - 2:
            sides[:] = 0
        if index == number - 1:
            sides[1] = 0
        if ignore is not None:
            sides[0][rng.random(shape) < 0.1] = ignore
        cases[f"case_{index}"] = tuple(sides)
    return cases


def test_files(written):
    names = ["cases.csv", "lesions.csv", "predicted_lesions.csv", "summary.json"]
    assert sorted(path.name for path in written().iterdir()) == names


def test_columns_are_a_stable_interface(written):
    folder = written()
    for name, columns in (
        ("cases.csv", CASE_HEADER),
        ("lesions.csv", LESION_HEADER),
        ("predicted_lesions.csv", f"{LESION_HEADER},score"),
    ):
        # More may follow.
        assert f"{(folder / name).read_text().splitlines()[0]},".startswith(f"{columns},")


def test_cases_by_hand(written):
    both, *others = (written() / "cases.csv").read_text().splitlines()[1:]
    assert both.startswith("both,1,both,")
    # 2 shared voxels of 5 and of 6, 160 in all: Dice 4 / 11, Jaccard 2 / 9, PPV 2 / 6, sensitivity 2 / 5, specificity
    # 151 / 155. The distances are derived in test_case_evaluation. One of two lesions is hit, and matched.
    far = math.hypot(4, 3.5)
    ratios, distances = [4 / 11, 2 / 9, 2 / 6, 2 / 5, 151 / 155], [far, 5 + 0.75 * (far - 5), (13 + far) / 11]
    cells = both.split(",")[3:]
    assert [float(cell) for cell in cells[:16]] == pytest.approx(
        [*ratios, *distances, 8 / 11, 7.5, 9, 2, 1, 2, 1, 1], rel=1e-6
    )
    # Half of A is covered, and half of its partner. Two false voxels of 1.5 mm3, one missed. From A to its partner 1,
    # 0.5, 0 and 0 mm, and back: the 95th percentile is at 0.5 + 0.85 * 0.5.
    assert cells[16:] == ["", "", *"1111", "3", "1.5", "0.925", "0.375", "", "", ""]
    # Undefined is an empty cell: sensitivity without a reference, PPV without a prediction, intensity without an image.
    assert others == [
        "false,1,only_prediction,0,0,0,,0.9625,inf,inf,inf,0,0,9,0,0,2,2,0,,,0,2,0,2,9,0,,,,,",
        "missed,1,only_reference,0,0,,0,1,inf,inf,inf,0,7.5,0,2,0,0,0,0,,,0,0,0,0,0,7.5,,,,,",
        "nothing,1,both_empty,,,,,1,,,,,0,0,0,0,0,0,0,,,0,0,0,0,0,0,,,,,",
    ]


def test_lesions_by_hand(written):
    folder = written()
    # A's centroid is z = 1, y = 1, x = 2.5; that of its partner x = 4.5. They share 2 of 6 voxels.
    assert (folder / "lesions.csv").read_text().splitlines()[1:] == [
        "both,1,1,4,6,3,1,1.25,1,1,0.5,0.3333333333,matched,0.5,0.925,0.375",
        "both,1,2,1,1.5,9,4,3.5,0,0,0,0,missed,0,,",
        "missed,1,1,4,6,3,1,1.25,0,0,0,0,missed,0,,",
        "missed,1,2,1,1.5,9,4,3.5,0,0,0,0,missed,0,,",
    ]
    assert (folder / "predicted_lesions.csv").read_text().splitlines()[1:] == [
        "both,1,1,4,6,3,1,2.25,1,1,0.5,0.3333333333,matched,,0.5,0.925,0.375",
        "both,1,2,2,3,9,0,0.25,0,0,0,0,false_positive,,0,,",
        "false,1,1,4,6,3,1,2.25,0,0,0,0,false_positive,,0,,",
        "false,1,2,2,3,9,0,0.25,0,0,0,0,false_positive,,0,,",
    ]


def test_ignored_lesions_are_neither_hit_nor_missed(written):
    folder = written({"a": (REFERENCE, REFERENCE)}, EvaluationSettings(min_volume_mm3=2.0, fast=True))
    row = read_rows(folder / "cases.csv")[0]
    assert [row[name] for name in ("n_lesions", "n_hit", "n_predicted", "n_false_positive")] == ["1", "1", "1", "0"]
    assert (folder / "lesions.csv").read_text().splitlines()[2] == "a,1,2,1,1.5,9,4,3.5,0,0,,,ignored,,,"
    assert (folder / "predicted_lesions.csv").read_text().splitlines()[2] == "a,1,2,1,1.5,9,4,3.5,0,0,,,neutral,,,,"


def test_fast_leaves_distances_empty(written):
    folder = written(settings=FAST)
    for row in read_rows(folder / "cases.csv"):
        assert [row[name] for name in ("hd_mm", "hd95_mm", "assd_mm", "nsd")] == [""] * 4
        assert row["specificity"]
    metrics = json.loads((folder / "summary.json").read_text())["classes"]["1"]["metrics"]
    assert "dice" in metrics
    assert "hd95_mm" not in metrics


def test_intensities(written):
    folder = written({"a": (REFERENCE, PREDICTION)}, FAST, images={"a": np.full(SHAPE, 2.0)})
    row = read_rows(folder / "cases.csv")[0]
    assert (row["intensity_reference"], row["intensity_prediction"]) == ("15", "18")
    found = json.loads((folder / "summary.json").read_text())["classes"]["1"]
    assert found["bland_altman_volume_x_intensity"]["bias"] == 3.0


def test_two_dimensions_have_no_z(written):
    folder = written({"a": (REFERENCE[1], PREDICTION[1])})
    assert (folder / "lesions.csv").read_text().splitlines()[1:] == [
        "a,1,1,4,2,,1,1.25,1,1,0.5,0.3333333333,matched,0.5,0.925,0.375"
    ]


def test_names_with_commas_are_quoted(written):
    folder = written({"a, b": (REFERENCE, PREDICTION)}, FAST)
    assert [row["case"] for row in read_rows(folder / "cases.csv")] == ["a, b"]
    assert read_evaluation(folder).cases == ("a, b",)


def probabilities_of(*places):
    values = np.zeros((2, *SHAPE), np.float32)
    for probability, place in places:
        values[1][place] = probability
    return values


def test_scores_and_froc_by_hand(written):
    # Candidates: the two predicted lesions, 0.75 and 0.625, and B, 0.25, which the segmentation misses.
    both = probabilities_of((0.75, np.s_[1, 1, 3:7]), (0.625, np.s_[3, 0, 0:2]), (0.25, np.s_[3, 4, 7]))
    cases = {"both": (REFERENCE, PREDICTION), "nothing": (EMPTY, EMPTY)}
    folder = written(cases, FAST, probabilities={"both": both, "nothing": np.zeros((2, *SHAPE))})
    scores = [row["score"] for row in read_rows(folder / "predicted_lesions.csv")]
    assert scores == ["0.75", "0.625"]
    # One of two lesions from 0.75, a false positive in two cases from 0.625, the other lesion from 0.25.
    assert (folder / "froc.csv").read_text().splitlines() == [
        "label,threshold,false_positives_per_case,recall",
        "1,inf,0,0",
        "1,0.75,0,0.5",
        "1,0.625,0.5,0.5",
        "1,0.25,0.5,1",
    ]
    froc = json.loads((folder / "summary.json").read_text())["classes"]["1"]["froc"]
    assert froc["recall_at"] == {"0.125": 0.5, "0.25": 0.5, "0.5": 1, "1": 1, "2": 1, "4": 1, "8": 1}
    assert froc["average_recall"] == pytest.approx((2 * 0.5 + 5) / 7)
    # 0.5 over half a false positive, then 1 up to 5.
    assert froc["average_recall_0_to_5"] == pytest.approx((0.5 * 0.5 + 4.5) / 5)


def test_operating_points_by_hand(written):
    both = probabilities_of((0.75, np.s_[1, 1, 3:7]), (0.625, np.s_[3, 0, 0:2]), (0.25, np.s_[3, 4, 7]))
    cases = {"both": (REFERENCE, PREDICTION), "nothing": (EMPTY, EMPTY)}
    folder = written(cases, FAST, probabilities={"both": both, "nothing": np.zeros((2, *SHAPE))})
    rows = {row["threshold"]: row for row in read_rows(folder / "operating_points.csv")}
    names = ("label", "false_positives_per_case", "recall", "precision", "f1")
    assert [rows["0.7"][name] for name in names] == ["1", "0", "0.5", "1", "0.6666666667"]
    assert [rows["0.6"][name] for name in names] == ["1", "0.5", "0.5", "0.5", "0.5"]
    assert [rows["0.2"][name] for name in names] == ["1", "0.5", "1", "0.6666666667", "0.8"]
    points = read_evaluation(folder).operating_points["1"]
    assert points.thresholds[points.within(0.25)] == 0.65  # 0.625 is above 0.6
    # Dice of the segmentation itself: the second case has none.
    segmented = read_rows(folder / "cases.csv")[0]
    assert float(rows["0.5"]["dice"]) == pytest.approx(float(segmented["dice"]))


def test_froc_without_a_lesion_has_no_recall(written):
    probabilities = {"a": probabilities_of((0.75, np.s_[0, 0, 0]))}
    folder = written({"a": (EMPTY, EMPTY)}, FAST, probabilities=probabilities)
    assert (folder / "froc.csv").read_text().splitlines()[1:] == ["1,inf,0,", "1,0.75,1,"]
    assert json.loads((folder / "summary.json").read_text())["classes"]["1"]["froc"]["average_recall"] is None


def test_summary_by_hand(written):
    summary = json.loads((written() / "summary.json").read_text())
    assert (summary["name"], summary["num_cases"]) == ("predictions", 4)
    assert (summary["num_missing"], summary["missing_cases"]) == (0, [])
    diagonal_mm = math.sqrt(12**2 + 5**2 + 4**2)
    assert summary["settings"] == {
        "connectivity": 26,
        "min_volume_mm3": 0.0,
        "tolerance_mm": 1.0,
        "fast": False,
        "image_diagonal_mm": dict.fromkeys(FOUR_CASES, pytest.approx(diagonal_mm)),
    }
    (found,) = summary["classes"].values()
    assert found["status"] == {"both": 1, "both_empty": 1, "only_reference": 1, "only_prediction": 1}
    dice = found["metrics"]["dice"]
    assert (dice["n"], dice["n_undefined"], dice["n_penalised"]) == (3, 1, 0)
    assert dice["mean"] == pytest.approx(4 / 11 / 3)
    # Two of three distances are to nothing.
    hd_mm = found["metrics"]["hd_mm"]
    assert (hd_mm["n"], hd_mm["n_undefined"], hd_mm["n_penalised"]) == (3, 1, 2)
    assert hd_mm["mean"] == pytest.approx((math.hypot(4, 3.5) + 2 * diagonal_mm) / 3)
    # Of four lesions one has a partner, with a Dice of 0.5.
    assert found["metrics"]["lesion_dice"]["mean"] == pytest.approx(0.5 / 4)
    for rule in ("any_overlap", "one_to_one"):
        assert found["detection"][rule] == {
            "num_cases": 4,
            "num_lesions": 4,
            "num_found": 1,
            "num_predicted": 4,
            "num_false_positives": 3,
            "recall": 0.25,
            "precision": 0.25,
            "false_positives_per_case": 0.75,
        }
    # At 0.1 the pair has an IoU of 1 / 3, and 3 / 2 + 3 / 2 lesions have no partner.
    assert found["panoptic"]["0.5"]["pq"] == 0
    assert found["panoptic"]["0.1"]["pq"] == pytest.approx(1 / 3 / 4)
    # Differences of 1.5, 9, -7.5 and 0 mm3.
    assert found["bland_altman_mm3"]["bias"] == pytest.approx(0.75)
    assert found["metrics"]["absolute_volume_difference_mm3"]["mean"] == pytest.approx(4.5)
    # Relative to the reference, where there is one: 1.5 / 7.5 and -1.
    assert found["metrics"]["relative_volume_difference"]["mean"] == pytest.approx(-0.4)
    # 9 and 0 mm3.
    assert found["false_positive_mm3_in_cases_without_lesion"] == 4.5
    assert [(size["num_lesions"], size["num_found"]) for size in found["recall_by_size"]][:2] == [(4, 1), (0, 0)]


def test_summary_is_json_but_for_what_nnunet_writes(written):
    # Undefined and unbounded figures are null; nnU-Net's own keys have its NaN.
    text = (written({"nothing": (EMPTY, EMPTY)}) / "summary.json").read_text()
    summary = json.loads(text)
    assert math.isnan(summary["foreground_mean"]["Dice"])
    assert summary["classes"]["1"]["metrics"]["dice"]["mean"] is None
    json.dumps(summary["classes"], allow_nan=False)


def test_missing_cases_are_told(tmp_path):
    folders = write_folders(tmp_path, {case: REFERENCE for case in "abc"}, {"b": PREDICTION})
    summary = write_evaluation(folders_source(*folders, allow_missing=True), FAST, tmp_path / "out")
    assert (summary["num_cases"], summary["num_missing"], summary["missing_cases"]) == (1, 2, ["a", "c"])
    assert summary == json.loads((tmp_path / "out" / "summary.json").read_text())


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
@pytest.mark.parametrize(
    ("names", "order", "num_classes", "ignore"),
    [
        (LESION, None, 2, None),
        # No case has the third class.
        ({**CORE_AND_EDGE, "rare": 3}, None, 3, None),
        (WHOLE_AND_CORE, [1, 2], 3, None),
        ({**LESION, "ignore": 2}, None, 2, 2),
        ({**WHOLE_AND_CORE, "ignore": 3}, [1, 2], 3, 3),
    ],
    ids=["one class", "classes", "regions", "ignore label", "regions and ignore label"],
)
def test_summary_equals_nnunet_s(tmp_path, thread_pools, names, order, num_classes, ignore):
    source = source_of(tmp_path, random_cases(5, num_classes, ignore=ignore), names, order)
    write_evaluation(source, FAST, tmp_path / "out")
    manager = LabelManager(names, order)
    compute_metrics_on_folder(
        str(tmp_path / "references"),
        str(tmp_path / "predictions"),
        str(tmp_path / "nnunet.json"),
        source.reader,
        ".nii.gz",
        manager.foreground_regions if manager.has_regions else manager.foreground_labels,
        manager.ignore_label,
        num_processes=1,
    )
    theirs = json.loads((tmp_path / "nnunet.json").read_text())
    ours = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert set(theirs) == {"metric_per_case", "mean", "foreground_mean"}
    for key, value in theirs.items():
        np.testing.assert_equal(ours[key], value)
    # The case without a lesion on either side is undefined in both.
    assert all(math.isnan(found["Dice"]) for found in theirs["metric_per_case"][3]["metrics"].values())


def test_reading_back(written):
    evaluation = read_evaluation(written())
    assert (evaluation.name, evaluation.cases, evaluation.labels) == ("predictions", tuple(FOUR_CASES), ("1",))
    columns = evaluation.columns["1"]
    np.testing.assert_allclose(columns["dice"], [4 / 11, 0, 0, math.nan], rtol=1e-9)
    np.testing.assert_array_equal(columns["hd_mm"][1:], [math.inf, math.inf, math.nan])
    np.testing.assert_array_equal(columns["n_hit"], [1, 0, 0, 0])
    np.testing.assert_allclose(evaluation.diagonals_mm(), [math.sqrt(185)] * 4)
    assert evaluation.lesions.case.tolist() == ["both", "both", "missed", "missed"]
    np.testing.assert_array_equal(evaluation.lesions.hit, [1, 0, 0, 0])
    np.testing.assert_array_equal(evaluation.lesions.voxels, [4, 1, 4, 1])
    np.testing.assert_array_equal(evaluation.predicted.volume_mm3, [6, 3, 6, 3])


def test_reading_back_regions(written):
    evaluation = read_evaluation(written(random_cases(4, 3), FAST, names=WHOLE_AND_CORE, order=[1, 2]))
    assert evaluation.labels == ("(1, 2)", "2")
    whole, core = evaluation.columns.values()
    assert np.all(whole["volume_reference_mm3"] >= core["volume_reference_mm3"])


def test_cases_come_in_the_source_s_order(tmp_path):
    source = source_of(tmp_path, FOUR_CASES)
    source = replace(source, cases=source.cases[::-1])
    assert [case.files for case in evaluate(source, FAST)] == source.cases


def test_several_processes_find_what_one_finds(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "MIN_TASKS_FOR_WORKERS", 2)
    source = source_of(tmp_path / "data", random_cases(5))
    for processes in (1, 2):
        write_evaluation(source, DEFAULT, tmp_path / str(processes), processes)
    for path in (tmp_path / "1").iterdir():
        assert path.read_bytes() == (tmp_path / "2" / path.name).read_bytes()


def leaves(value):
    """The numbers that nested dicts and lists hold, by sorted keys; NaN for None."""
    if isinstance(value, dict):
        value = [value[key] for key in sorted(value)]
    if not isinstance(value, list):
        return [math.nan if value is None else value]
    return [leaf for item in value for leaf in leaves(item)]


def assert_same_figures(one, other):
    """Of the summaries of two evaluations, but for the order in which cases were added up."""
    for key in ("classes", "mean", "foreground_mean"):
        assert len(leaves(one[key])) >= 8
        np.testing.assert_allclose(leaves(one[key]), leaves(other[key]), rtol=1e-9)


TABLES = ("cases.csv", "lesions.csv", "predicted_lesions.csv")


def test_order_of_files_changes_nothing(tmp_path):
    source = source_of(tmp_path / "data", random_cases(6))
    shuffled = replace(source, cases=[source.cases[index] for index in (3, 5, 0, 4, 1, 2)])
    folders = tmp_path / "one", tmp_path / "other"
    summaries = [write_evaluation(cases, DEFAULT, to) for cases, to in zip((source, shuffled), folders, strict=True)]
    assert_same_figures(*summaries)
    for table in TABLES:
        lines = [(folder / table).read_text().splitlines() for folder in folders]
        assert lines[0] != lines[1]
        assert sorted(lines[0]) == sorted(lines[1])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_flips_move_centroids_alone(tmp_path, axis):
    cases = random_cases(4)
    flipped = {case: tuple(np.flip(side, axis) for side in pair) for case, pair in cases.items()}
    folders = tmp_path / "straight", tmp_path / "flipped"
    summaries = [
        write_evaluation(source_of(folder / "data", pairs), DEFAULT, folder)
        for folder, pairs in zip(folders, (cases, flipped), strict=True)
    ]
    assert_same_figures(*summaries)
    straight, turned = ((folder / "cases.csv").read_text().splitlines() for folder in folders)
    assert straight == turned
    size_mm = (cases["case_0"][0].shape[axis] - 1) * SPACING_MM[axis]
    for table in TABLES[1:]:
        rows, mirrored = (read_rows(folder / table) for folder in folders)
        for row in (*rows, *mirrored):
            # They are numbered in another order.
            del row["lesion"]
            row[CENTROID[axis]] = round(float(row[CENTROID[axis]]), 6)
        for row in mirrored:
            row[CENTROID[axis]] = round(size_mm - row[CENTROID[axis]], 6)
        assert len(rows) > 8
        assert sorted(map(str, rows)) == sorted(map(str, mirrored))


def test_another_order_of_axes_is_another_voxel_of_the_same_volume(tmp_path):
    cases = random_cases(3)
    turned = {case: tuple(side.transpose(2, 0, 1) for side in pair) for case, pair in cases.items()}
    summaries = []
    for name, pairs, spacing_mm in (("one", cases, SPACING_MM), ("other", turned, (0.5, 3.0, 1.0))):
        source = source_of(tmp_path / name, pairs)
        for case, pair in pairs.items():
            for folder, values in zip(("references", "predictions"), pair, strict=True):
                write_image(tmp_path / name / folder / f"{case}.nii.gz", np.ascontiguousarray(values), spacing_mm)
        summaries.append(write_evaluation(source, DEFAULT, tmp_path / name / "out"))
    assert_same_figures(*summaries)


def test_other_numbers_of_the_classes_change_nothing(tmp_path):
    cases = random_cases(4, 3)
    swapped = {
        case: tuple(np.choose(side, (0, 2, 1)).astype(np.uint8) for side in pair) for case, pair in cases.items()
    }
    one = write_evaluation(source_of(tmp_path / "one", cases, CORE_AND_EDGE), DEFAULT, tmp_path / "one")
    other = write_evaluation(source_of(tmp_path / "other", swapped, CORE_AND_EDGE), DEFAULT, tmp_path / "other")
    for key in ("classes", "mean"):
        other[key] = {"1": other[key]["2"], "2": other[key]["1"]}
    assert_same_figures(one, other)


def test_evaluation_replaces_an_earlier_one(written):
    probabilities = {"a": probabilities_of((0.75, np.s_[0, 0, 0]))}
    folder = written({"a": (REFERENCE, PREDICTION)}, FAST, probabilities=probabilities)
    names = ("froc.csv", "operating_points.csv", "reliability.csv", "rules.npz")
    assert all((folder / name).is_file() for name in names)
    written({"a": (REFERENCE, PREDICTION)}, FAST)
    assert not any((folder / name).exists() for name in names)


def test_failed_evaluation_leaves_an_earlier_one_as_it_is(written, tmp_path):
    folder = written({"a": (REFERENCE, PREDICTION)})
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match="holds label 9"):
        written({"a": (REFERENCE, 9 * PREDICTION)})
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_interrupted_writing_leaves_no_summary(written, monkeypatch):
    folder = written({"a": (REFERENCE, PREDICTION)})

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_tables", interrupt)
    with pytest.raises(KeyboardInterrupt):
        written({"a": (REFERENCE, PREDICTION)}, FAST)
    assert not (folder / "summary.json").exists()
