"""Maps of a whole dataset: what is written and what is kept, in parts, and by processes side by side."""

import signal
from dataclasses import replace

import numpy as np
import pytest
from nnunetv2.training.dataloading.nnunet_dataset import (
    infer_dataset_class,
    nnUNetDatasetBlosc2,
    nnUNetDatasetNumpy,
)
from stored_cases import (
    ADVICE,
    SETTINGS,
    SHAPE,
    assert_all_current,
    assert_whole,
    blobs,
    expected_map,
    file_name,
    files_of,
    let_go,
    make_folder,
    save,
    stamps,
    start_writer,
    stop_after,
    temporary_files,
)

from nnunet_rw.maps.kinds import BOUNDARY_DISTANCE, INTERIOR_DISTANCE, KINDS, LESION_IDS, LabelScheme
from nnunet_rw.store import files as store
from nnunet_rw.store.files import is_current, map_path, missing_maps, open_map
from nnunet_rw.store.write import ensure_maps, list_cases, write_case

# Of the tests that write in parts.
CASES = [f"case_{number}" for number in range(7)]


def test_hidden_files_are_no_cases(tmp_path):
    folder = make_folder(tmp_path, 2)
    for name in ("._case_0.b2nd", "._case_0_seg.b2nd", "._case_0.pkl"):
        (folder / name).write_bytes(b"Mac OS X")
    assert list_cases(folder) == ["case_0", "case_1"]


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path, 3)


class TestWhatIsWritten:
    def test_all_cases_then_nothing(self, folder):
        messages = []
        assert ensure_maps(folder, KINDS, SETTINGS, log=messages.append) == 3
        assert len(messages) == 1
        assert "3 cases" in messages[0]
        assert_whole(folder, 3)
        before = files_of(folder)
        assert sorted(before) == sorted(file_name(kind, f"case_{number}") for kind in KINDS for number in range(3))
        assert ensure_maps(folder, KINDS, SETTINGS, log=messages.append) == 0
        assert files_of(folder) == before
        assert len(messages) == 1

    def test_only_the_kinds_and_cases_asked_for(self, folder):
        assert ensure_maps(folder, [], SETTINGS) == 0
        assert not (folder / "rw_maps").exists()
        assert ensure_maps(folder, [LESION_IDS], SETTINGS, cases=["case_2"]) == 1
        assert list(files_of(folder)) == [file_name(LESION_IDS, "case_2")]
        assert missing_maps(folder, ["case_1", "case_2"], [LESION_IDS, INTERIOR_DISTANCE], SETTINGS) == {
            "case_1": [INTERIOR_DISTANCE, LESION_IDS],
            "case_2": [INTERIOR_DISTANCE],
        }

    def test_overwrite(self, folder):
        ensure_maps(folder, KINDS, SETTINGS)
        before = files_of(folder)
        assert ensure_maps(folder, KINDS, SETTINGS, overwrite=True) == 3
        after = files_of(folder)
        assert before.keys() == after.keys()
        assert all(before[name] != after[name] for name in before)

    def test_changed_segmentation(self, folder):
        ensure_maps(folder, KINDS, SETTINGS)
        before = files_of(folder)
        save(folder, "case_1", blobs(50))
        assert not is_current(folder, LESION_IDS, "case_1", SETTINGS)
        assert ensure_maps(folder, KINDS, SETTINGS) == 1
        for kind in KINDS:
            array = open_map(folder, kind, "case_1", SETTINGS)
            np.testing.assert_array_equal(array[:], expected_map(kind, blobs(50)))
        changed = {name for name, stamp in files_of(folder).items() if before[name] != stamp}
        assert changed == {file_name(kind, "case_1") for kind in KINDS}

    @pytest.mark.parametrize(
        ("changed", "kinds"),
        [
            ({"spacing_mm": (0.7, 1.3, 2.6)}, [INTERIOR_DISTANCE, BOUNDARY_DISTANCE]),  # a lesion is one at any spacing
            ({"per_slice": True}, [INTERIOR_DISTANCE, BOUNDARY_DISTANCE]),
            ({"scheme": LabelScheme.classes(4)}, list(KINDS)),
            ({"scheme": LabelScheme.classes(3, ignore_label=3)}, list(KINDS)),
            ({"scheme": LabelScheme(((1,), (2,)), regions=True)}, [INTERIOR_DISTANCE, LESION_IDS]),
        ],
    )
    def test_other_settings_have_files_of_their_own(self, folder, changed, kinds):
        ensure_maps(folder, KINDS, SETTINGS)
        before, settings = files_of(folder), replace(SETTINGS, **changed)
        assert missing_maps(folder, ["case_0"], KINDS, settings) == {"case_0": kinds}
        assert ensure_maps(folder, KINDS, settings) == 3
        for kind in settings.stored_kinds(KINDS):
            array = open_map(folder, kind, "case_0", settings)
            np.testing.assert_array_equal(array[:], expected_map(kind, blobs(0), settings))
        # Side by side: nothing was written anew, and neither has anything to write.
        after = files_of(folder)
        assert set(after) - set(before) == {
            file_name(kind, f"case_{number}", settings) for kind in kinds for number in range(3)
        }
        assert {name: after[name] for name in before} == before
        assert_whole(folder, 3)
        for both in (settings, SETTINGS):
            assert ensure_maps(folder, KINDS, both) == 0
        assert files_of(folder) == after

    def test_what_maps_do_not_depend_on_changes_no_folder(self):
        for kind in KINDS:
            assert replace(SETTINGS, patch_size=(32, 32, 16)).folder_name(kind) == SETTINGS.folder_name(kind)
        assert replace(SETTINGS, spacing_mm=(1, 1, 1)).folder_name(LESION_IDS) == SETTINGS.folder_name(LESION_IDS)

    def test_changed_version(self, folder, monkeypatch):
        ensure_maps(folder, KINDS, SETTINGS)
        before = files_of(folder)
        monkeypatch.setattr(store, "FORMAT_VERSION", store.FORMAT_VERSION + 1)
        assert ensure_maps(folder, KINDS, SETTINGS) == 3
        after = files_of(folder)
        assert len(after) == 2 * len(before)
        assert {name: after[name] for name in before} == before
        assert_whole(folder, 3)

    @pytest.mark.parametrize(
        "scheme", [LabelScheme.classes(2), LabelScheme.classes(2, ignore_label=2), LabelScheme(((1, 2), (2,)), True)]
    )
    def test_the_boundary_of_two_classes_or_of_regions_is_the_interior_distance(self, folder, scheme):
        settings = replace(SETTINGS, scheme=scheme)
        if scheme.highest_label < 2:
            for number in range(3):
                save(folder, f"case_{number}", np.minimum(blobs(number), 1))
        assert missing_maps(folder, ["case_0"], [BOUNDARY_DISTANCE], settings) == {"case_0": [INTERIOR_DISTANCE]}
        assert ensure_maps(folder, [BOUNDARY_DISTANCE], settings) == 3
        assert list(files_of(folder)) == [file_name(INTERIOR_DISTANCE, f"case_{n}", settings) for n in range(3)]
        assert ensure_maps(folder, [INTERIOR_DISTANCE, BOUNDARY_DISTANCE], settings) == 0

    @pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
    def test_truncated_file(self, folder, share):
        ensure_maps(folder, KINDS, SETTINGS)
        path = map_path(folder, LESION_IDS, "case_1", SETTINGS)
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        with pytest.raises(ValueError, match=rf"case_1.b2nd is damaged\. {ADVICE}"):
            open_map(folder, LESION_IDS, "case_1", SETTINGS)
        assert ensure_maps(folder, KINDS, SETTINGS) == 1
        assert_whole(folder, 3)

    @pytest.mark.parametrize("content", [bytes(4000), b"not a map at all" * 200])
    def test_file_of_something_else(self, folder, content):
        path = map_path(folder, LESION_IDS, "case_1", SETTINGS)
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is damaged"):
            open_map(folder, LESION_IDS, "case_1", SETTINGS)
        assert ensure_maps(folder, [LESION_IDS], SETTINGS) == 3

    def test_numpy_format_of_nnunet(self, tmp_path):
        image = np.zeros((1, *SHAPE), np.float32)
        nnUNetDatasetNumpy.save_case(image, blobs(5)[None], {}, str(tmp_path / "case_5"))
        assert ensure_maps(tmp_path, KINDS, SETTINGS) == 1
        for kind in KINDS:
            array = open_map(tmp_path, kind, "case_5", SETTINGS)
            np.testing.assert_array_equal(array[:], expected_map(kind, blobs(5)))
        assert ensure_maps(tmp_path, KINDS, SETTINGS) == 0

    def test_worker_processes(self, tmp_path):
        folder = make_folder(tmp_path, 10)
        assert ensure_maps(folder, [INTERIOR_DISTANCE, LESION_IDS], SETTINGS, num_processes=2) == 10
        assert_whole(folder, 10, [INTERIOR_DISTANCE, LESION_IDS])
        assert ensure_maps(folder, [INTERIOR_DISTANCE, LESION_IDS], SETTINGS, num_processes=2) == 0

    def test_nnunet_sees_the_same_cases(self, folder):
        def view():
            dataset = infer_dataset_class(str(folder))
            return dataset, sorted(dataset.get_identifiers(str(folder)))

        before = view()
        assert before == (nnUNetDatasetBlosc2, ["case_0", "case_1", "case_2"])
        ensure_maps(folder, KINDS, SETTINGS)
        assert view() == before
        assert list_cases(folder) == before[1]


class TestErrors:
    def test_unknown_kind(self, folder):
        with pytest.raises(ValueError, match=f"Unknown kind of map: volumes. Known: {', '.join(KINDS)}"):
            ensure_maps(folder, [LESION_IDS, "volumes"], SETTINGS)
        assert not (folder / "rw_maps").exists()

    def test_label_that_the_dataset_does_not_list(self, folder):
        labels = blobs(1)
        labels[5, 5, 5] = 7
        save(folder, "case_1", labels)
        with pytest.raises(ValueError, match=r"Case 'case_1' in .* holds label 7, but the dataset's highest is 2"):
            ensure_maps(folder, KINDS, SETTINGS)
        assert_whole(folder, 1)
        assert is_current(folder, LESION_IDS, "case_2", SETTINGS)
        assert not temporary_files(folder)

    def test_ignore_label_is_listed(self, folder):
        save(folder, "case_1", blobs(1, num_classes=4))
        assert ensure_maps(folder, KINDS, replace(SETTINGS, scheme=LabelScheme.classes(3, ignore_label=3))) == 3

    def test_no_preprocessed_data(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"in .*nowhere\. Run: nnUNetv2_preprocess .* -c 3d_fullres"):
            ensure_maps(tmp_path / "nowhere", KINDS, SETTINGS)
        with pytest.raises(FileNotFoundError, match=r"cases in .* Run: nnUNetv2_preprocess"):
            ensure_maps(tmp_path, KINDS, SETTINGS)

    def test_unknown_case(self, folder):
        messages = []
        with pytest.raises(ValueError, match=r"of 2 cases cannot .* others are: No segmentation of case 'case_8' in"):
            ensure_maps(folder, KINDS, SETTINGS, cases=["case_8", "case_0", "case_9"], log=messages.append)
        assert_whole(folder, 1)
        # The line tells of the first.
        assert "No segmentation of case 'case_9' in" in messages[-1]


def cases_of(folder):
    return {name.split("/")[1] for name in stamps(folder)}


class TestParts:
    @pytest.fixture
    def folder(self, tmp_path):
        return make_folder(tmp_path, len(CASES))

    @pytest.mark.parametrize("num_parts", [1, 2, 3, 9])
    def test_together_they_write_each_case_once(self, folder, num_parts):
        written, counts = {}, []
        for part_id in range(num_parts):
            counts.append(ensure_maps(folder, [LESION_IDS], SETTINGS, part=(part_id, num_parts)))
            now = stamps(folder)
            new = {name for name in now if name not in written}
            assert {name.split("/")[1] for name in new} == set(CASES[part_id::num_parts])
            assert {name: now[name] for name in written} == written
            written = now
        # 7 cases in 3 parts: 0 3 6, 1 4, 2 5.
        assert counts == {1: [7], 2: [4, 3], 3: [3, 2, 2], 9: [1] * 7 + [0] * 2}[num_parts]
        assert_all_current(folder, [LESION_IDS])

    def test_of_given_cases(self, folder):
        assert ensure_maps(folder, [LESION_IDS], SETTINGS, cases=["case_5", "case_0", "case_3"], part=(1, 2)) == 1
        assert cases_of(folder) == {"case_0"}

    def test_overwrites_its_own_cases_only(self, folder):
        ensure_maps(folder, [LESION_IDS], SETTINGS)
        before = stamps(folder)
        assert ensure_maps(folder, [LESION_IDS], SETTINGS, overwrite=True, part=(0, 3)) == 3
        after = stamps(folder)
        changed = {name.split("/")[1] for name in before if before[name] != after[name]}
        assert changed == {"case_0", "case_3", "case_6"}

    @pytest.mark.parametrize("part", [(2, 2), (-1, 2), (0, 0)])
    def test_no_such_part(self, folder, part):
        with pytest.raises(ValueError, match=rf"Expected a part from 0 to {part[1] - 1}, but got {part[0]}\."):
            ensure_maps(folder, KINDS, SETTINGS, part=part)
        assert not (folder / "rw_maps").exists()

    def test_does_not_write_what_another_wrote_since_it_looked(self, folder, monkeypatch):
        # The other comes while the first case is being written.
        def write_and_be_overtaken(data_folder, case, *args):
            monkeypatch.undo()
            assert ensure_maps(folder, [LESION_IDS], SETTINGS, part=(1, 2)) == 3
            write_case(data_folder, case, *args)

        monkeypatch.setattr("nnunet_rw.store.write.write_case", write_and_be_overtaken)
        assert ensure_maps(folder, [LESION_IDS], SETTINGS, num_processes=1) == 4
        assert_all_current(folder, [LESION_IDS])


def counts_of(*writers):
    outputs = [writer.communicate(timeout=240) for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * len(writers), outputs
    return [int(output) for output, _ in outputs]


class TestProcesses:
    @pytest.fixture
    def folder(self, tmp_path):
        return make_folder(tmp_path, len(CASES))

    def test_two_at_the_same_moment(self, tmp_path):
        folder = make_folder(tmp_path, 6)
        writers = [start_writer(folder, KINDS) for _ in range(2)]
        let_go(*writers)
        # The first writes, the other waits and finds all done.
        assert sorted(counts_of(*writers)) == [0, 6]
        assert_whole(folder, 6)
        assert len(files_of(folder)) == 6 * len(KINDS)

    def test_two_parts_at_the_same_moment(self, folder):
        writers = [start_writer(folder, KINDS, (part_id, 2)) for part_id in range(2)]
        let_go(*writers)
        assert counts_of(*writers) == [4, 3]
        assert_all_current(folder)
        assert len(stamps(folder)) == 7 * len(KINDS)

    def test_a_part_does_not_wait_for_another_nor_the_whole_for_a_part(self, folder):
        # The first part hangs in its second case, with its lock held.
        hanging = start_writer(folder, [LESION_IDS], (0, 2), preparation=stop_after(1))
        let_go(hanging)
        try:
            assert hanging.stdout.readline() == "in the middle\n"
            mid_write = temporary_files(folder)
            assert len(mid_write) == 1
            assert ensure_maps(folder, [LESION_IDS], SETTINGS, part=(1, 2)) == 3
            assert cases_of(folder) == {"case_0", "case_1", "case_3", "case_5"}
            # As a training does at its start.
            assert ensure_maps(folder, [LESION_IDS], SETTINGS) == 3
            assert missing_maps(folder, CASES, [LESION_IDS], SETTINGS) == {}
            # The file of a living process is left to it.
            assert temporary_files(folder) == mid_write
        finally:
            hanging.send_signal(signal.SIGKILL)
            hanging.communicate()

    def test_the_whole_beside_a_part(self, folder):
        writers = [start_writer(folder, KINDS, part) for part in (None, (0, 2))]
        let_go(*writers)
        whole, part = counts_of(*writers)
        # A case that both are at is written twice; none is left out.
        assert part <= 4
        assert whole + part >= 7
        assert_all_current(folder)

    def test_the_same_part_twice_writes_once(self, folder):
        writers = [start_writer(folder, KINDS, (1, 2)) for _ in range(2)]
        let_go(*writers)
        assert sorted(counts_of(*writers)) == [0, 3]
        assert cases_of(folder) == set(CASES[1::2])
