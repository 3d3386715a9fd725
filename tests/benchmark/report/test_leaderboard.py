from dataclasses import replace

import pytest
from benchmark_results import TRAINERS, benchmark_results, in_unit, scaled

from nnunet_rw.benchmark.report.leaderboard import leaderboard_notes, leaderboard_table, verdict_text


@pytest.fixture(scope="module")
def rows(results):
    return leaderboard_table(results.tasks[1]).records


def best_cells(task):
    table = leaderboard_table(task)
    cells = (
        (row, name, cell) for row, of in enumerate(table.rows) for name, cell in zip(table.header, of, strict=True)
    )
    return {(row, name) for row, name, cell in cells if cell.best}


def test_cells(rows):
    baseline, challenger, weighted = rows
    assert (baseline["label"], baseline["trainer"]) == ("1", "nnUNetTrainer")
    assert baseline["HD95"].startswith("16.12 [")
    assert baseline["HD95"].endswith("] (n = 12, 1 at diagonal)")
    # All small lesions of all cases are missed: 0 of eleven by t(10) for z, up to t2 / (11 + t2) = 4.9646 / 15.9646.
    assert baseline["small lesion recall"] == "0.000 [0.000, 0.311] (n = 11)"
    assert challenger["Dice"].startswith("0.650 [")
    assert challenger["Dice"].endswith("] (n = 11)")
    assert [row["F1"] for row in rows] == ["0.667", "0.842", "0.659"]
    assert [row["FROC average"] for row in rows] == ["0.571", "0.786", "0.500"]
    assert [row["Dice over seeds"] for row in rows] == ["0.550 to 0.559", "0.650 to 0.660", "-"]
    assert baseline["against the baseline"] == "baseline"
    assert weighted["against the baseline"].startswith("better: lesion recall per case; worse: Dice, HD95")


def test_distances_in_images_of_microscopes(results):
    # Of the baseline 2.55 mm, and 2e-4 times as much.
    small = scaled(results.tasks[0], "hd95_mm", 2e-4)
    cells = [leaderboard_table(task).records[0]["HD95"].split(" ")[0] for task in (results.tasks[0], small)]
    assert cells == ["2.55", "0.00051"]
    assert best_cells(small) == best_cells(results.tasks[0])


def test_columns_without_values_are_left_out(results, tmp_path):
    assert not {"FROC average", "small lesion recall"} & set(leaderboard_table(results.tasks[0]).header)
    assert "seed" not in leaderboard_table(results.tasks[0]).header
    alone = benchmark_results(tmp_path, trainers=TRAINERS[:1], seeds=1).tasks[0]
    assert not {"against the baseline", "Dice over seeds", "recall over seeds"} & set(leaderboard_table(alone).header)


def test_seed_is_told_where_the_first_is_unfinished(results):
    task = results.tasks[0]
    without = {**task.evaluations, "RWTrainer": {1: task.evaluations["RWTrainer"][1]}}
    row = leaderboard_table(replace(task, evaluations=without)).records[1]
    assert (row["seed"], row["against the baseline"]) == ("1", "not compared")


def test_nothing_evaluated(unevaluated):
    assert leaderboard_table(unevaluated.tasks[0]).rows == ()
    assert leaderboard_notes(unevaluated) == ["Nothing is evaluated yet."]


def test_best_cells(results):
    # Of either label; all trainers find all.
    assert best_cells(results.tasks[0]) == {(row, name) for row in (1, 4) for name in ("Dice", "NSD", "HD95")}
    best = best_cells(results.tasks[1])
    # The challenger's Dice is the highest, but over fewer cases.
    assert not {name for _, name in best} & {"Dice", "NSD", "HD95"}
    assert {(2, "lesion recall"), (1, "F1"), (1, "FP per case"), (1, "FROC average")} <= best


def test_notes(results, tmp_path):
    text = " ".join(leaderboard_notes(results))
    assert "within 1 mm" in text
    assert "below 10 mm3" in text
    assert "FROC" in text
    assert "lowest to highest" in text
    alone = " ".join(leaderboard_notes(benchmark_results(tmp_path, seeds=1, froc=False, compared=False)))
    assert "FROC" not in alone
    assert "Holm" not in alone
    assert "One seed" in alone


def test_notes_of_images(results):
    images = replace(results, tasks=tuple(in_unit(task, "pixels") for task in results.tasks))
    text = " ".join(leaderboard_notes(images))
    assert "within 1 pixels" in text
    assert "8-connected" in text
    assert "below 10 pixels" in text
    assert "mm" not in text


def test_verdict_text():
    assert verdict_text({"dice": "no difference shown"}) == "no difference shown"
    assert verdict_text({"dice": "too few cases", "nsd": "too few cases"}) == "too few cases"
    verdicts = {"dice": "better", "nsd": "no difference shown", "false_positives": "worse", "hd95_mm": "within noise"}
    assert verdict_text(verdicts) == "better: Dice; worse: false positives; within noise: HD95"
