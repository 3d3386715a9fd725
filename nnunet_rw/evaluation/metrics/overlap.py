"""Overlap of two masks, and their volumes compared, in one case and over cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from nnunet_rw.maps.arrays import as_masks, as_spacing

Status = Literal["both", "both_empty", "only_reference", "only_prediction"]


@dataclass(frozen=True)
class Overlap:
    """Confusion counts of one class in one case. Every ratio lies in [0, 1] and is NaN where it is 0 / 0.

    Attributes
    ----------
    tp, fp, fn, tn : int
        Voxels in both masks, in the prediction alone, in the reference alone, in neither.

    Examples
    --------
    >>> Overlap(tp=3, fp=1, fn=2, tn=94).dice
    0.6666666666666666
    """

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def status(self) -> Status:
        """Which of the two masks holds a voxel."""
        if self.tp or (self.fp and self.fn):
            return "both"
        if self.fn:
            return "only_reference"
        return "only_prediction" if self.fp else "both_empty"

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN): 0 where one mask is empty, NaN where both are."""
        return share(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def jaccard(self) -> float:
        """TP / (TP + FP + FN), intersection over union: 0 where one mask is empty, NaN where both are."""
        return share(self.tp, self.tp + self.fp + self.fn)

    @property
    def ppv(self) -> float:
        """TP / (TP + FP), positive predictive value or precision: NaN where the prediction is empty."""
        return share(self.tp, self.tp + self.fp)

    @property
    def sensitivity(self) -> float:
        """TP / (TP + FN), recall: NaN where the reference is empty."""
        return share(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> float:
        """TN / (TN + FP): NaN where the reference fills the image."""
        return share(self.tn, self.tn + self.fp)


def overlap(reference: np.ndarray, prediction: np.ndarray, known: np.ndarray | None = None) -> Overlap:
    """Count the voxels of two masks.

    Parameters
    ----------
    reference, prediction : boolean array (X, Y[, Z])
        One class of each.
    known : boolean array (X, Y[, Z]), optional
        False where the reference says nothing (nnU-Net's ignore label). These voxels count nowhere, so a mask that
        lies wholly among them is empty.

    Returns
    -------
    Overlap

    Raises
    ------
    ValueError
        If a mask is not boolean, not 2D or 3D, or the shapes differ.

    Examples
    --------
    >>> overlap(np.array([[True, True, False]]), np.array([[False, True, True]]))
    Overlap(tp=1, fp=1, fn=1, tn=0)
    """
    reference, prediction = as_masks(reference=reference, prediction=prediction)
    num_voxels = reference.size
    if known is not None:
        _, known = as_masks(reference=reference, known=known)
        num_voxels = int(np.count_nonzero(known))
        reference, prediction = reference & known, prediction & known
    tp = np.count_nonzero(reference & prediction)
    fp = np.count_nonzero(prediction) - tp
    fn = np.count_nonzero(reference) - tp
    return Overlap(int(tp), int(fp), int(fn), int(num_voxels - tp - fp - fn))


def share(part: float, whole: float) -> float:
    """NaN of nothing.

    Examples
    --------
    >>> share(1, 4), share(0, 0)
    (0.25, nan)
    """
    return part / whole if whole else float("nan")


@dataclass(frozen=True)
class VolumeBias:
    """Volumes of one class in one case.

    Attributes
    ----------
    reference_mm3, prediction_mm3 : float
        Voxels times the volume of a voxel; mm2 for masks of two axes. 0 where the mask is empty.
    """

    reference_mm3: float
    prediction_mm3: float

    @property
    def signed_mm3(self) -> float:
        """Prediction minus reference: above 0 is too much. Of two empty masks 0."""
        return self.prediction_mm3 - self.reference_mm3

    @property
    def absolute_mm3(self) -> float:
        """Size of the signed difference. It cannot tell a wrong place: a lesion missed and as much invented give 0."""
        return abs(self.signed_mm3)

    @property
    def relative(self) -> float:
        """Signed difference as a fraction of the reference: -1 where nothing is predicted, no upper bound.

        NaN where the reference is empty, whatever is predicted; ``signed_mm3`` is then the false positive volume.
        """
        return self.signed_mm3 / self.reference_mm3 if self.reference_mm3 else float("nan")


@dataclass(frozen=True)
class BlandAltman:
    """Agreement of two measurements over cases; differences are prediction minus reference, in the unit of both.

    Attributes
    ----------
    n : int
        Cases.
    bias, sd : float
        Mean and standard deviation (n - 1 in the denominator) of the differences.
    lower_limit, upper_limit : float
        Limits of agreement, bias -/+ 1.96 sd: 95 % of differences lie between them if they are normal.
    bias_ci, lower_limit_ci, upper_limit_ci : tuple of float
        95 % confidence interval of each, lower end first.
    """

    n: int
    bias: float
    sd: float
    lower_limit: float
    upper_limit: float
    bias_ci: tuple[float, float]
    lower_limit_ci: tuple[float, float]
    upper_limit_ci: tuple[float, float]


def volume_bias(
    reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float], known: np.ndarray | None = None
) -> VolumeBias:
    """Volumes of two masks.

    Parameters
    ----------
    reference, prediction : boolean array (X, Y[, Z])
        One class of each.
    spacing_mm : sequence of float
        mm per array axis.
    known : boolean array (X, Y[, Z]), optional
        False where the reference says nothing: these voxels have no volume in either mask.

    Returns
    -------
    VolumeBias

    Raises
    ------
    ValueError
        If a mask is not boolean, not 2D or 3D, the shapes differ, or a spacing is impossible.

    Examples
    --------
    >>> volume_bias(np.array([[True, True, False]]), np.array([[False, False, True]]), (2, 3))
    VolumeBias(reference_mm3=12.0, prediction_mm3=6.0)
    """
    counts = overlap(reference, prediction, known)
    voxel_mm3 = _voxel_mm3(spacing_mm, np.ndim(reference))
    return VolumeBias((counts.tp + counts.fn) * voxel_mm3, (counts.tp + counts.fp) * voxel_mm3)


def bland_altman(reference: Sequence[float] | np.ndarray, prediction: Sequence[float] | np.ndarray) -> BlandAltman:
    """Bias and limits of agreement (Bland and Altman, doi 10.1177/096228029900800204).

    The intervals hold for independent and normal differences: Student's t for the bias, and the exact ones from the
    noncentral t for each limit taken alone (Carkeet, doi 10.1097/OPX.0000000000000513), which reach further away from
    the bias than towards it. Bland and Altman's approximation, limit -/+ t sd sqrt(1/n + 1.96^2 / (2 (n - 1))), covers
    92 to 93 % at 5 to 10 cases. Differences that grow with the volume, as they mostly do, are not normal: pass
    logarithms.

    Parameters
    ----------
    reference, prediction : array (n,)
        One value per case, in the same order and unit, e.g. mm3.

    Returns
    -------
    BlandAltman
        Of one case all but ``n`` and ``bias`` is NaN, of none all but ``n``. Where all differences are equal, the
        limits and the intervals are the bias.

    Raises
    ------
    ValueError
        If the two differ in length, are not of one axis, or a value is not finite.

    Examples
    --------
    >>> agreement = bland_altman([10, 20, 30], [11, 22, 33])  # differences 1, 2 and 3
    >>> agreement.bias, agreement.sd
    (2.0, 1.0)
    """
    values = [np.asarray(side, dtype=np.float64) for side in (reference, prediction)]
    if values[0].ndim != 1 or values[0].shape != values[1].shape:
        raise ValueError(
            "Expected one reference and one prediction per case, but got shapes "
            f"{values[0].shape} and {values[1].shape}."
        )
    differences = values[1] - values[0]
    n = len(differences)
    num_wrong = n - np.count_nonzero(np.isfinite(differences))
    if num_wrong:
        raise ValueError(f"Expected finite values, but got NaN or inf in {num_wrong} of {n} cases. Leave them out.")
    bias = float(differences.mean()) if n else np.nan
    if n < 2:
        return BlandAltman(n, bias, np.nan, np.nan, np.nan, *[(np.nan, np.nan)] * 3)
    sd = float(differences.std(ddof=1))
    z = stats.norm.ppf(0.975)
    margin = float(stats.t.ppf(0.975, n - 1)) * sd / np.sqrt(n)
    near, far = (float(k) * sd / np.sqrt(n) for k in stats.nct.ppf([0.025, 0.975], n - 1, z * np.sqrt(n)))
    return BlandAltman(
        n=n,
        bias=bias,
        sd=sd,
        lower_limit=float(bias - z * sd),
        upper_limit=float(bias + z * sd),
        bias_ci=(bias - margin, bias + margin),
        lower_limit_ci=(bias - far, bias - near),
        upper_limit_ci=(bias + near, bias + far),
    )


def total_lesion_intensity(image: np.ndarray, mask: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """Volume of a mask times its mean intensity.

    With an image of standardised uptake values this is total lesion glycolysis (or total lesion uptake, by tracer),
    in SUV mm3; a thousandth of it is the usual SUV ml.

    Parameters
    ----------
    image : real array (X, Y[, Z])
        What it holds outside the mask, NaN included, has no influence.
    mask : boolean array (X, Y[, Z])
    spacing_mm : sequence of float
        mm per array axis.

    Returns
    -------
    float
        In the image's unit times mm3; 0 of an empty mask, which has no mean but no volume either. Intensities below 0
        (Hounsfield units, standardised MRI) cancel those above: the total then means nothing.

    Raises
    ------
    ValueError
        If the mask is not boolean, not 2D or 3D, the shapes differ, a spacing is impossible, or the image is complex
        or not finite within the mask.

    Examples
    --------
    >>> total_lesion_intensity(np.array([[1.0, 2.0, 9.0]]), np.array([[True, True, False]]), (1, 2))
    6.0
    """
    (mask,) = as_masks(mask=mask)
    image = np.asarray(image)
    if image.shape != mask.shape:
        raise ValueError(f"Expected an image of the mask's shape {mask.shape}, but got {image.shape}.")
    if image.dtype.kind not in "iuf":
        raise ValueError(f"Expected an image of real numbers, but got {image.dtype}.")
    voxel_mm3 = _voxel_mm3(spacing_mm, mask.ndim)
    intensities = image[mask].astype(np.float64)
    num_wrong = len(intensities) - np.count_nonzero(np.isfinite(intensities))
    if num_wrong:
        raise ValueError(
            f"Expected finite intensities, but got NaN or inf in {num_wrong} of the mask's {len(intensities)} voxels."
        )
    return float(intensities.sum()) * voxel_mm3


def _voxel_mm3(spacing_mm: Sequence[float], ndim: int) -> float:
    return float(np.prod(as_spacing(spacing_mm, ndim)))
