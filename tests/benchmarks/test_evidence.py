"""The evidence: figures of made-up trainings by hand, its tables and its picture, and trials that train."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from benchmarks.evidence import figure, tables
from benchmarks.evidence.missed import Lesions, described, missed_rows
from benchmarks.evidence.rules import Training, area_rows, rule_rows
from benchmarks.harness import read_rows
from nnunet_rw.benchmark.specification import read_specification
from nnunet_rw.evaluation.sources import CaseFiles, Source
from nnunet_rw.postprocessing.threshold.fit import fitted_cases

CHECKOUT = Path(__file__).resolve().parents[2]
DATASET = {"labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz"}
EVIDENCE = CHECKOUT / "benchmarks" / "evidence"


@pytest.fixture
def trained(tmp_path):
    """Two cases of a lesion of 48 voxels of 0.9 and one of 2 of 0.3, each with a false voxel of a given probability."""

    def trained(false):
        folder = tmp_path / "_".join(map(str, false))
        folder.mkdir()
        cases = []
        for case, of_case in zip("ab", false, strict=True):
            reference, probability = np.zeros((4, 6, 20), np.uint8), np.zeros((2, 4, 6, 20), np.float32)
            reference[1, 1, 1:3] = reference[:, 3:, 1:5] = 1
            for value, box in ((0.3, np.s_[1, 1, 1:3]), (0.9, np.s_[:, 3:, 1:5]), (of_case, np.s_[0, 0, 12])):
                probability[1][box] = value
            path, probabilities = folder / f"{case}.nii.gz", folder / f"{case}.npz"
            sitk.WriteImage(sitk.GetImageFromArray(reference), path)
            np.savez(probabilities, probabilities=probability)
            cases.append(CaseFiles(case, path, path, probabilities))
        source = Source("made up", cases, [], DATASET, folder)
        return Training(fitted_cases(source, processes=1))

    return trained


def test_rules_at_a_price(trained):
    some = trained((0.45, 0.75))
    rows = rule_rows({"first": [some], "second": [some, some]}, [1.0])
    single = [row for row in rows if (row["price"], row["family"]) == (1.0, "single")]
    # Below 0.3 both lesions of a case are found, the small one of two voxels too, beside one false positive.
    for row in single:
        assert (row["false_positives"], row["recall"], row["small_recall"], row["dice"]) == (1, 1, 1, 100 / 101)
        assert (row["lesions"], row["small_lesions"]) == (4, 2)
    assert single[0].keys() < single[1].keys()
    assert (single[1]["small_recall_gain"], single[1]["small_recall_gain_of_trainer"]) == (0, 0)
    assert (single[1]["seeds"], single[1]["dice_seeds"]) == (2, [100 / 101] * 2)


def test_the_first_price_is_that_of_the_first_trainer_at_a_half(trained):
    # At 0.5 the first has one false voxel in two cases, and finds the large lesions.
    rows = rule_rows({"first": [trained((0.45, 0.75))], "second": [trained((0.6, 0.6))]}, [])
    first, second = rows[:2]
    assert (first["price"], first["family"], first["false_positives"], second["false_positives"]) == (
        None,
        None,
        0.5,
        1,
    )
    assert (first["recall"], first["small_recall"]) == (0.5, 0)
    assert {(row["price"], row["own"]) for row in rows[2:]} == {(0.5, True)}


def test_gains_of_rules(trained):
    surer, other = trained((0.2, 0.2)), trained((0.45, 0.75))
    rows = rule_rows({"first": [other], "second": [surer, other]}, [0.0])
    first, second = (row for row in rows if (row["price"], row["family"]) == (0.0, "single"))
    # The first's thresholds, each of the other case alone, are 0.8 and 0.7: the large lesions, and one false voxel.
    assert (first["recall"], first["small_recall"], first["false_positives"]) == (0.5, 0, 0.5)
    # Between 0.2 and 0.3 the segmentation of the second's first seed is the reference. The other gains nothing.
    assert (second["recall_seeds"], second["small_recall"], second["false_positives"]) == ([1, 0.5], 0.5, 0.25)
    for over in ("gain", "gain_of_trainer"):
        assert (second[f"recall_{over}"], second[f"small_recall_{over}"]) == (0.25, 0.5)
        assert second[f"dice_{over}"] == pytest.approx((1 - (96 / 98 + 96 / 99) / 2) / 2)
        assert second[f"dice_{over}_low"] is None  # of so few cases


def test_contrast_and_best_voxel_of_a_lesion():
    mask = np.zeros((3, 12, 12), bool)
    mask[1, 5, 5:7] = mask[1, 5, 9] = True
    image = np.indices(mask.shape).sum(0) % 2 * 2.0  # 0 and 2, of mean 1 and deviation 1
    image[mask] = 4
    probability = np.where(mask, 0.25, 0).astype(np.float32)
    probability[1, 5, 6] = 0.75
    lesions = described(mask, image, probability)
    assert lesions.voxels.tolist() == [2, 1]
    assert lesions.peak.tolist() == [0.75, 0.25]
    # The other lesion, three voxels off, is no surroundings.
    assert lesions.contrast == pytest.approx([3, 3], rel=0.02)
    assert np.isnan(described(np.ones((2, 2), bool), np.zeros((2, 2)), np.ones((2, 2))).contrast).all()
    assert described(np.zeros((2, 2), bool), image, probability).voxels.shape == (0,)


def test_what_is_missed(trained):
    # At 0.5 and half a false positive per case the two large lesions are found.
    lesions = Lesions(np.array([48, 2, 48, 2]), np.array([3, 1, 5, 2]), np.array([0.9, 0.3, 0.9, 0.05]))
    small, large = missed_rows(trained((0.45, 0.75)), lesions)
    assert (small["lesions"], small["found"], small["missed"], small["contrast_missed"]) == (2, 0, 2, 1.5)
    assert (small["missed_above_half"], small["missed_below_tenth"], small["contrast_found"]) == (0, 0.5, None)
    assert (large["lesions"], large["found"], large["contrast_found"], large["missed"]) == (2, 1, 4, 0)


@pytest.fixture
def result(trained, monkeypatch):
    """Two trainers at the price of the first, of half a false positive per case, and at none."""
    rows = rule_rows({"nnUNetTrainer": [trained((0.45, 0.75))] * 2, "RWTrainer_X": [trained((0.2, 0.2))]}, [0.0])
    rows = [{"class": "spot"} | row for row in rows]
    monkeypatch.setattr(tables, "read_rows", {"evidence_rules_some": rows}.__getitem__)
    return rows


def test_table_of_rules(result):
    lines = tables.rules_table(["some"], ["RWTrainer_X"]).splitlines()[2:]
    # One threshold of the first, 0.8 and 0.7, finds the large lesions; of the other's, all.
    start = (
        "| spot | `RWTrainer_X` | single threshold | 0.0 | 100.0 | +50.0 [too few] | 100.0 | +100.0 [too few] | 100.0 |"
    )
    assert lines[0].startswith(start)
    assert [line.split(" | ")[2] for line in lines[1:]] == [
        "single threshold + minimum volume",
        "hysteresis",
        "hysteresis + minimum volume",
    ]


def test_table_of_trainers(result):
    first, second = tables.trainers_table(["some"], "single").splitlines()[2:]
    assert first.startswith("| spot | `nnUNetTrainer` | 2 | 0.5 | 0.0 |  | 50.0 |  | ")
    assert second.startswith(
        "| spot | `RWTrainer_X` | 1 | 0.0 | 100.0 | +100.0 [too few] | 100.0 | +50.0 [too few] | 100.0"
    )
    (line,) = tables.trainers_table(["some"], "single", 0.0, {"RWTrainer_X"}).splitlines()[2:]
    assert line.startswith("| spot | `RWTrainer_X` | 1 | 0.0 | 100.0 | ")


def test_table_of_prices(result):
    header, _, first, second = tables.prices_table(["some"], "single").splitlines()
    assert header == "| lesions | trainer | at most 0 |"
    assert second == "| spot | `RWTrainer_X` | 100.0 / 100.0 / 100.0 |"
    assert first.startswith("| spot | `nnUNetTrainer` | 0.0 / 50.0 / ")


def test_table_of_areas(result, tmp_path):
    folder = tmp_path / "benchmark" / "evaluations" / "Dataset" / "made up"
    folder.mkdir(parents=True)
    classes = {"1": {"pooled_voxels": {"precision_recall_area": 0.25}}}
    (folder / "summary.json").write_text(json.dumps({"classes": classes}))
    source = Source("made up", [], [], DATASET, folder)
    result += [
        {"class": "haemorrhage"} | row for row in area_rows(tmp_path / "benchmark", {"RWTrainer_X": [source]}, "1")
    ]
    assert tables.areas_table("some").splitlines()[2:] == ["| haemorrhage | `RWTrainer_X` | 0.25 | 0.68 |"]


def test_figure_of_prices(result, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figure.plt, "close", drawn.append)
    figure.draw(result, tmp_path / "images" / "evidence.png")
    assert (tmp_path / "images" / "evidence.png").stat().st_size > 10_000
    (axis,) = drawn[0].axes
    lines = {line.get_label(): line for line in axis.get_lines()}
    assert list(lines) == ["nnUNetTrainer, one threshold", "nnUNetTrainer, hysteresis", "RWTrainer_X, hysteresis"]
    assert lines["RWTrainer_X, hysteresis"].get_ydata().tolist() == [100, 100]
    assert axis.get_title() == "spot"


def test_prose_has_the_numbers_of_the_results():
    # Wherever a line ends.
    readme, evidence = (
        " ".join((CHECKOUT / name).read_text(encoding="utf-8").split()) for name in ("README.md", "docs/evidence.md")
    )

    def found(result, name, trainer, family, figure="recall"):
        (row,) = [
            row
            for row in read_rows(f"evidence_rules_{result}", {"class": name, "trainer": trainer, "family": family})
            if row["price"] == 16
        ]
        return round(100 * row[figure], 1)

    exudates, lesions = ("idrid", "hard_exudate", "RWTrial_StockAdam"), ("ms_patients", "MS lesion", "nnUNetTrainer")
    rates = [found(*of, family) for family in ("hysteresis", "single") for of in (exudates, lesions)]
    assert "found {:.0f} % of the hard exudates and {:.0f} % of the MS lesions".format(*rates) in readme
    assert "one threshold {:.0f} % and {:.0f} %".format(*rates[2:]) in readme
    small = [
        found("idrid", "hard_exudate", "RWTrial_SmallLesionsAdam", "hysteresis", f"small_recall_gain_of_trainer{end}")
        for end in ("", "_low", "_high")
    ]
    for text in (readme, evidence):
        assert "{:.1f} points more of the small hard exudates [{:.1f}, {:.1f}]".format(*small) in text


@pytest.mark.parametrize("path", sorted(EVIDENCE.glob("*.yaml")), ids=lambda path: path.name)
def test_specifications_name_trainers_and_splits_that_are_there(path, monkeypatch):
    from nnunet_rw.benchmark.training import find_trainers
    from nnunet_rw.training.catalogue import trainers_folder

    monkeypatch.setenv("nnUNet_extTrainer", f"{trainers_folder()}:{EVIDENCE / 'trials'}")
    specification = read_specification(path)
    assert list(find_trainers(specification)) == list(specification.trainers)
    for splits in specification.splits.values():
        assert (CHECKOUT / splits).is_file()


def test_trials_build_their_losses():
    from benchmarks.evidence.trials import rw_trials
    from nnunet_rw.losses import STOCK_TERM, build
    from nnunet_rw.training.trainer import MapTrainer

    trials = [trial for name, trial in vars(rw_trials).items() if name.startswith("RWTrial_")]
    assert trials
    for trial in trials:
        assert issubclass(trial, MapTrainer)
        assert trial.__doc__
        formulas = [build(term.loss, **term.options).formula() for term in trial.loss_terms if term.loss != STOCK_TERM]
        assert all(formulas)
