import math

import numpy as np
from overlay_sources import LARGE, NOTHING, SMALL, volume, write_source

from nnunet_rw.evaluation.case import EvaluationSettings
from nnunet_rw.evaluation.evaluate import evaluate
from nnunet_rw.pictures.gallery import missed_by_size, worst_cases

FAST = EvaluationSettings(fast=True)
VOXEL_MM3 = 4.0


def test_worst_cases_by_dice_then_by_wrong_voxels(tmp_path):
    source = write_source(
        tmp_path,
        {
            "a_half": (volume(a=LARGE), volume(a=np.s_[1, 2:8, 5:10])),  # Dice 2 * 30 / (60 + 30)
            "b_missed_small": (volume(a=SMALL), NOTHING),
            "c_right": (volume(a=LARGE), volume(a=LARGE)),
            "d_nothing": (NOTHING, NOTHING),
            "e_false": (NOTHING, volume(a=LARGE)),
        },
    )
    evaluations = evaluate(source, FAST)
    assert worst_cases(evaluations, 0, 9) == [4, 1, 0, 2]
    assert worst_cases(evaluations, 0, 2) == [4, 1]
    assert worst_cases(evaluations, 0, 0) == []


def test_missed_lesions_by_size(tmp_path):
    # Lesions in a row of the first slice, with a voxel between them: 1, 2, 3, 4 and 5 voxels, so 4, 8, 12, 16, 20 mm3.
    row = np.repeat(np.arange(10) % 2 == 0, np.ravel([(size, 1) for size in (1, 2, 3, 4, 5)]))
    reference = NOTHING.copy()
    reference[0, 0, : len(row)] = row
    prediction = NOTHING.copy()
    prediction[0, 0, 5] = 1  # of the third
    source = write_source(tmp_path, {"a": (reference, prediction), "b": (volume(a=LARGE, b=SMALL), NOTHING)})
    evaluations = evaluate(source, FAST)
    sizes = missed_by_size(evaluations, 0, edges=(0, 8, 20, 1000, math.inf))
    # 8 mm3 belong to the second class, 20 to the third.
    assert [(size.low, size.high) for size in sizes] == [(0, 8), (8, 20), (20, 1000), (1000, math.inf)]
    assert [(size.num_lesions, size.num_missed) for size in sizes] == [(1, 1), (4, 3), (2, 2), (0, 0)]
    shown = [[(lesion.case, lesion.lesion, lesion.volume_mm3) for lesion in size.examples] for size in sizes]
    assert shown == [[(0, 1, 4)], [(0, 4, 16), (0, 2, 8), (1, 2, 8)], [(1, 1, 240), (0, 5, 20)], []]
    # Fewer examples than lesions: from the first to the last in the order of size.
    (size,) = missed_by_size(evaluations, 0, 3, edges=(0, 1000))
    assert [lesion.volume_mm3 for lesion in size.examples] == [240, 16, 4]
    # Lesions below the minimum volume are ignored, not missed.
    evaluations = evaluate(source, EvaluationSettings(min_volume_mm3=2.5 * VOXEL_MM3, fast=True))
    (size,) = missed_by_size(evaluations, 0, edges=(0, 1000))
    assert (size.num_lesions, size.num_missed) == (4, 3)
