"""Where jobs run."""

from nnunet_rw.benchmark.executors.base import Executor
from nnunet_rw.benchmark.executors.local import LocalExecutor

__all__ = ["Executor", "LocalExecutor"]
