import os
import shutil
import subprocess
from datetime import datetime, timezone

import numpy as np
import pytest
import torch

import nnunet_rw
from nnunet_rw.training import records as run_session
from nnunet_rw.training.records import Git, git_state, peak_host_mib, this_session


def git(folder, *arguments):
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    result = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True
    )
    return result.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    root = tmp_path / "checkout"
    (root / "nnunet_rw").mkdir(parents=True)
    (root / "nnunet_rw" / "module.py").write_text("A = 1\n")
    git(root.parent, "init", "--quiet", "checkout")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "first")
    return root


def test_the_commit_of_a_checkout(checkout):
    assert git_state(checkout) == Git(git(checkout, "rev-parse", "HEAD"), changed=False)


def test_a_changed_or_new_file_of_the_package_is_a_change(checkout):
    (checkout / "notes.txt").write_text("results, perhaps")
    assert not git_state(checkout).changed
    (checkout / "nnunet_rw" / "module.py").write_text("A = 2\n")
    assert git_state(checkout).changed
    git(checkout, "checkout", "--", ".")
    assert not git_state(checkout).changed
    (checkout / "nnunet_rw" / "other.py").write_text("B = 2\n")
    assert git_state(checkout).changed


def test_a_package_within_somebody_elses_checkout_has_no_commit(checkout):
    assert git_state(checkout / "nnunet_rw") is None


def test_no_checkout_no_commits_or_no_git_is_no_error(tmp_path, monkeypatch):
    assert git_state(tmp_path) is None
    if shutil.which("git"):
        git(tmp_path, "init", "--quiet", "empty")
        assert git_state(tmp_path / "empty") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path) is None


def test_a_session_tells_what_the_training_runs_on():
    before = datetime.now(timezone.utc).replace(microsecond=0)
    session = this_session(3, torch.device("cpu"))
    assert before <= datetime.fromisoformat(session.started) <= datetime.now(timezone.utc)
    assert datetime.fromisoformat(session.started).utcoffset().total_seconds() == 0
    assert session.first_epoch == 3
    assert session.device == "cpu"
    assert session.device_name
    assert session.num_gpus == 1
    assert 1 <= session.cpu_count <= os.cpu_count()
    assert session.versions["nnunet_rw"] == nnunet_rw.__version__
    assert session.versions["torch"] == torch.__version__
    assert session.versions["cuda"] == torch.version.cuda
    assert session.versions["numpy"] == np.__version__
    assert {"nnunetv2", "batchgenerators", "batchgeneratorsv2", "python"} < set(session.versions)


def test_the_peak_of_memory_grows_with_what_is_held_and_stays():
    before = peak_host_mib()
    held = np.ones(int(before + 64) * 2**17)  # 8 bytes each: 64 MiB more than the peak
    peak = peak_host_mib()
    assert peak > before + 60
    del held
    assert peak_host_mib() == pytest.approx(peak, abs=1)


def test_the_peak_of_memory_is_unknown_on_windows(monkeypatch):
    monkeypatch.setattr(run_session, "resource", None)
    assert np.isnan(peak_host_mib())
