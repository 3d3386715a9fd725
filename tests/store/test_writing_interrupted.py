"""Writing that ends early: full and read-only disks, killed processes, and the files that those leave behind."""

import errno
import os
import signal
import socket
import subprocess
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stored_cases import (
    SETTINGS,
    SHAPE,
    assert_all_current,
    assert_whole,
    blobs,
    failing,
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
from nnunet_rw.store.files import map_path
from nnunet_rw.store.write import ensure_maps, remove_leftovers, write_case
from nnunet_rw.util import parallel
from nnunet_rw.util.files import host_name, short_hash


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path, 3)


def outcome_of(writer):
    let_go(writer)
    output, errors = writer.communicate(timeout=60)
    assert writer.returncode == 0, errors
    return output.strip()


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
            [BOUNDARY_DISTANCE],
            preparation="""
            import resource, signal
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (8000, resource.RLIM_INFINITY))
            """,
        )
        assert "No space for maps in" in outcome_of(writer)
        assert list(files_of(folder)) == [file_name(BOUNDARY_DISTANCE, f"case_{number}") for number in (0, 1)]
        assert ensure_maps(folder, [BOUNDARY_DISTANCE], SETTINGS) == 1  # those are whole
        assert map_path(folder, BOUNDARY_DISTANCE, "case_2", SETTINGS).stat().st_size > 8000

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


class TestProcesses:
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
        with pytest.raises(OSError, match=r"want of memory.* Run: nnunet-rw maps -d .* -np 1$") as caught:
            ensure_maps(folder, KINDS, SETTINGS, num_processes=2)
        assert caught.value.errno == errno.ENOMEM

    def test_killed_half_way(self, tmp_path):
        # Killed within the third case, when its temporary file stands but has not got its name.
        folder = make_folder(tmp_path, 6)
        writer = start_writer(folder, [LESION_IDS], preparation=stop_after(2))
        let_go(writer)
        assert writer.stdout.readline().strip() == "in the middle"
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        assert writer.returncode == -signal.SIGKILL
        assert len(temporary_files(folder)) == 1
        before = {name: stamp for name, stamp in files_of(folder).items() if name.endswith(".b2nd")}
        assert sorted(before) == [file_name(LESION_IDS, f"case_{number}") for number in (0, 1)]
        assert_whole(folder, 2, [LESION_IDS])

        assert ensure_maps(folder, [LESION_IDS], SETTINGS) == 4
        assert_whole(folder, 6, [LESION_IDS])
        assert not temporary_files(folder)
        after = files_of(folder)
        assert {name: after[name] for name in before} == before

    def test_a_killed_part_goes_on_where_it_stopped(self, tmp_path):
        folder = make_folder(tmp_path, 7)
        kinds = [INTERIOR_DISTANCE, LESION_IDS]
        # Two files of the first case, one of the second, killed in the fourth.
        killed = start_writer(folder, kinds, (0, 2), preparation=stop_after(3))
        let_go(killed)
        assert killed.stdout.readline() == "in the middle\n"
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        assert killed.returncode == -signal.SIGKILL
        before = stamps(folder)
        assert set(before) == {"interior_distance/case_0", "lesion_ids/case_0", "interior_distance/case_2"}
        assert len(temporary_files(folder)) == 1

        assert ensure_maps(folder, kinds, SETTINGS, part=(1, 2)) == 3
        assert len(temporary_files(folder)) == 1
        assert ensure_maps(folder, kinds, SETTINGS, part=(0, 2)) == 3
        after = stamps(folder)
        assert {name: after[name] for name in before} == before
        assert_all_current(folder, kinds)


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

    def test_a_part_removes_those_of_its_own_cases(self, folder, dead_pid):
        self.leave(folder, "case_0", dead_pid)
        self.leave(folder, "case_1", dead_pid)
        ensure_maps(folder, [LESION_IDS], SETTINGS, part=(0, 2))
        assert [path.name.split("@")[0] for path in temporary_files(folder)] == [f".{short_hash('case_1')}"]
        ensure_maps(folder, [LESION_IDS], SETTINGS)
        assert not temporary_files(folder)

    def test_those_of_earlier_versions_are_removed_too(self, folder, dead_pid):
        target = map_path(folder, LESION_IDS, "case_0", SETTINGS)
        target.parent.mkdir(parents=True)
        leftover = target.with_name(f".case_0@{host_name()}-{dead_pid}-{'a' * 32}.tmp")
        leftover.touch()
        remove_leftovers(folder, ["case_1"])
        assert leftover.exists()
        remove_leftovers(folder, ["case_0"])
        assert not leftover.exists()

    def test_names_that_begin_alike(self, folder, dead_pid):
        self.leave(folder, "case_1", dead_pid)
        remove_leftovers(folder, ["case_", "case", "case_10"])
        assert len(temporary_files(folder)) == 1
        remove_leftovers(folder, iter(["case_0", "case_1"]))
        assert not temporary_files(folder)

    def test_of_a_living_process_and_of_another_machine_are_left_alone(self, folder, dead_pid):
        self.leave(folder, "case_0", os.getpid())
        self.leave(folder, "case_1", dead_pid, host="another-machine")
        ensure_maps(folder, [LESION_IDS], SETTINGS)
        assert len(temporary_files(folder)) == 2
        assert_whole(folder, 3, [LESION_IDS])

    def test_files_of_others_are_left_alone(self, folder):
        ensure_maps(folder, [LESION_IDS], SETTINGS)
        strangers = [map_path(folder, LESION_IDS, "case_0", SETTINGS).with_name(".something.tmp")]
        strangers.append(folder / "rw_maps" / LESION_IDS / ".something.tmp")
        for stranger in strangers:
            stranger.touch()
        assert ensure_maps(folder, [LESION_IDS], SETTINGS, overwrite=True) == 3
        assert all(stranger.exists() for stranger in strangers)

    def test_under_other_settings_are_removed_too(self, folder, dead_pid):
        self.leave(folder, "case_0", dead_pid)
        assert len(temporary_files(folder)) == 1
        settings = replace(SETTINGS, scheme=LabelScheme.classes(4))
        assert ensure_maps(folder, [LESION_IDS], settings) == 3
        assert not temporary_files(folder)
