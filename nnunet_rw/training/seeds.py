"""Trainings that a seed determines: a class to put before any of nnU-Net's trainers."""

from __future__ import annotations

import random
from itertools import count
from typing import Any

import numpy as np
import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as stock
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_rw.util.files import replaced


def seed_generators(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators, those of the GPUs included."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def mixed_seed(*numbers: int) -> int:
    """One seed below 2^32 from one or more numbers of at least 0, such as a run's seed, an epoch and a rank."""
    # The count comes first: a SeedSequence does not see zeros at its end.
    return int(np.random.SeedSequence([len(numbers), *numbers]).generate_state(1)[0])


class SeededRun(nnUNetTrainer):
    """Seeds initial weights, patches and augmentation; stands before the trainer among the bases.

    With nnUNet_n_proc_DA=0 a seed gives, on a CPU, the same losses to the last bit. One loading process
    (nnUNet_n_proc_DA=1) gives one sequence of patches as well; several are seeded each, but whose patch comes first
    depends on their speed. A GPU adds in an order of its own, so that losses drift apart from rounding on. A continued
    training draws from its seed and the epoch that it starts in: neither the patches of its first epochs again, nor
    those that it would have drawn without the interruption.

    Attributes
    ----------
    run_seed : int
    """

    run_seed: int

    def initialize(self) -> None:
        # The same weights on every GPU.
        seed_generators(mixed_seed(self.run_seed))
        super().initialize()

    def get_dataloaders(self) -> tuple[Any, Any]:
        worker = count()
        patch_seed = self._patch_seed()

        def seeded(*, num_processes: int, **options: Any) -> NonDetMultiThreadedAugmenter:
            options["seeds"] = [mixed_seed(*patch_seed, next(worker)) for _ in range(num_processes)]
            return NonDetMultiThreadedAugmenter(num_processes=num_processes, **options)

        with replaced(stock, "NonDetMultiThreadedAugmenter", seeded):
            return super().get_dataloaders()

    def on_train_start(self) -> None:
        super().on_train_start()
        # Not before the loaders are made: a loss or the writing of maps may have drawn numbers.
        seed_generators(mixed_seed(*self._patch_seed()))

    def _patch_seed(self) -> tuple[int, ...]:
        return self.run_seed, self.current_epoch, self.local_rank
