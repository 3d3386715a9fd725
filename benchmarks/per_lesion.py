"""Losses that are a mean over lesions, beside a loop over 200 lesions: forward and backward of a 128^3 patch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from scipy import ndimage

from benchmarks.harness import seconds_in_turns
from benchmarks.patches import cube_batch, loss_and_gradient
from nnunet_rw.losses import build


def blob_by_loop(logits: torch.Tensor, target: torch.Tensor, maps: dict[str, torch.Tensor]) -> torch.Tensor:
    """Kofler et al., arXiv 2205.08209: Dice of every lesion against all but the other lesions.

    Parameters
    ----------
    logits : (B, C, X, Y, Z)
    target : (B, 1, X, Y, Z)
    maps : dict
        "lesion_ids" (B, C - 1, X, Y, Z).

    Returns
    -------
    scalar
        Mean over a class's lesions, over the samples that have any, over foreground classes.
    """
    classes = []
    for p, truth, ids in _by_class(logits, target, maps["lesion_ids"]):
        samples = []
        for b in range(len(p)):
            losses = []
            for lesion in ids[b][truth[b]].unique():
                mine = truth[b] & (ids[b] == lesion)
                alone = p[b].masked_fill(truth[b] & ~mine, 0)
                hit = (alone * mine).sum()
                losses.append(1 - 2 * hit / ((alone * alone).sum() + mine.sum()))
            if losses:
                samples.append(torch.stack(losses).mean())
        classes.append(torch.stack(samples).mean() if samples else logits.new_zeros(()))
    return torch.stack(classes).mean()


def cc_dice_ce_by_loop(logits: torch.Tensor, target: torch.Tensor, maps: dict[str, torch.Tensor]) -> torch.Tensor:
    """Bouteille et al., arXiv 2511.17146: Dice + cross-entropy of every lesion's cell; two classes.

    Parameters as of `blob_by_loop`.

    Returns
    -------
    scalar
        Mean over a sample's cells, over samples. A sample without lesions is one cell.
    """
    samples = []
    for p, truth, ids in _by_class(logits, target, maps["lesion_ids"]):
        for b in range(len(p)):
            within = torch.where(truth[b], ids[b], 0)
            _, nearest = ndimage.distance_transform_edt((within == 0).numpy(), return_indices=True)
            cells = within[tuple(torch.from_numpy(nearest).long())] if truth[b].any() else within
            y = truth[b].to(p.dtype)
            ce = torch.nn.functional.binary_cross_entropy_with_logits(logits[b, 1] - logits[b, 0], y, reduction="none")
            losses = []
            for lesion in cells.unique():
                cell = cells == lesion
                dice = (2 * (p[b] * y * cell).sum() + 1e-5) / (((p[b] + y) * cell).sum() + 1e-5)
                losses.append(1 - dice + (ce * cell).sum() / cell.sum())
            samples.append(torch.stack(losses).mean())
    return torch.stack(samples).mean()


def _by_class(
    logits: torch.Tensor, target: torch.Tensor, ids: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(B, X, Y, Z) probabilities, target and lesion ids of each foreground class."""
    probabilities = logits.softmax(1)
    for label in range(1, logits.shape[1]):
        yield probabilities[:, label], target[:, 0] == label, ids[:, label - 1]


REFERENCES = {"blob": blob_by_loop, "cc_dice_ce": cc_dice_ce_by_loop}


def run(size: int = 128, num_lesions: int = 200, rounds: int = 3) -> list[dict[str, Any]]:
    batch = cube_batch(size, num_lesions)
    rows = []
    for name, reference in REFERENCES.items():
        steps = {
            "ours": partial(loss_and_gradient, build(name), batch, batch.maps),
            "loop": partial(loss_and_gradient, reference, batch, batch.maps),
        }
        (value, gradient), (expected, expected_gradient) = (step() for step in steps.values())
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-3, atol=1e-8)
        seconds = seconds_in_turns(steps, rounds)
        rows.append(
            {
                "loss": name,
                "lesions": num_lesions,
                "seconds": seconds["ours"],
                "loop_seconds": seconds["loop"],
                "times_faster": seconds["loop"] / seconds["ours"],
            }
        )
    return rows
