"""Slow and independent versions of maps and losses: SciPy, NumPy and loops, nothing of the package.

Arrays are as in the package: labels (X, Y[, Z]), logits (B, C, X, Y[, Z]), target (B, 1, X, Y[, Z]) or, for regions,
(B, C[ + 1], X, Y[, Z]).
"""

import numpy as np
from scipy import ndimage


def random_blobs(shape, num_classes, seed):
    """Smooth blobs of every class, background the largest; uint8 labels."""
    rng = np.random.default_rng(seed)
    height = np.stack([ndimage.gaussian_filter(rng.normal(size=shape), 1.5) for _ in range(num_classes)])
    height /= height.std(axis=tuple(range(1, height.ndim)), keepdims=True)
    height[0] += 0.7
    return height.argmax(0).astype(np.uint8)


def diagonal(shape, spacing=None):
    spacing = np.ones(len(shape)) if spacing is None else np.asarray(spacing)
    return float(np.sqrt(np.sum((np.asarray(shape) * spacing) ** 2)))


def distance_to(mask, spacing=None):
    """Distance to the nearest voxel of a mask; the diagonal where there is none (SciPy measures to a phantom)."""
    if not mask.any():
        return np.full(mask.shape, diagonal(mask.shape, spacing))
    return ndimage.distance_transform_edt(~mask, sampling=spacing)


def interior_distance(labels, spacing=None, ignore_label=None):
    labels = np.maximum(np.asarray(labels).astype(int), 0)
    result = np.zeros(labels.shape)
    for label in np.unique(labels):
        if label == ignore_label:
            continue
        others = (labels != label) & (labels != ignore_label)
        result[labels == label] = distance_to(others, spacing)[labels == label]
    return result


def signed_distance(mask, spacing=None, ignore=None):
    ignore = np.zeros(mask.shape, bool) if ignore is None else ignore
    outside = distance_to(mask & ~ignore, spacing)
    inside = distance_to(~mask & ~ignore, spacing)
    return np.where(ignore, 0, np.where(mask, -inside, outside))


def boundary_maps(labels, num_classes, spacing=None, inside_offset=0, ignore_label=None):
    labels = np.maximum(np.asarray(labels).astype(int), 0)
    maps = np.zeros((num_classes, *labels.shape))
    for c in range(num_classes):
        if (labels == c).any():
            signed = signed_distance(labels == c, spacing, labels == ignore_label)
            maps[c] = signed + inside_offset * (labels == c)
    return maps


def rectified_region_wise_maps(labels, num_classes, spacing=None, ignore_label=None):
    labels = np.maximum(np.asarray(labels).astype(int), 0)
    maps = np.ones((num_classes, *labels.shape))
    for c in range(num_classes):
        inside = labels == c
        if inside.any():
            distance = distance_to(~inside & (labels != ignore_label), spacing)
            maps[c][inside] = -distance[inside] / distance[inside].max()
    return maps


def lesion_masks(labels, connectivity=26, ignore_label=None):
    """(label, mask) of every component of every foreground label."""
    labels = np.maximum(np.asarray(labels).astype(int), 0)
    order = {4: 1, 8: 2, 6: 1, 18: 2, 26: labels.ndim}[connectivity]
    structure = ndimage.generate_binary_structure(labels.ndim, order)
    found = []
    for label in np.unique(labels):
        if label in (0, ignore_label):
            continue
        numbered, count = ndimage.label(labels == label, structure)
        found += [(int(label), numbered == number) for number in range(1, count + 1)]
    return found


def lesion_volume_map(labels, spacing=None, connectivity=26):
    voxel = 1.0 if spacing is None else float(np.prod(spacing))
    result = np.zeros(np.shape(labels))
    for _, mask in lesion_masks(labels, connectivity):
        result[mask] = mask.sum() * voxel
    return result


def inverse_volume_weights(components, w_min=1.0, w_max=2e5, power=1.0, normalise=False):
    """The loop of the paper's code: one pass over the volume per component, the background being one."""
    present = [number for number in np.unique(components) if number > 0]
    if not present:
        return np.ones(components.shape)
    weights = np.ones(components.shape)
    for number in [0, *present]:
        mask = components == number
        if mask.any():
            weights[mask] = np.clip((components.size / ((len(present) + 1) * mask.sum())) ** power, w_min, w_max)
    if normalise:
        weights /= weights[components > 0].mean()
        weights[components == 0] = 1
    return weights


def expand_lesions(ids):
    """Background voxels take the highest id among their neighbours."""
    result = ids.copy()
    for index in zip(*np.nonzero(ids == 0), strict=True):
        box = tuple(slice(max(0, i - 1), i + 2) for i in index)
        result[index] = ids[box].max()
    return result


class LossReference:
    """The losses as loops over samples and heads, in float64."""

    def __init__(self, logits, target, spacing=None, regions=False, ignore_label=None, weighting=None):
        logits = np.asarray(logits, np.float64)
        self.batch, self.heads = logits.shape[:2]
        self.regions, self.spacing = regions, spacing
        if regions:
            self.p = 1 / (1 + np.exp(-logits))
            self.y = target[:, : self.heads] > 0
            self.known = np.ones_like(target[:, 0], bool) if ignore_label is None else target[:, -1] == 0
        else:
            exponentials = np.exp(logits - logits.max(1, keepdims=True))
            self.p = exponentials / exponentials.sum(1, keepdims=True)
            self.y = np.stack([target[:, 0] == c for c in range(self.heads)], 1)
            self.known = target[:, 0] != ignore_label
        self.w = np.ones_like(self.p) if weighting is None else self._weights(weighting)

    def _weights(self, weighting):
        """One system of weights for all classes, or one per region; unlabelled voxels count nowhere."""
        weights = np.ones_like(self.p)
        for b in range(self.batch):
            known = self.known[b]
            heads = [[head] for head in range(self.heads)] if self.regions else [range(1, self.heads)]
            for group in heads:
                components = np.zeros(known.shape, int)
                for head in group:
                    for _, mask in lesion_masks(self.y[b, head].astype(int), 8 if known.ndim == 2 else 26):
                        components[mask] = components.max() + 1
                of_known = inverse_volume_weights(components[known], **weighting)
                for head in group if self.regions else range(self.heads):
                    weights[b, head][known] = of_known
        return weights

    def _mean(self, values, first=0):
        """Mean over the labelled voxels of all samples, and the heads from the first."""
        voxels = [values[b, c][self.known[b]] for b in range(self.batch) for c in range(first, values.shape[1])]
        return np.concatenate(voxels).mean()

    def _first(self, include_background):
        return 0 if self.regions or include_background else 1

    def rrw(self):
        z = np.ones_like(self.p)
        for b in range(self.batch):
            for c in range(self.heads):
                inside = self.y[b, c] & self.known[b]
                if inside.any():
                    distance = distance_to(~self.y[b, c] & self.known[b], self.spacing)
                    z[b, c][inside] = -distance[inside] / distance[inside].max()
        return self._mean(self.p * z)

    def boundary(self, inside_offset=0.0, include_background=False):
        z = np.zeros_like(self.p)
        for b in range(self.batch):
            for c in range(self.heads):
                if (self.y[b, c] & self.known[b]).any():
                    z[b, c] = signed_distance(self.y[b, c], self.spacing, ~self.known[b])
                    z[b, c] += inside_offset * self.y[b, c]
        return self._mean(self.p * z, self._first(include_background))

    def active_contour(self, length_weight=1.0, include_background=True):
        first = self._first(include_background)
        region = self._mean(np.where(self.y, -self.p, self.p), first)
        lengths = []
        ndim = self.known.ndim - 1
        for b in range(self.batch):
            for index in np.ndindex(*(size - 1 for size in self.known.shape[1:])):
                ahead = [tuple(i + (axis == other) for other, i in enumerate(index)) for axis in range(ndim)]
                if not all(self.known[(b, *voxel)] for voxel in (index, *ahead)):
                    continue
                for c in range(first, self.heads):
                    here = self.p[(b, c, *index)]
                    lengths.append(np.sqrt(sum((self.p[(b, c, *voxel)] - here) ** 2 for voxel in ahead) + 1e-8))
        return region + length_weight * (np.mean(lengths) if lengths else 0)

    def _overlap(self, ratio, batch_dice, smooth, include_background):
        scores = []
        for c in range(self._first(include_background), self.heads):
            for samples in [range(self.batch)] if batch_dice else [[b] for b in range(self.batch)]:
                p, y, w = (
                    np.concatenate([array[b, c][self.known[b]] for b in samples]) for array in (self.p, self.y, self.w)
                )
                numerator, denominator = ratio(p, y, w)
                scores.append((numerator + smooth) / (denominator + smooth))
        return 1 - np.mean(scores)

    def dice(self, squared=True, batch_dice=False, smooth=0.0, include_background=False):
        def ratio(p, y, w):
            return 2 * np.sum(w * p * y), np.sum(w * (p**2 + y if squared else p + y))

        return self._overlap(ratio, batch_dice, smooth, include_background)

    def asl(self, beta=1.5, linear=False, batch_dice=False, smooth=0.0, include_background=False):
        def ratio(p, y, w):
            if not linear:
                return (1 + beta**2) * np.sum(w * p * y), np.sum(w * (beta**2 * y + p**2))
            found, missed, false = np.sum(w * p * y), np.sum(w * (1 - p) * y), np.sum(w * p * ~y)
            return (1 + beta**2) * found, (1 + beta**2) * found + beta**2 * missed + false

        return self._overlap(ratio, batch_dice, smooth, include_background)

    def ce(self):
        if self.regions:
            return self._mean(-self.w * np.where(self.y, np.log(self.p), np.log(1 - self.p)))
        right = (self.p * self.y).sum(1, keepdims=True)
        return self._mean(-self.w[:, :1] * np.log(np.where(right > 0, right, 1)))

    def focal(self, alpha=0.75, gamma=2.0, include_background=False):
        inside = -alpha * (1 - self.p) ** gamma * np.log(self.p)
        outside = -(1 - alpha) * self.p**gamma * np.log(1 - self.p)
        return self._mean(self.w * np.where(self.y, inside, outside), self._first(include_background))
