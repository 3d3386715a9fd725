"""What the tests of Slurm, pretended and real, have in common."""

import sys
import time
from pathlib import Path

from nnunet_rw.benchmark.jobs import Job, Task
from nnunet_rw.benchmark.slurm import SlurmExecutor
from nnunet_rw.benchmark.specification import SlurmSettings

STUB = Path(__file__).with_name("slurm_stub.py")
TASK = Task("Task04_Hippocampus", "Dataset004_Hippocampus")
PREPARE = Job("prepare", TASK)


def training(fold):
    return Job("train", TASK, "RWTrainer", 0, fold)


def executor_of(workspace, look_seconds=0.0, **settings):
    return SlurmExecutor(workspace, SlurmSettings(**settings), (sys.executable, str(STUB)), look_seconds)


def wait_until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.3)
