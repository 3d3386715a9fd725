"""Trainings that a seed determines and that write down what they do: classes to put before a trainer of nnU-Net's."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import count
from time import perf_counter
from typing import Any

import numpy as np
import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as stock
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch.nn.utils import clip_grad_norm_

from nnunet_rw.training.records import (
    Epoch,
    RunRecord,
    append_iterations,
    content_hash,
    json_hash,
    keep_iterations,
    other_than_recorded,
    peak_host_mib,
    read_run_record,
    this_session,
    write_run_record,
)
from nnunet_rw.util.files import replaced

# "0": predict validation cases as they are and not mirrored along each axis too. With 8 predictions a patch, nnU-Net's
# validation on a CPU takes as long as a short training, and its own commands have no option for it.
VALIDATION_TTA = "nnUNet_rw_validation_tta"
# Of Adam, in torch: not worth a word.
_USUAL_BETAS = (0.9, 0.999)


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


@contextmanager
def gradient_norms() -> Iterator[list[torch.Tensor]]:
    """The norms before clipping, of the steps within: clipping returns them, and nnU-Net throws them away.

    They stay on their device: reading one would make the step wait for the GPU.
    """
    norms: list[torch.Tensor] = []

    def clip(*args: Any, **kwargs: Any) -> torch.Tensor:
        norms.append(clip_grad_norm_(*args, **kwargs))
        return norms[-1]

    with replaced(torch.nn.utils, "clip_grad_norm_", clip):
        yield norms


class TimedBatches:
    """An iterator that measures how long it is waited for.

    Attributes
    ----------
    batches : iterator
        What nnU-Net made.
    seconds : float
        Of the last batch.
    """

    def __init__(self, batches: Any):
        self.batches = batches
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        started = perf_counter()
        batch = next(self.batches)
        self.seconds = perf_counter() - started
        return batch


@contextmanager
def pairs(network: torch.nn.Module) -> Iterator[None]:
    """Let a network that is given one patch at a time work on it twice, side by side.

    Torch convolves a single small patch on a CPU by other code, many times slower than oneDNN's, which it takes for a
    batch of two: a patch of 32 x 32 x 32 voxels takes 0.3 of the time, of 48 x 48 x 48 half. The results are the same
    but for rounding.
    """

    def doubled(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        (patch,) = inputs
        return (patch.expand(2, *patch.shape[1:]),) if len(patch) == 1 else None

    def halved(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        return output[:1] if inputs[0].stride(0) == 0 else output

    hooks = (network.register_forward_pre_hook(doubled), network.register_forward_hook(halved))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class RecordedRun(SeededRun):
    """A seeded training that writes ``run.json`` and ``iterations.csv``; stands before the trainer among the bases.

    Attributes
    ----------
    trainer_name : str
        Without length and seed.
    """

    trainer_name: str
    save_every: int
    dataloader_train: Any
    inference_allowed_mirroring_axes: tuple[int, ...] | None

    def __init__(self, plans: dict, *settings: Any):
        # Before nnU-Net completes old plans in place. It reads the signature of the class that is made of this one.
        self._plans_sha256 = json_hash(plans)
        self._steps: list[tuple[Any, Any, float]] = []
        super().__init__(plans, *settings)

    def initialize(self) -> None:
        super().initialize()
        # Before a checkpoint brings the settings that it was written with.
        self._optimizer_text = optimizer_text(self.optimizer, self.lr_scheduler)
        if self.device.type == "cpu":
            # A CPU's convolutions, forward and backward, take 0.7 of the time in this layout of memory. The results
            # are the same but for rounding.
            is_3d = len(self.configuration_manager.patch_size) == 3
            self.network.to(memory_format=torch.channels_last_3d if is_3d else torch.channels_last)

    def on_train_start(self) -> None:
        first = self.local_rank == 0
        # From epoch 0 on, the training is another one than the folder's.
        earlier = self._earlier_record() if first and self.current_epoch > 0 else None
        super().on_train_start()
        # nnU-Net's 50 would leave a short training nothing to resume from but its best epoch.
        self.save_every = max(1, min(self.save_every, self.num_epochs // 10))
        self.dataloader_train = TimedBatches(self.dataloader_train)
        if first:
            self._record = self._new_record(earlier)
            write_run_record(self.output_folder, self._record)
            keep_iterations(self.output_folder, {epoch.epoch for epoch in self._record.epochs})

    def on_epoch_start(self) -> None:
        super().on_epoch_start()
        self._steps.clear()
        self._epoch_started = perf_counter()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        with gradient_norms() as norms:
            result = super().train_step(batch)
        norm = norms[-1] if norms else torch.nan
        self._steps.append((result["loss"], norm, getattr(self.dataloader_train, "seconds", 0.0)))
        return result

    def on_epoch_end(self) -> None:
        # Before nnU-Net writes a checkpoint, so that the record never lacks an epoch that a checkpoint has behind it.
        if self.local_rank == 0:
            self._record_epoch()
        super().on_epoch_end()

    def on_train_end(self) -> None:
        # nnU-Net shuts down its loaders by their class.
        if isinstance(self.dataloader_train, TimedBatches):
            self.dataloader_train = self.dataloader_train.batches
        super().on_train_end()

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        record = read_run_record(self.output_folder) if self.local_rank == 0 else None
        started = perf_counter()
        tta = os.environ.get(VALIDATION_TTA) != "0"
        axes = self.inference_allowed_mirroring_axes if tta else None
        in_pairs = pairs(self.network) if self.device.type == "cpu" else nullcontext()
        with replaced(self, "inference_allowed_mirroring_axes", axes), in_pairs:
            super().perform_actual_validation(save_probabilities)
        if record is not None:
            seconds = perf_counter() - started
            write_run_record(self.output_folder, replace(record, validation_seconds=seconds, validation_tta=tta))

    def _record_epoch(self) -> None:
        seconds = perf_counter() - self._epoch_started
        append_iterations(
            self.output_folder,
            (
                (self.current_epoch, step, float(loss), float(norm), wait)
                for step, (loss, norm, wait) in enumerate(self._steps)
            ),
        )
        logged = {
            name: float(self.logger.get_value(key, step=-1))
            for name, key in (
                ("train_loss", "train_losses"),
                ("val_loss", "val_losses"),
                ("pseudo_dice", "mean_fg_dice"),
                ("learning_rate", "lrs"),
            )
        }
        on_gpu = self.device.type == "cuda"
        epoch = Epoch(
            epoch=self.current_epoch,
            seconds=seconds,
            loader_wait_seconds=sum(wait for _, _, wait in self._steps),
            peak_host_mib=peak_host_mib(),
            peak_gpu_mib=torch.cuda.max_memory_allocated(self.device) / 2**20 if on_gpu else None,
            peak_gpu_reserved_mib=torch.cuda.max_memory_reserved(self.device) / 2**20 if on_gpu else None,
            **logged,
        )
        self._record = replace(self._record, epochs=(*self._record.epochs, epoch))
        write_run_record(self.output_folder, self._record)

    def _earlier_record(self) -> RunRecord | None:
        record = read_run_record(self.output_folder)
        if record is None:
            return None
        for name, before, now in (
            ("plans", record.plans_sha256, self._plans_sha256),
            ("splits_final.json", record.splits_sha256, self._splits_sha256()),
        ):
            if before != now:
                raise ValueError(
                    f"The training in {self.output_folder} began with other {name} than there are now. Restore them, "
                    "or train again without --c."
                )
        other = other_than_recorded(record, loss_formula(self.loss), self._optimizer_text)
        if other:
            raise ValueError(
                f"The training in {self.output_folder} began with {other[0]}, and its trainer has {other[1]} now. "
                "Restore the trainer, or train again without --c."
            )
        return record

    def _splits_sha256(self) -> str | None:
        return content_hash(os.path.join(self.preprocessed_dataset_folder_base, "splits_final.json"))

    def _new_record(self, earlier: RunRecord | None) -> RunRecord:
        session = this_session(self.current_epoch, self.device)
        return RunRecord(
            trainer=self.trainer_name,
            class_name=type(self).__name__,
            seed=self.run_seed,
            dataset=self.plans_manager.dataset_name,
            configuration=self.configuration_name,
            plans=self.plans_manager.plans_name,
            fold=self.fold,
            num_epochs=self.num_epochs,
            iterations_per_epoch=self.num_iterations_per_epoch,
            batch_size=self.configuration_manager.batch_size,
            patch_size=tuple(int(size) for size in self.configuration_manager.patch_size),
            num_parameters=sum(parameter.numel() for parameter in self.network.parameters()),
            loss=loss_formula(self.loss),
            optimizer=self._optimizer_text,
            plans_sha256=self._plans_sha256,
            splits_sha256=self._splits_sha256(),
            sessions=(*(earlier.sessions if earlier else ()), session),
            epochs=tuple(epoch for epoch in (earlier.epochs if earlier else ()) if epoch.epoch < self.current_epoch),
        )


def loss_formula(loss: Any) -> str:
    """The formula of a loss of this package, the class of another; of what deep supervision wraps."""
    while not hasattr(loss, "formula") and isinstance(getattr(loss, "loss", None), torch.nn.Module):
        loss = loss.loss
    return loss.formula() if hasattr(loss, "formula") else type(loss).__name__


def optimizer_text(optimizer: torch.optim.Optimizer, schedule: Any) -> str:
    """An optimiser with its settings, and how its learning rate changes: "Adam, lr 0.001, weight decay 3e-05, poly"."""
    settings = optimizer.param_groups[0]
    # A scheduler keeps the rate that it begins with.
    parts = [type(optimizer).__name__, f"lr {settings.get('initial_lr', settings['lr']):g}"]
    if settings.get("momentum"):
        parts.append(f"momentum {settings['momentum']:g}")
    if settings.get("betas", _USUAL_BETAS) != _USUAL_BETAS:
        parts.append("betas " + " and ".join(f"{beta:g}" for beta in settings["betas"]))
    parts += [name for key, name in (("nesterov", "Nesterov"), ("amsgrad", "AMSGrad")) if settings.get(key)]
    if settings.get("weight_decay"):
        parts.append(f"weight decay {settings['weight_decay']:g}")
    if schedule is not None:
        parts.append("poly" if isinstance(schedule, PolyLRScheduler) else type(schedule).__name__)
    return ", ".join(parts)
