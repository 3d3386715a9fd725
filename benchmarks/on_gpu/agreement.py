"""Do the losses on the device say what they say on a CPU? Every loss, half precision, compiled, and the kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.losses import iw_dice_ce
from benchmarks.patches import Batch, batch_of, loss_and_gradient
from nnunet_rw.losses import LOSSES, build, option_names
from nnunet_rw.losses.compound import MappedLoss
from nnunet_rw.losses.distance_transform import min_plus_by_broadcast
from nnunet_rw.maps.kinds import KINDS

_SHAPE = (11, 10, 9)
_WEIGHTS = {"reweight": "inverse_volume", "scope": "case", "power": 0.5, "normalise": True}
_COMPILED = ("rrw", "boundary", "blob", "ce")


def run(device: str = "cuda") -> list[dict[str, Any]]:
    return list(checked(device))


def checked(device: str) -> Iterator[dict[str, Any]]:
    """A row for each check, as it is done."""
    checks: dict[str, tuple[float, Callable[[], Iterator[tuple[str, float]]]]] = {
        "losses, maps given": (1e-4, lambda: _losses(device, with_maps=True)),
        "losses, maps computed on the device": (1e-4, lambda: _losses(device, with_maps=False)),
        "losses of regions": (1e-4, lambda: _regions(device)),
        "deep supervision": (1e-4, lambda: _deep_supervision(device)),
        "losses of half-precision logits": (1e-2, lambda: _half(device)),
        "compiled losses": (1e-4, lambda: _compiled(device)),
        "Triton kernel and plain torch": (1e-6, lambda: _kernel(device)),
    }
    for check, (tolerance, differences) in checks.items():
        row: dict[str, Any] = {"check": check, "tolerance": tolerance, "cases": 0, "largest_difference": 0.0}
        try:
            for name, difference in differences():
                row["cases"] += 1
                if not difference <= row["largest_difference"]:  # so that NaN counts as large
                    row["largest_difference"], row["of"] = difference, name
        except Exception as error:  # what fails on a machine never seen must not hide the rest
            row["failed"] = f"{type(error).__name__}: {error}"[:500]
        row["passed"] = "failed" not in row and row["largest_difference"] <= tolerance
        yield row


def _losses(device: str, with_maps: bool) -> Iterator[tuple[str, float]]:
    batch = _untied_batch()
    for name, loss in LOSSES.items():
        for options in ({}, _WEIGHTS) if "reweight" in option_names(loss) else ({},):
            maps = batch.maps if with_maps else None
            label = f"{name}, weighted" if options else name
            yield label, _difference(build(name, **options), batch, maps, device)


def _regions(device: str) -> Iterator[tuple[str, float]]:
    batch = _untied_batch()
    # Every foreground class a region; one region cannot tie with another, each has lesions of its own.
    target = torch.cat([batch.target == label for label in (1, 2)], 1).float()
    regions = Batch(batch.logits[:, 1:].contiguous(), target, {})
    for name in LOSSES:
        yield name, _difference(build(name, regions=True), regions, None, device)


def _deep_supervision(device: str) -> Iterator[tuple[str, float]]:
    batch = _untied_batch()
    coarse = tuple(size // 2 for size in _SHAPE)
    smaller = [
        nn.functional.interpolate(values.float(), coarse, mode="nearest-exact")
        for values in (batch.logits, batch.target)
    ]
    results = []
    for place in ("cpu", device):
        loss = MappedLoss(build("compound", terms=[("rrw",), ("boundary", 0.1)]), (0.7, 0.3), (1.0, 1.5, 2.0))
        outputs = [values.to(place).requires_grad_() for values in (batch.logits.clone(), smaller[0].clone())]
        value = loss(outputs, [values.to(place) for values in (batch.target, smaller[1])])
        value.backward()
        results.append((value, outputs[0].grad, outputs[1].grad))
    yield "rrw and boundary", _largest(*results)


def _half(device: str) -> Iterator[tuple[str, float]]:
    batch = _untied_batch()
    dtype = torch.float16 if device != "cpu" else torch.bfloat16
    rounded = Batch(batch.logits.to(dtype).float(), batch.target, batch.maps)
    for name in LOSSES:
        expected = loss_and_gradient(build(name), rounded, batch.maps)
        there = Batch(batch.logits.to(dtype), batch.target, batch.maps).to(device)
        with torch.autocast(device, dtype):
            value, gradient = loss_and_gradient(build(name), there, there.maps)
        # Gradients of a mean over many voxels are small: float16 knows no steps below 6e-8, hence nnU-Net's scaler.
        yield name, _largest(expected[:1], (value.float(),))
        if not gradient.isfinite().all():
            yield f"gradient of {name}", float("nan")


def _compiled(device: str) -> Iterator[tuple[str, float]]:
    batch = _untied_batch().to(device)
    losses: dict[str, Callable[..., torch.Tensor]] = {name: build(name) for name in _COMPILED}
    losses["iw_dice_ce"] = iw_dice_ce()
    for name, loss in losses.items():
        compiled = torch.compile(loss, backend="inductor" if device != "cpu" else "aot_eager")
        yield (
            name,
            _largest(
                loss_and_gradient(loss, batch, dict(batch.maps)), loss_and_gradient(compiled, batch, dict(batch.maps))
            ),
        )


def _kernel(device: str) -> Iterator[tuple[str, float]]:
    from nnunet_rw.losses.triton_min_plus import min_plus

    generator = torch.Generator().manual_seed(0)
    for size, number, step in ((128, 1000, 1.0), (37, 513, 0.7), (1, 5, 2.0)):
        lines = (100 * torch.rand((size, number), generator=generator)).to(device)
        ids = torch.arange(size * number, device=device).view(size, number)
        for chosen in (None, ids):
            minimum, nearest = min_plus(lines, chosen, step)
            expected, expected_nearest = min_plus_by_broadcast(lines, chosen, step)
            label = f"{size} x {number}{' with ids' if chosen is not None else ''}"
            yield label, _largest((expected,), (minimum,))
            if nearest is not None and expected_nearest is not None:
                yield f"ids of {label}", float((nearest != expected_nearest).any())


def _difference(loss: nn.Module, batch: Batch, maps: dict[str, torch.Tensor] | None, device: str) -> float:
    there = batch.to(device)
    moved = None if maps is None else {kind: values.to(device) for kind, values in maps.items()}
    return _largest(loss_and_gradient(loss, batch, maps), loss_and_gradient(loss, there, moved))


def _largest(expected: tuple[torch.Tensor | None, ...], computed: tuple[torch.Tensor | None, ...]) -> float:
    """Largest difference of any tensor, as a share of that tensor's largest value; NaN where one is NaN."""
    shares = []
    for wanted, got in zip(expected, computed, strict=True):
        assert wanted is not None
        assert got is not None
        wanted, got = wanted.detach().cpu().double(), got.detach().cpu().double()
        shares.append(float((wanted - got).abs().max() / wanted.abs().max().clamp_min(1e-12)))
    return float(np.max(shares))


@cache
def _untied_batch() -> Batch:
    """Two samples of three classes in which no voxel is as far from one lesion of its class as from the other.

    To which of them such a voxel belongs is left open, and the transforms differ in it.
    """
    labels = np.zeros((2, *_SHAPE), np.uint8)
    # Side by side with 4 voxels between: the middle falls between two voxels.
    labels[0, :3, 2:5, 1:4] = labels[0, 7:, 2:5, 1:4] = 1
    labels[0, 3:6, 6:9, 5:7] = 2
    labels[1, 4:9, 1:3, 3:8] = labels[1, 4:9, 7:, 3:8] = 1
    labels[1, 5:8, 4:6, 1:6] = 2
    return batch_of(labels, 3, KINDS)
