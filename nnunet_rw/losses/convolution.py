"""Means over neighbourhoods, with gradient, on any device."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def cross_mean(values: torch.Tensor) -> torch.Tensor:
    """Mean over a voxel and its direct neighbours, (B, C, X[, Y[, Z]]); beyond the image is 0."""
    total = values.clone()
    for axis in range(2, values.ndim):
        rest = values.shape[axis] - 1
        total.narrow(axis, 1, rest).add_(values.narrow(axis, 0, rest))
        total.narrow(axis, 0, rest).add_(values.narrow(axis, 1, rest))
    return total / (2 * (values.ndim - 2) + 1)


class BallMean:
    """Means over balls of several radii, by FFT; voxels that are not known, or beyond the image, do not count.

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
        # Circular convolution is plain convolution once the image is followed by as many zeros as the ball reaches.
        self.padded = [size + extra for size, extra in zip(self.shape, reach, strict=True)]
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
