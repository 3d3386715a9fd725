"""Losses that see how far the prediction's boundary is from the target's: Hausdorff and fuzzy rough.

Means over neighbourhoods have a gradient, and are taken on any device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from scipy.fft import next_fast_len

from nnunet_rw.losses.base import ReweightedLoss, check_options
from nnunet_rw.losses.distance_transform import mean_spacing
from nnunet_rw.losses.inputs import LossInputs, without_single_slices
from nnunet_rw.maps.kinds import BOUNDARY_DISTANCE


def cross_mean(values: torch.Tensor) -> torch.Tensor:
    """Mean over a voxel and its direct neighbours, (B, C, X[, Y[, Z]]); beyond the image is 0."""
    return _CrossMean.apply(values)


class _CrossMean(torch.autograd.Function):
    """A voxel takes from its neighbours what it gives to them, so that the gradient is the same mean."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        total = values.clone()
        for axis in range(2, values.ndim):
            rest = values.shape[axis] - 1
            total.narrow(axis, 1, rest).add_(values.narrow(axis, 0, rest))
            total.narrow(axis, 0, rest).add_(values.narrow(axis, 1, rest))
        return total.div_(2 * (values.ndim - 2) + 1)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return _CrossMean.apply(gradient)


class BallMean:
    """Means over balls of several radii, by FFT; ignored voxels, and those beyond the image, do not count.

    Parameters
    ----------
    known : float (B, 1, ...) of 0 and 1
    spacing : sequence of float, optional
        mm per axis; without it the unit of radii is the voxel.
    largest_radius : float
    """

    def __init__(self, known: torch.Tensor, spacing: Sequence[float] | None, largest_radius: float):
        self.known = known
        self.shape = known.shape[2:]
        self.spacing = (1.0,) * len(self.shape) if spacing is None else tuple(spacing)
        self.axes = tuple(range(2, known.ndim))
        # As `_ball` rounds: 0.6 / 0.2 is less than 3.
        reach = [
            min(size - 1, int(largest_radius / step * (1 + 1e-6)))
            for size, step in zip(self.shape, self.spacing, strict=True)
        ]
        # Circular convolution is plain convolution once the image is followed by as many zeros as the ball reaches; and
        # a length with a large prime, such as 146, takes several times as long as the next without.
        self.padded = [next_fast_len(size + extra, real=True) for size, extra in zip(self.shape, reach, strict=True)]
        self._known_spectrum = self.spectrum(known)

    def spectrum(self, values: torch.Tensor) -> torch.Tensor:
        """Of (B, C, ...) values, to be used for all radii."""
        return torch.fft.rfftn(values * self.known, self.padded, self.axes)

    def mean(self, spectrum: torch.Tensor, radius: float) -> torch.Tensor:
        """(B, C, ...) means over the ball of that radius."""
        ball = torch.fft.rfftn(self._ball(radius), self.padded, self.axes)
        count = self._back(self._known_spectrum * ball).round().clamp_min(1)
        return (self._back(spectrum * ball) / count).clamp(0, 1)

    def _back(self, spectrum: torch.Tensor) -> torch.Tensor:
        whole = torch.fft.irfftn(spectrum, self.padded, self.axes)
        return whole[(..., *(slice(size) for size in self.shape))]

    def _ball(self, radius: float) -> torch.Tensor:
        """(1, 1, padded ...) 0 and 1, its centre at index 0 and wrapped around."""
        squared = torch.zeros((), device=self.known.device, dtype=self.known.dtype)
        for size, step in zip(self.padded, self.spacing, strict=True):
            index = torch.arange(size, device=self.known.device, dtype=self.known.dtype)
            offset = torch.minimum(index, size - index) * step
            squared = squared[..., None] + offset**2
        return (squared <= radius**2 * (1 + 1e-6)).to(self.known.dtype)[None, None]


class HausdorffDTLoss(ReweightedLoss):
    """Mean of (p - y)^2 (d_p^a + d_y^a), d the distance to the boundary of prediction and of target.

    d_y is the carried map; d_p is taken in every step from the prediction as it is in the patch, exactly and on its
    device, without gradient. A mask that is empty or fills the patch has d = 0.

    Parameters
    ----------
    alpha : float
        Power of the distances; 2 in the paper.
    inside_only : bool
        Distances inside the masks only, 0 outside, as in Kervadec's code.
    most_probable : bool
        The predicted mask is where the class is the most probable (Kervadec's code) instead of p > 0.5. For regions
        both are p > 0.5.
    include_background : bool
        Default False.

    Examples
    --------
    >>> logits, target = torch.zeros(1, 2, 1, 4), torch.tensor([[[[0, 0, 1, 1]]]])
    >>> round(HausdorffDTLoss()(logits, target).item(), 4)  # 0.5^2 (2^2 + 1 + 1 + 2^2) / 4
    0.625
    """

    kinds = (BOUNDARY_DISTANCE,)

    def __init__(
        self,
        alpha: float = 2.0,
        inside_only: bool = False,
        most_probable: bool = False,
        include_background: bool = False,
        **options: Any,
    ):
        super().__init__(include_background=include_background, **options)
        check_options(alpha=alpha)
        self.alpha, self.inside_only, self.most_probable = alpha, inside_only, most_probable

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        target, predicted = inputs.boundary_distance, inputs.predicted_boundary_distance(self.most_probable)
        if self.inside_only:
            target = target * inputs.onehot
            predicted = predicted * inputs.predicted(self.most_probable)
        error = (inputs.probabilities - inputs.onehot) ** 2
        return self.mean(inputs, self.chosen(error * (target**self.alpha + predicted**self.alpha)))

    def unweighted_formula(self) -> str:
        return f"mean({self.w}(p - y)^2 (d_p^{self.alpha:g} + d_y^{self.alpha:g}))"


class HausdorffErosionLoss(ReweightedLoss):
    """Errors that survive k soft erosions, times k^a, summed over k = 1 ... erosions; mean over voxels.

    A soft erosion of (p - y)^2 is its mean over the cross of direct neighbours (0 beyond the image), minus 0.5, cut at
    0 and stretched to [0, 1] per sample and class: PatRyg99/HausdorffLoss. That code leaves torch and has no gradient;
    this one has. A voxel whose error, with its neighbours', is below 0.5 costs nothing: a prediction of 0.5 everywhere
    has neither loss nor gradient, so add it to a loss that starts training. Steps are voxels, whatever the spacing.

    Parameters
    ----------
    alpha : float
    erosions : int
    include_background : bool
        Default False.

    Examples
    --------
    >>> logits, target = torch.tensor([[[[0.0] * 3], [[99.0] * 3]]]), torch.zeros(1, 1, 1, 3, dtype=torch.int64)
    >>> round(HausdorffErosionLoss(erosions=1)(logits, target).item(), 4)  # the middle of three survives
    0.3333
    """

    def __init__(self, alpha: float = 2.0, erosions: int = 10, include_background: bool = False, **options: Any):
        super().__init__(include_background=include_background, **options)
        if erosions < 1:
            raise ValueError(f"Expected at least one erosion, but got {erosions}.")
        check_options(alpha=alpha)
        self.alpha, self.erosions = alpha, erosions

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        error = self.chosen((inputs.probabilities - inputs.onehot) ** 2)
        if inputs.mask is not None:
            error = error * inputs.mask
        bound = without_single_slices(error)
        axes = tuple(range(2, bound.ndim))
        total = torch.zeros_like(bound)
        for step in range(1, self.erosions + 1):
            bound = (cross_mean(bound) - 0.5).clamp_min(0)
            lowest, highest = bound.amin(axes, keepdim=True), bound.amax(axes, keepdim=True)
            # Rounding alone must not be stretched to [0, 1].
            varies = highest - lowest > 1e-6
            # A gradient must not pass through a division by 0, though its result is thrown away.
            span = torch.where(varies, highest - lowest, 1)
            bound = torch.where(varies, (bound - lowest) / span, bound)
            total = total + bound * step**self.alpha
        return self.mean(inputs, total.view(error.shape))

    def unweighted_formula(self) -> str:
        return f"mean({self.w}sum of k^{self.alpha:g} erosion_k((p - y)^2), k <= {self.erosions})"


class HausdorffConvolutionLoss(ReweightedLoss):
    """Errors as deep as a ball of radius r, times r^a, summed over radii; mean over voxels.

    With B_r the mean over a ball, f the soft threshold, e = (p - y)^2:

        sum over r of r^a [ (f(B_r(1 - y)) + f(B_r p)) e p + (f(B_r y) + f(B_r(1 - p))) e y ]

    so a false voxel counts if it lies deep in the true background or in the prediction, a missed one if it lies deep
    in the true lesion or in what is predicted background. The paper leaves f open ("soft thresholding"): here
    f(x) = max(0, 2 x - 1), the threshold of its erosion loss. Balls are averaged over the labelled part of the image,
    whose border so is no boundary; they are taken by FFT, at one price for every radius. Where samples differ in
    spacing (plans that do not resample) the balls are those of the mean spacing.

    Parameters
    ----------
    alpha : float
    radii : sequence of float
        In the unit of the spacing; the paper's, in voxels, by default.
    include_background : bool
        Default False.

    Examples
    --------
    >>> logits, target = torch.tensor([[[[0.0] * 3], [[99.0] * 3]]]), torch.zeros(1, 1, 1, 3, dtype=torch.int64)
    >>> round(HausdorffConvolutionLoss(radii=(3,))(logits, target).item(), 4)  # 3^2 (1 + 1)
    18.0
    """

    def __init__(
        self,
        alpha: float = 2.0,
        radii: Sequence[float] = (3, 6, 9, 12, 15, 18),
        include_background: bool = False,
        **options: Any,
    ):
        super().__init__(include_background=include_background, **options)
        if not radii or min(radii) <= 0:
            raise ValueError(f"Expected radii above 0, but got {tuple(radii)}.")
        check_options(alpha=alpha)
        self.alpha, self.radii = alpha, tuple(float(radius) for radius in radii)

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        p, y = self.chosen(inputs.probabilities), self.chosen(inputs.onehot)
        error = (p - y) ** 2
        false, missed = error * p, error * y
        known = torch.ones_like(p[:, :1]) if inputs.mask is None else inputs.mask.to(p.dtype)
        balls = BallMean(known, mean_spacing(inputs.spacing), max(self.radii))
        p_spectrum, y_spectrum = balls.spectrum(p), balls.spectrum(y)
        total = torch.zeros_like(p)
        for radius in self.radii:
            around_p, around_y = balls.mean(p_spectrum, radius), balls.mean(y_spectrum, radius)
            depth_false = _threshold(1 - around_y) + _threshold(around_p)
            depth_missed = _threshold(around_y) + _threshold(1 - around_p)
            total = total + radius**self.alpha * (depth_false * false + depth_missed * missed)
        return self.mean(inputs, total)

    def unweighted_formula(self) -> str:
        radii = ", ".join(f"{radius:g}" for radius in self.radii)
        return f"mean({self.w}sum of r^{self.alpha:g} depth_r (p - y)^2), r = {radii}"


def _threshold(values: torch.Tensor) -> torch.Tensor:
    return (2 * values - 1).clamp_min(0)


class FuzzyRoughLoss(ReweightedLoss):
    """Mean of c (p - y)^2 over the voxels with c > 0 of a batch, c = 1 - exp(-d^2 / a); mean over classes.

    d is the distance to the target's boundary: errors there weigh little, since nobody knows exactly where it runs;
    from a few voxels on all weigh alike. An absent class has d = 0, so no loss, as in the authors' code (where a batch
    of absent classes is 0 / 0): add it to a loss that sees false positives. That code divides by the number of products
    above 0, which is the same until p rounds to 0 or 1: then the mean would rise as the prediction gets better.

    Parameters
    ----------
    alpha : float
        In the squared unit of the maps (mm^2 in training). 1 in the authors' code, in voxels.
    include_background : bool
        Default False.

    Examples
    --------
    >>> logits, target = torch.zeros(1, 2, 1, 4), torch.tensor([[[[0, 0, 1, 1]]]])
    >>> round(FuzzyRoughLoss()(logits, target).item(), 4)  # 0.5^2 (2 - e^-4 - e^-1) / 2
    0.2017
    """

    kinds = (BOUNDARY_DISTANCE,)

    def __init__(self, alpha: float = 1.0, include_background: bool = False, **options: Any):
        super().__init__(include_background=include_background, **options)
        check_options(above=True, alpha=alpha)
        self.alpha = alpha

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        certainty = self._certainty(inputs.boundary_distance) + self._of_prediction(inputs)
        certainty = self.chosen(certainty if inputs.mask is None else certainty * inputs.mask)
        count = (certainty > 0).transpose(0, 1).flatten(1).sum(1)
        weights = self.weights(inputs)
        certainty = certainty if weights is None else certainty * weights
        terms = certainty * self.chosen((inputs.probabilities - inputs.onehot) ** 2)
        return (terms.transpose(0, 1).flatten(1).sum(1) / count.clamp_min(1)).mean()

    def _certainty(self, distance: torch.Tensor) -> torch.Tensor:
        return -torch.expm1(-(distance**2) / self.alpha)

    def _of_prediction(self, inputs: LossInputs) -> torch.Tensor | float:
        return 0.0

    def unweighted_formula(self) -> str:
        return f"sum({self.w}c (p - y)^2) / n, c = 1 - exp(-d_y^2 / {self.alpha:g})"


class DualFuzzyRoughLoss(FuzzyRoughLoss):
    """The same with the distance to the predicted boundary as well: (2 - exp(-d_y^2 / a) - exp(-d_p^2 / a)) (p - y)^2.

    d_p as in `HausdorffDTLoss`: of p > 0.5 in the patch, on the device, without gradient.

    Examples
    --------
    >>> logits, target = torch.zeros(1, 2, 1, 4), torch.tensor([[[[0, 0, 1, 1]]]])
    >>> round(DualFuzzyRoughLoss()(logits, target).item(), 4)  # no p > 0.5, so no d_p: as FuzzyRoughLoss
    0.2017
    """

    def _of_prediction(self, inputs: LossInputs) -> torch.Tensor:
        return self._certainty(inputs.predicted_boundary_distance())

    def unweighted_formula(self) -> str:
        return f"{super().unweighted_formula()} + 1 - exp(-d_p^2 / {self.alpha:g})"
