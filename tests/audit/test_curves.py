"""From curves to measures: curves and values by hand."""

import math

import numpy as np
import pytest
import torch

from nnunet_rw.audit.curves import (
    Curves,
    gradient_spikes,
    is_higher,
    join_files,
    largest_rise,
    measure,
    moving_mean,
    pooled_dice,
    read_finished_curves,
    summarise_runs,
    window_of,
    write_curves,
)
from nnunet_rw.audit.stability import class_shares


def curves(loss, norm=None, predicted=0.1, true=0.1, overlap=0.05):
    """Of one class, unless shares of several are given; a single number holds for all iterations."""
    shares = [np.broadcast_to(np.reshape(x, (-1, 1)), (len(loss), 1)) for x in (predicted, true, overlap)]
    norm = np.ones(len(loss)) if norm is None else np.array(norm, float)
    return Curves(np.array(loss, float), norm, *shares)


def test_window_is_a_tenth():
    assert [window_of(length) for length in (1, 9, 10, 19, 20, 300)] == [1, 1, 1, 1, 2, 30]


def test_moving_mean():
    np.testing.assert_array_equal(moving_mean(np.array([1.0, 3, 5, 1]), 2), [2, 4, 3])
    np.testing.assert_array_equal(moving_mean(np.array([1.0, 3]), 1), [1, 3])


@pytest.mark.parametrize(
    ("values", "rise"),
    [
        ([4, 1, 3, 0, 1], 0.5),  # from 1 to 3, of the range 0 to 4
        ([4, 3, 1], 0),
        ([1, 3, 4], 1),
        ([2, 0, 1, 2], 1),
        ([2, 2], 0),
        ([2], 0),
    ],
)
def test_largest_rise(values, rise):
    assert largest_rise(np.array(values, float)) == rise


def test_higher_means_by_more_than_two_standard_errors():
    # Both have a variance of 1 over 4 values, so the difference an error of sqrt(1/4 + 1/4) = 0.71.
    reference = np.array([0.0, 2, 0, 2])
    assert is_higher(reference + 1.42, reference)
    assert not is_higher(reference + 1.41, reference)
    assert not is_higher(reference - 5, reference)


def test_single_values_are_higher_by_any_difference():
    assert is_higher(np.array([1.01]), np.array([1.0]))
    assert not is_higher(np.array([1.0]), np.array([1.0]))
    assert not is_higher(np.array([]), np.array([]))


def test_spikes_exceed_ten_times_the_median_before_them():
    # Index 5 is ten times the median of five ones, not more; index 6 is more, and the ones are still the majority.
    assert np.flatnonzero(gradient_spikes(np.array([1.0, 1, 1, 1, 1, 10, 10.1, 1]))).tolist() == [6]


def test_the_first_five_norms_are_no_spikes():
    assert not gradient_spikes(np.array([1.0, 1, 1, 1, 100])).any()


def test_a_higher_level_is_a_spike_until_it_is_the_median_of_the_25_before():
    # With k of the 25 before it at 100 the median is 1 up to k = 12: indices 25 to 37.
    norms = np.repeat([1.0, 100], 25)
    assert np.flatnonzero(gradient_spikes(norms)).tolist() == list(range(25, 38))


def test_norms_that_are_not_finite_are_neither_spikes_nor_history():
    norms = np.array([np.inf, np.nan, 1, 1, 1, 1, np.inf, 100, 100])
    # At index 7 four finite norms are known, at index 8 five.
    assert np.flatnonzero(gradient_spikes(norms)).tolist() == [8]


def test_dice_is_of_all_voxels_together_and_the_mean_over_classes():
    run = Curves(
        np.zeros(2),
        np.zeros(2),
        predicted=np.array([[0.2, 0.1], [0.0, 0.3]]),
        true=np.array([[0.2, 0.1], [0.2, 0.1]]),
        overlap=np.array([[0.1, 0.1], [0.0, 0.0]]),
    )
    # Iteration 0: 2 * 0.1 / 0.4 = 1/2 and 2 * 0.1 / 0.2 = 1. Iteration 1: 0 / 0.2 and 0 / 0.4.
    np.testing.assert_allclose(pooled_dice(run, 1), [0.75, 0])
    # Together: 2 * 0.1 / 0.6 = 1/3 and 2 * 0.1 / 0.6 = 1/3.
    np.testing.assert_allclose(pooled_dice(run, 2), [1 / 3])


def test_dice_leaves_out_a_class_that_is_nowhere():
    # The second class; in the second iteration the first as well.
    there, both = np.array([[0.2, 0], [0, 0]]), np.array([[0.1, 0], [0, 0]])
    run = Curves(np.zeros(2), np.zeros(2), predicted=there, true=there, overlap=both)
    np.testing.assert_allclose(pooled_dice(run, 1), [0.5, np.nan])


def test_measures_of_a_run_that_learns():
    loss = np.linspace(2, 0.1, 20)
    predicted = np.repeat([0.8, 0.1], 10)
    overlap = np.repeat([0.1, 0.075], 10)
    norm = [1.0] * 17 + [13, 12, 1]
    run = measure(curves(loss, norm, predicted, 0.1, overlap))
    assert run.iterations == 20
    assert not run.diverged
    assert (run.start, run.end) == pytest.approx((1.95, 0.15))
    assert run.largest_rise == 0
    assert run.gradient_spikes == 2  # 13 and 12 exceed ten
    assert run.clipped_share == 1 / 20  # 13 exceeds twelve
    assert not run.all_background
    assert run.predicted_over_true == pytest.approx(1)
    assert run.pseudo_dice == pytest.approx(0.75)


def test_a_loss_that_rises_again_has_diverged_only_above_its_start():
    # Windows of 2. Means: 5 at the start, 0 in the middle; then 4 or 6 at the end.
    falls = [5.0] * 5 + [0.0] * 10
    below, above = measure(curves(falls + [4.0] * 5)), measure(curves(falls + [6.0] * 5))
    assert (below.diverged, above.diverged) == (False, True)
    # From 0 to 4 with a range of 0 to 5; from 0 to 6 with a range of 0 to 6.
    assert (below.largest_rise, above.largest_rise) == (0.8, 1)


def test_a_loss_that_becomes_no_number_has_diverged():
    run = measure(curves([3.0, 2, 1, np.nan], [1, 1, np.inf, np.nan]))
    assert run.diverged
    assert (run.iterations, run.start, run.end, run.largest_rise, run.clipped_share) == (4, 3, 1, 0, 0)
    at_once = measure(curves([np.inf], [np.nan]))
    assert at_once.diverged
    assert all(math.isnan(x) for x in (at_once.start, at_once.end, at_once.largest_rise, at_once.clipped_share))


def test_a_loss_that_was_no_number_for_one_step_has_not():
    assert not measure(curves([3.0, np.nan, 2, 1])).diverged


@pytest.mark.parametrize(
    ("predicted", "true", "expected"),
    [(0.0009, 0.1, True), (0.0011, 0.1, False), (0, 0.1, True), (0, 0, False), (0.1, 0, False)],
)
def test_all_background_is_less_than_a_hundredth_of_the_foreground(predicted, true, expected):
    run = measure(curves([1.0] * 10, predicted=predicted, true=true, overlap=0))
    assert run.all_background is expected
    if true == 0:
        assert math.isnan(run.predicted_over_true)


def test_only_the_last_tenth_counts_for_all_background():
    predicted = [0.1] * 18 + [0] * 2
    assert measure(curves([1.0] * 20, predicted=predicted, overlap=0)).all_background
    assert not measure(curves([1.0] * 20, predicted=predicted[::-1], overlap=0)).all_background


def test_summary_counts_runs_and_gives_lowest_median_and_highest():
    runs = [
        measure(curves([2.0] * 5 + [1.0] * 5, overlap=0.01)),  # Dice 0.02 / 0.2
        measure(curves([1.0] * 5 + [2.0] * 5, overlap=0.05)),  # 0.1 / 0.2
        measure(curves([np.nan], [np.nan], predicted=0, overlap=0)),
    ]
    summary = summarise_runs(runs)
    assert (summary["runs"], summary["diverged"], summary["all_background"]) == (3, 2, 1)
    assert summary["pseudo_dice"] == pytest.approx([0, 0.1, 0.5])
    assert summary["largest_rise"] == [0, 0.5, 1]  # the third has none
    assert [run["largest_rise"] for run in summary["each_run"]] == [0, 1, None]
    assert summarise_runs(runs[2:])["largest_rise"] is None


def test_class_shares_by_hand():
    target = torch.tensor([[[[0, 1, 1, 2]]]])
    predicted = torch.tensor([1, 1, 0, 0])
    logits = torch.nn.functional.one_hot(predicted, 3).T.reshape(1, 3, 1, 4).float()
    shares = class_shares(logits, target)
    np.testing.assert_array_equal(shares, [[0.5, 0], [0.5, 0.25], [0.25, 0]])


def test_class_shares_leave_out_unlabelled_voxels():
    target = torch.tensor([[[[0, 1, 2, 2]]]])
    logits = torch.tensor([[0.0], [1.0]]).expand(2, 4).reshape(1, 2, 1, 4)
    np.testing.assert_array_equal(class_shares(logits, target, ignore_label=2), [[1], [0.5], [0.5]])
    unlabelled = torch.full_like(target, 2)
    np.testing.assert_array_equal(class_shares(logits, unlabelled, ignore_label=2), [[0], [0], [0]])


def test_class_shares_of_regions_overlap():
    target = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]]).reshape(1, 2, 1, 4)
    logits = torch.tensor([[9.0, 9, -9, 9], [9, 9, -9, -9]]).reshape(1, 2, 1, 4)
    shares = class_shares(logits, target, regions=True)
    np.testing.assert_array_equal(shares, [[0.75, 0.5], [0.75, 0.25], [0.5, 0.25]])


def two_classes(length, last_loss=0.25):
    rng = np.random.default_rng(0)
    loss = np.append(rng.normal(size=length - 1), last_loss)
    return Curves(loss, rng.random(length), *rng.random((3, length, 2)))


def test_curves_come_back_from_their_file(tmp_path):
    run = two_classes(7)
    write_curves(tmp_path / "a.csv", "rrw+dice", 3, run)
    header, first, *_ = (tmp_path / "a.csv").read_text().splitlines()
    shares = "predicted_1,predicted_2,true_1,true_2,overlap_1,overlap_2"
    assert header == f"loss,seed,iteration,value,gradient_norm,{shares}"
    assert first.startswith("rrw+dice,3,0,")
    read = read_finished_curves(tmp_path / "a.csv", 7)
    for name in ("loss", "gradient_norm", "predicted", "true", "overlap"):
        np.testing.assert_allclose(getattr(read, name), getattr(run, name), rtol=1e-7)


def test_a_file_that_is_torn_or_too_short_holds_no_finished_run(tmp_path):
    path = tmp_path / "a.csv"
    assert read_finished_curves(path, 7) is None
    write_curves(path, "rrw", 0, two_classes(7))
    assert read_finished_curves(path, 8) is None
    text = path.read_text()
    start_of_last_row = text.rindex("\n", 0, -1) + 1
    for cut in (0, 10, text.index("\n") + 1, start_of_last_row, *range(start_of_last_row + 1, len(text))):
        path.write_text(text[:cut])
        assert read_finished_curves(path, 7) is None, cut


@pytest.mark.parametrize("last", [np.nan, np.inf])
def test_a_run_that_a_loss_ended_is_finished(tmp_path, last):
    write_curves(tmp_path / "a.csv", "rrw", 0, two_classes(4, last))
    assert len(read_finished_curves(tmp_path / "a.csv", 7).loss) == 4


def test_joined_files_have_one_header(tmp_path):
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for seed, path in enumerate(paths):
        write_curves(path, "rrw", seed, two_classes(3))
    join_files(paths, tmp_path / "all.csv")
    header, *rows = (tmp_path / "all.csv").read_text().splitlines()
    assert header.startswith("loss,seed")
    assert [row.split(",")[:3] for row in rows] == [["rrw", seed, str(k)] for seed in "01" for k in range(3)]
