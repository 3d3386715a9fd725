"""MONAI's U-Net trained with a loss of this package: `pip install monai`, `python examples/monai_unet.py`.

Everything but the loss is MONAI's: volumes of random balls, network, one-hot labels, Dice. A few seconds on a CPU.
"""

import numpy as np
import torch
from monai.data import create_test_image_3d
from monai.metrics import DiceMetric
from monai.networks import one_hot
from monai.networks.nets import UNet

from nnunet_rw.losses import build

SPACING_MM = (1.0, 1.0, 1.0)
NUM_CLASSES = 3


def make_loss():
    # MONAI's losses have to be told softmax=True and to_onehot_y=True; these take logits and labels (B, 1, X, Y, Z)
    # always. For overlapping regions, MONAI's sigmoid=True, say regions=True and give (B, C, X, Y, Z) masks.
    dice = {"reweight": "inverse_volume", "power": 0.5, "normalise": True}
    return build("compound", terms=[("dice", 1.0, dice), ("rrw", 0.5)])


def make_batch(random, size=2):
    pairs = [
        create_test_image_3d(
            32, 32, 32, num_objs=6, rad_min=3, rad_max=8, noise_max=0.3, num_seg_classes=2, random_state=random
        )
        for _ in range(size)
    ]
    images, labels = (torch.from_numpy(np.stack(arrays))[:, None] for arrays in zip(*pairs, strict=True))
    return images.float(), labels


def mean_dice(network, images, labels):
    """Dice of the two foreground classes, the mean over cases."""
    metric = DiceMetric(include_background=False, reduction="mean_batch")
    with torch.no_grad():
        predicted = network(images).argmax(1, keepdim=True)
    metric(one_hot(predicted, NUM_CLASSES), one_hot(labels, NUM_CLASSES))
    return metric.aggregate().tolist()


def main(steps=60):
    """Train, and return the loss of every step and the Dice of each class on volumes that were not trained on."""
    torch.manual_seed(0)
    random = np.random.RandomState(0)
    network = UNet(
        spatial_dims=3, in_channels=1, out_channels=NUM_CLASSES, channels=(8, 16, 32), strides=(2, 2), num_res_units=1
    )
    loss_function = make_loss()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for step in range(steps):
        images, labels = make_batch(random)
        # Of volumes from files, the spacing that Spacingd(pixdim=...) has given them. MetaTensors work as well.
        loss = loss_function(network(images), labels, spacing=SPACING_MM)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % 10 == 0 or step == steps - 1:
            print(f"step {step:3d}: loss {losses[-1]:.3f}")

    scores = mean_dice(network, *make_batch(random, size=4))
    print(f"Dice: {scores[0]:.2f} and {scores[1]:.2f}")
    return losses, scores


if __name__ == "__main__":
    main()
