"""A training loop of plain PyTorch with the losses of this package: `python examples/plain_pytorch.py`.

The volumes are made up: large organs and small lesions, in voxels three times as long along the first axis. A few
seconds on a CPU.
"""

import torch
from torch import nn

from nnunet_rw.losses import build

SPACING_MM = (3.0, 1.0, 1.0)
SHAPE = (12, 32, 32)
NUM_CLASSES = 3  # background, organ, lesion


def make_loss():
    # Weights by lesion size for Dice, so that a small lesion is not lost among the large ones; their power is below
    # the paper's 1, and their mean is 1, which keeps false positives in check. The region-wise term adds where a voxel
    # lies; alone it may never leave the background.
    dice = {"reweight": "inverse_volume", "power": 0.5, "normalise": True}
    return build("compound", terms=[("dice", 1.0, dice), ("rrw", 0.5)])


def make_volume(generator):
    """Image (1, X, Y, Z), and labels of the same shape: balls in mm, flattened by the voxels' spacing."""
    axes_mm = [torch.arange(size) * step for size, step in zip(SHAPE, SPACING_MM, strict=True)]
    position_mm = torch.stack(torch.meshgrid(*axes_mm, indexing="ij"))
    extent_mm = torch.tensor([axis[-1] for axis in axes_mm])
    labels = torch.zeros(SHAPE, dtype=torch.int64)
    for label, radius_mm in [(1, 9.0), (2, 5.0), (2, 3.0), (2, 3.0)]:
        centre_mm = torch.rand(3, generator=generator) * extent_mm
        distance_mm = (position_mm - centre_mm.view(3, 1, 1, 1)).norm(dim=0)
        labels[distance_mm < radius_mm] = label
    image = labels + 0.3 * torch.randn(SHAPE, generator=generator)
    return image[None], labels[None]


def make_batch(generator, size=2):
    images, labels = zip(*(make_volume(generator) for _ in range(size)), strict=True)
    return torch.stack(images), torch.stack(labels)


def make_network():
    layers = []
    for channels_in, channels_out in [(1, 8), (8, 8)]:
        layers += [nn.Conv3d(channels_in, channels_out, 3, padding=1), nn.InstanceNorm3d(channels_out), nn.ReLU()]
    # No softmax at the end: the losses take logits.
    return nn.Sequential(*layers, nn.Conv3d(8, NUM_CLASSES, 1))


def dice_per_class(network, images, labels):
    """Dice of the organ and of the lesions."""
    with torch.no_grad():
        predicted = network(images).argmax(1, keepdim=True)
    scores = []
    for label in range(1, NUM_CLASSES):
        p, y = predicted == label, labels == label
        scores.append(2 * float((p & y).sum()) / max(1, int(p.sum() + y.sum())))
    return scores


def main(steps=60):
    """Train, and return the loss of every step and the Dice of each class on volumes that were not trained on."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    network, loss_function = make_network(), make_loss()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for step in range(steps):
        images, labels = make_batch(generator)
        # Distance maps and lesions are computed from the labels (B, 1, X, Y, Z). The spacing is that of the array's
        # axes; without it a distance is in voxels.
        loss = loss_function(network(images), labels, spacing=SPACING_MM)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % 10 == 0 or step == steps - 1:
            # A compound remembers its terms, for the curves.
            terms = ", ".join(f"{name} {value:.3f}" for name, value in loss_function.last_terms.items())
            print(f"step {step:3d}: loss {losses[-1]:.3f} ({terms})")

    scores = dice_per_class(network, *make_batch(generator, size=4))
    print(f"Dice: organ {scores[0]:.2f}, lesions {scores[1]:.2f}")
    return losses, scores


if __name__ == "__main__":
    main()
