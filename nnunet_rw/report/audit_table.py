"""An audit for the terminal."""

from __future__ import annotations

import math
import textwrap

from nnunet_rw.audit.audit import Audit
from nnunet_rw.audit.measures import LabelSummary, SizeSummary
from nnunet_rw.report.table import text_table

_LABEL_HEADER = (
    "label",
    "cases with it",
    "lesions",
    "a case",
    "median mm3",
    "Gini",
    "voxels in largest tenth",
    "voxels on boundary",
)


def audit_text(audit: Audit) -> str:
    """Lesions by label and by size, who gets the gradient, and the recommendation."""
    count = sum(len(lesions) for lesions in audit.lesions)
    sizes = [size_text(size) for size in audit.sizes]
    by_size = [
        (text, str(size.num_lesions), share_text(size.lesion_share), share_text(size.voxel_share))
        for text, size in zip(sizes, audit.sizes, strict=True)
    ]
    gradients = [
        (shares.trainer, shares.loss, *map(share_text, shares.by_size), share_text(shares.of_lesions))
        for shares in audit.gradients
    ]
    gradient_header = ("trainer", "loss", *sizes, "lesions of all gradient")
    recommendation = f"Recommended: {audit.recommendation.trainer}, because {audit.recommendation.reason}"
    return "\n\n".join(
        [
            f"{audit.dataset}: {count} lesions in {len(audit.cases)} cases of {audit.folder}",
            text_table(_LABEL_HEADER, [_label_row(label) for label in audit.labels]),
            text_table(("lesion volume", "lesions", "share of lesions", "share of voxels"), by_size),
            f"Who gets the gradient of the lesions' voxels before anything is learned ({audit.num_patches} patches):",
            text_table(gradient_header, gradients),
            textwrap.fill(recommendation, 118),
        ]
    )


def size_text(size: SizeSummary) -> str:
    """Such as "10 to 100 mm3"."""
    if math.isinf(size.high_mm3):
        return f"from {size.low_mm3:g} mm3"
    return f"{size.low_mm3:g} to {size.high_mm3:g} mm3" if size.low_mm3 else f"below {size.high_mm3:g} mm3"


def share_text(share: float) -> str:
    """Per cent, with a digit where it is small; "-" for NaN."""
    if math.isnan(share):
        return "-"
    return f"{share:.0%}" if share >= 0.0995 or share == 0 else f"{share:.1%}"


def _label_row(label: LabelSummary) -> tuple[str, ...]:
    median, lowest, highest = label.per_case
    undefined = label.num_lesions == 0
    return (
        label.label,
        str(label.num_cases),
        str(label.num_lesions),
        f"{median:g} ({lowest} to {highest})",
        "-" if undefined else _volume_text(label.median_volume_mm3),
        "-" if undefined else f"{label.gini:.2f}",
        share_text(label.largest_tenth_share),
        share_text(label.border_share),
    )


def _volume_text(volume_mm3: float) -> str:
    return f"{volume_mm3:.0f}" if volume_mm3 >= 100 else f"{volume_mm3:.3g}"
