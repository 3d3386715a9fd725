"""Which trainer to try first, and why: rules over the audited figures.

The first rule that applies is taken. They follow what has been measured (docs/evidence.md): weights by lesion size,
with lesions drawn alike, find more small lesions at equal false positives. Of a compact structure no trainer was shown
to be better than nnU-Net's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from nnunet_rw.evaluation.metrics.detection import DEFAULT_EDGES_MM3

# "Small" below: the first two size classes of evaluations.
SMALL_MM3 = DEFAULT_EDGES_MM3[2]
# At least one per case on average, or there is nothing to be found; and a third of all lesions, or they may be specks
# of the annotation beside structures that matter more.
MIN_SMALL_PER_CASE = 1.0
MIN_SMALL_SHARE = 1 / 3
# And large lesions drown them: their share of the lesions' gradient under nnUNetTrainer is at most so much of their
# share of the lesions. Where all lesions are small, there is nothing to be weighed against.
MAX_GRADIENT_OF_SHARE = 0.5


@dataclass(frozen=True)
class Figures:
    """What the rules look at; small lesions are those below `SMALL_MM3`, and shares lie in [0, 1].

    Attributes
    ----------
    small_per_case : float
        Mean over all cases.
    small_share, small_voxel_share : float
        Of all lesions, of all their voxels.
    small_stock_gradient, small_weighted_gradient : float
        Of the lesions' gradient under nnUNetTrainer and RWTrainer_SmallLesions.
    largest_lesion_share, border_share : float
        As of `nnunet_rw.audit.lesions.LabelSummary`: the mean over labels, and of all foreground voxels.
    """

    small_per_case: float
    small_share: float
    small_voxel_share: float
    small_stock_gradient: float
    small_weighted_gradient: float
    largest_lesion_share: float
    border_share: float


@dataclass(frozen=True)
class Recommendation:
    trainer: str
    reason: str


@dataclass(frozen=True)
class Rule:
    """A trainer, when to take it, and a reason that quotes the figures by name."""

    trainer: str
    applies: Callable[[Figures], bool]
    reason: str


RULES = (
    Rule(
        "RWTrainer_SmallLesions",
        lambda found: (
            found.small_per_case >= MIN_SMALL_PER_CASE
            and found.small_share >= MIN_SMALL_SHARE
            and found.small_stock_gradient <= MAX_GRADIENT_OF_SHARE * found.small_share
        ),
        "{small_share:.0%} of the lesions are below {small_mm3:g} mm3 ({small_per_case:.3g} per case), but hold "
        "{small_voxel_share:.1%} of the foreground and get {small_stock_gradient:.1%} of the lesions' gradient under "
        "nnUNetTrainer, {small_weighted_gradient:.1%} under RWTrainer_SmallLesions. It detected more small lesions at "
        "equal false positives (docs/evidence.md); at nnU-Net's threshold it marks more of both: train both and "
        "compare.",
    ),
    Rule(
        "nnUNetTrainer",
        lambda found: True,
        "{small_share:.0%} of the lesions are below {small_mm3:g} mm3 ({small_per_case:.3g} per case) and get "
        "{small_stock_gradient:.1%} of the lesions' gradient, the largest holds {largest_lesion_share:.0%} of a case's "
        "voxels of its label, and {border_share:.0%} of the foreground's voxels lie on the boundary: not many small "
        "lesions that large ones drown, so nothing speaks for another loss. Where it is the boundary that matters, "
        "RWTrainer may be worth a comparison.",
    ),
)


def recommend(figures: Figures) -> Recommendation:
    """The first rule that applies; the last one always does."""
    rule = next(rule for rule in RULES if rule.applies(figures))
    return Recommendation(rule.trainer, rule.reason.format(small_mm3=SMALL_MM3, **asdict(figures)))
