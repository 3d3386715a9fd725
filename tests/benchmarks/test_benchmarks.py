"""The documentation's tables are those of the results; the loops that we compare with agree with the package."""

import sys

import numpy as np
import pytest

from benchmarks import costs, documents, evaluation, harness, losses, maps, rules, tables
from benchmarks.dataset_maps import CT, MS
from benchmarks.harness import read_rows
from benchmarks.inputs import MS_SPACING_MM, ms_labels
from benchmarks.memory import peak_rss_mib
from benchmarks.store import BOTH
from benchmarks.targets import TARGETS, Target, targets_table


@pytest.mark.parametrize("path", documents.DOCUMENTS, ids=lambda path: path.name)
def test_tables_of_the_documentation(path):
    text = path.read_text(encoding="utf-8")
    assert "<!-- table: " in text
    assert documents.updated(text) == text, "Run: python -m benchmarks --tables"


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: f"{target.result}: {target.what}")
def test_targets_are_measured(target):
    measured = target.row(read_rows(target.result))["measured"]
    if measured is None:
        assert target.result.startswith("gpu")
        pytest.skip("It was not reached while there was a GPU.")
    assert measured > 0


def test_a_target_finds_its_row():
    rows = [{"trainer": "a", "time": 1.1, "times": 1.1}, {"trainer": "b", "time": 5.0}]
    assert Target("time", "gpu_epochs", "time", 1.0, where={"trainer": "a"}).row(rows) == {
        "figure": "time",
        "measured": 1.1,
        "target": 1.0,
        "at_least": False,
        "met": False,
    }
    assert Target("times", "gpu_epochs", "times", 1.0, at_least=True).row(rows)["met"]
    assert Target("none", "gpu_epochs", "memory", 1.0).row(rows)["met"] is None


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    rows = [{"loss": "a", "ratio": 0.5}, {"loss": "b", "ratio": 2.0}, {"loss": "c"}]
    harness.write_result("some", rows)


class TestTables:
    def test_markdown(self, results):
        table = tables.Table("some", {"name": ("loss", ""), "of it": ("ratio", ".1f")})
        assert table.markdown() == "| name | of it |\n| --- | --- |\n| a | 0.5 |\n| b | 2.0 |\n| c |  |\n"

    def test_targets(self, results):
        wanted = (
            Target("first", "some", "ratio", 1.0, where={"loss": "a"}),
            Target("second", "some", "ratio", 3.0, True, {"loss": "b"}),
            Target("third", "absent", "ratio", 1.0),
        )
        assert targets_table(wanted).splitlines()[2:] == [
            "| first | ≤ 1 | 0.5 | yes |",
            "| second | ≥ 3 | 2 | **no** |",
            "| third | ≤ 1 | not measured |  |",
        ]

    def test_several_rows_for_a_target(self, results):
        with pytest.raises(ValueError, match="one row of some for 'first', but got 3"):
            Target("first", "some", "loss", 1.0).row(harness.read_rows("some"))

    def test_text_outside_of_tables_stays(self, results, monkeypatch):
        monkeypatch.setitem(documents.TABLES, "some", tables.Table("some", {"name": ("loss", "")}))
        text = "before\n<!-- table: some -->\nold\n<!-- end -->\nafter <!-- end -->\n"
        expected = (
            "before\n<!-- table: some -->\n| name |\n| --- |\n| a |\n| b |\n| c |\n<!-- end -->\nafter <!-- end -->\n"
        )
        assert documents.updated(text) == expected
        assert documents.updated(expected) == expected


def test_costs(tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    throughput = {"measured": "throughput", "processes": 1}
    harness.write_result(
        "dataset_maps",
        [throughput | {"dataset": MS, "cases_per_second": 2.0}, throughput | {"dataset": CT, "cases_per_second": 0.2}],
    )
    stored = [(False, 0.3), (False, 0.4), (True, 0.2)]
    harness.write_result("store", [{"stored": BOTH, "compact": yes, "of_preprocessed": share} for yes, share in stored])
    harness.write_result("loader", [{"maps": "none", "of_stock": 1.0}, {"maps": "distance, stored", "of_stock": 1.5}])
    names = (losses.WITH_RRW, losses.IW_DICE_CE)
    harness.write_result("losses", [{"loss": name, "seconds_of_stock": 1.75, "peak_of_stock": 1.25} for name in names])
    found = ((evaluation.SURFACES, 0.25), (evaluation.SURFACES, 0.25), (evaluation.LESIONS_WITH_DISTANCES, 0.75))
    harness.write_result("evaluation", [{"figures": name, "our_seconds": seconds} for name, seconds in found])
    lines = [line.strip("| ").split(" | ") for line in costs.costs_table().splitlines()[2:]]
    assert [cost for _, cost in lines] == [
        "0.5 s per case",
        "5.0 s per case",
        "30 to 40 % of nnU-Net's arrays",
        "20 to 20 % of nnU-Net's arrays",
        "1.50 x nnU-Net's loader",
        *["1.75 x nnU-Net's loss, memory 1.25 x"] * 2,
        "1.0 s",
    ]


def test_what_a_dataset_would_take():
    # 2 Mvoxels/s, 1 s per Mvoxel and class beyond two: (10 / 2 + 10) s per case; 3 cases on 16 cores take 2.8 s.
    rates = costs.Rates(2, 1, map_bytes=1, array_bytes=3, memory_bytes=7, check_seconds=40)
    cells = costs.scaling_cells(costs.Dataset("some", cases=3, mvoxels=10, classes=3), rates)
    assert list(cells.values()) == ["some", "3", "10", "3", "0.00078", "0.03", "0.09", "0.07", "2 min"]


@pytest.mark.parametrize("what", [maps.REGION_WISE, maps.LESION_VOLUMES, maps.WEIGHTS])
def test_loops_of_the_papers_codes_agree(what):
    # Real lesions, and an organ beside them.
    labels = ms_labels()[48:88, 40:90, 45:85]
    labels = np.where(labels == 1, 2, 0).astype(np.uint8)
    labels[2:20, 3:9] = 1
    ours, reference = (step() for step in maps._rivals(labels, MS_SPACING_MM)[what].values())
    assert ours.dtype == reference.dtype == np.float32
    if what == maps.REGION_WISE:
        np.testing.assert_allclose(ours, reference, atol=1e-6)
    else:
        np.testing.assert_array_equal(ours, reference)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_small_volume_under_every_rule():
    row = rules.measured([40, 44, 48], 2)
    [stored] = read_rows("rules")
    assert row.keys() == stored.keys()
    assert row["rules"] == stored["rules"] == 5928  # as the module says
    assert (row["voxels"], 1 <= row["lesions"] <= 2) == ("40x44x48", True)  # two balls may touch
    assert 0 < row["seconds_components"] <= row["seconds"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_of_the_process():
    # 64 MiB that are given back, and 16 that stay.
    kept = []

    def step():
        np.ones(2**26, np.uint8)
        kept.append(np.ones(2**24, np.uint8))

    assert peak_rss_mib(step) == pytest.approx(64, abs=20)
