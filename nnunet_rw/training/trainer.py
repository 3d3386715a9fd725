"""nnU-Net's trainer with maps carried to the loss: the only place where the parts of this package meet nnU-Net."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as stock
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_rw.losses import STOCK_TERM, CompoundLoss, Term, build_compound
from nnunet_rw.losses.compound import MappedLoss
from nnunet_rw.maps.kinds import KINDS, LESION_IDS
from nnunet_rw.store.files import MapSettings
from nnunet_rw.store.layout import MapLayout
from nnunet_rw.store.read import StoredMaps
from nnunet_rw.store.write import ensure_maps
from nnunet_rw.training.compatibility import check_nnunet
from nnunet_rw.training.dataloading import CASES_BY, OVERSAMPLE_BY, MapDataLoader, carry_maps, compute_maps
from nnunet_rw.util.files import replaced

check_nnunet()

MAP_SOURCES = ("stored", "patch")
OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
# What some of a trainer's attributes may be.
CHOICES = {
    "map_source": MAP_SOURCES,
    "oversample_by": OVERSAMPLE_BY,
    "cases_by": CASES_BY,
    "optimizer_name": tuple(OPTIMIZERS),
}

# Mixed precision overflows now and then and nnU-Net then skips the step; a row of non-finite losses does not recover.
_MAX_BAD_STEPS_WITH_SCALER = 20


class MapTrainer(nnUNetTrainer):
    """nnU-Net's trainer with a loss of terms, and their maps: the base of all trainers that need maps.

    A subclass, such as `RWTrainer`, changes these attributes and nothing else:

    Attributes
    ----------
    loss_terms : tuple of Term
        "nnunet" stands for nnU-Net's own loss (Dice + cross-entropy, or Dice + binary cross-entropy for regions), other
        names for `nnunet_rw.losses.build`.
    map_source : "stored" or "patch"
        Maps of the whole volume, stored beside the preprocessed arrays and carried through augmentation; or computed
        on the augmented patch, as the papers' own codes do, by the workers or, distances on a GPU, by the loss.
    oversample_by : "voxel" or "lesion"
        How nnU-Net's foreground patches are drawn: a voxel of a class, as nnU-Net does; or a lesion, each alike,
        then a voxel of it.
    cases_by : "case" or "lesion"
        Whether cases are drawn each alike, as nnU-Net does, or in proportion to their number of lesions.
    optimizer_name : "sgd", "adam" or "adamw", optional
        "sgd" is nnU-Net's own: momentum 0.99, Nesterov. Learning rates decay as nnU-Net's with each of them (poly).
    initial_lr, weight_decay : float, optional
        Of the optimiser. None, as which a class leaves it, means what nnU-Net has, or the next class of the bases.
    adam_betas : (float, float)
        How long Adam and AdamW remember the gradient, and its size; SGD has none.
    paper : str
        To be cited.
    """

    loss_terms: tuple[Term, ...] = (Term(STOCK_TERM),)
    map_source = "stored"
    oversample_by = "voxel"
    cases_by = "case"
    optimizer_name: str | None = None
    initial_lr: float | None = None
    weight_decay: float | None = None
    adam_betas: tuple[float, float] = (0.9, 0.999)
    paper = "Isensee et al. 2021, doi 10.1038/s41592-020-01008-z"

    loss: MappedLoss
    _training_dataset: nnUNetBaseDataset | None = None

    # nnU-Net reads the names of this signature.
    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008
    ):
        super().__init__(plans, configuration, fold, dataset_json, device)
        # nnU-Net, or another base, has just set its own on the instance.
        for name in ("initial_lr", "weight_decay"):
            if getattr(type(self), name) is not None:
                setattr(self, name, getattr(type(self), name))

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        if self.optimizer_name is None:
            return super().configure_optimizers()
        check_choice("optimizer_name", self.optimizer_name)
        if self.optimizer_name == "sgd":
            return nnUNetTrainer.configure_optimizers(self)
        optimizer = OPTIMIZERS[self.optimizer_name](
            self.network.parameters(), lr=self.initial_lr, betas=self.adam_betas, weight_decay=self.weight_decay
        )
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)

    def load_checkpoint(self, filename_or_checkpoint: Any) -> None:
        """Refuses to go on with an optimiser that is not the checkpoint's, whose state would not fit."""
        if not self.was_initialized:
            self.initialize()
        before = self.current_epoch

        def check(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
            saved, now = (_optimizer_family(found["param_groups"][0]) for found in (state, optimizer.state_dict()))
            # A training that is over is only validated, with its last weights or its best.
            if saved and now and saved != now and max(before, self.current_epoch) < self.num_epochs:
                raise ValueError(
                    f"{filename_or_checkpoint} was trained with {saved}, but {type(self).__name__} trains with "
                    f'{type(optimizer).__name__} now. Set optimizer_name = "{saved.lower()}" and its initial_lr in a '
                    "trainer of that name, or train again without --c."
                )

        handle = self.optimizer.register_load_state_dict_pre_hook(check)
        try:
            super().load_checkpoint(filename_or_checkpoint)
        finally:
            handle.remove()

    def _build_loss(self) -> MappedLoss:
        for name in ("map_source", "oversample_by", "cases_by"):
            check_choice(name, getattr(self, name))
        stock_loss = super()._build_loss()
        scale_weights = None
        if isinstance(stock_loss, DeepSupervisionWrapper):
            stock_loss, scale_weights = stock_loss.loss, stock_loss.weight_factors
        batch_dice = self.configuration_manager.batch_dice
        compound = trainer_loss(self.loss_terms, stock_loss, self.label_manager, batch_dice, self.is_ddp)
        self._bad_steps = 0
        self.map_settings = MapSettings.from_plans(self.plans_manager, self.configuration_manager, self.dataset_json)
        self.map_layout = MapLayout.of(compound.kinds, self.map_settings.scheme)
        # On a GPU the loss takes a patch's distances itself; connected components are for the CPU.
        on_device = self.map_source == "patch" and self.device.type == "cuda"
        in_batch = [kind for kind in self.map_layout.kinds if kind == LESION_IDS or not on_device]
        self.batch_layout = MapLayout.of(in_batch, self.map_settings.scheme)
        self.print_to_log_file(f"Loss: {compound.formula()}")
        self.print_to_log_file(f"Maps: {', '.join(self.map_layout.kinds) or 'none'} ({self.map_source})")
        spacing_mm = self.map_settings.spacing_mm[-len(self.configuration_manager.patch_size) :]
        return MappedLoss(compound, scale_weights, spacing_mm)

    @classmethod
    def needed_kinds(cls) -> tuple[str, ...]:
        """The kinds of map that the loss asks for, in the order of `nnunet_rw.maps.kinds.KINDS`."""
        needed = build_compound(cls.loss_terms, torch.nn.Identity()).kinds
        return tuple(kind for kind in KINDS if kind in needed)

    @classmethod
    def kinds_on_disk(cls) -> tuple[str, ...]:
        """The kinds that a training reads from disk: those of the loss where they are stored, and lesions to draw."""
        read = {*cls.needed_kinds()} if cls.map_source == "stored" else set()
        if "lesion" in (cls.oversample_by, cls.cases_by):
            read.add(LESION_IDS)
        return tuple(kind for kind in KINDS if kind in read)

    def get_dataloaders(self) -> tuple[Any, Any]:
        self._ensure_maps()
        if not self.map_layout.kinds and not self._draws_by_lesion and self.map_settings.case_axes is None:
            return super().get_dataloaders()
        maps = StoredMaps(self.preprocessed_dataset_folder, self.map_layout, self.map_settings)

        def loader(dataset: nnUNetBaseDataset, *args: Any, **options: Any) -> MapDataLoader:
            return MapDataLoader(
                dataset,
                *args,
                maps=maps,
                carry=bool(self.map_layout.kinds) and self.map_source == "stored",
                oversample_by=self.oversample_by,
                # Validation patches stay those of all cases alike.
                cases_by=self.cases_by if dataset is self._training_dataset else "case",
                **options,
            )

        with replaced(stock, "nnUNetDataLoader", loader):
            return super().get_dataloaders()

    def get_tr_and_val_datasets(self) -> tuple[nnUNetBaseDataset, nnUNetBaseDataset]:
        self._training_dataset, validation = super().get_tr_and_val_datasets()
        return self._training_dataset, validation

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> ComposeTransforms:  # type: ignore[override]
        return self._with_maps(super().get_training_transforms(*args, **kwargs))

    def get_validation_transforms(self, *args: Any, **kwargs: Any) -> ComposeTransforms:  # type: ignore[override]
        return self._with_maps(super().get_validation_transforms(*args, **kwargs))

    def on_train_start(self) -> None:
        if self.device.type == "cpu":
            # Where a network is sure, gradients fall below what a normal float holds, and a CPU takes such numbers
            # one by one: many times slower. As zeros they cost nothing. (GPUs do not mind.)
            torch.set_flush_denormal(True)
        super().on_train_start()

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.loss.loss.set_epoch(self.current_epoch, self.num_epochs)

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        self._bind_maps(batch)
        result = super().train_step(batch)
        self._stop_if_not_finite(float(result["loss"]))
        return result

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        self._bind_maps(batch)
        return super().validation_step(batch)

    def on_train_epoch_end(self, train_outputs: list[dict[str, Any]]) -> None:
        super().on_train_epoch_end(train_outputs)
        self._log_terms("train_terms")

    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        super().on_validation_epoch_end(val_outputs)
        self._log_terms("val_terms")

    def _with_maps(self, pipeline: ComposeTransforms) -> ComposeTransforms:
        if not self.batch_layout.kinds:
            return pipeline
        extend = carry_maps if self.map_source == "stored" else compute_maps
        return extend(pipeline, self.batch_layout)

    def _bind_maps(self, batch: dict[str, Any]) -> None:
        if self.map_settings.case_axes is not None and "spacing_mm" in batch:
            self.loss.spacing_mm = batch["spacing_mm"]
        if "maps" not in batch:
            return
        self.loss.maps = self.batch_layout.split(batch["maps"].to(self.device, non_blocking=True))
        if "lesion_table" in batch:
            self.loss.maps["lesion_table"] = batch["lesion_table"].to(self.device, non_blocking=True)

    def _stop_if_not_finite(self, loss: float) -> None:
        if math.isfinite(loss):
            self._bad_steps = 0
            return
        self._bad_steps += 1
        if self._bad_steps > (_MAX_BAD_STEPS_WITH_SCALER if self.grad_scaler is not None else 0):
            terms = ", ".join(f"{name} = {value:g}" for name, value in self.loss.pop_term_means().items())
            raise FloatingPointError(
                f"The loss is {loss} in epoch {self.current_epoch} (means of its terms: {terms}). Check the images for "
                "NaN or lower initial_lr; the checkpoints of earlier epochs are kept, --c continues from the last."
            )

    def _log_terms(self, prefix: str) -> None:
        means = self.loss.pop_term_means()
        if self.is_ddp:
            gathered: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(gathered, means)
            means = {name: sum(part[name] for part in gathered) / len(gathered) for name in means}
        # nnU-Net's logger knows only its own curves, wants one value per epoch of each, and draws no more epochs than
        # the shortest has: a continued training may have lost a term.
        curves = self.logger.local_logger.my_fantastic_logging
        for gone in [name for name in curves if name.startswith(f"{prefix}/") and name[len(prefix) + 1 :] not in means]:
            del curves[gone]
        for name, value in means.items():
            curves.setdefault(f"{prefix}/{name}", [math.nan] * self.current_epoch)
            self.logger.log(f"{prefix}/{name}", value, self.current_epoch)
        listed = ", ".join(f"{name} {value:.4f}" for name, value in means.items())
        self.print_to_log_file(f"{prefix}: {listed}")

    @property
    def _draws_by_lesion(self) -> bool:
        return "lesion" in (self.oversample_by, self.cases_by)

    def _ensure_maps(self) -> None:
        write = partial(
            ensure_maps,
            self.preprocessed_dataset_folder,
            self.kinds_on_disk(),
            self.map_settings,
            log=self.print_to_log_file,
        )
        if self.is_ddp:
            _run_on_first_rank(write)
        else:
            write()


def check_choice(name: str, value: str) -> None:
    """Refuse, with a ValueError, what an attribute of `CHOICES` cannot be."""
    if value not in CHOICES[name]:
        raise ValueError(f"Expected {name} to be one of {CHOICES[name]}, but got {value!r}.")


def trainer_loss(
    terms: Sequence[Term], stock_loss: torch.nn.Module, labels: LabelManager, batch_dice: bool, ddp: bool = False
) -> CompoundLoss:
    """The loss of a trainer with these terms; Dice-like ones have the settings of nnU-Net's own Dice.

    Parameters
    ----------
    terms : sequence of Term
    stock_loss : Module
        nnU-Net's own, of one output.
    labels : LabelManager
        nnU-Net's, of the dataset.
    batch_dice, ddp : bool
        Of the plans, and of the training.
    """
    return build_compound(
        terms,
        stock_loss,
        {"smooth": 1e-5, "batch_dice": batch_dice, "ddp": ddp},
        regions=labels.has_regions,
        ignore_label=labels.ignore_label,
    )


def check_adam_betas(betas: Sequence[float], optimizer_name: str | None) -> None:
    """Refuse betas that Adam cannot use, or that nobody would: SGD has none.

    Raises
    ------
    ValueError
        Not two numbers of at least 0 and below 1, or others than PyTorch's beside SGD.
    """
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"Expected two Adam betas of at least 0 and below 1, but got {betas!r}.")
    if tuple(betas) != MapTrainer.adam_betas and optimizer_name not in ("adam", "adamw"):
        raise ValueError(
            f"Expected the optimizer adam or adamw beside Adam's betas, but got {optimizer_name or 'sgd'}."
        )


def _optimizer_family(settings: Mapping[str, Any]) -> str | None:
    """SGD or Adam, with all that keep the same state, by the settings of a group of parameters; None for others."""
    # A checkpoint does not name its optimiser.
    return "Adam" if "betas" in settings else "SGD" if "nesterov" in settings else None


def _run_on_first_rank(function: Any) -> None:
    """Run on rank 0 while the others wait; an error there is raised everywhere.

    Over gloo with a long timeout: NCCL gives up after ten minutes, large datasets take longer.
    """
    group = dist.new_group(backend="gloo", timeout=timedelta(days=2))
    outcome: list[Any] = [None]
    if dist.get_rank() == 0:
        try:
            function()
        except Exception as error:
            outcome = [error]
    dist.broadcast_object_list(outcome, src=0, group=group)  # type: ignore[arg-type]
    if outcome[0] is not None:
        raise outcome[0]
