"""Maps written in parts: side by side, beside a call for the whole, and after a part was killed."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import references
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

from nnunet_rw.maps.kinds import INTERIOR_DISTANCE, KINDS, LESION_IDS, LabelScheme
from nnunet_rw.store import MapSettings, missing_maps, remove_leftovers, write_case
from nnunet_rw.writing import ensure_maps

SHAPE = (20, 24, 16)
SETTINGS = MapSettings(LabelScheme.classes(3), spacing_mm=(0.7, 1.3, 2.5), patch_size=(16, 16, 16), per_slice=False)
CASES = [f"case_{number}" for number in range(7)]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "Dataset007_Blobs" / "nnUNetPlans_3d_fullres"
    folder.mkdir(parents=True)
    whole = (1, *SHAPE)
    for number, case in enumerate(CASES):
        labels = references.random_blobs(SHAPE, 3, number).astype(np.int8)
        image = np.zeros(whole, np.float32)
        nnUNetDatasetBlosc2.save_case(image, labels[None], {}, str(folder / case), chunks=whole, blocks=whole)
    return folder


def stamps(folder):
    """When each map was written, by kind and case."""
    paths = (folder / "rw_maps").glob("*/*.b2nd")
    return {f"{path.parent.name}/{path.stem}": path.stat().st_mtime_ns for path in paths}


def cases_of(folder):
    return {name.split("/")[1] for name in stamps(folder)}


def temporary_files(folder):
    return list((folder / "rw_maps").rglob("*.tmp"))


def assert_all_current(folder, kinds=KINDS):
    assert missing_maps(folder, CASES, kinds, SETTINGS) == {}
    assert not temporary_files(folder)


class TestParts:
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

        monkeypatch.setattr("nnunet_rw.writing.write_case", write_and_be_overtaken)
        assert ensure_maps(folder, [LESION_IDS], SETTINGS, num_processes=1) == 4
        assert_all_current(folder, [LESION_IDS])


class TestLeftovers:
    @pytest.fixture
    def leave(self, folder):
        """Function that leaves the temporary file of a dead writer of this machine."""
        process = subprocess.Popen(["true"])
        process.wait()

        def die(case):
            def fail(*args):
                raise OSError(errno.EIO, os.strerror(errno.EIO))

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, "getpid", lambda: process.pid)
                patch.setattr(os, "replace", fail)
                patch.setattr(Path, "unlink", lambda *args, **kwargs: None)
                with pytest.raises(OSError, match="Input/output"):
                    write_case(folder, case, [LESION_IDS], SETTINGS)

        return die

    def test_a_part_removes_those_of_its_own_cases(self, folder, leave):
        leave("case_0")
        leave("case_1")
        ensure_maps(folder, [LESION_IDS], SETTINGS, part=(0, 2))
        assert [path.name.split("@")[0] for path in temporary_files(folder)] == [".case_1"]
        ensure_maps(folder, [LESION_IDS], SETTINGS)
        assert not temporary_files(folder)

    def test_names_that_begin_alike(self, folder, leave):
        leave("case_1")
        remove_leftovers(folder, ["case_", "case", "case_10"])
        assert len(temporary_files(folder)) == 1
        remove_leftovers(folder, iter(["case_0", "case_1"]))
        assert not temporary_files(folder)


def start_writer(folder, kinds, part, stop_after=None):
    """A process that is ready to write maps, and waits for a line on its standard input.

    After so many files it stops for good, in the middle of the next.
    """
    options = f"num_processes=1, log=lambda text: None, part={part!r}"
    lines = [
        "import os, sys, time",
        "from nnunet_rw.maps.kinds import LabelScheme",
        "from nnunet_rw.store import MapSettings",
        "from nnunet_rw.writing import ensure_maps",
        "synchronise, calls = os.fsync, []",
        "stop = lambda: (print('in the middle', flush=True), time.sleep(60))",
        f"os.fsync = lambda file: (calls.append(file), synchronise(file), len(calls) == {stop_after} + 1 and stop())"
        if stop_after is not None
        else "",
        "print('ready', flush=True)",
        "sys.stdin.readline()",
        f"print(ensure_maps({str(folder)!r}, {list(kinds)!r}, {SETTINGS!r}, {options}))",
    ]
    return subprocess.Popen(
        [sys.executable, "-c", "\n".join(lines)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def let_go(*writers):
    for writer in writers:
        while (line := writer.stdout.readline()) != "ready\n":
            assert line, writer.stderr.read()
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()


def counts_of(*writers):
    outputs = [writer.communicate(timeout=240) for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * len(writers), outputs
    return [int(output) for output, _ in outputs]


class TestProcesses:
    def test_two_parts_at_the_same_moment(self, folder):
        writers = [start_writer(folder, KINDS, (part_id, 2)) for part_id in range(2)]
        let_go(*writers)
        assert counts_of(*writers) == [4, 3]
        assert_all_current(folder)
        assert len(stamps(folder)) == 7 * len(KINDS)

    def test_a_part_does_not_wait_for_another_nor_the_whole_for_a_part(self, folder):
        # The first part hangs in its second case, with its lock held.
        hanging = start_writer(folder, [LESION_IDS], (0, 2), stop_after=1)
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

    def test_a_killed_part_goes_on_where_it_stopped(self, folder):
        kinds = [INTERIOR_DISTANCE, LESION_IDS]
        # Two files of the first case, one of the second, killed in the fourth.
        killed = start_writer(folder, kinds, (0, 2), stop_after=3)
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
