import random

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as stock
from trainings import make_trainer

from nnunet_rw.training.recorded_run import mixed_seed, seed_generators
from nnunet_rw.training.records import read_iterations

STARTS = {"RWTrainer": "RWTrainer_1epochs_2iterations", "nnUNetTrainer": "nnUNetTrainer_1epochs_2iterations"}


@pytest.fixture(autouse=True)
def dataset(make_dataset, blobs):
    return make_dataset({name: blobs((20, 22, 24), seed) for seed, name in enumerate("abc")})


def trained(name):
    """Final weights, and loss and gradient norm of every iteration."""
    trainer = make_trainer(name)
    trainer.run_training()
    columns = read_iterations(trainer.output_folder)
    return trainer.network.state_dict(), columns["loss"], columns["gradient_norm"]


def first_patches(name, epoch=0, rank=0):
    """Initial weights and the first three batches of a training that starts in an epoch."""
    trainer = make_trainer(name)
    trainer.current_epoch, trainer.local_rank = epoch, rank
    trainer.initialize()
    weights = {key: value.clone() for key, value in trainer.network.state_dict().items()}
    # Rank 0 is to have written what others only read.
    trainer.on_train_start()
    return weights, [next(trainer.dataloader_train)["data"] for _ in range(3)]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("trainer", STARTS)
def test_the_same_seed_trains_the_same_to_the_last_bit(trainer):
    # The first of them writes maps as well, where the loss needs them.
    weights, losses, norms = trained(f"{STARTS[trainer]}_seed1")
    again, losses_again, norms_again = trained(f"{STARTS[trainer]}_seed1")
    assert len(losses) == 2
    np.testing.assert_array_equal(losses, losses_again)
    np.testing.assert_array_equal(norms, norms_again)
    assert same(weights.values(), again.values())


def test_another_seed_has_other_weights_and_other_patches():
    weights, patches = first_patches("nnUNetTrainer_seed1")
    other_weights, other_patches = first_patches("nnUNetTrainer_seed2")
    assert not same(weights.values(), other_weights.values())
    for patch, other in zip(patches, other_patches, strict=True):
        assert not torch.equal(patch, other)


def test_trainers_of_one_seed_start_from_the_same_weights_and_see_the_same_patches():
    # The loss is all that they differ in; one of them carries maps with its patches.
    weights, patches = first_patches("nnUNetTrainer_20epochs_seed1")
    other_weights, other_patches = first_patches("RWTrainer_seed1")
    assert same(weights.values(), other_weights.values())
    assert same(patches, other_patches)


def test_gpus_share_weights_but_not_patches():
    first_patches("nnUNetTrainer_seed1")
    (weights, patches), (other_weights, other_patches) = (
        first_patches("nnUNetTrainer_seed1", rank=rank) for rank in (0, 1)
    )
    assert same(weights.values(), other_weights.values())
    assert not any(torch.equal(a, b) for a, b in zip(patches, other_patches, strict=True))


def test_a_continued_training_does_not_see_the_first_patches_again():
    patches = [first_patches("nnUNetTrainer_seed1", epoch)[1] for epoch in (0, 1, 2, 1)]
    assert not any(torch.equal(a, b) for other in (patches[1], patches[2]) for a in patches[0] for b in other)
    assert same(patches[1], patches[3])


def test_every_loading_process_gets_a_seed_of_its_own(monkeypatch):
    class Augmenter:
        """In the place of nnU-Net's: starts no processes, remembers the seeds that they would have got."""

        def __init__(self, *, num_processes, seeds, data_loader, transform, num_cached, pin_memory, wait_time):
            assert len(seeds) == num_processes
            seen.append(seeds)

        def __next__(self):
            return {}

    monkeypatch.setattr("nnunet_rw.training.recorded_run.NonDetMultiThreadedAugmenter", Augmenter)
    monkeypatch.setattr(stock, "get_allowed_n_proc_DA", lambda: 4)
    seen, of_run = [], {}
    for run in ((1, 0, 0), (2, 0, 0), (1, 3, 0), (1, 0, 1)):
        seed, epoch, rank = run
        trainer = make_trainer(f"nnUNetTrainer_seed{seed}")
        trainer.current_epoch, trainer.local_rank = epoch, rank
        trainer.initialize()
        for _ in range(2):
            seen.clear()
            trainer.get_dataloaders()
            # Four for training, two for validation; the same whenever asked.
            assert [len(seeds) for seeds in seen] == [4, 2]
            seeds = [*seen[0], *seen[1]]
            assert of_run.setdefault(run, seeds) == seeds
    everyone = [seed for seeds in of_run.values() for seed in seeds]
    assert len(set(everyone)) == len(everyone) == 4 * 6
    # Only while loaders are made.
    assert stock.NonDetMultiThreadedAugmenter is not Augmenter


@pytest.mark.slow
def test_one_loading_process_gives_the_same_patches(monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    _, losses, _ = trained("RWTrainer_1epochs_4iterations_seed1")
    _, again, _ = trained("RWTrainer_1epochs_4iterations_seed1")
    np.testing.assert_array_equal(losses, again)


def test_generators_are_seeded():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    seed_generators(1)
    first = draw()
    seed_generators(1)
    assert draw() == first
    seed_generators(2)
    assert not set(draw()) & set(first)


def test_mixed_seeds_differ_in_every_number_and_their_count():
    mixtures = [(), (0,), (1,), (0, 0), (1, 0), (0, 1), (1, 0, 0), (0, 0, 1), (2**40,)]
    seeds = [mixed_seed(*numbers) for numbers in mixtures]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert mixed_seed(1, 2) == mixed_seed(1, 2)
