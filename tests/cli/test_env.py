"""`nnunet-rw env`: the line that a shell evaluates."""

import os
import subprocess
from pathlib import Path

import pytest

from nnunet_rw.training import catalogue

TRAINERS = Path(__file__).resolve().parents[2] / "trainers"


def evaluated(line):
    """The variable after bash has read the line."""
    script = f'eval "$LINE"; printf %s "${catalogue.VARIABLE}"'
    done = subprocess.run(["bash", "-c", script], env={**os.environ, "LINE": line}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("others", [[], ["/my/trainers"], ["/a folder", '/it\'s "$HOME" `ls`; !']])
def test_env_keeps_other_folders_and_can_be_repeated(succeeds, monkeypatch, others):
    monkeypatch.setenv(catalogue.VARIABLE, os.pathsep.join(others))
    first = evaluated(succeeds("env"))
    assert first.split(os.pathsep) == [*others, str(TRAINERS)]
    monkeypatch.setenv(catalogue.VARIABLE, first)
    assert evaluated(succeeds("env")) == first
    # Where the line of an earlier version has put this package first.
    monkeypatch.setenv(catalogue.VARIABLE, os.pathsep.join([str(TRAINERS), *others]))
    assert evaluated(succeeds("env")) == first


def test_env_where_nothing_is_set(succeeds, monkeypatch):
    monkeypatch.delenv(catalogue.VARIABLE, raising=False)
    line = succeeds("env")
    assert line.count("\n") == 1
    assert evaluated(line) == str(TRAINERS)


def test_env_quotes_the_folder_of_this_package(succeeds, monkeypatch):
    folder = Path("/a place/of $USER's/trainers")
    monkeypatch.setattr(catalogue, "trainers_folder", lambda: folder)
    monkeypatch.setenv(catalogue.VARIABLE, "")
    assert evaluated(succeeds("env")) == str(folder)
