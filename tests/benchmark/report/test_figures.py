"""The numbers that the figures draw."""

import math
from dataclasses import replace

import numpy as np
import pytest
from benchmark_results import LESIONS, benchmark_results, chosen_rule, in_unit, scaled, with_rules

from nnunet_rw.benchmark.report.case_figures import (
    case_volumes,
    metric_name,
    paired_differences,
    volume_agreement,
)
from nnunet_rw.benchmark.report.figures import COLOURS, SYMBOLS, logarithmic_ticks, plot_text, trainer_styles
from nnunet_rw.benchmark.report.leaderboard import Estimate, standings
from nnunet_rw.benchmark.report.lesion_figures import (
    froc,
    recall_by_size,
    rule_plane,
    seeds_recall,
    size_points,
    size_rows,
)
from nnunet_rw.benchmark.report.page import case_names
from nnunet_rw.benchmark.report.training_figures import cost, smoothed, training_curves
from nnunet_rw.evaluation.comparison.statistics import NO_INTERVAL, Interval
from nnunet_rw.evaluation.metrics.probabilities import FrocCurve


@pytest.fixture(scope="module")
def task(results):
    (found,) = [task for task in results.tasks if task.task == LESIONS]
    return found


@pytest.fixture(scope="module")
def styles(results):
    return trainer_styles(results.specification.trainers)


def traces(figure, trainer):
    return [trace for trace in figure.data if trace.meta == trainer]


def test_sizes(task, styles):
    # Of 11 lesions each of 6, 40 and 400 mm3 RWTrainer finds 2, 11 and 11; the baseline 0, 6 and 11.
    points = size_points(size_rows(task, "1"))
    recall = [points["RWTrainer"][size].recall for size in ((0, 10), (10, 100), (100, 1000), (0, math.inf))]
    assert recall == pytest.approx([2 / 11, 1, 1, 24 / 33])
    assert points["nnUNetTrainer"][0, 10].recall == 0
    # Two of 8 mm3 in every case.
    assert points["RWTrainer_IWDiceCE"][0, 10].false_positives == 2
    block = recall_by_size(task, "1", styles)
    (trace,) = traces(block.panels[0].figure, "RWTrainer")
    assert trace.y == pytest.approx((2 / 11, 1, 1, None, 24 / 33), nan_ok=True, abs=1e-5)
    # One a case: their variance p(1-p) / 10 is that of ten lesions, and t(10) = 2.2281 for z makes 7.7377 of these.
    # Wilson's: (p + z2/2n -/+ z sqrt(p(1-p)/n + z2/4n2)) / (1 + z2/n) with z2 = 3.8415: 0.0414 and 0.5333.
    assert trace.error_y.array[0] == pytest.approx(0.5333 - 2 / 11, abs=1e-4)
    assert trace.error_y.arrayminus[0] == pytest.approx(2 / 11 - 0.0414, abs=1e-4)
    ticks = block.panels[0].figure.layout.xaxis.ticktext
    assert ticks == ("&lt; 10<br>n = 11", "10-100<br>n = 11", "100-1000<br>n = 11", "≥ 1000<br>n = 0", "all<br>n = 33")
    assert len(block.tables[0].texts) == 10


def test_sizes_of_a_trainer_alone(tmp_path):
    results = benchmark_results(tmp_path, trainers=("nnUNetTrainer",), seeds=1)
    (task,) = [replace(task, comparison=None) for task in results.tasks if task.dataset == "Dataset004_Hippocampus"]
    points = size_points(size_rows(task, "2"))
    assert list(points) == ["nnUNetTrainer"]
    assert points["nnUNetTrainer"][1000, math.inf].recall == 1
    assert "difference" not in recall_by_size(task, "2", trainer_styles(["nnUNetTrainer"])).tables[0].header


def test_sizes_of_trainers_without_their_baseline(task):
    evaluations = {name: task.evaluations[name] for name in ("RWTrainer", "RWTrainer_IWDiceCE")}
    task = replace(task, comparison=None, evaluations=evaluations)
    points = size_points(size_rows(task, "1"))
    assert {name: of_size[0, math.inf].recall for name, of_size in points.items()} == {
        "RWTrainer": pytest.approx(24 / 33),
        "RWTrainer_IWDiceCE": pytest.approx(28 / 33),
    }
    block = recall_by_size(task, "1", trainer_styles(["nnUNetTrainer", *evaluations]))
    assert block.trainers == ("RWTrainer", "RWTrainer_IWDiceCE")
    assert "difference" not in block.tables[0].header


def test_recall_of_seeds():
    ends_early = FrocCurve(np.array([np.inf, 0.9]), np.array([0.0, 1.0]), np.array([0.0, 0.5]), 2, 4)
    longer = FrocCurve(np.array([np.inf, 0.8, 0.2]), np.array([0.0, 1.0, 4.0]), np.array([0.25, 0.25, 1.0]), 2, 4)
    # The shorter one goes on at its last recall as far as the longer reaches, beyond which both are unknown.
    recall = seeds_recall([ends_early, longer], np.array([0.5, 1, 4, 5]))
    assert np.array_equal(recall, [[0, 0.5, 0.5, np.nan], [0.25, 0.25, 1, np.nan]], equal_nan=True)


def test_froc(task, styles):
    block = froc(task, "1", styles)
    figure = block.panels[0].figure
    # Two seeds, whose curves are equal: a band of two edges, the mean, its markers, and what is segmented.
    lower, upper, mean, _, segmented = traces(figure, "nnUNetTrainer")
    assert upper.fill == "tonexty"
    assert lower.y == upper.y == mean.y
    assert mean.line.shape == "hv"
    # As the leaderboard has it: 17 of 33 lesions and one false positive in 12 cases, wherever the curve may be.
    assert (segmented.x[0], segmented.y[0]) == (pytest.approx(1 / 12), pytest.approx(17 / 33))
    # Two in every case; its candidates with a score of at least 0.5 have 2 as well, but a recall of 0.75.
    *_, segmented = traces(figure, "RWTrainer_IWDiceCE")
    assert (segmented.x[0], segmented.y[0]) == (2, pytest.approx(28 / 33))
    # Of one seed: no band.
    assert [trace.fill for trace in traces(figure, "RWTrainer_IWDiceCE")] == [None] * 3
    assert "worst to the best seed" in block.caption
    # 0.25 at 0, 0.5 from 1/12 on, 0.75 from 4 on: (5 * 0.5 + 2 * 0.75) / 7.
    assert block.tables[0].texts[0][-1] == "0.571"
    one_seed = replace(task, evaluations={name: {0: seeds[0]} for name, seeds in task.evaluations.items()})
    block = froc(one_seed, "1", styles)
    assert all(trace.fill is None for trace in block.panels[0].figure.data)
    assert "One seed, so no bands" in block.caption


@pytest.mark.parametrize(("sizes", "distances"), [("mm3", "mm"), ("mm2", "mm"), ("pixels", "pixels")])
def test_distances_are_in_the_unit_of_the_images(sizes, distances):
    assert metric_name("hd95_mm", sizes) == f"HD95 in {distances}"
    assert metric_name("dice", sizes) == "Dice"


@pytest.mark.parametrize("end", [100.0, 700.0])
def test_froc_reaches_as_far_as_its_curves(task, styles, end):
    """A retina has a hundred false positives; 512 is where the axis ends at last."""
    evaluation = task.evaluations["RWTrainer"][0]
    curve = evaluation.froc["1"]
    far = replace(curve, false_positives=curve.false_positives * end / curve.false_positives[-1])
    task = replace(task, evaluations={"RWTrainer": {0: replace(evaluation, froc={"1": far})}})
    axis = froc(task, "1", styles).panels[0].figure.layout.xaxis
    assert 10 ** axis.range[1] == pytest.approx(1.07 * min(end, 512))
    assert (axis.tickvals[0], axis.tickvals[-1]) == (1 / 16, 64 if end == 100 else 512)


def test_no_froc_without_probabilities(results, styles):
    assert froc(results.tasks[0], "1", styles) is None


def test_no_froc_without_a_lesion(task, styles):
    evaluation = task.evaluations["RWTrainer"][0]
    free = replace(evaluation, froc={"1": replace(evaluation.froc["1"], num_lesions=0)})
    assert froc(replace(task, evaluations={"RWTrainer": {0: free}}), "1", styles) is None


def test_differences_of_cases(task, styles):
    block = paired_differences(task, "1", styles, case_names(task, show_case_ids=True))
    figures = {panel.title.split()[0].rstrip(","): panel.figure for panel in block.panels}

    def differences(metric, trainer):
        points = traces(figures[metric], trainer)[0]
        return {text.split("<br>")[0]: value for text, value in zip(points.text, points.x, strict=True)}

    # The last case has no lesion: the baseline's Dice is 0 there, RWTrainer's undefined.
    assert differences("Dice", "RWTrainer") == {f"case_{number}": pytest.approx(0.05) for number in range(11)}
    # Its distance has no end, so the image's diagonal stands for it.
    assert differences("HD95", "RWTrainer_IWDiceCE")["case_11"] == 0
    # Two seeds of the baseline, the second 0.01 above the first, and one of the third trainer: -0.03 - 0.01 / 2.
    others = differences("Dice", "RWTrainer_IWDiceCE")
    assert {name: others[name] for name in others if name != "case_11"} == {
        f"case_{number}": pytest.approx(-0.035) for number in range(11)
    }


def test_paired(task, styles):
    names = case_names(task, show_case_ids=False)
    block = paired_differences(task, "1", styles, names)
    assert [panel.title.split(",")[0] for panel in block.panels[:3]] == [
        "Dice",
        "Lesion recall per case",
        "False positives",
    ]
    points, mean = traces(block.panels[0].figure, "RWTrainer")
    (row,) = [row for row in task.comparison.metrics if (row.metric, row.challenger) == ("dice", "RWTrainer")]
    assert len(points.x) == row.n
    assert mean.x[0] == row.difference == pytest.approx(np.mean(points.x))
    assert "nnUNetTrainer, each the mean over its seeds" in block.caption
    assert "studentised bootstrap intervals over cases" in block.caption
    assert {row[0] for row in block.tables[1].texts} == {f"case {number}" for number in range(1, 13)}
    assert paired_differences(replace(task, comparison=None), "1", styles, names) is None


def test_volumes(task, styles):
    names = case_names(task, show_case_ids=True)
    reference, prediction = case_volumes(task, "RWTrainer_IWDiceCE", "1")
    block = volume_agreement(task, "1", styles, names)
    (trace,) = block.panels[2].figure.data
    assert trace.y == pytest.approx(prediction - reference, abs=1e-5)
    assert trace.x == pytest.approx((prediction + reference) / 2, abs=1e-5)
    bias = np.mean(prediction - reference)
    limit = bias + 1.959964 * np.std(prediction - reference, ddof=1)
    drawn = [shape.y0 for shape in block.panels[2].figure.layout.shapes]
    assert any(value == pytest.approx(bias) for value in drawn)
    assert any(value == pytest.approx(limit) for value in drawn)
    assert len({panel.figure.layout.yaxis.range for panel in block.panels}) == 1
    assert any(row[0] == "case_3" for row in block.tables[1].texts)


def test_volumes_of_images_of_microscopes(task, styles):
    # The reference of case_3 has 446 mm3, lesions of 6, 40 and 400 mm3; a millionth of it, in ml.
    small = scaled(scaled(task, "volume_reference_mm3", 1e-6), "volume_prediction_mm3", 1e-6)
    block = volume_agreement(small, "1", styles, case_names(task, show_case_ids=True))
    (row,) = (row for row in block.tables[1].texts if row[0] == "case_3")
    assert row[1] == "0.00000045"
    assert not any(float(row[2].split(" ")[0]) == 0 for row in block.tables[0].texts)


def test_smoothed():
    # Of the first three the mean is 6: a median is not carried away by one iteration.
    values = np.array([1.0, 14, 3, np.inf, np.nan, 7, 8])
    assert np.array_equal(smoothed(values, 3), [3, 7, 8])
    assert np.array_equal(smoothed(values, 1), [1, 14, 3, np.nan, np.nan, 7, 8], equal_nan=True)
    assert np.isnan(smoothed(np.array([np.nan, np.nan]), 2)).all()


def test_training(task, styles):
    block = training_curves(task, styles)
    titles = ["Pseudo Dice", "Loss in training", "Loss in validation", "Loss by iteration", "Norm of the gradient"]
    assert [panel.title for panel in block.panels] == titles
    *single, median = traces(block.panels[0].figure, "nnUNetTrainer")
    assert len(single) == 4
    # 0.2, 0.4, 0.6 with seed 0 and 0.01 more with seed 1, two folds each.
    assert median.y == pytest.approx((0.205, 0.405, 0.605))
    assert median.x == (1, 2, 3)
    # 3 epochs of 2 iterations, the norm 2 and 1.5 in turn.
    *_, median = traces(block.panels[4].figure, "nnUNetTrainer")
    assert median.y == pytest.approx((2, 1.5) * 3)
    assert training_curves(replace(task, runs=()), styles) is None


def test_a_training_without_iterations(task, styles, tmp_path):
    runs = tuple(replace(run, folder=tmp_path / "none") for run in task.runs)
    assert len(training_curves(replace(task, runs=runs), styles).panels) == 3


def test_cost(task, styles):
    block = cost(task, [place for place in standings(task) if place.label == "1"], styles)
    (trace,) = traces(block.panels[1].figure, "RWTrainer")
    # Median of 14, 10, 10; recall of 24 in 33.
    assert trace.x == (10,)
    assert trace.y == pytest.approx((24 / 33,), abs=1e-5)
    assert block.panels[3].figure.layout.xaxis.title.text == "Peak host memory in GiB"
    assert "All trained on: Example CPU." in block.caption
    found = cost(with_epochs(task, peak_gpu_mib=2048.0, peak_host_mib=math.nan), standings(task)[:1], styles)
    assert found.panels[3].figure.layout.xaxis.title.text == "Peak GPU memory in GiB"
    (row,) = found.tables[1].records
    assert [row[name] for name in ("seconds per epoch", "peak GPU memory in GiB")] == ["10.0", "2.00"]
    assert row["peak host memory in GiB"] == "-"
    assert cost(replace(task, runs=()), standings(task), styles) is None


def with_epochs(task, **changes):
    """The task with these values in every epoch of its trainings."""
    changed = []
    for run in task.runs:
        epochs = tuple(replace(epoch, **changes) for epoch in run.record.epochs)
        changed.append(replace(run, record=replace(run.record, epochs=epochs)))
    return replace(task, runs=tuple(changed))


def test_shares_that_are_all_1_are_drawn_about_1(task, styles):
    places = [replace(place, recall=Estimate(1.0, NO_INTERVAL, 33)) for place in standings(task) if place.label == "1"]
    figure = cost(task, places, styles).panels[1].figure
    assert figure.layout.yaxis.range == pytest.approx((0.95, 1.05))
    # An interval of 0.5 to 1 has margins of 0.04.
    places = [replace(place, recall=Estimate(0.75, Interval(0.5, 1.0), 33)) for place in places]
    figure = cost(task, places, styles).panels[1].figure
    assert figure.layout.yaxis.range == pytest.approx((0.46, 1.04))


def test_styles_differ_without_colour():
    styles = trainer_styles([f"t{number}" for number in range(2 * len(COLOURS))]).values()
    assert len({(style.colour, style.symbol) for style in styles}) == 2 * len(COLOURS)
    assert len({style.symbol for style in list(styles)[: len(SYMBOLS)]}) == len(SYMBOLS)
    assert list(styles)[1].faded(0.2) == "rgba(0,114,178,0.2)"


def test_text_for_plotly():
    assert plot_text("<b>a & b</b>") == "&lt;b&gt;a &amp; b&lt;/b&gt;"


def test_logarithmic_ticks():
    assert logarithmic_ticks(0.3, 4)["ticktext"] == ["0.1", "0.2", "0.5", "1", "2", "5", "10", "20", "50"]
    assert logarithmic_ticks(1, 10_000)["ticktext"] == ["1", "10", "100", "1000", "10000"]


def test_the_chosen_rule_stands_beside_the_point_at_a_half(results):
    task, styles = results.tasks[1], trainer_styles(results.specification.trainers)
    assert rule_plane(task, "1", styles) is None
    nothing = dict.fromkeys(("low", "high", "min_volume_mm3", "false_positives", "recall", "f1", "dice"), math.nan)
    rows = chosen_rule("RWTrainer"), chosen_rule("RWTrainer_IWDiceCE", family="", **nothing)
    block = rule_plane(with_rules(task, *rows), "1", styles)
    assert block.trainers == results.specification.trainers
    figure = block.panels[0].figure
    (baseline,) = traces(figure, "nnUNetTrainer")
    assert (baseline.x[0], baseline.y[0], baseline.marker.symbol) == (1.0, 0.5, "circle-open")
    assert {(line.x0, line.x1) for line in figure.layout.shapes} == {(1.0, 1.0), (0, 1)}
    line, half, chosen = traces(figure, "RWTrainer")
    assert (half.x[0], half.y[0], half.marker.symbol) == (2.0, 0.75, "diamond-open")
    assert (chosen.x[0], chosen.y[0], chosen.marker.symbol) == (0.875, 0.625, "diamond")
    assert (tuple(line.x), tuple(line.y)) == ((2.0, 0.875), (0.75, 0.625))
    # Intervals of the difference, about the baseline's: 0.5 + 0.0625 to 0.5 + 0.25, and 1 - 0.25 to 1 + 0.125.
    assert (chosen.y[0] - chosen.error_y.arrayminus[0], chosen.y[0] + chosen.error_y.array[0]) == (0.5625, 0.75)
    assert (chosen.x[0] - chosen.error_x.arrayminus[0], chosen.x[0] + chosen.error_x.array[0]) == (0.75, 1.125)
    # No rule keeps within: what is segmented is shown alone.
    assert len(traces(figure, "RWTrainer_IWDiceCE")) == 1
    assert "above 0.6, peak above 0.95, from 12 mm3" in chosen.text[0]
    table = block.tables[0].records
    assert [row["segmented"] for row in table[2:]] == [
        "above 0.6, peak above 0.95, from 12 mm3",
        "as segmented",
        "none keeps within",
    ]
    assert table[2]["recall against the baseline as segmented"] == "0.125 [0.062, 0.250]"
    assert (table[2]["rules in folds"], table[4]["recall"]) == ("2 in 5", "-")


def test_the_baseline_by_its_own_rule_is_a_point_as_well(results):
    task, styles = results.tasks[1], trainer_styles(results.specification.trainers)
    own = chosen_rule("nnUNetTrainer", half_false_positives=1.0, half_recall=0.5, false_positives=0.9, recall=0.55)
    ruled = with_rules(in_unit(task, "mm2"), own, chosen_rule("RWTrainer", recall_gain=0.075))
    block = rule_plane(ruled, "1", styles)
    _, half, chosen = traces(block.panels[0].figure, "nnUNetTrainer")
    assert (half.x[0], half.y[0], chosen.x[0], chosen.y[0]) == (1.0, 0.5, 0.9, 0.55)
    table = block.tables[0].records
    assert [row["trainer"] for row in table] == ["nnUNetTrainer"] * 2 + ["RWTrainer"] * 2
    assert table[1]["segmented"] == "above 0.6, peak above 0.95, from 12 mm2"
    assert table[3]["against its best"].startswith("0.075")
