"""How much of the gradient a term of a loss has, in the network's parameters.

Of a loss L = sum of w_t L_t, summed over the scales of deep supervision as in training, the share of a term is

    |w_t grad L_t| / |grad of the other terms together|

and its cosine is that between the two. Both are medians over batches of two patches, one anywhere and one around a
foreground voxel, unaugmented, with maps of the whole volume. They are taken twice, with the weights of the first epoch
at the initial weights of a network, and with those of the last epoch after `ITERATIONS` with nnU-Net's own loss and the
optimiser of its first epoch. That training is the same for all trainers, whatever their loss and optimiser.

Datasets that are preprocessed have real images and labels. Of the lesions that come with the benchmarks only the labels
are real, their images are drawn: lesions brighter than their surroundings, blurred, with texture and noise.
What the number of classes does is measured on ellipsoids, labelled in turn 1 to C - 1, each class with a brightness of
its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.nn.functional import interpolate

from benchmarks.inputs import MS_SPACING_MM, ms_crops, organ_labels
from nnunet_rw.audit.audit import NUM_EPOCHS, loss_of_terms
from nnunet_rw.audit.curves import CLIP_NORM
from nnunet_rw.datasets.folders import open_preprocessed
from nnunet_rw.losses import CompoundLoss, Term
from nnunet_rw.losses.compound import MappedLoss, weight_at
from nnunet_rw.losses.inputs import LESION_TABLE
from nnunet_rw.maps.kinds import KINDS, LESION_IDS, LabelScheme, compute_distances, compute_lesion_ids
from nnunet_rw.store.layout import lesion_table_tensor
from nnunet_rw.training.catalogue import loss_text, trainer_classes
from nnunet_rw.training.recorded_run import seed_generators
from nnunet_rw.training.trainer import STOCK_TERM, MapTrainer

ITERATIONS, BATCHES, PATCH = 250, 8, 32
CLASSES = (2, 3, 15)
# nnU-Net's length: schedules are taken at its first and its last epoch.
EPOCHS = NUM_EPOCHS
FEATURES = (8, 16, 32, 64)
# nnU-Net's of three outputs; the coarsest has none.
SCALE_WEIGHTS = (2 / 3, 1 / 3, 0.0)
LESIONS, ELLIPSOIDS = "MS lesions, drawn images", "ellipsoids"
# Whose share is taken with several numbers of classes.
BESIDE_STOCK = {"mean over classes": Term("rrw"), "sum over classes": Term("rrw", options={"sum_classes": True})}
_MOST_CASES = 20


@dataclass(frozen=True)
class Volume:
    """An image with its maps.

    Attributes
    ----------
    image : (M, X, Y, Z) float32
    labels : (X, Y, Z) uint8
    maps : dict of kind to (K, X, Y, Z) float32
    lesion_table : (2, L + 1) float32
    spacing_mm : tuple of float
    """

    image: np.ndarray
    labels: np.ndarray
    maps: dict[str, np.ndarray]
    lesion_table: torch.Tensor
    spacing_mm: tuple[float, ...]


@dataclass(frozen=True)
class Batch:
    """Patches (B, M, X, Y, Z), their targets on each scale, and their maps."""

    image: torch.Tensor
    targets: list[torch.Tensor]
    maps: dict[str, torch.Tensor]


def run(
    datasets: Sequence[str] = (),
    iterations: int = ITERATIONS,
    batches: int = BATCHES,
    patch: int = PATCH,
    classes: Sequence[int] = CLASSES,
) -> list[dict[str, Any]]:
    """A row for each term of each trainer with several; then of RRW beside nnU-Net's loss, by number of classes.

    Parameters
    ----------
    datasets : sequence of str
        Preprocessed ones with real images, of which the trainers' terms are measured as well.
    iterations, batches : int
        Of the short training, and measured.
    patch : int
        Edge in voxels; less along an axis of which a dataset's cases have less.
    classes : sequence of int
        Numbers of classes of the ellipsoids, the background included.
    """
    trainers = {name: trainer.loss_terms for name, trainer in compound_trainers().items()}
    beside_stock = {name: (Term(STOCK_TERM), term) for name, term in BESIDE_STOCK.items()}
    measure = partial(_measure, iterations=iterations, batches=batches)
    cube = (patch,) * 3
    rows = measure("trainers", LESIONS, lesion_volumes(), 2, cube, trainers)
    for dataset in datasets:
        name = open_preprocessed(dataset, "3d_fullres").dataset_folder.name
        rows += measure("datasets", name, *preprocessed_volumes(dataset, patch), {**trainers, **beside_stock})
    for number in classes:
        rows += measure("classes", ELLIPSOIDS, ellipsoid_volumes(number), number, cube, beside_stock)
    return rows


def compound_trainers() -> dict[str, type[MapTrainer]]:
    """Those of several terms; each with nnU-Net's optimiser, as the measured network is trained."""
    several = {name: trainer for name, trainer in trainer_classes().items() if len(trainer.loss_terms) > 1}
    return {name: trainer for name, trainer in several.items() if trainer.optimizer_name is None}


def _measure(
    measured: str,
    data: str,
    volumes: Sequence[Volume],
    num_classes: int,
    patch: Sequence[int],
    compared: Mapping[str, tuple[Term, ...]],
    iterations: int,
    batches: int,
) -> list[dict[str, Any]]:
    losses = term_losses(compared, num_classes, volumes[0].spacing_mm)
    torch.set_flush_denormal(True)  # as `RWTrainer.on_train_start`
    seen = _batches(volumes, batches, patch, np.random.default_rng(1))
    seed_generators(0)
    network = small_network(volumes[0].image.shape[0], num_classes)
    at_start = [term_gradients(network, losses, batch) for batch in seen]
    _train(network, losses[term_key(Term(STOCK_TERM))], _batches(volumes, iterations, patch, np.random.default_rng(0)))
    trained = [term_gradients(network, losses, batch) for batch in seen]
    dice = _foreground_dice(network, seen)
    rows = []
    for trainer, terms in compared.items():
        first, last = shares(terms, at_start, 0), shares(terms, trained, EPOCHS - 1)
        for term, at_first, at_last in zip(terms, first, last, strict=True):
            rows.append(
                {
                    "measured": measured,
                    "data": data,
                    "classes": num_classes,
                    "trainer": trainer,
                    "term": loss_text([Term(term.loss, options=term.options)]),
                    "weight": term.weight if isinstance(term.weight, str) else f"{term.weight:g}",
                    "stock": term.loss == STOCK_TERM,
                    "weight_at_start": weight_at(term.weight, 0, EPOCHS),
                    "weight_at_end": weight_at(term.weight, EPOCHS - 1, EPOCHS),
                    "share_at_start": at_first.share,
                    "share_at_start_range": at_first.range,
                    "share_trained": at_last.share,
                    "share_trained_range": at_last.range,
                    "cosine_at_start": at_first.cosine,
                    "cosine_trained": at_last.cosine,
                    "dice_trained": dice,
                }
            )
    return rows


def term_key(term: Term) -> str:
    """What tells a term from others, its weight aside."""
    return f"{term.loss} {json.dumps(term.options, sort_keys=True)}"


def term_losses(
    compared: Mapping[str, tuple[Term, ...]], num_classes: int, spacing_mm: Sequence[float]
) -> dict[str, MappedLoss]:
    """Every term of these losses once, with weight 1, as the trainers build it, by `term_key`."""
    labels = LabelManager({"background": 0, **{f"class {k}": k for k in range(1, num_classes)}}, None)
    losses: dict[str, MappedLoss] = {}
    for terms in compared.values():
        for term, loss in zip(terms, loss_of_terms(terms, labels).terms.values(), strict=True):
            alone = CompoundLoss([(term.loss, 1.0, loss)])
            losses.setdefault(term_key(term), MappedLoss(alone, SCALE_WEIGHTS, spacing_mm))
    return losses


def term_gradients(network: nn.Module, losses: Mapping[str, MappedLoss], batch: Batch) -> dict[str, torch.Tensor]:
    """(P,) gradient of each term for all parameters of the network, by `term_key`."""
    parameters = list(network.parameters())
    outputs = network(batch.image)
    gradients = {}
    for key, loss in losses.items():
        loss.maps = dict(batch.maps)
        # The coarsest output, of weight 0, has parameters that no term reaches.
        found = torch.autograd.grad(
            loss(outputs, batch.targets), parameters, retain_graph=True, materialize_grads=True, allow_unused=True
        )
        gradients[key] = torch.cat([gradient.flatten() for gradient in found])
    return gradients


class Share(NamedTuple):
    """Of a term: medians over the batches, and lowest and highest share.

    No share where the other terms have no gradient, and no cosine where either side has none.
    """

    share: float | None
    range: tuple[float, float] | None
    cosine: float | None


def shares(terms: Sequence[Term], gradients: Sequence[Mapping[str, torch.Tensor]], epoch: int) -> list[Share]:
    """The share of every term.

    Parameters
    ----------
    terms : sequence of Term
    gradients : sequence of dict
        Of each batch, see `term_gradients`.
    epoch : int
        Of `EPOCHS`, for weights that change.
    """
    weights = [weight_at(term.weight, epoch, EPOCHS) for term in terms]
    found = []
    for position in range(len(terms)):
        ratios, cosines = [], []
        for of_batch in gradients:
            weighted = [weight * of_batch[term_key(term)] for term, weight in zip(terms, weights, strict=True)]
            own = weighted.pop(position)
            rest = torch.stack(weighted).sum(0)
            if rest.norm() > 0:
                ratios.append(float(own.norm() / rest.norm()))
            if rest.norm() > 0 and own.norm() > 0:
                cosines.append(float(torch.dot(own, rest) / (own.norm() * rest.norm())))
        cosine = median(cosines) if cosines else None
        found.append(Share(median(ratios), (min(ratios), max(ratios)), cosine) if ratios else Share(None, None, None))
    return found


def lesion_volumes() -> list[Volume]:
    """The crops of `ms_crops` with an image each."""
    rng = np.random.default_rng(0)
    return [_volume(_drawn(crop, rng, brightness=1.8), crop, 2, MS_SPACING_MM) for crop in ms_crops()]


def ellipsoid_volumes(num_classes: int) -> list[Volume]:
    """Four volumes of 64^3 voxels with 200 ellipsoids each, of the same shapes whatever the number of classes."""
    rng = np.random.default_rng(0)
    volumes = []
    for seed in range(4):
        # So many fill a tenth of the volume or more: few voxels of 14 classes each are not learned in a short training.
        numbers = organ_labels((64,) * 3, 200, seed)
        labels = np.where(numbers > 0, 1 + (numbers - 1) % (num_classes - 1), 0).astype(np.uint8)
        volumes.append(_volume(_drawn(labels, rng), labels, num_classes, MS_SPACING_MM))
    return volumes


def _drawn(labels: np.ndarray, rng: np.random.Generator, brightness: float = 1.0) -> np.ndarray:
    """(1, X, Y, Z) image of mean 0 and standard deviation 1, brighter by so much from label to label, with noise."""
    texture = gaussian_filter(rng.standard_normal(labels.shape), 2)
    noise = 0.3 * texture / texture.std() + 0.3 * rng.standard_normal(labels.shape)
    image = gaussian_filter(brightness * labels, 0.7, output=np.float32) + noise
    return ((image - image.mean()) / image.std())[None]


def preprocessed_volumes(dataset: str, edge: int) -> tuple[list[Volume], int, tuple[int, ...]]:
    """At most 20 cases of a 3d_fullres configuration, the number of classes, and the patch (X, Y, Z) that they hold.

    A patch is a cube of this edge, or, along an axis of which half of the cases have less, the most of those voxels
    that the network can halve three times.

    Raises
    ------
    ValueError
        It has regions or an ignore label, or no case as large as the smallest patch.
    """
    data = open_preprocessed(dataset, "3d_fullres")
    scheme, spacing = data.settings.scheme, data.settings.spacing_mm
    if scheme.regions or scheme.ignore_label is not None:
        raise ValueError(f"Expected a dataset of exclusive classes without ignore label, but got {dataset}.")
    stored = nnUNetDatasetBlosc2(str(data.data_folder))
    shapes = {case: stored.load_case(case)[0].shape[1:] for case in sorted(stored.identifiers)}
    halved = 2 ** (len(FEATURES) - 1)
    patch = tuple(min(edge, int(median(sizes)) // halved * halved) for sizes in zip(*shapes.values(), strict=True))
    if not all(patch):
        raise ValueError(f"Half of the cases of {dataset} have fewer than {halved} voxels along an axis.")
    volumes = []
    for case, shape in shapes.items():
        if all(np.greater_equal(shape, patch)) and len(volumes) < _MOST_CASES:
            image, segmentation, *_ = stored.load_case(case)
            labels = np.maximum(np.asarray(segmentation[0]), 0).astype(np.uint8)
            volumes.append(_volume(np.asarray(image[:]), labels, scheme.num_heads, spacing))
    if not volumes:
        raise ValueError(f"No case of {dataset} is as large as a patch of {patch} voxels.")
    return volumes, scheme.num_heads, patch


def _volume(image: np.ndarray, labels: np.ndarray, num_classes: int, spacing_mm: Sequence[float]) -> Volume:
    scheme = LabelScheme.classes(num_classes)
    maps = {kind: compute_distances(kind, labels, scheme, spacing_mm) for kind in KINDS if kind != LESION_IDS}
    ids, table = compute_lesion_ids(labels, scheme)
    maps[LESION_IDS] = ids.astype(np.float32)
    return Volume(image.astype(np.float32), labels, maps, lesion_table_tensor(table), tuple(spacing_mm))


def _batches(volumes: Sequence[Volume], number: int, patch: Sequence[int], rng: np.random.Generator) -> list[Batch]:
    return [_batch(volumes, patch, rng) for _ in range(number)]


def _batch(volumes: Sequence[Volume], patch: Sequence[int], rng: np.random.Generator) -> Batch:
    images, labels, tables = [], [], []
    maps: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
    for around in (False, True):
        volume = volumes[rng.integers(len(volumes))]
        foreground = np.argwhere(volume.labels)
        size = np.array(patch)
        room = np.array(volume.labels.shape) - size
        around_voxel = around and len(foreground) > 0
        start = foreground[rng.integers(len(foreground))] - size // 2 if around_voxel else rng.integers(room + 1)
        box = tuple(slice(low, low + length) for low, length in zip(np.clip(start, 0, room), patch, strict=True))
        images.append(volume.image[(slice(None), *box)])
        labels.append(volume.labels[None][(slice(None), *box)])
        tables.append(volume.lesion_table.T)
        for kind, values in volume.maps.items():
            maps[kind].append(values[(slice(None), *box)])
    target = torch.from_numpy(np.stack(labels).astype(np.float32))
    sizes = (tuple(length // 2**scale for length in patch) for scale in range(len(SCALE_WEIGHTS)))
    table = nn.utils.rnn.pad_sequence(tables, batch_first=True).transpose(1, 2)
    return Batch(
        torch.from_numpy(np.stack(images)),
        [interpolate(target, size, mode="nearest-exact") for size in sizes],
        {**{kind: torch.from_numpy(np.stack(values)) for kind, values in maps.items()}, LESION_TABLE: table},
    )


def small_network(channels: int, num_classes: int) -> nn.Module:
    """The network of `nnunet-rw small-plans`, with nnU-Net's initial weights."""
    stages = len(FEATURES)
    return get_network_from_plans(
        "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        {
            "n_stages": stages,
            "features_per_stage": list(FEATURES),
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3] * 3] * stages,
            "strides": [[1] * 3, *[[2] * 3] * (stages - 1)],
            "n_conv_per_stage": [2] * stages,
            "n_conv_per_stage_decoder": [1] * (stages - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        ["conv_op", "norm_op", "dropout_op", "nonlin"],
        channels,
        num_classes,
        deep_supervision=True,
    )


def _train(network: nn.Module, loss: Callable[..., torch.Tensor], batches: Sequence[Batch]) -> None:
    """nnU-Net's optimiser at the learning rate of its first epoch."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-2, momentum=0.99, nesterov=True, weight_decay=3e-5)
    for batch in batches:
        optimizer.zero_grad(set_to_none=True)
        loss(network(batch.image), batch.targets).backward()
        nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
        optimizer.step()


@torch.no_grad()
def _foreground_dice(network: nn.Module, batches: Sequence[Batch]) -> float:
    """Of the voxels of all batches together, foreground against background."""
    predicted = torch.stack([network(batch.image)[0].argmax(1) > 0 for batch in batches])
    true = torch.stack([batch.targets[0][:, 0] > 0 for batch in batches])
    return float(2 * (predicted & true).sum() / (predicted.sum() + true.sum()))
