"""The evidence: figures of made-up trainings by hand, its tables and its picture, and trials that train."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from benchmarks.evidence import figure, tables
from benchmarks.evidence.missed import Lesions, described, missed_rows, read_lesions
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
    assert {(row["price"], row["own"]) for row in rows} == {(0.5, True)}


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
        # Four of four found and none false, beside two of four and one false; the other seed is as the first.
        assert second[f"f1_{over}"] == pytest.approx((1 - 2 * (2 / 3) * 0.5 / (2 / 3 + 0.5)) / 2)
        assert second[f"dice_{over}_low"] is second[f"f1_{over}_low"] is None  # of so few cases


def test_contrast_and_best_voxel_of_a_lesion():
    mask = np.zeros((3, 12, 12), bool)
    mask[1, 5, 5:7] = mask[1, 5, 9] = True
    image = np.indices(mask.shape).sum(0) % 2 * 2.0  # 0 and 2, of mean 1 and deviation 1
    image[mask] = 4
    image[1, 5, 9] = 1000
    probability = np.where(mask, 0.25, 0).astype(np.float32)
    probability[1, 5, 6] = 0.75
    lesions = described(mask, image, probability)
    assert lesions.voxels.tolist() == [2, 1]
    assert lesions.peak.tolist() == [0.75, 0.25]
    # The other lesion, three voxels off, is no surroundings: it would hide the first.
    assert lesions.contrast == pytest.approx([3, 999], rel=0.02)
    assert np.isnan(described(np.ones((2, 2), bool), np.zeros((2, 2)), np.ones((2, 2))).contrast).all()
    assert described(np.zeros((2, 2), bool), image, probability).voxels.shape == (0,)


def test_what_is_missed(trained):
    # At 0.5 and half a false positive per case the two large lesions are found.
    lesions = Lesions(np.array([48, 2, 48, 2]), np.array([3, 1, 5, 2]), np.array([0.9, 0.3, 0.9, 0.05]))
    training = trained((0.45, 0.75))
    small, large = missed_rows(training, lesions)
    assert (small["lesions"], small["found"], small["missed"], small["contrast_missed"]) == (2, 0, 2, 1.5)
    assert (small["missed_above_half"], small["missed_below_tenth"], small["contrast_found"]) == (0, 0.5, None)
    assert (large["lesions"], large["found"], large["contrast_found"], large["missed"]) == (2, 1, 4, 0)
    with pytest.raises(ValueError, match="lesions of the training"):
        list(missed_rows(training, lesions._replace(voxels=lesions.voxels[::-1])))


@pytest.fixture
def result(trained, monkeypatch):
    """Two trainers at the price of the first, of half a false positive per case, and at none."""
    rows = rule_rows({"nnUNetTrainer": [trained((0.45, 0.75))] * 2, "RWTrainer_X": [trained((0.2, 0.2))]}, [0.0])
    rows = [{"class": "spot"} | row for row in rows]
    monkeypatch.setattr(tables, "read_rows", {"evidence_rules_some": rows}.__getitem__)
    return rows


@pytest.mark.parametrize("ending", [".nii.gz", ".png"])
def test_lesions_are_described_in_the_order_of_the_training(tmp_path, ending):
    reference = np.zeros((8, 20), np.uint8)
    reference[1, 1:3] = reference[4:7, 5:8] = reference[1, 10] = 1
    probabilities = np.stack([1 - 0.9 * reference, 0.9 * reference]).astype(np.float32)
    cases = []
    for case, shift in (("b", 0), ("a", 8)):  # whatever the order of the files
        image = np.full((*reference.shape, 3), 50, np.uint8) if ending == ".png" else np.full(reference.shape, 50.0)
        labels = np.roll(reference, shift, axis=1)
        for name, values in (("label", labels), ("image", image)):
            sitk.WriteImage(
                sitk.GetImageFromArray(values, isVector=values.ndim == 3), tmp_path / f"{case}_{name}{ending}"
            )
        np.savez(tmp_path / f"{case}.npz", probabilities=np.roll(probabilities, shift, axis=2)[:, None])
        label = tmp_path / f"{case}_label{ending}"
        cases.append(CaseFiles(case, label, label, tmp_path / f"{case}.npz", (tmp_path / f"{case}_image{ending}",)))
    reader = {".png": "NaturalImage2DIO"}.get(ending, "SimpleITKIO")
    content = {**DATASET, "file_ending": ending, "overwrite_image_reader_writer": reader}
    source = Source("made up", cases, [], content, tmp_path)
    training = Training(fitted_cases(source, processes=1))
    lesions = read_lesions(source, "1", 0)
    assert lesions.voxels.tolist() == training.lesion_voxels.tolist()
    assert sorted(lesions.voxels) == [1, 1, 2, 2, 9, 9]
    assert lesions.peak == pytest.approx(0.9)


def test_table_of_rules(result):
    lines = tables.rules_table(["some"], ["RWTrainer_X"]).splitlines()[2:]
    # One threshold of the first, 0.8 and 0.7, finds the large lesions; of the other's, all.
    names, figures = "| spot | `RWTrainer_X` | single threshold |", " 0.5 | 0.0 | 100.0 | +50.0 [too few] | 100.0 |"
    assert lines[0].startswith(names + figures)
    assert [line.split(" | ")[2] for line in lines[1:]] == [
        "single threshold + minimum volume",
        "hysteresis",
        "hysteresis + minimum volume",
    ]


def test_table_of_trainers(result):
    first, second = tables.trainers_table(["some"], "single").splitlines()[2:]
    # Of two equal seeds; with several the lowest and the highest are told.
    assert first.startswith(
        "| spot | `nnUNetTrainer` | 2 | 0.5 | 0.5 | 0.0 (0.0 to 0.0) |  | 50.0 (50.0 to 50.0) |  | "
    )
    assert second.startswith(
        "| spot | `RWTrainer_X` | 1 | 0.5 | 0.0 | 100.0 | +100.0 [too few] | 100.0 | +50.0 [too few] | 100.0"
    )
    (line,) = tables.trainers_table(["some"], "single", 0.0, {"RWTrainer_X"}).splitlines()[2:]
    assert line.startswith("| spot | `RWTrainer_X` | 1 | 0.0 | 100.0 | ")


def test_table_of_prices(result):
    header, _, first, second = tables.prices_table(["some"], "single").splitlines()
    assert header == "| lesions | trainer | at most 0 |"
    assert second == "| spot | `RWTrainer_X` | 100.0 / 100.0 / 100.0 |"
    assert first.startswith("| spot | `nnUNetTrainer` | 0.0 / 50.0 / ")


def test_table_of_areas(tmp_path, monkeypatch):
    folder = tmp_path / "benchmark" / "evaluations" / "Dataset" / "made up"
    folder.mkdir(parents=True)
    classes = {"1": {"pooled_voxels": {"precision_recall_area": 0.25}}}
    (folder / "summary.json").write_text(json.dumps({"classes": classes}))
    source = Source("made up", [], [], DATASET, folder)
    (row,) = area_rows(tmp_path / "benchmark", {"RWTrainer_X": [source]}, "1")
    monkeypatch.setattr(tables, "read_rows", {"evidence_areas_some": [{"class": "haemorrhage"} | row]}.__getitem__)
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


STOCK, SMALL_LESIONS = "nnUNetTrainerVanillaAdam1en3", "RWTrainer_SmallLesionsAdam"


def figure_of(name, trainer, key, family="hysteresis", at_16=True, result="idrid"):
    """In points, at 16 false positives per case or at the first trainer's own."""
    rows = read_rows(f"evidence_rules_{result}", {"class": name, "trainer": trainer, "family": family})
    (row,) = [row for row in rows if (row["price"] == 16 if at_16 else row["own"])]
    return 100 * row[key]


def seeds_of(name, trainer, key):
    """In points, at the first trainer's own false positives."""
    where = {"class": name, "trainer": trainer, "family": "hysteresis", "own": True}
    (row,) = read_rows("evidence_rules_idrid", where)
    return [100 * value for value in row[f"{key}_seeds"]]


def test_prose_has_the_numbers_of_the_results():
    # Wherever a line ends.
    readme, evidence = (
        " ".join((CHECKOUT / name).read_text(encoding="utf-8").split()) for name in ("README.md", "docs/evidence.md")
    )

    def gain(name, figure="recall", **at):
        return figure_of(name, SMALL_LESIONS, f"{figure}_gain_of_trainer", **at)

    key = "small_recall_gain_of_trainer"
    for family, text in (
        ("hysteresis", "(+{:.1f} points [{:.1f}, {:.1f}];"),
        ("single_volume", "+{:.1f} [{:.1f}, {:.1f}])"),
    ):
        ends = [figure_of("hard_exudate", SMALL_LESIONS, f"{key}{end}", family) for end in ("", "_low", "_high")]
        assert text.format(*ends) in readme
    small = figure_of("hard_exudate", SMALL_LESIONS, "small_recall")
    assert f"found {small:.0f} % of the small hard exudates" in readme
    ours, stocks = (
        [figure_of(name, trainer, "recall") for name in ("haemorrhage", "soft_exudate")]
        for trainer in (SMALL_LESIONS, STOCK)
    )
    assert f"{ours[0]:.0f} % of all haemorrhages instead of {stocks[0]:.0f} %" in readme
    assert f"but {ours[1]:.0f} % of the rare, large soft exudates instead of {stocks[1]:.0f} %" in readme
    own = {"at_16": False}
    ends = [figure_of("soft_exudate", SMALL_LESIONS, f"recall_gain_of_trainer_{end}", **own) for end in ("low", "high")]
    assert "lost {:.0f} points [{:.0f}, {:+.0f}]".format(-gain("soft_exudate", **own), *ends) in evidence
    small = [
        figure_of(*of, "small_recall", family, **where)
        for *of, where in (("MS lesion", STOCK, {"result": "ms_patients"}), ("hard_exudate", STOCK, {}))
        for family in ("hysteresis", "single_volume")
    ]
    assert "(MS lesions {:.0f} against {:.0f} %, hard exudates {:.0f} against {:.0f} %)".format(*small) in evidence
    unlearned = [
        sum(
            row["pseudo_dice"] < 0.01
            for row in read_rows("evidence_seeds_ms_patients", {"trainer": trainer, "seed": 1})
        )
        for trainer in ("nnUNetTrainer", "RWTrainer_SmallLesions")
    ]
    assert unlearned == [4, 5]
    assert "four of five networks of nnU-Net's loss and all five of `RWTrainer_SmallLesions`" in evidence
    found_of = [seeds_of(name, STOCK, "recall") for name in ("haemorrhage", "soft_exudate")]
    assert "find {:.0f} and {:.0f} %, {:.0f} and {:.0f} %".format(*found_of[0], *found_of[1]) in evidence
    for name, sign in (("haemorrhage", 1), ("hard_exudate", 1), ("soft_exudate", -1)):
        before, after = (seeds_of(name, trainer, "recall") for trainer in (STOCK, SMALL_LESIONS))
        assert {np.sign(other - one) for one, other in zip(before, after, strict=True)} == {sign}
    before, after = (seeds_of("hard_exudate", trainer, "small_recall") for trainer in (STOCK, SMALL_LESIONS))
    assert min(after) - max(before) > 4 * abs(before[0] - before[1])
    of_all = [(name, STOCK, {}) for name in ("haemorrhage", "hard_exudate", "soft_exudate")]
    of_all.append(("MS lesion", STOCK, {"result": "ms_patients"}))
    with_volume, peaked = (
        [
            figure_of(*of, "recall", family, **where) / figure_of(*of, "recall", "single", **where)
            for *of, where in of_all
        ]
        for family in ("single_volume", "hysteresis")
    )
    assert 1.9 < min(with_volume) < 2.1
    assert f"twice to {max(with_volume):.0f} times as many" in evidence
    assert max(abs(one / other - 1) for one, other in zip(with_volume, peaked, strict=True)) < 0.1


def test_prose_on_ms_lesions_has_the_numbers_of_the_results():
    readme, text = (
        " ".join((CHECKOUT / name).read_text(encoding="utf-8").split()) for name in ("README.md", "docs/evidence.md")
    )

    def of_family(trainer, family):
        """Rows, the first trainer's own price first, then from 16 down."""
        where = {"class": "MS lesion", "family": family, "trainer": trainer}
        return sorted(read_rows("evidence_rules_ms_patients", where), key=lambda row: -row["price"])

    def gain(row, name="small_recall"):
        return [100 * row[f"{name}_gain_of_trainer{end}"] for end in ("", "_low", "_high")]

    own, at_16, *others = of_family(SMALL_LESIONS, "hysteresis")
    assert (own["own"], at_16["price"]) == (True, 16)
    assert "found {:+.1f} points [{:+.1f}, {:+.1f}] of the small ones".format(*gain(at_16)) in readme
    assert "and {:+.1f} [{:+.1f}, {:+.1f}] at as many".format(*gain(own)) in readme
    with_volume, *lower = of_family(SMALL_LESIONS, "single_volume")
    assert "(small ones {:+.1f} points [{:+.1f}, {:+.1f}])".format(*gain(with_volume)) in text
    assert all(gain(row, name)[1] > 0 for row in (own, with_volume) for name in ("small_recall", "recall"))
    assert all(gain(row)[0] > 0 > gain(row)[1] for row in (at_16, *others))
    assert {np.sign(gain(row)[0]) for row in lower} == {-1, 1}
    before, after = (row["small_recall_seeds"] for row in (of_family(STOCK, "hysteresis")[0], own))
    assert [round(other - one, 2) for one, other in zip(before, after, strict=True)].count(0) == 1
    assert f"differ by up to {100 * (max(before) - min(before)):.0f} points of small lesions" in text


def test_gains_and_rates_are_those_of_the_results():
    *_, single_volume, _ = tables.gains_table(SMALL_LESIONS, 16.0).splitlines()
    key = "small_recall_gain_of_trainer"
    ends = [figure_of("hard_exudate", SMALL_LESIONS, f"{key}{end}", "single_volume") for end in ("", "_low", "_high")]
    assert "| single threshold + minimum volume | {:+.1f} [{:+.1f}, {:+.1f}] |".format(*ends) in single_volume
    *_, hysteresis = tables.found_by_rules_table(16.0).splitlines()
    found = [
        figure_of(name, trainer, figure, result=result)
        for result, name, trainer in (
            ("ms_patients", "MS lesion", STOCK),
            ("idrid", "hard_exudate", STOCK),
        )
        for figure in ("recall", "small_recall")
    ]
    assert hysteresis == "| hysteresis | {:.1f} | {:.1f} | {:.1f} | {:.1f} |".format(*found)


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
