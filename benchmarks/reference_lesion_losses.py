"""Losses over lesions as their papers write them: a loop over the lesions, the whole patch looked at for each."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from scipy import ndimage


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
