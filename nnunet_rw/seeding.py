"""Random numbers that are the same in every run of a seed."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_generators(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators, those of the GPUs included."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def mixed_seed(*numbers: int) -> int:
    """One seed below 2^32 from one or more numbers of at least 0, such as a run's seed, an epoch and a rank."""
    # The count comes first: a SeedSequence does not see zeros at its end.
    return int(np.random.SeedSequence([len(numbers), *numbers]).generate_state(1)[0])
