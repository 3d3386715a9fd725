import errno
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import references
from nnunetv2.training.dataloading.nnunet_dataset import (
    infer_dataset_class,
    nnUNetDatasetBlosc2,
    nnUNetDatasetNumpy,
)

from nnunet_rw import compression, parallel, store
from nnunet_rw.maps.kinds import (
    INTERIOR_DISTANCE,
    KINDS,
    LESION_IDS,
    SIGNED_DISTANCE,
    LabelScheme,
    compute_distances,
    compute_lesion_ids,
)
from nnunet_rw.store import MapSettings, is_current, lesion_table, map_path, missing_maps, open_map, write_case
from nnunet_rw.writing import ensure_maps, list_cases

SHAPE = (20, 24, 16)
SETTINGS = MapSettings(LabelScheme.classes(3), spacing_mm=(0.7, 1.3, 2.5), patch_size=(16, 16, 16), per_slice=False)
ADVICE = "Run: nnunet-rw maps -d Dataset007_Blobs -c 3d_fullres"


def blobs(seed, num_classes=3):
    """As nnU-Net stores a segmentation: int8, -1 outside the non-zero crop."""
    labels = references.random_blobs(SHAPE, num_classes, seed).astype(np.int8)
    labels[:2] = -1
    return labels


def save(folder, case, labels):
    whole = (1, *SHAPE)
    for path in folder.glob(f"{case}*.b2nd"):  # blosc2 does not overwrite
        path.unlink()
    image = np.zeros(whole, np.float32)
    nnUNetDatasetBlosc2.save_case(image, labels[None], {}, str(folder / case), chunks=whole, blocks=whole)


def make_folder(root, num_cases):
    folder = root / "Dataset007_Blobs" / "nnUNetPlans_3d_fullres"
    folder.mkdir(parents=True)
    for number in range(num_cases):
        save(folder, f"case_{number}", blobs(number))
    return folder


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path, 3)


def expected_map(kind, labels, settings=SETTINGS):
    if kind == LESION_IDS:
        return compute_lesion_ids(labels, settings.scheme)[0]
    distances = compute_distances(kind, labels, settings.scheme, settings.spacing_mm, settings.per_slice)
    return distances.astype(np.float16)


def assert_whole(folder, num_cases, kinds=KINDS):
    for number in range(num_cases):
        for kind in kinds:
            array, _ = open_map(folder, kind, f"case_{number}")
            np.testing.assert_array_equal(array[:], expected_map(kind, blobs(number)))


def files_of(folder):
    """Every file of the maps, with its time of writing and inode; the lock is none."""
    paths = sorted(path for path in (folder / "rw_maps").rglob("*") if path.is_file() and path.name != ".lock")
    return {
        path.relative_to(folder / "rw_maps").as_posix(): (path.stat().st_mtime_ns, path.stat().st_ino) for path in paths
    }


def temporary_files(folder):
    return list((folder / "rw_maps").rglob("*.tmp"))


def failing(error_number, after=0):
    """A function that works a number of times and then fails as the file system does."""
    calls = []

    def fail(*args, **kwargs):
        calls.append(args)
        if len(calls) > after:
            raise OSError(error_number, os.strerror(error_number))

    return fail


class TestRoundTrip:
    @pytest.mark.parametrize(
        ("scheme", "num_labels"),
        [
            (LabelScheme.classes(3), 3),
            (LabelScheme.classes(3, ignore_label=3), 4),
            (LabelScheme(((1, 2, 3), (2, 3), (3,)), regions=True), 4),
        ],
    )
    @pytest.mark.parametrize("two_dimensional", [False, True])
    def test_maps_read_back_are_the_maps_computed(self, folder, scheme, num_labels, two_dimensional):
        labels = blobs(9, num_labels)
        save(folder, "case_0", labels)
        settings = replace(SETTINGS, scheme=scheme)
        if two_dimensional:
            settings = replace(settings, spacing_mm=(1.0, 1.3, 2.5), patch_size=(16, 16), per_slice=True)
        write_case(folder, "case_0", KINDS, settings)
        for kind in KINDS:
            array, metadata = open_map(folder, kind, "case_0")
            expected = expected_map(kind, labels, settings)
            assert array.shape == (scheme.num_channels(kind), *SHAPE)
            assert array.dtype == expected.dtype
            np.testing.assert_array_equal(array[:], expected)
            np.testing.assert_array_equal(array[:, 3:9, 20:, 1:2], expected[:, 3:9, 20:, 1:2])
            assert metadata["version"] == store.FORMAT_VERSION
            assert is_current(folder, kind, "case_0", settings)

    def test_lesion_table(self, folder):
        write_case(folder, "case_1", [LESION_IDS], SETTINGS)
        table = lesion_table(open_map(folder, LESION_IDS, "case_1")[1])
        _, expected = compute_lesion_ids(blobs(1), SETTINGS.scheme)
        assert len(table) > 2
        for name in ("channels", "voxels", "boxes"):
            stored, computed = getattr(table, name), getattr(expected, name)
            assert stored.dtype == computed.dtype == np.int64
            np.testing.assert_array_equal(stored, computed)
        assert table.num_voxels == expected.num_voxels == np.prod(SHAPE)

    def test_case_without_lesion(self, folder):
        save(folder, "case_0", np.zeros(SHAPE, np.int8))
        write_case(folder, "case_0", KINDS, SETTINGS)
        array, metadata = open_map(folder, LESION_IDS, "case_0")
        assert not array[:].any()
        assert lesion_table(metadata).boxes.shape == (0, 3, 2)
        # One label only: the diagonal of the volume.
        diagonal = np.linalg.norm(np.multiply(SHAPE, SETTINGS.spacing_mm))
        np.testing.assert_allclose(open_map(folder, INTERIOR_DISTANCE, "case_0")[0][:], diagonal, rtol=1e-3)

    def test_types(self, folder):
        write_case(folder, "case_0", KINDS, SETTINGS)
        dtypes = [open_map(folder, kind, "case_0")[0].dtype for kind in KINDS]
        assert dtypes == [np.float16, np.float16, np.uint16]

    @pytest.mark.parametrize("spacing", [(0.001, 0.002, 0.003), (4e4, 2e4, 5e4)])
    def test_distances_that_float16_does_not_hold_are_float32(self, folder, spacing):
        # Some voxel is more than 65504 away; and of thousandths float16 keeps too few digits.
        settings = replace(SETTINGS, spacing_mm=spacing)
        write_case(folder, "case_0", [SIGNED_DISTANCE], settings)
        array, _ = open_map(folder, SIGNED_DISTANCE, "case_0")
        assert array.dtype == np.float32
        expected = compute_distances(SIGNED_DISTANCE, blobs(0), settings.scheme, spacing)
        np.testing.assert_array_equal(array[:], expected)

    def test_float16_is_close_enough(self, folder):
        # Half a unit in the last of 11 binary digits.
        write_case(folder, "case_0", [SIGNED_DISTANCE], SETTINGS)
        exact = compute_distances(SIGNED_DISTANCE, blobs(0), SETTINGS.scheme, SETTINGS.spacing_mm)
        np.testing.assert_allclose(open_map(folder, SIGNED_DISTANCE, "case_0")[0][:], exact, rtol=2**-11)

    def test_map_of_several_chunks(self, tmp_path, monkeypatch):
        labels = references.random_blobs((50, 40, 30), 3, 0).astype(np.int8)
        whole = (1, *labels.shape)
        nnUNetDatasetBlosc2.save_case(
            np.zeros(whole, np.float32), labels[None], {}, str(tmp_path / "case_0"), chunks=whole, blocks=whole
        )
        # nnU-Net's chunks hold megabytes.
        monkeypatch.setattr(compression, "comp_blosc2_params", lambda *_: ((1, 8, 8, 8), (1, 16, 16, 16)))
        write_case(tmp_path, "case_0", KINDS, SETTINGS)
        for kind in KINDS:
            array, _ = open_map(tmp_path, kind, "case_0")
            assert array.schunk.nchunks > array.shape[0]
            np.testing.assert_array_equal(array[:], expected_map(kind, labels))

    def test_more_lesions_than_uint16_holds(self, tmp_path):
        # Every second voxel along each axis: 41^3 = 68921 lesions of one voxel.
        labels = np.zeros((81, 81, 81), np.int8)
        labels[::2, ::2, ::2] = 1
        whole = (1, *labels.shape)
        nnUNetDatasetBlosc2.save_case(
            np.zeros(whole, np.float32), labels[None], {}, str(tmp_path / "case_0"), chunks=whole, blocks=whole
        )
        write_case(tmp_path, "case_0", [LESION_IDS], SETTINGS)
        array, metadata = open_map(tmp_path, LESION_IDS, "case_0")
        assert array.dtype == np.uint32
        assert len(lesion_table(metadata)) == 41**3
        np.testing.assert_array_equal(array[:], expected_map(LESION_IDS, labels))

    @pytest.mark.parametrize("kind", [INTERIOR_DISTANCE, SIGNED_DISTANCE])
    def test_compact_is_smaller_and_the_same(self, tmp_path, kind):
        # An organ and blocks as large as patches have them: noise in small blocks is as long either way.
        settings = replace(SETTINGS, patch_size=(64, 64, 64))
        labels = (np.linalg.norm(np.indices((70, 80, 60)) - 30, axis=0) < 25).astype(np.int8)
        whole = (1, *labels.shape)
        nnUNetDatasetBlosc2.save_case(
            np.zeros(whole, np.float32), labels[None], {}, str(tmp_path / "case_0"), chunks=whole, blocks=whole
        )
        sizes = []
        for compact in (False, True):
            write_case(tmp_path, "case_0", [kind], settings, compact)
            sizes.append(map_path(tmp_path, kind, "case_0").stat().st_size)
            np.testing.assert_array_equal(open_map(tmp_path, kind, "case_0")[0][:], expected_map(kind, labels))
            assert is_current(tmp_path, kind, "case_0", settings)
        assert sizes[1] < 0.9 * sizes[0]

    def test_numpy_format_of_nnunet(self, tmp_path):
        image = np.zeros((1, *SHAPE), np.float32)
        nnUNetDatasetNumpy.save_case(image, blobs(5)[None], {}, str(tmp_path / "case_5"))
        assert ensure_maps(tmp_path, KINDS, SETTINGS) == 1
        for kind in KINDS:
            np.testing.assert_array_equal(open_map(tmp_path, kind, "case_5")[0][:], expected_map(kind, blobs(5)))
        assert ensure_maps(tmp_path, KINDS, SETTINGS) == 0


class TestWhatIsWritten:
    def test_all_cases_then_nothing(self, folder):
        messages = []
        assert ensure_maps(folder, KINDS, SETTINGS, log=messages.append) == 3
        assert len(messages) == 1
        assert "3 cases" in messages[0]
        assert_whole(folder, 3)
        before = files_of(folder)
        assert sorted(before) == sorted(f"{kind}/case_{number}.b2nd" for kind in KINDS for number in range(3))
        assert ensure_maps(folder, KINDS, SETTINGS, log=messages.append) == 0
        assert files_of(folder) == before
        assert len(messages) == 1

    def test_only_the_kinds_and_cases_asked_for(self, folder):
        assert ensure_maps(folder, [], SETTINGS) == 0
        assert not (folder / "rw_maps").exists()
        assert ensure_maps(folder, [LESION_IDS], SETTINGS, cases=["case_2"]) == 1
        assert list(files_of(folder)) == ["lesion_ids/case_2.b2nd"]
        assert missing_maps(folder, ["case_1", "case_2"], [LESION_IDS, INTERIOR_DISTANCE], SETTINGS) == {
            "case_1": [LESION_IDS, INTERIOR_DISTANCE],
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
            np.testing.assert_array_equal(open_map(folder, kind, "case_1")[0][:], expected_map(kind, blobs(50)))
        changed = {name for name, stamp in files_of(folder).items() if before[name] != stamp}
        assert changed == {f"{kind}/case_1.b2nd" for kind in KINDS}

    @pytest.mark.parametrize(
        ("changed", "kinds"),
        [
            ({"spacing_mm": (0.7, 1.3, 2.6)}, [INTERIOR_DISTANCE, SIGNED_DISTANCE]),  # a lesion is one at any spacing
            ({"per_slice": True}, [INTERIOR_DISTANCE, SIGNED_DISTANCE]),
            ({"scheme": LabelScheme.classes(4)}, list(KINDS)),
            ({"scheme": LabelScheme.classes(3, ignore_label=2)}, list(KINDS)),
            ({"scheme": LabelScheme(((1,), (2,)), regions=True)}, list(KINDS)),
        ],
    )
    def test_changed_settings(self, folder, changed, kinds):
        ensure_maps(folder, KINDS, SETTINGS)
        settings = replace(SETTINGS, **changed)
        assert missing_maps(folder, ["case_0"], KINDS, settings) == {"case_0": kinds}
        assert ensure_maps(folder, KINDS, settings) == 3
        array, _ = open_map(folder, INTERIOR_DISTANCE, "case_0")
        np.testing.assert_array_equal(array[:], expected_map(INTERIOR_DISTANCE, blobs(0), settings))
        assert ensure_maps(folder, KINDS, settings) == 0

    def test_changed_version(self, folder, monkeypatch):
        ensure_maps(folder, KINDS, SETTINGS)
        monkeypatch.setattr(store, "FORMAT_VERSION", store.FORMAT_VERSION + 1)
        assert ensure_maps(folder, KINDS, SETTINGS) == 3

    @pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
    def test_truncated_file(self, folder, share):
        ensure_maps(folder, KINDS, SETTINGS)
        path = map_path(folder, LESION_IDS, "case_1")
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        with pytest.raises(ValueError, match=rf"case_1.b2nd is damaged\. {ADVICE}"):
            open_map(folder, LESION_IDS, "case_1")
        assert ensure_maps(folder, KINDS, SETTINGS) == 1
        assert_whole(folder, 3)

    @pytest.mark.parametrize("content", [bytes(4000), b"not a map at all" * 200])
    def test_file_of_something_else(self, folder, content):
        path = map_path(folder, LESION_IDS, "case_1")
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is damaged"):
            open_map(folder, LESION_IDS, "case_1")
        assert ensure_maps(folder, [LESION_IDS], SETTINGS) == 3

    def test_array_without_metadata(self, folder):
        path = map_path(folder, LESION_IDS, "case_1")
        path.parent.mkdir(parents=True)
        path.write_bytes((folder / "case_1_seg.b2nd").read_bytes())
        with pytest.raises(ValueError, match="is damaged"):
            open_map(folder, LESION_IDS, "case_1")

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
    def test_missing_map(self, folder):
        with pytest.raises(FileNotFoundError, match=rf"No lesion_ids map for case 'case_1' in .*lesion_ids\. {ADVICE}"):
            open_map(folder, LESION_IDS, "case_1")

    def test_advice_names_plans_that_are_not_the_default(self, tmp_path):
        folder = tmp_path / "Dataset007_Blobs" / "nnUNetResEncUNetLPlans_3d_lowres"
        with pytest.raises(FileNotFoundError, match="-d Dataset007_Blobs -c 3d_lowres -p nnUNetResEncUNetLPlans"):
            open_map(folder, LESION_IDS, "case_1")

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
        assert not temporary_files(folder)

    def test_ignore_label_is_listed(self, folder):
        save(folder, "case_1", blobs(1, num_classes=4))
        assert ensure_maps(folder, KINDS, replace(SETTINGS, scheme=LabelScheme.classes(3, ignore_label=3))) == 3

    def test_no_preprocessed_data(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"in .*nowhere\. Run: nnUNetv2_plan_and_preprocess"):
            ensure_maps(tmp_path / "nowhere", KINDS, SETTINGS)
        with pytest.raises(FileNotFoundError, match=r"cases in .* Run: nnUNetv2_preprocess"):
            ensure_maps(tmp_path, KINDS, SETTINGS)

    def test_unknown_case(self, folder):
        with pytest.raises(FileNotFoundError, match="No preprocessed case 'case_9' in") as caught:
            ensure_maps(folder, KINDS, SETTINGS, cases=["case_0", "case_9"])
        assert caught.value.__cause__ is None
        assert_whole(folder, 1)


class TestDisk:
    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_full_disk(self, folder, monkeypatch, number):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", failing(number, after=4))  # one case, and one map of the next
            with pytest.raises(OSError, match=r"No space for maps in .*rw_maps .*run the same command again") as caught:
                ensure_maps(folder, KINDS, SETTINGS)
        assert caught.value.errno == number
        assert len(files_of(folder)) == 4
        assert not temporary_files(folder)
        assert_whole(folder, 1)
        assert ensure_maps(folder, KINDS, SETTINGS) == 2
        assert_whole(folder, 3)

    def test_file_that_grows_beyond_the_limit(self, folder):
        # The kernel's own refusal in the middle of a write, which is what a full disk or a quota does. Maps of cases
        # without lesions are below the limit of 8 kB, that of the third is above it.
        for case in ("case_0", "case_1"):
            save(folder, case, np.zeros(SHAPE, np.int8))
        writer = start_writer(
            folder,
            [SIGNED_DISTANCE],
            """
            import resource, signal
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (8000, resource.RLIM_INFINITY))
            """,
        )
        assert "No space for maps in" in outcome_of(writer)
        assert list(files_of(folder)) == ["signed_distance/case_0.b2nd", "signed_distance/case_1.b2nd"]
        assert ensure_maps(folder, [SIGNED_DISTANCE], SETTINGS) == 1  # those are whole
        assert map_path(folder, SIGNED_DISTANCE, "case_2").stat().st_size > 8000

    def test_read_only_folder_with_all_maps(self, folder, read_only):
        ensure_maps(folder, KINDS, SETTINGS)
        with read_only():
            assert ensure_maps(folder, KINDS, SETTINGS) == 0

    @pytest.mark.parametrize("present", [[], [LESION_IDS]])
    def test_read_only_folder_without_maps(self, folder, read_only, present):
        ensure_maps(folder, present, SETTINGS)
        advice = r"rw_maps cannot be written to \(Read-only file system\).*nnunet-rw maps -d Dataset007_Blobs"
        with read_only(), pytest.raises(PermissionError, match=advice) as caught:
            ensure_maps(folder, KINDS, SETTINGS)
        assert caught.value.errno == errno.EROFS

    @pytest.fixture
    def read_only(self):
        """Context in which the file system refuses whatever writes."""
        refuse, open_descriptor, make_folder = failing(errno.EROFS), os.open, os.mkdir

        def open_to_read(path, flags, *args, **kwargs):
            if flags & (os.O_WRONLY | os.O_RDWR):
                refuse()
            return open_descriptor(path, flags, *args, **kwargs)

        def find_folder(path, *args, **kwargs):
            if not os.path.isdir(path):
                refuse()
            make_folder(path, *args, **kwargs)

        @contextmanager
        def context():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, "open", open_to_read)
                patch.setattr(os, "mkdir", find_folder)
                patch.setattr(os, "fsync", refuse)
                patch.setattr(os, "replace", refuse)
                yield

        return context

    @pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
    def test_folder_without_permission(self, folder):
        folder.chmod(0o500)
        try:
            with pytest.raises(PermissionError, match=r"cannot be written to \(Permission denied\)"):
                ensure_maps(folder, KINDS, SETTINGS)
        finally:
            folder.chmod(0o700)

    def test_worker_that_is_killed(self, tmp_path, monkeypatch):
        # What the pool reports when the kernel ends a worker for want of memory.
        class BrokenPool:
            def __init__(self, *args, **kwargs):
                pass

            def submit(self, *args):
                future = Future()
                future.set_exception(BrokenProcessPool("terminated abruptly"))
                return future

            def shutdown(self, **kwargs):
                pass

        monkeypatch.setattr(parallel, "ProcessPoolExecutor", BrokenPool)
        folder = make_folder(tmp_path, 8)
        with pytest.raises(OSError, match=r"want of memory.* Run: nnunet-rw maps with a smaller -np") as caught:
            ensure_maps(folder, KINDS, SETTINGS, num_processes=2)
        assert caught.value.errno == errno.ENOMEM


def start_writer(folder, kinds, preparation=""):
    """A process that is ready to write maps, and waits for a line on its standard input."""
    call = f"ensure_maps({str(folder)!r}, {list(kinds)!r}, {SETTINGS!r}, num_processes=1, log=lambda text: None)"
    lines = [
        "import os, sys, time",
        "from nnunet_rw.maps.kinds import LabelScheme",
        "from nnunet_rw.store import MapSettings",
        "from nnunet_rw.writing import ensure_maps",
        *(line.strip() for line in preparation.strip().splitlines()),
        "print('ready', flush=True)",
        "sys.stdin.readline()",
        "try:",
        f"    print({call})",
        "except OSError as error:",
        "    print(error)",
    ]
    return subprocess.Popen(
        [sys.executable, "-c", "\n".join(lines)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until_ready(writer):
    for line in writer.stdout:
        if line.strip() == "ready":
            return
    raise AssertionError(writer.stderr.read())


def outcome_of(writer):
    wait_until_ready(writer)
    output, errors = writer.communicate("go\n", timeout=60)
    assert writer.returncode == 0, errors
    return output.strip()


class TestProcesses:
    def test_killed_half_way(self, tmp_path):
        # Killed within the third case, when its temporary file stands but has not got its name.
        folder = make_folder(tmp_path, 6)
        writer = start_writer(
            folder,
            [LESION_IDS],
            """
            synchronise, calls = os.fsync, []
            stop = lambda: (print('in the middle', flush=True), time.sleep(60))
            os.fsync = lambda file: (calls.append(file), synchronise(file), len(calls) == 3 and stop())
            """,
        )
        wait_until_ready(writer)
        writer.stdin.write("go\n")
        writer.stdin.flush()
        assert writer.stdout.readline().strip() == "in the middle"
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        assert writer.returncode == -signal.SIGKILL
        assert len(temporary_files(folder)) == 1
        before = {name: stamp for name, stamp in files_of(folder).items() if name.endswith(".b2nd")}
        assert sorted(before) == ["lesion_ids/case_0.b2nd", "lesion_ids/case_1.b2nd"]
        assert_whole(folder, 2, [LESION_IDS])

        assert ensure_maps(folder, [LESION_IDS], SETTINGS) == 4
        assert_whole(folder, 6, [LESION_IDS])
        assert not temporary_files(folder)
        after = files_of(folder)
        assert {name: after[name] for name in before} == before

    def test_two_at_the_same_moment(self, tmp_path):
        folder = make_folder(tmp_path, 6)
        writers = [start_writer(folder, KINDS) for _ in range(2)]
        for writer in writers:
            wait_until_ready(writer)
        for writer in writers:
            writer.stdin.write("go\n")
            writer.stdin.flush()
        outputs = [writer.communicate(timeout=60) for writer in writers]
        assert [writer.returncode for writer in writers] == [0, 0], outputs
        # The first writes, the other waits and finds all done.
        assert sorted(int(output) for output, _ in outputs) == [0, 6]
        assert_whole(folder, 6)
        assert len(files_of(folder)) == 6 * len(KINDS)


class TestLeftovers:
    @staticmethod
    def leave(folder, case, pid, host=None):
        """The temporary file of a writer that died before it could remove it."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "getpid", lambda: pid)
            patch.setattr(os, "replace", failing(errno.EIO))
            patch.setattr(Path, "unlink", lambda *args, **kwargs: None)
            if host:
                patch.setattr(socket, "gethostname", lambda: host)
            with pytest.raises(OSError, match="Input/output"):
                write_case(folder, case, [LESION_IDS], SETTINGS)

    @pytest.fixture
    def dead_pid(self):
        process = subprocess.Popen(["true"])
        process.wait()
        return process.pid

    @pytest.mark.parametrize("case", ["case_0", "la@home-12", "a.b-c_1"])
    def test_of_a_dead_process_are_removed(self, folder, dead_pid, case):
        save(folder, case, blobs(0))
        self.leave(folder, case, dead_pid)
        assert len(temporary_files(folder)) == 1
        ensure_maps(folder, [LESION_IDS], SETTINGS)
        assert not temporary_files(folder)

    def test_of_a_living_process_and_of_another_machine_are_left_alone(self, folder, dead_pid):
        self.leave(folder, "case_0", os.getpid())
        self.leave(folder, "case_1", dead_pid, host="another-machine")
        ensure_maps(folder, [LESION_IDS], SETTINGS)
        assert len(temporary_files(folder)) == 2
        assert_whole(folder, 3, [LESION_IDS])

    def test_files_of_others_are_left_alone(self, folder):
        ensure_maps(folder, [LESION_IDS], SETTINGS)
        stranger = folder / "rw_maps" / LESION_IDS / ".something.tmp"
        stranger.touch()
        assert ensure_maps(folder, [LESION_IDS], SETTINGS, overwrite=True) == 3
        assert stranger.exists()
