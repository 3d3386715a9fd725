"""The benchmarks of maps, small: what they measure, not how fast it is."""

import time
from functools import partial

import cc3d
import edt
import numpy as np
import pytest
from scipy import ndimage

from benchmarks import dataset_maps, growth, growth_figure, store
from benchmarks.harness import seconds_at_once, timed
from benchmarks.preprocessed_folder import DATASET, settings_of, write_preprocessed
from nnunet_rw.datasets.folders import open_preprocessed
from nnunet_rw.maps.kinds import INTERIOR_DISTANCE, KINDS, LESION_IDS, compute_lesion_ids
from nnunet_rw.store.files import lesion_table, open_map
from nnunet_rw.store.write import list_cases, write_case

FACES = np.ones((3, 3, 3))


def is_flat(rows):
    return all(isinstance(value, (int, float, str, bool)) for row in rows for value in row.values())


class TestTimers:
    def test_inner_calls_do_not_count_for_the_outer(self, monkeypatch):
        def inner():
            time.sleep(0.05)

        def outer():
            time.sleep(0.01)
            ndimage.inner()

        monkeypatch.setattr(ndimage, "inner", inner, raising=False)
        monkeypatch.setattr(ndimage, "outer", outer, raising=False)
        with timed({"inner": ("scipy.ndimage.inner",), "outer": ("scipy.ndimage.outer",)}) as seconds:
            ndimage.outer()
            ndimage.inner()
        assert ndimage.outer is outer
        assert seconds["inner"] >= 0.1
        assert 0.01 <= seconds["outer"] < seconds["inner"]

    def test_functions_and_methods_of_the_libraries_are_seen(self):
        labels = growth.scattered_lesions(16, 5)
        with timed(growth.LIBRARIES) as seconds:
            growth.computation("both stored, in memory", labels, 1)()
        assert all(value > 0 for value in seconds.values())


def test_at_once():
    # `partial` is both the function that prepares and the step that it gives.
    seconds = seconds_at_once(partial, (time.sleep, 0.05), processes=2, rounds=1)
    assert 0.05 <= seconds < 1


@pytest.fixture
def small_folder(tmp_path, monkeypatch):
    """Two cases of three classes, in nnU-Net's folder."""
    labels = [np.zeros((6, 7, 8), np.uint8), np.full((6, 7, 8), 2, np.uint8)]
    folder = write_preprocessed(tmp_path, labels, num_cases=3, num_classes=3)
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "nnUNet_preprocessed"))
    monkeypatch.setattr("nnunetv2.paths.nnUNet_preprocessed", str(tmp_path / "nnUNet_preprocessed"))
    return folder


def test_preprocessed_folder(small_folder):
    assert list_cases(small_folder) == ["case_0000", "case_0001", "case_0002"]
    data = open_preprocessed(DATASET, "3d_fullres")
    assert data.data_folder == small_folder
    assert data.settings == settings_of(3)
    for case in list_cases(small_folder):
        write_case(small_folder, case, KINDS, data.settings)
    assert len(lesion_table(open_map(small_folder, LESION_IDS, "case_0001", data.settings))) == 1
    assert not np.any(open_map(small_folder, LESION_IDS, "case_0002", data.settings)[:])


class TestDatasetMaps:
    @pytest.mark.slow
    def test_rows(self):
        written = [((12, 12, 12), 1, 1, (INTERIOR_DISTANCE,))]
        # Fewer cases than processes are started for.
        rows = dataset_maps.run({dataset_maps.MS: ((32, 32, 32), 3)}, processes=(1,), rounds=1, written=written)
        throughput, *shares, memory = rows
        assert [row["measured"] for row in rows] == ["throughput", *["share"] * len(shares), "memory"]
        assert (throughput["cases"], throughput["processes"], throughput["shape"]) == (3, 1, "32x32x32")
        assert throughput["cases_per_second"] == pytest.approx(3 / throughput["seconds"])
        assert throughput["mvoxels_per_second"] == pytest.approx(throughput["cases_per_second"] * 32**3 / 1e6)
        assert throughput["of_libraries"] == pytest.approx(
            throughput["mvoxels_per_second"] / throughput["libraries_mvoxels_per_second"]
        )
        assert throughput["libraries_at_once_of_libraries"] == 1
        assert 0 < memory["start_mib"] <= memory["peak_mib"]
        assert is_flat(rows)

    def test_shares_are_of_the_whole(self, tmp_path):
        labels = dataset_maps.example_labels(dataset_maps.CT, (32, 32, 32))
        folder = write_preprocessed(tmp_path, labels, num_cases=3, num_classes=3)
        shares = {row["part"]: row["share"] for row in dataset_maps.shares(str(folder), 3, 3)}
        assert sum(shares.values()) == pytest.approx(1)
        assert min(shares.values()) > 0
        assert {"edt", "cc3d", "compression", "reading labels", "writing files"} < set(shares)

    def test_libraries_get_the_labels_of_the_dataset(self, monkeypatch):
        seen = []
        monkeypatch.setattr(edt, "edt", lambda labels, **_: seen.append(labels))
        monkeypatch.setattr(cc3d, "connected_components", lambda labels, connectivity: seen.append(labels))
        dataset_maps.libraries_alone(dataset_maps.CT, (24, 24, 24))()
        labels = dataset_maps.example_labels(dataset_maps.CT, (24, 24, 24))
        assert len(seen) == 2 * len(labels)
        np.testing.assert_array_equal(seen[0], labels[0] + 1)
        np.testing.assert_array_equal(seen[1], labels[0])


def test_memory_does_not_grow_with_cases_or_classes():
    # 2 MiB of labels: what a case or class left behind would be seen.
    shape = (128, 128, 128)
    one, cases, classes = dataset_maps.memory_rows(
        [(shape, number, num_cases, (LESION_IDS,)) for number, num_cases in ((1, 1), (1, 8), (24, 1))]
    )
    most = one["bytes_per_voxel"] + 4
    assert cases["bytes_per_voxel"] < most
    assert classes["bytes_per_voxel"] < most


class TestStore:
    def test_rows(self, small_folder):
        rows = store.store_rows(DATASET, patch_size=4, rounds=1)
        assert is_flat(rows)
        check_store_rows(rows, small_folder)

    @pytest.mark.slow
    def test_of_datasets(self, hippocampus):
        rows = store.run(datasets=["4"], shape=(40, 40, 40), cases=1, patch_size=16)
        assert {row["dataset"] for row in rows} == {"Dataset901_Benchmark", "Dataset004_Hippocampus"}
        # The user's own folder stays as it was.
        assert not list(hippocampus.preprocessed.rglob("rw_maps"))


def check_store_rows(rows, folder):
    for compact in (False, True):
        here = {row["stored"]: row for row in rows if row["compact"] == compact}
        assert here[store.DATA]["of_preprocessed"] < here[store.PREPROCESSED]["of_preprocessed"] == 1
        assert here[store.DATA]["of_data_reading"] == 1
        parts = (here[kind]["of_preprocessed"] for kind in store.KINDS)
        assert here[store.BOTH]["of_preprocessed"] == pytest.approx(sum(parts))
        assert here[store.BOTH]["seconds_to_write_a_case"] > 0
        assert all(row["milliseconds_per_patch"] > 0 for row in here.values())
    # What was written last.
    size = sum(path.stat().st_size for path in folder.glob("rw_maps/*/*/*.b2nd"))
    assert here[store.BOTH]["bytes_per_voxel"] * here[store.BOTH]["mvoxels"] * 1e6 == pytest.approx(size)


@pytest.fixture(scope="module")
def growth_rows():
    return growth.run((12, 16), lesions=(1, 8), classes=(1, 3), processes=(1, 2), size=16, rounds=1)


class TestGrowth:
    def test_rows(self, growth_rows):
        rows = growth_rows
        assert is_flat(rows)
        assert [row["voxels"] for row in rows if row["grows"] == "voxels"] == [12**3] * 4 + [16**3] * 4
        assert [row["lesions"] for row in rows if row["grows"] == "lesions"] == [1] * 4 + [8] * 4
        assert [row["classes"] for row in rows if row["grows"] == "classes"] == [1] * 5 + [3] * 5
        for row in rows:
            if row["grows"] == "processes":
                assert row["mvoxels_per_second"] == pytest.approx(
                    row["processes"] * row["voxels"] / row["seconds"] / 1e6
                )
                continue
            assert row["times_copy"] == row["seconds"] / row["copy_seconds"]
            assert 0 <= sum(row[f"{library}_share"] for library in growth.LIBRARIES) <= 1
            assert (row["edt_share"] > 0) == (row["computation"] != "lesion ids")

    def test_skipped_where_memory_is_short(self, monkeypatch):
        monkeypatch.setattr(growth, "_available_bytes", lambda: 0.0)
        rows = growth.run((512,), lesions=(), classes=(), processes=())
        assert rows == [{"grows": "voxels", "size": 512, "skipped": "memory is short"}]

    @pytest.mark.parametrize("number", [1, 8, 60])
    def test_scattered_lesions_touch_none(self, number):
        labels = growth.scattered_lesions(20, number)
        assert ndimage.label(labels, FACES)[1] == number
        assert labels.sum() == 8 * number

    @pytest.mark.parametrize(("num_lesions", "num_classes"), [(1, 1), (27, 1), (28, 5), (2, 7)])
    def test_smallest_labels(self, num_lesions, num_classes):
        labels = growth.smallest_labels(num_lesions, num_classes)
        number = max(num_lesions, num_classes)
        assert ndimage.label(labels, FACES)[1] == number
        assert len(labels) == 2 * int(np.ceil(round(number ** (1 / 3), 6))) + 1
        table = compute_lesion_ids(labels, settings_of(num_classes + 1).scheme)[1]
        assert len(table) == number

    @pytest.mark.parametrize("name", growth.OF_CLASSES[:3] + growth.OF_CLASSES[4:])
    def test_bytes_of_results(self, name):
        labels = growth.smallest_labels(5, 2)
        result = growth.computation(name, labels, 2)()
        array = result[0] if isinstance(result, tuple) else result
        assert array.nbytes == growth.result_bytes(name, labels.size, 2)

    def test_figure(self, growth_rows, tmp_path):
        path = tmp_path / "images" / "growth.png"
        growth_figure.draw([*growth_rows, {"grows": "voxels", "size": 512, "skipped": "memory is short"}], path)
        assert path.read_bytes().startswith(b"\x89PNG")
        assert 10_000 < path.stat().st_size < 200_000
