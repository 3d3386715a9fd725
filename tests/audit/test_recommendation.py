"""What is recommended for which figures."""

from dataclasses import replace

import pytest

from nnunet_rw.audit.audit import REASONS, Figures, recommend

MANY_SMALL = Figures(
    small_per_case=33.0,
    small_share=0.91,
    small_voxel_share=0.098,
    small_stock_gradient=0.103,
    small_weighted_gradient=0.426,
    largest_lesion_share=0.6,
    border_share=0.58,
)
COMPACT = replace(MANY_SMALL, small_per_case=0.005, small_share=0.002, largest_lesion_share=1.0, border_share=0.44)


def test_many_small_lesions():
    found = recommend(MANY_SMALL)
    assert found.trainer == "RWTrainer_SmallLesions"
    for figure in ("91%", "below 100 mm3", "33 per case", "9.8%", "10.3%", "42.6%", "false positives"):
        assert figure in found.reason


@pytest.mark.parametrize(
    "figures",
    [
        # Specks beside structures: one in every case, but few of all.
        replace(MANY_SMALL, small_share=0.2),
        # A small lesion in some cases.
        replace(MANY_SMALL, small_per_case=0.5),
        # All are small.
        replace(MANY_SMALL, small_share=1.0, small_stock_gradient=1.0),
        # One compact structure.
        COMPACT,
    ],
)
def test_nothing_speaks_for_another_loss(figures):
    found = recommend(figures)
    assert found.trainer == "nnUNetTrainer"
    assert f"{figures.border_share:.0%}" in found.reason


def test_small_lesions_at_the_limits():
    figures = replace(COMPACT, small_per_case=1.0, small_share=1 / 3, small_stock_gradient=1 / 6)
    assert recommend(figures).trainer == "RWTrainer_SmallLesions"


def test_rectified_maps_alone_are_never_recommended():
    assert "RWTrainer_RRW" not in set(REASONS)
