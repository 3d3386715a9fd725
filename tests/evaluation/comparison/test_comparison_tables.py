import math
from dataclasses import replace

import pytest
from benchmark_results import chosen_rule

from nnunet_rw.evaluation.comparison.metrics import enough_decimals
from nnunet_rw.evaluation.comparison.rows import Comparison, Family, MetricRow, RankingRow, SizeRow
from nnunet_rw.evaluation.comparison.tables import comparison_tables, latex_text, legend, markdown_text, terminal_text

NAN = math.nan
METRIC = MetricRow(
    label="1",
    metric="dice",
    baseline="base",
    challenger="RW_new",
    n=20,
    undefined_in_both=3,
    undefined_in_one=1,
    infinite=0,
    baseline_mean=0.61249,
    challenger_mean=0.6,
    difference=-0.01249,
    low=-0.03,
    high=-0.0001,
    median=-0.01,
    p=0.01,
    p_holm=0.0204,
    no_p="",
    wins=5,
    ties=1,
    losses=14,
    noise=0.004,
    verdict="worse",
)
DISTANCE = replace(METRIC, metric="hd95_mm", infinite=2, undefined_in_one=0, p_holm=0.0004, baseline_mean=12.345)
FEW = replace(METRIC, metric="nsd", n=4, low=NAN, high=NAN, p=NAN, p_holm=NAN, no_p="4 pairs; too few", noise=NAN)
SIZE = SizeRow(
    label="1",
    baseline="base",
    challenger="RW_new",
    size_from_mm3=0.0,
    size_to_mm3=10.0,
    lesions=40,
    cases=12,
    baseline_recall=0.5,
    baseline_low=0.35,
    baseline_high=0.65,
    challenger_recall=0.625,
    challenger_low=0.47,
    challenger_high=0.76,
    difference=0.125,
    low=0.01,
    high=0.24,
    baseline_false_positives=0.5,
    challenger_false_positives=1.25,
    false_positives_difference=0.75,
    false_positives_low=0.5,
    false_positives_high=1.0,
)
NO_LESION = replace(SIZE, size_from_mm3=10, size_to_mm3=math.inf, lesions=0, cases=0, baseline_recall=NAN)
NO_LESION = replace(NO_LESION, challenger_recall=NAN, difference=NAN, low=NAN, high=NAN)
EVERY = replace(SIZE, size_to_mm3=math.inf)
PLACE = RankingRow("1", "hit", 26, 0.0, "base", 40, 0.5, 30, 0.75, 0.5, 0.6, 2, 2)
PLACES = (
    PLACE,
    replace(PLACE, trainer="RW_new", recall=0.625, f1=0.65, rank=1, rank_as_evaluated=1),
    replace(PLACE, rule="matched", min_volume_mm3=10.0, rank=1),
    replace(PLACE, rule="matched", min_volume_mm3=10.0, trainer="RW_new", rank=1, rank_as_evaluated=1, f1=0.6),
)


@pytest.fixture
def comparison():
    return Comparison(
        baseline="base",
        challengers=("RW_new",),
        seeds=("runs/seed_1",),
        cases=24,
        settings={"connectivity": 26},
        family=Family(("dice", "hd95_mm", "nsd"), ("RW_new",), ("1",), made=2),
        metrics=(METRIC, DISTANCE, FEW),
        sizes=(SIZE, NO_LESION, EVERY),
        rankings=PLACES,
        notes=("A note.",),
    )


def test_distances_in_images_of_microscopes(comparison):
    short = replace(DISTANCE, baseline_mean=0.0005, challenger_mean=0.00039, difference=-0.00011, low=NAN)
    metrics = comparison_tables(replace(comparison, metrics=(short,)))[0]
    assert metrics.texts[0][4:7] == ("0.00050", "0.00039", "-0.00011 [too few]")


@pytest.mark.parametrize(
    ("values", "decimals"),
    [
        ((12.3,), 2),
        ((0.1,), 2),
        ((0.099,), 3),
        ((0.0004, -0.02), 3),
        ((0.0004,), 5),
        ((0.0,), 2),
        ((math.inf, NAN), 2),
        ((), 2),
    ],
)
def test_decimals_show_two_digits_of_the_largest(values, decimals):
    assert enough_decimals(values, 2) == decimals


def test_tables_by_hand(comparison):
    metrics, sizes, places = comparison_tables(comparison)
    assert metrics.title == "Against base, 24 cases"
    assert metrics.header == (
        *(
            "metric",
            "trainer",
            "n",
            "left out",
            "baseline mean",
            "trainer mean",
            "difference",
            "p (Holm)",
            "wins/ties/losses",
        ),
        *("noise", "verdict"),
    )
    row = ("dice", "RW_new", "20", "4 (1 of one)", "0.612", "0.600", "-0.012 [-0.030, 0.000]", "0.020", "5/1/14")
    assert metrics.texts[0] == (*row, "0.004", "worse")
    assert metrics.texts[1][3:5] == ("3", "12.35")
    assert metrics.texts[1][7] == "<0.001"
    # No interval, no p, no noise.
    assert metrics.texts[2][6:8] == ("-0.012 [too few]", "-")
    assert metrics.texts[2][9] == "-"

    assert sizes.texts == (
        ("RW_new", "0 to 10", "40", "12", "0.500", "0.625", "0.125 [0.010, 0.240]", *fp_cells()),
        ("RW_new", "10 and more", "0", "0", "-", "-", "-", *fp_cells()),
        ("RW_new", "all", "40", "12", "0.500", "0.625", "0.125 [0.010, 0.240]", *fp_cells()),
    )
    assert places.header == ("rule", "connected", "minimum in mm3", "lesions", "base", "RW_new")
    assert places.texts == (
        ("hit", "26", "0", "40", "2: 0.600 (0.500, 0.50)", "1: 0.650 (0.625, 0.50)"),
        ("matched", "26", "10", "40", "1*: 0.600 (0.500, 0.50)", "1: 0.600 (0.500, 0.50)"),
    )


def test_places_name_the_connectivity_of_two_dimensions(comparison):
    *_, places = comparison_tables(replace(comparison, size_unit="pixels"))
    assert [line["connected"] for line in places.records] == ["8", "8"]


def fp_cells():
    return "0.50", "1.25", "0.75 [0.50, 1.00]"


def test_a_rule_has_the_interval_of_its_false_positives(comparison):
    ruled = replace(comparison, rules=(chosen_rule("RW_new"),))
    *_, as_segmented, by_rule = comparison_tables(ruled)[2].records
    assert as_segmented["FP against the baseline"] == ""
    # 0.875 - 1, and the ends of what is beyond those allowed.
    assert by_rule["FP against the baseline"] == "-0.12 [-0.25, 0.12]"
    for text in (terminal_text(ruled), markdown_text(ruled), latex_text(ruled)):
        assert "By rules that other folds chose for no more false positives" in text
        assert "[-0.25, 0.12]" in text.replace("$", "")


def test_columns_that_tell_nothing_are_left_out(comparison):
    several = replace(comparison, seeds=(), family=Family(("dice",), ("RW_new",), ("1", "2"), made=2))
    metrics, sizes, places = comparison_tables(several)
    assert "noise" not in metrics.header
    assert metrics.header[0] == sizes.header[0] == places.header[0] == "label"
    assert {len(row) for row in metrics.rows} == {len(metrics.header)}


def test_no_places_without_lesions(comparison):
    assert len(comparison_tables(replace(comparison, rankings=()))) == 2


def test_legend(comparison):
    text = "\n".join(legend(comparison))
    assert "Holm-adjusted over 3 metrics x 1 challenger x 1 label = 3 tests, of which 2 could be made." in text
    assert "No p for 4 pairs; too few." in text
    assert "count as the image's diagonal" in text
    assert text.endswith("A note.")
    assert "diagonal" not in "\n".join(legend(replace(comparison, metrics=(METRIC,))))


def test_terminal_text(comparison):
    text = terminal_text(comparison)
    lines = text.splitlines()
    assert lines[0] == "Against base, 24 cases"
    assert lines[2].startswith("metric   trainer")
    assert set(lines[3]) == {"-", " "}
    assert text.endswith("A note.")
