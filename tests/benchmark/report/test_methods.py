import re
from dataclasses import replace

import pytest
from benchmark_results import OPTIMIZER, TRAINERS, benchmark_results

from nnunet_rw.benchmark.report.methods import bibtex, empty_case_text, methods_latex, methods_text, training_text
from nnunet_rw.benchmark.specification import EvaluationOptions


@pytest.fixture(scope="module")
def text(results):
    return methods_text(results)


def entry_keys(text):
    return set(re.findall(r"^@\w+\{(\w+),$", text, re.MULTILINE))


def cited_keys(text):
    return {key for cited in re.findall(r"\[(@[^]]+)\]", text) for key in re.findall(r"@(\w+)", cited)}


def test_what_is_cited_has_an_entry_and_nothing_else(results, text):
    keys = entry_keys(bibtex(results))
    assert keys == cited_keys(text)
    assert {"isensee2021nnunet", "antonelli2022decathlon", "valverde2023regionwise", "setio2017luna16"} <= keys
    assert "kofler2023blob" not in keys
    assert {
        key for cited in re.findall(r"\\cite\{([^}]+)\}", methods_latex(results)) for key in cited.split(",")
    } == keys


def test_data(text):
    assert "`Task04_Hippocampus` of the Medical Segmentation Decathlon [@antonelli2022decathlon]" in text
    assert "12 of label 1 and 12 of label 2" in text
    assert "`Task11_MSLesion`, a semi-synthetic dataset" in text
    assert "33 of label 1" in text
    assert text.count("do not carry over to patients") == 1


def test_training(text):
    assert "3 epochs of 2 iterations, fewer than nnU-Net's 1000 of 250" in text
    assert "2 folds (0, 1) of nnU-Net's cross-validation, with 2 random seeds each (0 to 1)" in text
    assert "patches of 40 x 56 x 40 voxels in batches of 2 and 1.40 million parameters" in text
    assert "smaller network, patch and batch than nnU-Net's own" in text
    assert "torch 2.9.0" in text


def test_losses(text):
    assert "- `nnUNetTrainer` (baseline): nnU-Net's own loss" in text
    loss = "loss `nnunet + 4 * ramp_up * rrw(sum_classes=True)` [@valverde2023regionwise]"
    assert loss in " ".join(text.split())  # lines are wrapped
    assert "[@shirokikh2020reweighting]" in text
    assert "The trainers differ in their loss alone" in text


def test_one_optimiser_is_told_once(text):
    assert text.count(f"The optimiser was {OPTIMIZER}.") == text.count("optimiser") == 1


def test_optimisers_are_told_by_trainer_where_they_differ(with_record):
    text = methods_text(with_record(trainer="RWTrainer", optimizer="Adam, lr 0.001, poly"))
    assert "The optimiser was" not in text
    assert "loss alone" not in text
    assert f"own loss, Dice and cross-entropy [@isensee2021nnunet]; optimiser {OPTIMIZER}." in text
    assert f"[@valverde2023regionwise]; optimiser Adam, lr 0.001, poly and {OPTIMIZER}." in text


def test_a_trainer_with_an_optimiser_of_its_own(tmp_path):
    text = methods_text(benchmark_results(tmp_path, trainers=("nnUNetTrainer", "RWTrainer_RRW", "RWTrainer"), seeds=1))
    assert "in their loss alone" not in text
    assert "loss `rrw; Adam 1e-3, betas 0.9 and 0.95` [@valverde2023regionwise]" in text


def test_a_trainer_that_draws_its_patches_otherwise(tmp_path):
    results = benchmark_results(tmp_path, trainers=("nnUNetTrainer", "RWTrainer_SmallLesions", "RWTrainer"), seeds=1)
    text = " ".join(methods_text(results).split())
    assert "in their loss alone" not in text
    assert "The trainers differ in their loss and in how patches are drawn." in text


def test_what_other_trainers_change_is_not_called_nnunets(results, tmp_path):
    assert "sliding-window prediction. " in training_text(results)
    others = benchmark_results(tmp_path, trainers=("nnUNetTrainer", "RWTrainer", "nnUNetTrainerDA5"), seeds=1)
    assert "sliding-window prediction, but for what `nnUNetTrainerDA5` changes. " in training_text(others)
    trainers = ("nnUNetTrainerDA5", "nnUNetTrainerBN")
    specification = others.specification.model_copy(update={"trainers": trainers})
    text = training_text(replace(others, specification=specification))
    assert "but for what `nnUNetTrainerDA5` and `nnUNetTrainerBN` change. " in text


def test_whose_the_folds_are_is_told_by_task(results):
    def text(*whose):
        tasks = tuple(replace(task, folds_of=of) for task, of in zip(results.tasks, whose, strict=True))
        return training_text(replace(results, tasks=tasks))

    assert "2 folds (0, 1) of a cross-validation by patient, with" in text("patients", "patients")
    assert "2 folds (0, 1) of splits that the authors gave, with" in text("authors", "authors")
    assert (
        "2 folds (0, 1): of nnU-Net's cross-validation on `Task04_Hippocampus` and splits that the authors gave on "
        "`Task11_MSLesion`, with" in text("nnU-Net", "authors")
    )
    # A file of patients alone parts nobody.
    patients = results.specification.model_copy(update={"groups": "patients.csv"})
    assert "by patient" not in training_text(replace(results, specification=patients))


def test_a_users_own_trainer(tmp_path):
    text = methods_text(benchmark_results(tmp_path, trainers=(*TRAINERS[:2], "MyTrainer"), seeds=1))
    assert "- `MyTrainer`: no trainer of `nnunet_rw`; its loss was recorded as `nnunet + rrw`." in text
    assert "loss alone" not in text


def test_statistics_only_where_there_were_any(text, tmp_path):
    assert "7 metrics x 2 challengers x 1 label = 14 tests" in text
    assert "within noise" in text
    alone = methods_text(benchmark_results(tmp_path, trainers=TRAINERS[:1], seeds=1, froc=False))
    assert "Trainers were not compared" in alone
    assert not {"holm1979procedure", "wilcoxon1945ranking", "setio2017luna16"} & cited_keys(alone)
    assert "within noise" not in alone


def test_settings(results):
    options = EvaluationOptions(connectivity=6, min_volume_mm3=3, tolerance_mm=2)
    specification = results.specification.model_copy(update={"evaluation": options})
    text = methods_text(replace(results, specification=specification))
    assert "tolerance of 2 mm" in text
    assert "6-connected" in text
    assert "Reference lesions below 3 mm3 were ignored" in text
    assert "mirroring" not in text
    specification = results.specification.model_copy(update={"evaluation": EvaluationOptions(tta=False)})
    text = methods_text(replace(results, specification=specification))
    assert "sliding-window prediction, but without its test-time mirroring." in text


def test_empty_cases(results):
    text = empty_case_text(results)
    assert "Dice and NSD are 0" in text
    assert "Task11_MSLesion, label 1: 1 of 12 cases had an empty reference" in text
    assert "`nnUNetTrainer` predicted something in 1 of these; `RWTrainer` predicted something in 0 of these" in text
    assert "Task04" not in text


def test_predictions_of_nothing_are_counted(results):
    task = results.tasks[0]
    evaluation = task.evaluations["RWTrainer"][0]
    volumes = evaluation.columns["2"]["volume_prediction_mm3"].copy()
    volumes[:3] = 0
    columns = {**evaluation.columns, "2": {**evaluation.columns["2"], "volume_prediction_mm3": volumes}}
    evaluations = {**task.evaluations, "RWTrainer": {0: replace(evaluation, columns=columns)}}
    text = empty_case_text(replace(results, tasks=(replace(task, evaluations=evaluations),)))
    assert (
        "Task04_Hippocampus, label 2: 0 of 12 cases had an empty reference; `RWTrainer` predicted nothing in 3" in text
    )


def test_nothing_evaluated_or_trained(unevaluated):
    tasks = tuple(
        replace(task, runs=tuple(replace(run, record=None) for run in task.runs)) for task in unevaluated.tasks
    )
    text = methods_text(replace(unevaluated, tasks=tasks))
    assert "not evaluated yet" in text
    assert "`nnUNetPlansSmall`" in text
    assert "is not recorded" in text
    assert "No evaluated case" not in text


def test_a_description_becomes_no_markup(results):
    evil = "<script>*x*</script> `code` [@key] a_b & 50 %"
    tasks = (replace(results.tasks[0], description=evil),)
    changed = replace(results, tasks=tasks)
    assert "\\<script>\\*x\\*\\</script> 'code' [ @key] a_b & 50 %" in methods_text(changed)
    assert "key" not in entry_keys(bibtex(changed))
    assert r"'code' [ @key] a\_b \& 50 \%" in methods_latex(changed)
