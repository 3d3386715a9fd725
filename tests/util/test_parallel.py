"""Functions here are of the standard library: a process that calls them starts in no time."""

import contextlib
import math
import operator
import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool

import pytest

from nnunet_rw.util import parallel
from nnunet_rw.util.parallel import MIN_TASKS_FOR_WORKERS, default_processes, in_processes, list_in_processes


@pytest.fixture
def no_workers(monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("a process was started")

    monkeypatch.setattr(parallel, "ProcessPoolExecutor", refuse)


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_with_their_index(processes):
    tasks = [(base, 2) for base in range(12)]
    results = list(in_processes(math.pow, tasks, "Squares", processes))
    assert sorted(results) == [(index, index**2) for index in range(12)]


@pytest.mark.parametrize("processes", [1, 2])
def test_listed_results_are_in_order(processes):
    tasks = [(base, 2) for base in range(12)]
    assert list_in_processes(math.pow, tasks, "Squares", processes) == [base**2 for base in range(12)]


def test_work_is_done_in_other_processes():
    pids = {pid for _, pid in in_processes(os.getpid, [()] * MIN_TASKS_FOR_WORKERS, "Ids", 2)}
    assert os.getpid() not in pids
    assert len(pids) <= 2


@pytest.mark.parametrize(
    ("number", "processes"), [(MIN_TASKS_FOR_WORKERS - 1, 4), (20, 1), (0, 2)], ids=["few tasks", "one process", "none"]
)
def test_little_work_is_done_in_this_process_and_in_order(no_workers, number, processes):
    results = list(in_processes(operator.neg, [(value,) for value in range(number)], "Few", processes))
    assert results == [(index, -index) for index in range(number)]


def test_first_error_of_this_process_ends_it(tmp_path):
    # The second folder is there already.
    folders = [tmp_path / name for name in "aab"]
    done = in_processes(os.mkdir, [(folder,) for folder in folders], "Folders", 1)
    assert next(done) == (0, None)
    with pytest.raises(FileExistsError):
        next(done)
    assert not folders[2].exists()


def test_first_error_of_a_process_cancels_what_has_not_begun(tmp_path):
    files = [tmp_path / f"{number}" for number in range(20)]
    tasks = [(["false"],), *((["sh", "-c", f"sleep 0.3; touch {file}"],) for file in files)]
    with pytest.raises(subprocess.CalledProcessError):
        list(in_processes(subprocess.check_call, tasks, "Files", 2))
    # In 2 processes, and as many wait in their queue.
    assert sum(file.exists() for file in files) < 10


def test_whoever_takes_no_more_results_cancels_the_rest(tmp_path):
    files = [tmp_path / f"{number}" for number in range(20)]
    tasks = [(["sh", "-c", f"sleep 0.3; touch {file}"],) for file in files]
    results = in_processes(subprocess.check_call, tasks, "Files", 2)
    next(results)
    results.close()
    assert sum(file.exists() for file in files) < 10


def test_process_that_dies_is_an_error():
    with pytest.raises(BrokenProcessPool):
        list(in_processes(os._exit, [(1,)] * MIN_TASKS_FOR_WORKERS, "Exits", 2))


@pytest.mark.parametrize("processes", [1, 2])
def test_progress_on_a_terminal(monkeypatch, capsys, processes):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    list(in_processes(operator.neg, [(value,) for value in range(9)], "Cases", processes))
    text = capsys.readouterr().err
    assert "Cases:   0%" in text
    assert "Cases: 100%" in text
    assert "9/9" in text


def test_no_progress_in_a_file(capsys):
    list(in_processes(operator.neg, [(1,), (2,)], "Cases", 1))
    assert capsys.readouterr().err == ""


def test_number_of_processes_is_nnunet_s_but_at_most_that_of_processors(monkeypatch):
    monkeypatch.setattr(parallel, "default_num_processes", 8)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert default_processes() == 3
    monkeypatch.setattr(parallel, "default_num_processes", 2)
    assert default_processes() == 2
    # Not every system tells.
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert default_processes() == 1


def test_interruption_ends_the_processes_and_prints_nothing(tmp_path):
    script = tmp_path / "sleep.py"
    script.write_text(
        "import pathlib, time\n"
        "from nnunet_rw.util.parallel import list_in_processes\n"
        "def work(number):\n"
        f"    pathlib.Path({str(tmp_path)!r}, str(number)).touch()\n"
        "    time.sleep(60)\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        list_in_processes(work, [(number,) for number in range(10)], 'Sleeping', 2)\n"
        "    except KeyboardInterrupt:\n"
        "        print('interrupted')\n"
    )
    # A session of its own: Ctrl-C reaches every process of it, and no other.
    # It heeds it also where the tests run in the background of a shell, which then ignore it.
    process = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (tmp_path / "1").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    try:
        out, errors = process.communicate(timeout=30)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert (out, "Traceback" in errors, process.returncode) == ("interrupted\n", False, 0), errors
