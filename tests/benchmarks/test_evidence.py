"""The evidence: figures of made-up benchmarks by hand, and trials that train."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from evaluation_folders import write_evaluation

from benchmarks.evidence import collect, figure, shared_lesions, tables
from benchmarks.evidence.collect import OperatingPoint
from benchmarks.evidence.rules import Training, rule_rows
from benchmarks.harness import read_rows
from nnunet_rw.benchmark.results import TaskResults
from nnunet_rw.benchmark.specification import read_specification
from nnunet_rw.evaluation.folder import read_evaluation
from nnunet_rw.postprocessing.threshold.fit import fitted_cases

CHECKOUT = Path(__file__).resolve().parents[2]
DATASET = {"labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz"}
EVIDENCE = CHECKOUT / "benchmarks" / "evidence"
# Of 2 mm3 a voxel: 5 and 20 voxels are small, 21 are not.
VOLUMES_MM3 = (("a", 10), ("a", 42), ("b", 40), ("b", 42))


def write(folder, dice, hits, false=(1, 1)):
    """An evaluation of two cases with two lesions each.

    Parameters
    ----------
    dice : of each case
    hits : of each lesion at a probability of 0.5
    false : predicted lesions that touch none, of each case
    """
    lesions = [
        (case, volume, hit, hit, "matched" if hit else "missed")
        for (case, volume), hit in zip(VOLUMES_MM3, hits, strict=True)
    ]
    predicted = [(case, volume, 1, 1) for (case, volume), hit in zip(VOLUMES_MM3, hits, strict=True) if hit]
    predicted += [(case, 2, 0, 0) for case, number in zip("ab", false, strict=True) for _ in range(number)]
    cases = {
        case: {"dice": dice[place], "hd95_mm": 3, "nsd": 0.5, "n_lesions": 2, "n_false_positive": false[place]}
        for place, case in enumerate("ab")
    }
    write_evaluation(folder, cases, lesions, predicted)
    rows = ["label,threshold,false_positives_per_case,recall", "1,inf,0,0", "1,0.8,0,0.25", "1,0.4,2,1"]
    (folder / "froc.csv").write_text("\n".join([*rows, ""]))
    return read_evaluation(folder)


def hits(*lesions):
    return np.array(lesions, bool)


@pytest.fixture
def task(tmp_path, monkeypatch):
    """Two seeds of the baseline, with 1 and 1.5 false positives per case, and one of another trainer."""
    points = {
        "first": OperatingPoint(0.5, 1, hits(0, 1, 0, 1), np.array([0.4, 0.6]), 1.5, hits(0, 1, 0, 1)),
        "second": OperatingPoint(0.6, 1, hits(0, 1, 0, 0), np.array([0.4, 0.8]), 1, hits(1, 1, 0, 0)),
        "other": OperatingPoint(
            0.8,
            1.25,
            hits(1, 1, 1, 0),
            np.array([0.5, 0.9]),
            1.5,
            hits(1, 0, 1, 0),
        ),
    }
    asked = set()

    def operating_point(evaluation, label, price):
        asked.add((label, price))
        return points[evaluation.folder.name]

    monkeypatch.setattr(collect, "operating_point", operating_point)
    baseline = {
        0: write(tmp_path / "first", (0.4, 0.6), (0, 1, 0, 1)),
        1: write(tmp_path / "second", (0.5, 0.7), (0, 1, 0, 1), false=(2, 1)),
    }
    other = {0: write(tmp_path / "other", (0.5, 0.8), (1, 1, 1, 0))}
    yield TaskResults("Task", "Dataset", "", (), {"nnUNetTrainer": baseline, "RWTrainer_X": other}, None)
    assert asked <= {("1", 1.25)}


class TestRows:
    def test_figures_are_means_over_seeds(self, task):
        baseline, other = collect.trainer_rows(task, "1")
        assert (baseline["trainer"], baseline["seeds"], other["seeds"]) == ("nnUNetTrainer", 2, 1)
        assert (baseline["cases"], baseline["lesions"], baseline["small_lesions"]) == (2, 4, 2)
        assert baseline["price"] == baseline["false_positives"] == 1.25
        assert baseline["dice"] == pytest.approx(0.55)
        assert baseline["dice_seeds"] == pytest.approx([0.5, 0.6])
        assert (baseline["recall"], baseline["small_recall"], other["small_recall"]) == (0.5, 0, 1)
        # Recall 1/2; two right and two false of four predicted, two and three of five.
        assert baseline["lesion_f1_seeds"] == pytest.approx([0.5, 2 * 0.5 * 0.4 / 0.9])
        # Nothing was recorded of the trainings.
        assert baseline["seconds_per_epoch"] is None

    def test_matched_is_at_the_baselines_false_positives(self, task):
        baseline, other = collect.trainer_rows(task, "1")
        assert baseline["matched_recall_seeds"] == [0.5, 0.25]
        assert (baseline["matched_small_recall"], other["matched_small_recall"]) == (0, 1)
        assert (other["matched_recall"], other["matched_threshold"]) == (0.75, 0.8)
        assert other["matched_recall_gain"] == pytest.approx(0.75 - 0.375)
        assert other["matched_recall_gain_low"] is other["matched_recall_gain_high"] is None  # of so few cases
        assert other["matched_dice_gain"] == pytest.approx(0.7 - 0.55)
        assert (baseline["left_out_small_recall_seeds"], other["left_out_small_recall"]) == ([0, 0.5], 1)
        assert (baseline["left_out_false_positives"], other["left_out_false_positives"]) == (1.25, 1.5)
        assert [(row["from_voxels"], row["lesions"], row["recall"]) for row in other["matched_recall_by_size"]] == [
            (1, 1, 1),
            (11, 1, 1),
            (21, 2, 0.5),
        ]

    def test_gains_and_noise(self, task):
        baseline, other = collect.trainer_rows(task, "1")
        assert other["dice_gain"] == pytest.approx(0.1)
        assert "dice_gain" not in baseline
        assert other["dice_noise"] == baseline["dice_noise"] == pytest.approx(0.1)
        assert other["matched_recall_noise"] == pytest.approx(0.25)

    def test_without_lesions_there_is_nothing_to_match(self, task):
        for row in collect.trainer_rows(task, "1", of_lesions=False):
            assert not [key for key in row if key.startswith("matched")]
            assert row["dice"]


class TestTables:
    @pytest.fixture
    def rows(self, task, monkeypatch):
        rows = collect.trainer_rows(task, "1")
        for row in rows:
            row["seconds_per_epoch"] = 10.0 if row["trainer"] == "nnUNetTrainer" else 12.0
        monkeypatch.setattr(tables, "read_rows", lambda result: rows)
        return rows

    def test_found(self, rows):
        lines = tables.found_table("some").splitlines()
        assert lines[2] == "| `nnUNetTrainer` | 2 | 0.55 | 1.00 | 0.0 |  | 37.5 |  | 55.0 |  |"
        assert lines[3].startswith("| `RWTrainer_X` | 1 | 0.8 | 1.25 | 100.0 | +100.0 [")

    def test_who_always_has_more_false_positives_comes_last(self, rows):
        dearer = {**rows[1], "trainer": "RWTrainer_Y", "matched_false_positives": 1.5, "matched_small_recall_gain": 2.0}
        rows.insert(1, dearer)
        assert [line.split("`")[1] for line in tables.found_table("some").splitlines()[2:]] == [
            "nnUNetTrainer",
            "RWTrainer_X",
            "RWTrainer_Y",
        ]

    def test_one_operating_point_per_table(self, rows):
        # At equal false positives, thresholds chosen by other cases: 0 and 0.5 of the seeds of the baseline.
        tested = {"patients of the training": "some", "another patient": "other"}
        lines = tables.equal_table(tested, "RWTrainer_X").splitlines()[2:]
        assert lines[:2] == [
            "| patients of the training | `nnUNetTrainer` | 1 | 25 % |",
            "| patients of the training | `RWTrainer_X` | 2 | 100 % |",
        ]
        assert [line.split(" | ")[0] for line in lines[2:]] == ["| another patient"] * 2
        # At 0.5: 1.25 false positives per case, and 1, a fifth fewer.
        lines = tables.half_table(tested, "RWTrainer_X").splitlines()[2:]
        assert lines[0].startswith("| patients of the training | `nnUNetTrainer` | 1 | 0 % |")
        assert lines[1] == "| patients of the training | `RWTrainer_X` | 1 (-20%) | 100 % | 66.7 | 65.0 | 1.20 |"

    def test_boundary(self, rows):
        first, second = tables.boundary_table("some").splitlines()[2:]
        assert first == "| 1 | `nnUNetTrainer` | 2 | 55.0 |  | 3.00 |  | 50.0 |  | 10 |"
        assert second.startswith("| 1 | `RWTrainer_X` | 1 | 65.0 | +10.0 [")

    def test_seeds(self, rows):
        assert "| Dice | 50.0, 60.0 | 10.0 |" in tables.seeds_table("some", tables.OF_LESIONS).splitlines()
        rows[1] |= {"seeds": 2, **{key: [0.25, 0.5] for key in rows[1] if key.endswith("_seeds")}}
        header, _, *lines = tables.seeds_table("some", tables.OF_LESIONS).splitlines()
        assert header == "| figure | `nnUNetTrainer` | noise | `RWTrainer_X` |"
        assert "| Dice | 50.0, 60.0 | 10.0 | 25.0, 50.0 |" in lines
        assert "| the same, at thresholds that other cases chose | 0.0, 50.0 | 50.0 | 25.0, 50.0 |" in lines

    def test_seeds_of_several_labels(self, rows):
        rows += [{**row, "label": "2", "dice_seeds": [0.25] * row["seeds"]} for row in rows]
        header, _, *lines = tables.seeds_table("some", tables.OF_BOUNDARIES).splitlines()
        assert header == "| figure | `nnUNetTrainer` | noise |"
        assert lines[:2] == ["| Dice, label 1 | 50.0, 60.0 | 10.0 |", "| Dice, label 2 | 25.0, 25.0 | 10.0 |"]


def test_figure_of_gains_and_sizes(task, tmp_path, monkeypatch):
    baseline, other = collect.trainer_rows(task, "1")
    worse = {**other, "trainer": "RWTrial_Y", "dice_gain": -0.4, "matched_small_recall_gain": -0.05}
    dearer = {**other, "trainer": "RWTrainer_Z", "matched_false_positives": 1.5}
    drawn = []
    monkeypatch.setattr(figure.plt, "close", drawn.append)
    figure.draw([baseline, other, worse, dearer], "RWTrainer_X", tmp_path / "images" / "evidence.png")
    assert (tmp_path / "images" / "evidence.png").stat().st_size > 10_000
    gains, dice, sizes = drawn[0].axes
    assert [label.get_text() for label in gains.get_yticklabels()] == ["Y (trial)", "X"]
    assert [text.get_text() for text in dice.texts] == ["\u2190 -40"]
    assert [line.get_label() for line in sizes.get_lines()] == ["nnUNetTrainer", "RWTrainer_X"]
    assert sizes.get_lines()[1].get_ydata().tolist() == [100, 100, 50]
    assert [label.get_text() for label in sizes.get_xticklabels()] == ["1-10\n(1)", "11-20\n(1)", "21+\n(2)"]


class TestOperatingPoint:
    @pytest.fixture
    def evaluated(self, tmp_path):
        """Two cases of a lesion of 48 voxels of 0.9 and one of 2 of 0.3, each with a false voxel."""

        def evaluated(model, false):
            validation = tmp_path / model / "fold_0" / "validation"
            validation.mkdir(parents=True)
            (tmp_path / model / "dataset.json").write_text(json.dumps(DATASET))
            cases = []
            for case, of_case in zip("ab", false, strict=True):
                reference, probability = np.zeros((4, 6, 20), np.uint8), np.zeros((2, 4, 6, 20), np.float32)
                reference[1, 1, 1:3] = reference[:, 3:, 1:5] = 1
                for value, box in ((0.3, np.s_[1, 1, 1:3]), (0.9, np.s_[:, 3:, 1:5]), (of_case, np.s_[0, 0, 12])):
                    probability[1][box] = value
                paths = {
                    "reference_file": tmp_path / f"{case}.nii.gz",
                    "prediction_file": validation / f"{case}.nii.gz",
                }
                for path in paths.values():
                    sitk.WriteImage(sitk.GetImageFromArray(reference), path)
                np.savez(validation / f"{case}.npz", probabilities=probability)
                cases.append({key: str(path) for key, path in paths.items()})
            folder = write_evaluation(tmp_path / f"{model}_evaluation", {"a": {}, "b": {}}, metric_per_case=cases)
            return read_evaluation(folder)

        return evaluated

    @pytest.fixture
    def evaluation(self, evaluated):
        return evaluated("model", false=(0.45, 0.75))

    def test_at_the_lowest_threshold_within_the_price(self, evaluation):
        point = collect.operating_point(evaluation, "1", 0)
        # From 0.75 to below 0.9 nothing changes: the middle.
        assert (point.threshold, point.false_positives) == (0.8, 0)
        assert point.found.tolist() == [True, False] * 2  # sorted by place: the large one's first voxel comes first
        assert point.dice == pytest.approx([2 * 48 / (50 + 48)] * 2)
        # The first case's false positive lets 0.7 be chosen for the second, the middle of 0.5 to below 0.9.
        assert point.left_out_false_positives == 0.5
        point = collect.operating_point(evaluation, "1", 1)
        assert (point.threshold, point.false_positives) == (0.2, 1)  # of 0.1 to below 0.3
        assert point.found.all()

    def test_rules_at_a_price(self, evaluation):
        trained = training(evaluation)
        rows = rule_rows({"first": [trained], "second": [trained, trained]}, [1.0])
        single = [row for row in rows if (row["price"], row["family"]) == (1.0, "single")]
        # Below 0.3 both lesions of a case are found, the small one of two voxels too, beside one false positive.
        for row in single:
            assert (row["false_positives"], row["recall"], row["small_recall"], row["dice"]) == (1, 1, 1, 100 / 101)
            assert (row["lesions"], row["small_lesions"]) == (4, 2)
        assert single[0].keys() < single[1].keys()
        assert (single[1]["small_recall_gain"], single[1]["small_recall_gain_of_trainer"]) == (0, 0)
        assert (single[1]["seeds"], single[1]["dice_seeds"]) == (2, [100 / 101] * 2)

    def test_the_first_price_is_that_of_the_first_trainer_at_a_half(self, evaluation, evaluated):
        # At 0.5 the first has one false voxel in two cases, and finds the large lesions.
        rows = rule_rows({"first": [training(evaluation)], "second": [training(evaluated("other", (0.6, 0.6)))]}, [])
        first, second = rows[:2]
        assert (first["price"], first["family"], first["false_positives"], second["false_positives"]) == (
            None,
            None,
            0.5,
            1,
        )
        assert (first["recall"], first["small_recall"]) == (0.5, 0)
        assert {(row["price"], row["own"]) for row in rows[2:]} == {(0.5, True)}

    def test_gains_of_rules(self, evaluation, evaluated):
        surer, other = training(evaluated("surer", (0.2, 0.2))), training(evaluation)
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


def training(evaluation):
    return Training(fitted_cases(collect._source(evaluation), processes=1))


def test_prose_has_the_numbers_of_the_results():
    # Wherever a line ends.
    readme, evidence = (
        " ".join((CHECKOUT / name).read_text(encoding="utf-8").split()) for name in ("README.md", "docs/evidence.md")
    )
    seen, unseen = read_rows("evidence_shared_lesions")
    share = f"{100 * seen['shared_of_lesions']:.0f} %"
    assert f"{share} stand labelled" in readme
    assert f"{seen['shared']} of its 1 021 lesions, {share}, stand labelled" in evidence
    small = f"{100 * seen['shared_of_small_lesions']:.0f} % of the small ones"
    assert f"{small}. Of the 1 583 in another patient none does" in evidence
    assert (seen["lesions"], unseen["lesions"], unseen["shared"]) == (1021, 1583, 0)
    baseline, *others = read_rows("evidence_ms_lesions")
    (trainer,) = [row for row in others if row["trainer"] == "RWTrainer_SmallLesions"]
    more = trainer["false_positives"] / baseline["false_positives"] - 1
    assert f"`RWTrainer_SmallLesions` has {100 * more:.0f} % more false positives" in evidence


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


class TestSharedLesions:
    """Crops of 16 x 12 x 10 voxels of one noisy brain with lesions of 2 x 2 x 2."""

    @pytest.fixture
    def crop(self):
        rng = np.random.default_rng(0)
        brains = [rng.normal(size=(40, 30, 20)) for _ in range(2)]
        lesions = np.zeros((40, 30, 20), bool)
        for x, y, z in ((10, 8, 6), (15, 8, 6), (20, 12, 8)):
            lesions[x : x + 2, y : y + 2, z : z + 2] = True

        def cut(x, y, z, brain=0, without=()):
            box = np.s_[x : x + 16, y : y + 12, z : z + 10]
            labels = lesions.copy()
            for place in without:
                labels[place] = False
            return shared_lesions.Crop(brains[brain][box], labels[box])

        return cut

    def test_where_a_crop_begins_in_another(self, crop):
        assert shared_lesions.offset(crop(8, 5, 4), crop(11, 3, 5)) == (3, -2, 1)
        assert shared_lesions.offset(crop(8, 5, 4), crop(8, 5, 4)) == (0, 0, 0)
        assert shared_lesions.offset(crop(8, 5, 4), crop(11, 3, 5, brain=1)) is None
        # Of one brain, but no voxel of the one is in the other.
        assert shared_lesions.offset(crop(0, 5, 4), crop(20, 5, 4)) is None

    def test_lesions_of_both(self, crop):
        test = crop(8, 5, 4)  # x from 8 to 23: all three lesions
        assert test.voxels[1:].tolist() == [8, 8, 8]
        # The other begins at x = 11, in the middle of the first lesion: an IoU of 4 / 8.
        assert shared_lesions.shared_lesions(test, [crop(11, 5, 4)]).tolist() == [False, True, True]
        # Without a voxel of the second: 7 / 8, and without two 6 / 8.
        other = crop(9, 5, 4, without=[(15, 8, 6), np.s_[20, 12, 8:10]])
        assert shared_lesions.shared_lesions(test, [other]).tolist() == [True, True, False]
        assert shared_lesions.shared_lesions(test, [crop(8, 5, 4, brain=1)]).tolist() == [False] * 3

    def test_of_a_fold(self, crop):
        crops = {"a": crop(8, 5, 4), "b": crop(11, 5, 4), "c": crop(8, 5, 4, brain=1)}
        row = shared_lesions.shared_row(crops, {"train": ["b"], "val": ["a", "c"]})
        assert (row["lesions"], row["shared"], row["shared_of_lesions"]) == (6, 2, pytest.approx(1 / 3))
        assert (row["small_lesions"], row["small_shared"]) == (6, 2)
