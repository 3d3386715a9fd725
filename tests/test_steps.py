import os
import re
import sys

import pytest

from nnunet_rw import steps
from nnunet_rw.steps import CommandFailed, run_command


def python(*lines):
    return [sys.executable, "-c", "\n".join(lines)]


def test_log_holds_all_output_in_order(tmp_path):
    log = tmp_path / "new" / "folder" / "log.txt"
    command = python(
        "import sys", "for i in range(3):", "    print('out', i, flush=True)", "    print(i, file=sys.stderr)"
    )
    run_command(command, log, os.environ, "title")
    assert log.read_text() == "out 0\n0\nout 1\n1\nout 2\n2\n"


def test_log_of_an_earlier_run_is_replaced(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("old\n")
    run_command(python("print('new')"), log, os.environ, "title")
    assert log.read_text() == "new\n"


def test_environment_is_all_that_the_command_sees(tmp_path, monkeypatch):
    monkeypatch.setenv("FROM_OUTSIDE", "1")
    log = tmp_path / "log.txt"
    run_command(
        python("import os", "print(os.environ['GIVEN'], 'FROM_OUTSIDE' in os.environ)"), log, {"GIVEN": "a"}, "t"
    )
    assert log.read_text() == "a False\n"


@pytest.mark.parametrize(("pattern", "expected"), [(None, 4), (r"^epoch \d", 2)])
def test_bar_moves_with_matching_lines(tmp_path, monkeypatch, pattern, expected):
    bars = []

    class Bar(steps.tqdm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            bars.append(self)

    monkeypatch.setattr(steps, "tqdm", Bar)
    command = python("print('start\\nepoch 1\\nthis is no epoch 2\\nepoch 3')")
    run_command(command, tmp_path / "log.txt", os.environ, "title", pattern, total=5)
    assert [(bar.n, bar.total, bar.desc) for bar in bars] == [(expected, 5, "title")]


def test_failure_names_command_and_log_and_quotes_the_last_lines(tmp_path):
    log = tmp_path / "log.txt"
    command = python("for i in range(7):", "    print('line', i)", "print()", "raise SystemExit(3)")
    # Of the lines that say something the last five.
    tail = "line 2 | line 3 | line 4 | line 5 | line 6"
    with pytest.raises(
        CommandFailed, match=re.escape(f"failed. Its output is in {log}; the end of it: {tail}")
    ) as info:
        run_command(command, log, os.environ, "title")
    assert str(info.value).startswith(sys.executable)
    assert "line 0\n" in log.read_text()


def test_failure_by_a_signal_is_one(tmp_path):
    command = python("import os, signal", "os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(CommandFailed, match=r"failed\. Its output is in"):
        run_command(command, tmp_path / "log.txt", os.environ, "title")


def test_command_that_does_not_exist_says_what_to_install(tmp_path):
    with pytest.raises(CommandFailed, match=r"^nnUNetv2_no_such is not installed. Run: pip install nnunetv2$"):
        run_command(["nnUNetv2_no_such"], tmp_path / "log.txt", os.environ, "title")


def test_output_that_is_no_text_does_not_stop_a_command(tmp_path):
    log = tmp_path / "log.txt"
    command = python(
        "import sys", r"sys.stdout.buffer.write(b'\xff\n')", "sys.stdout.flush()", "print('after', flush=True)"
    )
    run_command(command, log, os.environ, "title")
    assert log.read_text(encoding="utf-8").endswith("after\n")
