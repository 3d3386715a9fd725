"""Slow and independent versions of maps and losses: SciPy, NumPy and loops, nothing of the package.

Arrays are as in the package: labels (X, Y[, Z]), logits (B, C, X, Y[, Z]), target (B, 1, X, Y[, Z]) or, for regions,
(B, C[ + 1], X, Y[, Z]).
"""

import numpy as np
from scipy import ndimage
from scipy.spatial.distance import cdist


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
        known = (labels == c)[labels != ignore_label]
        if known.any() and not known.all():
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
    """The losses as loops over samples, heads and lesions, in float64; options as in the package."""

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

    def _pairs(self, include_background=False):
        """Every sample and counted head."""
        return [(b, c) for b in range(self.batch) for c in range(self._first(include_background), self.heads)]

    def _voxels(self, samples, c):
        """Probability, target and weight of a head in all labelled voxels of the samples."""
        return [np.concatenate([array[b, c][self.known[b]] for b in samples]) for array in (self.p, self.y, self.w)]

    def _signed_distance(self, b, c):
        """Of the target; 0 where it has no boundary."""
        distance = self._boundary_distance(b, self.y[b, c])
        return np.where(self.y[b, c], -distance, distance)

    def _boundary_distance(self, b, mask):
        """To the other side of a mask's boundary; 0 where there is none."""
        inside, outside = mask & self.known[b], ~mask & self.known[b]
        if not inside.any() or not outside.any():
            return np.zeros(mask.shape)
        return np.abs(signed_distance(mask, self.spacing, ~self.known[b]))

    def rrw(self, include_background=True):
        z = np.ones_like(self.p)
        for b, c in self._pairs(include_background=True):
            inside = self.y[b, c] & self.known[b]
            if inside.any():
                distance = distance_to(~self.y[b, c] & self.known[b], self.spacing)
                z[b, c][inside] = -distance[inside] / distance[inside].max()
        return self._mean(self.w * self.p * z, self._first(include_background))

    def boundary(self, inside_offset=0.0, include_background=False):
        z = np.zeros_like(self.p)
        for b, c in self._pairs(include_background):
            z[b, c] = self._signed_distance(b, c)
            z[b, c][z[b, c] < 0] += inside_offset
        return self._mean(self.w * self.p * z, self._first(include_background))

    def active_contour(self, length_weight=1.0, include_background=True):
        first = self._first(include_background)
        region = self._mean(self.w * np.where(self.y, -self.p, self.p), first)
        lengths = []
        axes = [axis for axis, size in enumerate(self.known.shape[1:]) if size > 1]
        for b in range(self.batch if axes else 0):
            for index in np.ndindex(*(size - (size > 1) for size in self.known.shape[1:])):
                ahead = [tuple(i + (axis == other) for other, i in enumerate(index)) for axis in axes]
                if not all(self.known[(b, *voxel)] for voxel in (index, *ahead)):
                    continue
                for c in range(first, self.heads):
                    here = self.p[(b, c, *index)]
                    lengths.append(np.sqrt(sum((self.p[(b, c, *voxel)] - here) ** 2 for voxel in ahead) + 1e-8))
        return region + length_weight * (np.mean(lengths) if lengths else 0)

    def gsl(self, include_background=False):
        losses = []
        for b, c in self._pairs(include_background):
            z2 = self.w[b, c] * self._signed_distance(b, c) ** 2
            kept = np.sum(z2 * (1 - self.y[b, c] - self.p[b, c]) ** 2)
            losses.append(1 - kept / z2.sum() if z2.any() else 0)
        return np.mean(losses)

    def hausdorff_dt(self, alpha=2.0, inside_only=False, most_probable=False, include_background=False):
        terms = np.zeros_like(self.p)
        for b, c in self._pairs(include_background):
            predicted = self.p[b, c] > 0.5
            if most_probable and not self.regions:
                predicted = self.p[b].argmax(0) == c
            for mask in (predicted, self.y[b, c]):
                distance = self._boundary_distance(b, mask) * (mask if inside_only else 1)
                terms[b, c] += (self.p[b, c] - self.y[b, c]) ** 2 * distance**alpha
        return self._mean(self.w * terms, self._first(include_background))

    def hausdorff_er(self, alpha=2.0, erosions=10, include_background=False):
        terms = np.zeros_like(self.p)
        cross = ndimage.generate_binary_structure(self.known.ndim - 1, 1).astype(float)
        for b, c in self._pairs(include_background):
            left = np.where(self.known[b], (self.p[b, c] - self.y[b, c]) ** 2, 0)
            for k in range(1, erosions + 1):
                left = np.maximum(ndimage.convolve(left, cross / cross.sum(), mode="constant") - 0.5, 0)
                if np.ptp(left) > 0:
                    left = (left - left.min()) / np.ptp(left)
                terms[b, c] += k**alpha * left
        return self._mean(self.w * terms, self._first(include_background))

    def hausdorff_cv(self, alpha=2.0, radii=(3, 6, 9, 12, 15, 18), include_background=False):
        shape = self.known.shape[1:]
        spacing = np.ones(len(shape)) if self.spacing is None else np.asarray(self.spacing)
        places = np.argwhere(np.ones(shape)) * spacing
        apart = cdist(places, places)
        found = []
        for b, c in self._pairs(include_background):
            known = self.known[b].ravel()
            p, y, w = self._voxels([b], c)
            total = np.zeros(p.shape)
            for radius in radii:
                ball = (apart[known][:, known] <= radius + 1e-9).astype(float)
                ball /= ball.sum(1, keepdims=True)
                deep_outside, deep_predicted, deep_inside, deep_predicted_outside = (
                    np.maximum(0, 2 * (ball @ values) - 1) for values in (1 - y, p, y, 1 - p)
                )
                error = (p - y) ** 2
                total += radius**alpha * (deep_outside + deep_predicted) * error * p
                total += radius**alpha * (deep_inside + deep_predicted_outside) * error * y
            found.append(w * total)
        return np.concatenate(found).mean()

    def fuzzy_rough(self, alpha=1.0, include_background=False, dual=False):
        losses = []
        for c in range(self._first(include_background), self.heads):
            terms = []
            for b in range(self.batch):
                certainty = 1 - np.exp(-(self._boundary_distance(b, self.y[b, c]) ** 2) / alpha)
                if dual:
                    certainty += 1 - np.exp(-(self._boundary_distance(b, self.p[b, c] > 0.5) ** 2) / alpha)
                counted = self.known[b] & (certainty > 0)
                terms += list((self.w[b, c] * certainty * (self.p[b, c] - self.y[b, c]) ** 2)[counted])
            losses.append(np.mean(terms) if terms else 0)
        return np.mean(losses)

    def fuzzy_rough_dual(self, alpha=1.0, include_background=False):
        return self.fuzzy_rough(alpha, include_background, dual=True)

    def blob(self, squared=True):
        of_classes = []
        for c in range(self._first(False), self.heads):
            of_samples = []
            for b in range(self.batch):
                size = self.p[b, c] ** 2 if squared else self.p[b, c]
                background = ~self.y[b, c] & self.known[b]
                of_lesions = [
                    1 - 2 * self.p[b, c][lesion].sum() / (size[lesion | background].sum() + lesion.sum())
                    for _, lesion in lesion_masks((self.y[b, c] & self.known[b]).astype(int))
                ]
                if of_lesions:
                    of_samples.append(np.mean(of_lesions))
            of_classes.append(np.mean(of_samples) if of_samples else 0)
        return np.mean(of_classes)

    def cc_dice_ce(self, smooth=1e-5, ce_weight=1.0):
        losses = []
        for b, c in self._pairs():
            p, y, ce = self.p[b, c], self.y[b, c], self._one_against_the_rest()[b, c]
            of_cells = []
            for cell in self._cells(y & self.known[b]):
                cell = cell & self.known[b]
                dice = (2 * p[cell & y].sum() + smooth) / (p[cell].sum() + y[cell].sum() + smooth)
                of_cells.append(1 - dice + ce_weight * ce[cell].mean())
            losses.append(np.mean(of_cells))
        return np.mean(losses)

    def _cells(self, mask):
        """Masks of the voxels nearest to each lesion; of all voxels where there is none."""
        lesions = [lesion for _, lesion in lesion_masks(mask.astype(int))]
        if not lesions:
            return [np.ones_like(mask)]
        distances = np.stack([distance_to(lesion, self.spacing) for lesion in lesions])
        # A voxel between two lesions may go to either, so that the loss would not be determined.
        assert (np.isclose(distances, distances.min(0)).sum(0) == 1).all(), "choose another seed"
        return [distances.argmin(0) == number for number in range(len(lesions))]

    def _overlap(self, ratio, batch_dice, smooth, include_background, power=1.0):
        losses = []
        for c in range(self._first(include_background), self.heads):
            for samples in [range(self.batch)] if batch_dice else [[b] for b in range(self.batch)]:
                p, y, w = self._voxels(samples, c)
                numerator, denominator = ratio(p, y, w)
                losses.append((1 - (numerator + smooth) / (denominator + smooth)) ** power)
        return np.mean(losses)

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

    def focal_tversky(self, alpha=0.7, beta=0.3, gamma=4 / 3, batch_dice=False, smooth=0.0, include_background=False):
        def ratio(p, y, w):
            found, missed, false = np.sum(w * p * y), np.sum(w * (1 - p) * y), np.sum(w * p * ~y)
            return found, found + alpha * missed + beta * false

        return self._overlap(ratio, batch_dice, smooth, include_background, 1 / gamma)

    def _generalized_dice(self, linear, include_background):
        """Loss of every sample, and of every region in it."""
        losses = []
        for b in range(self.batch):
            counted = [self._voxels([b], c) for c in range(self._first(include_background), self.heads)]
            for classes in [[(p, y, w), (1 - p, ~y, w)] for p, y, w in counted] if self.regions else [counted]:
                above = below = 1e-10 if linear else 0
                for of_class, inside, weights in classes:
                    importance = 1 / (inside.sum() + 1e-10) ** 2 if linear else 1 / (1 + inside.sum() ** 2)
                    above += importance * np.sum(weights * of_class * inside)
                    below += importance * np.sum(weights * ((of_class if linear else of_class**2) + inside))
                losses.append(1 - 2 * above / below)
        return np.array(losses)

    def gdl(self, linear=False, include_background=True):
        return self._generalized_dice(linear, include_background).mean()

    def focal_gdl_bce(self, gamma=4 / 3, bce_weight=1.0, linear=False, include_background=True):
        dice = np.mean(self._generalized_dice(linear, include_background) ** (1 / gamma))
        bce = self._mean(self.w * self._one_against_the_rest(), self._first(include_background))
        return dice + bce_weight * bce

    def _one_against_the_rest(self):
        """Binary cross-entropy of every head."""
        return -np.where(self.y, np.log(self.p), np.log(1 - self.p))

    def _cross_entropy(self):
        """Of the softmax, one channel; of every region."""
        if self.regions:
            return self._one_against_the_rest()
        right = (self.p * self.y).sum(1, keepdims=True)
        return -np.log(np.where(right > 0, right, 1))

    def ce(self):
        return self._mean(self.w[:, : None if self.regions else 1] * self._cross_entropy())

    def wce(self, class_weights=None, include_background=False):
        if class_weights is None:
            means = []
            for c in range(self._first(include_background), self.heads):
                p, y, w = self._voxels(range(self.batch), c)
                positive = (p.size - p.sum()) / p.sum()
                means.append(np.mean(-w * (positive * y * np.log(p) + ~y * np.log(1 - p))))
            return np.mean(means)
        given = np.reshape(class_weights, (-1, *(1,) * (self.p.ndim - 2)))
        if self.regions:
            return self._mean(self.w * np.where(self.y, given, 1) * self._cross_entropy())
        return self._mean(self.w[:, :1] * (given * self.y).sum(1, keepdims=True) * self._cross_entropy())

    def topk(self, k=10.0):
        values = self.w * self._cross_entropy()
        means = []
        for c in range(self.heads if self.regions else 1):
            worst = sorted(np.concatenate([values[b, c][self.known[b]] for b in range(self.batch)]), reverse=True)
            means.append(np.mean(worst[: max(1, int(len(worst) * k / 100))]))
        return np.mean(means)

    def focal(self, alpha=0.75, gamma=2.0, include_background=False):
        inside = -alpha * (1 - self.p) ** gamma * np.log(self.p)
        outside = -(1 - alpha) * self.p**gamma * np.log(1 - self.p)
        return self._mean(self.w * np.where(self.y, inside, outside), self._first(include_background))

    def softmax_focal(self, gamma=2.0):
        if self.regions:
            inside = -((1 - self.p) ** gamma) * np.log(self.p)
            return self._mean(self.w * np.where(self.y, inside, -(self.p**gamma) * np.log(1 - self.p)))
        right = (self.p * self.y).sum(1, keepdims=True)
        return self._mean(self.w[:, :1] * (1 - right) ** gamma * self._cross_entropy())
