import math

import numpy as np
import pytest
from evaluation_folders import SETTINGS, write_evaluation
from segmentation_files import PREDICTION, REFERENCE, source_of

from nnunet_rw.evaluation import evaluate
from nnunet_rw.evaluation import tables as evaluation_tables
from nnunet_rw.evaluation.case import EvaluationSettings
from nnunet_rw.evaluation.comparison.metrics import check_comparable
from nnunet_rw.evaluation.folder import CASE_NUMBERS, LESION_NUMBERS, read_evaluation

CASES = {
    ("b", "1"): {"dice": 0.5, "hd95_mm": "inf", "n_lesions": 2, "volume_reference_mm3": 12},
    ("a", "1"): {"dice": "", "hd95_mm": 1.5, "n_lesions": 0, "volume_reference_mm3": 0},
    ("a", "(1, 2)"): {"dice": 0.75, "n_lesions": 1, "volume_reference_mm3": 4},
    ("b", "(1, 2)"): {"dice": 1, "n_lesions": 0, "volume_reference_mm3": 0},
}
LESIONS = [("b", 8.0, 1, 0), ("b", 4.0, 0, 0, "missed"), ("a", 4.0, 0, 0, "ignored", "(1, 2)")]
PREDICTED = [("b", 2.0, 0, 0, "false_positive"), ("a", 6.0, 0, 0, "neutral", "(1, 2)")]


@pytest.fixture
def folder(tmp_path):
    return write_evaluation(tmp_path / "first", CASES, LESIONS, PREDICTED, name="RWTrainer")


def rewrite(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_reads_what_was_written(folder):
    evaluation = read_evaluation(folder)
    assert (evaluation.folder, evaluation.name, evaluation.settings) == (folder, "RWTrainer", SETTINGS)
    assert (evaluation.cases, evaluation.labels) == (("a", "b"), ("1", "(1, 2)"))
    np.testing.assert_array_equal(evaluation.columns["1"]["dice"], [math.nan, 0.5])
    np.testing.assert_array_equal(evaluation.columns["1"]["hd95_mm"], [1.5, math.inf])
    np.testing.assert_array_equal(evaluation.columns["(1, 2)"]["dice"], [0.75, 1])
    np.testing.assert_array_equal(evaluation.columns["(1, 2)"]["n_lesions"], [1, 0])
    np.testing.assert_array_equal(evaluation.diagonals_mm(), [100, 100])


def test_columns_are_those_that_an_evaluation_writes():
    assert set(CASE_NUMBERS) < set(evaluation_tables.CASE_COLUMNS)
    assert set(LESION_NUMBERS) < set(evaluation_tables.LESION_COLUMNS) < set(evaluation_tables.PREDICTED_COLUMNS)


def test_lesions_are_sorted_and_ignored_ones_neither_found_nor_missed(folder):
    evaluation = read_evaluation(folder)
    lesions, predicted = evaluation.lesions, evaluation.predicted
    assert lesions.case.tolist() == ["a", "b", "b"]
    assert lesions.label.tolist() == ["(1, 2)", "1", "1"]
    assert lesions.lesion.tolist() == [3, 1, 2]
    assert lesions.volume_mm3.tolist() == [4, 8, 4]
    np.testing.assert_array_equal(lesions.hit, [math.nan, 1, 0])
    np.testing.assert_array_equal(lesions.matched, [math.nan, 0, 0])
    np.testing.assert_array_equal(predicted.hit, [math.nan, 0])


def test_evaluation_without_lesions(tmp_path):
    evaluation = read_evaluation(write_evaluation(tmp_path / "a", {"x": {"dice": 1}}))
    assert len(evaluation.lesions.case) == len(evaluation.predicted.hit) == 0


def test_name_of_the_folder_where_the_summary_has_none(tmp_path):
    evaluation = read_evaluation(write_evaluation(tmp_path / "seed_1", {"x": {}}, name=None))
    assert evaluation.name == "seed_1"


def test_a_diagonal_per_case(tmp_path):
    settings = {"image_diagonal_mm": {"b": 30.0}}
    evaluation = read_evaluation(write_evaluation(tmp_path / "a", {"a": {}, "b": {}}, settings=settings))
    np.testing.assert_array_equal(evaluation.diagonals_mm(), [math.nan, 30])


@pytest.mark.parametrize("name", ["cases.csv", "lesions.csv", "predicted_lesions.csv", "summary.json"])
def test_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"No \S*first/{name}\. Run: nnunet-rw evaluate"):
        read_evaluation(folder)


@pytest.mark.parametrize(("name", "column"), [("cases.csv", "nsd"), ("lesions.csv", "matched"), ("cases.csv", "label")])
def test_missing_column(folder, name, column):
    rewrite(folder / name, f",{column}", f",my_{column}")
    with pytest.raises(ValueError, match=rf"first/{name} has no column '{column}'. Run: nnunet-rw evaluate"):
        read_evaluation(folder)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("cases.csv", "0.75", "high", r"expected a number in column 'dice', but got 'high'"),
        ("cases.csv", "\na,1,", "\nb,1,", r"no row of label '1' for case 'a'"),
        ("cases.csv", '"(1, 2)"', "1", r"holds a case and label twice"),
        ("lesions.csv", "\na,", "\nc,", r"lists case 'c', label '\(1, 2\)', cases.csv does not"),
        ("summary.json", '"settings"', '"options"', r"summary.json is no summary of an evaluation \(settings: "),
        ("summary.json", "{", "", r"summary.json is no summary of an evaluation \(Extra data"),
    ],
)
def test_damaged_files(folder, name, old, new, message):
    rewrite(folder / name, old, new)
    with pytest.raises(ValueError, match=message):
        read_evaluation(folder)


@pytest.mark.parametrize("name", ["lesions.csv", "predicted_lesions.csv"])
def test_table_of_lesions_that_lost_its_rows(tmp_path, name):
    counts = {"n_lesions": 1, "n_predicted": 1}
    folder = write_evaluation(tmp_path / "first", {"x": counts}, [("x", 4.0, 1, 1)], [("x", 4.0, 1, 1)])
    keep_header(folder / name)
    with pytest.raises(ValueError, match=rf"first/{name} has no row, but cases.csv counts 1 lesions\. Run: nnunet-rw"):
        read_evaluation(folder)


@pytest.mark.parametrize("name", ["froc.csv", "operating_points.csv"])
def test_table_of_curves_that_lost_its_rows(folder, name):
    columns = "label,threshold,false_positives_per_case,recall,precision,dice\n"
    (folder / name).write_text(columns)
    with pytest.raises(ValueError, match=rf"first/{name} has no row\. Run: nnunet-rw evaluate"):
        read_evaluation(folder)


def test_table_of_bytes(folder):
    (folder / "cases.csv").write_bytes(b"\xff\xfe\x00case")
    with pytest.raises(ValueError, match=r"first/cases\.csv is no table \(.*\)\. Run: nnunet-rw evaluate"):
        read_evaluation(folder)


@pytest.mark.parametrize("name", ["cases.csv", "lesions.csv", "predicted_lesions.csv", "froc.csv"])
def test_table_that_is_not_as_it_was_written(tmp_path, name):
    """A line less leaves a table that reads well."""
    probability = np.stack([1 - 0.8 * PREDICTION, 0.8 * PREDICTION])
    source = source_of(tmp_path, {"a": (REFERENCE, PREDICTION)}, probabilities={"a": probability})
    evaluate.write_evaluation(source, EvaluationSettings(fast=True), tmp_path / "first")
    path = tmp_path / "first" / name
    content = path.read_text().splitlines(keepends=True)
    path.write_text("".join(content[:-1]))
    message = rf"first/{name} is not as it was written: cut off, or edited\. Run: nnunet-rw evaluate .* -o \S*first"
    with pytest.raises(ValueError, match=message):
        read_evaluation(tmp_path / "first")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=rf"No \S*first/{name}\. Run: nnunet-rw evaluate"):
        read_evaluation(tmp_path / "first")
    path.write_text("".join(content))
    assert read_evaluation(tmp_path / "first").cases == ("a",)


def keep_header(path):
    path.write_text(path.read_text().splitlines(keepends=True)[0])


def test_no_case(tmp_path):
    with pytest.raises(ValueError, match="holds no case"):
        read_evaluation(write_evaluation(tmp_path / "a", {}))


def comparable(folder, tmp_path, cases=CASES, lesions=LESIONS, **options):
    other = write_evaluation(tmp_path / "second", cases, lesions, **options)
    check_comparable([read_evaluation(folder), read_evaluation(other)])


def test_comparable_whatever_is_predicted(folder, tmp_path):
    cases = {key: {**columns, "dice": 0.1, "n_hit": 1} for key, columns in reversed(CASES.items())}
    lesions = [(case, volume, 1 - hit, 1, *rest) for case, volume, hit, _, *rest in LESIONS]
    comparable(folder, tmp_path, cases, lesions, predicted=[], name="other", settings={"probabilities": True})


def test_other_cases_are_named(folder, tmp_path):
    cases = {(case, label): {} for case in "bcdefg" for label in ("1", "(1, 2)")}
    with pytest.raises(ValueError, match="Expected the same cases") as info:
        comparable(folder, tmp_path, cases, lesions=[])
    first, second = tmp_path / "first", tmp_path / "second"
    assert f"1 only in {first} (a) and 5 only in {second} (c, d, e, ...), 1 in both." in str(info.value)


def test_missing_cases_are_named(folder, tmp_path):
    cases = {key: columns for key, columns in CASES.items() if key[0] == "b"}
    with pytest.raises(ValueError, match=rf"but got 1 only in {tmp_path / 'first'} \(a\), 1 in both"):
        comparable(folder, tmp_path, cases, lesions=LESIONS[:2])


def test_other_labels(folder, tmp_path):
    cases = {(case, "1"): columns for (case, label), columns in CASES.items() if label == "1"}
    with pytest.raises(ValueError, match=r"the same labels in all evaluations, but got 1, \(1, 2\) in .* and 1 in"):
        comparable(folder, tmp_path, cases, lesions=LESIONS[:2])


@pytest.mark.parametrize(("key", "value"), [("connectivity", 6), ("tolerance_mm", None), ("fast", True)])
def test_other_settings(folder, tmp_path, key, value):
    with pytest.raises(ValueError, match=rf"the same settings in all evaluations, but {key} is .* and {value} in "):
        comparable(folder, tmp_path, settings={key: value})


def test_other_references(folder, tmp_path):
    message = r"The references of .*first and .*second differ"
    with pytest.raises(ValueError, match=message):
        comparable(folder, tmp_path, lesions=[("b", 10.0, 1, 0), *LESIONS[1:]])
    with pytest.raises(ValueError, match=message):
        comparable(folder, tmp_path, lesions=LESIONS[1:])
    cases = {**CASES, ("b", "1"): {**CASES["b", "1"], "volume_reference_mm3": 13}}
    with pytest.raises(ValueError, match=message):
        comparable(folder, tmp_path, cases)
    with pytest.raises(ValueError, match=message):
        comparable(folder, tmp_path, settings={"image_diagonal_mm": {"a": 100.0, "b": 90.0}})
