"""The command as a whole: how it starts, its help and version, and an interruption."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_rw import __version__
from nnunet_rw.cli import _GROUPS, _told, argument_parser, main
from nnunet_rw.training import catalogue

CHECKOUT = Path(__file__).resolve().parents[2]
TRAINERS = CHECKOUT / "trainers"


def test_as_a_module_in_a_process_of_its_own(nnunet):
    def run(*arguments):
        return subprocess.run([sys.executable, "-m", "nnunet_rw", *arguments], capture_output=True, text=True)

    good, wrong = run("env"), run("maps", "-d", "4")
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.startswith("export nnUNet_extTrainer=")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert re.fullmatch(r"nnunet-rw: No dataset '4'[^\n]+\n", wrong.stderr)


def test_error_of_a_renaming_names_the_file_and_not_the_temporary_one(tmp_path):
    (tmp_path / ".x.tmp").touch()
    target = tmp_path / ("c" * 300)
    with pytest.raises(OSError, match="File name too long") as info:
        os.replace(tmp_path / ".x.tmp", target)
    assert _told(info.value).startswith(f"{target}: File name too long")


def test_script_of_the_checkout_works_without_an_installation():
    script = str(CHECKOUT / "scripts" / "nnunet-rw")
    # -S keeps out an editable installation, which works through a .pth file; the path brings nnU-Net back.
    packages = [path for path in sys.path if path.endswith("-packages")]
    start = f"import runpy, sys; sys.path += {packages}; runpy.run_path({script!r}, run_name='__main__')"
    command = [sys.executable, "-S", "-c", start, "trainers"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=TRAINERS)
    assert (done.returncode, done.stderr) == (0, "")
    assert "RWTrainer_IWDiceCE_RRW" in done.stdout


def test_script_of_the_checkout_runs_nothing_in_a_spawned_process(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["nnunet-rw", "env"])
    # What multiprocessing does with the main file of its parent.
    runpy.run_path(str(CHECKOUT / "scripts" / "nnunet-rw"), run_name="__mp_main__")
    assert capsys.readouterr().out == ""


def commands_of(parser):
    (commands,) = (action for action in parser._actions if action.dest == "command")
    return tuple(commands.choices)


@pytest.mark.parametrize("group", _GROUPS)
def test_a_command_imports_its_own_group(group):
    for command in _GROUPS[group]:
        assert commands_of(argument_parser(command)) == _GROUPS[group]


def test_all_commands_are_in_the_help():
    assert commands_of(argument_parser()) == tuple(name for names in _GROUPS.values() for name in names)


def test_the_line_of_a_shells_start_up_file_waits_for_no_torch():
    check = "import sys; from nnunet_rw.cli import main; main(['env']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True).returncode == 0


def test_version(capsys):
    with pytest.raises(SystemExit) as info:
        main(["--version"])
    assert info.value.code == 0
    assert capsys.readouterr().out == f"nnunet-rw {__version__}\n"


COMMANDS = (
    "env",
    "trainers",
    "new-trainer",
    "export",
    "doctor",
    "preprocess",
    "maps",
    "splits",
    "show",
    "msd",
    "synthesize",
    "small-plans",
    "audit",
    "stability",
    "demo",
    "benchmark",
    "report",
    "evaluate",
    "overlay",
    "compare",
    "ensemble",
    "threshold",
)


def test_help_names_every_command_and_a_first_training(capsys):
    with pytest.raises(SystemExit) as info:
        main(["--help"])
    assert info.value.code == 0
    text = capsys.readouterr().out
    assert tuple(re.findall(r"^    ([a-z-]+)(?: |$)", text, re.MULTILINE)) == COMMANDS
    assert 'eval "$(nnunet-rw env)"' in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys, command):
    with pytest.raises(SystemExit) as info:
        main([command, "--help"])
    assert info.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: nnunet-rw {command}")


def test_interruption_says_what_the_same_command_does(monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(catalogue, "export_line", interrupt)
    assert main(["env"]) == 130
    assert capsys.readouterr().err == "nnunet-rw: interrupted\n"
    monkeypatch.setattr("nnunet_rw.datasets.msd.decathlon_task", interrupt)
    assert main(["msd", "Task04_Hippocampus"]) == 130
    assert capsys.readouterr().err == "nnunet-rw: interrupted; the same command resumes where it stopped\n"
