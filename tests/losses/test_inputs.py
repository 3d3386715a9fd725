"""What several losses take from one output: distances to the boundaries of target and prediction."""

import pytest
import torch
from loss_problems import IGNORE, SHIFTED, P, logits_of, row

from nnunet_rw.losses import LossInputs


class TestBoundaryDistance:
    def test_by_hand(self):
        inputs = LossInputs(logits_of(P), row([0, 0, 0, 1, 1]), spacing=(5, 2))
        assert inputs.boundary_distance[0, :, 0].tolist() == [[6, 4, 2, 2, 4]] * 2

    def test_every_voxel_as_far(self):
        # Two rows of one voxel each side: 1 everywhere, as of a class without a boundary but for the sign.
        inputs = LossInputs(torch.zeros(1, 2, 2, 2), torch.tensor([[0, 0], [1, 1]])[None, None])
        assert (inputs.boundary_distance == 1).all()

    @pytest.mark.parametrize("ignore_label", [None, IGNORE])
    def test_absent_and_full(self, ignore_label):
        inputs = LossInputs(torch.zeros(1, 3, 1, 4), row([1] * 4), ignore_label=ignore_label)
        assert not inputs.boundary_distance.any()
        target = torch.cat([torch.ones(1, 1, 1, 4), torch.zeros(1, 1, 1, 4)], 1)
        inputs = LossInputs(torch.zeros(1, 2, 1, 4), target, regions=True)
        assert not inputs.boundary_distance.any()

    def test_full_but_for_unlabelled_voxels(self):
        inputs = LossInputs(torch.zeros(1, 2, 1, 4), row([1, 1, IGNORE, 1]), ignore_label=IGNORE)
        assert not inputs.boundary_distance.any()

    def test_samples_and_classes_are_independent(self):
        target = torch.cat([row([0, 1, 1, 1]), row([2, 2, 2, 2])])
        distance = LossInputs(torch.zeros(2, 3, 1, 4), target).boundary_distance[:, :, 0]
        assert distance[0].tolist() == [[1, 1, 2, 3], [1, 1, 2, 3], [0, 0, 0, 0]]
        assert not distance[1].any()

    def test_of_a_map_that_was_given(self):
        # A lesion cut by the patch, which it fills: its boundary is outside.
        maps = {"signed_distance": torch.tensor([[4.0, 3, 2, 1], [-4, -3, -2, -1]])[None, :, None]}
        inputs = LossInputs(torch.zeros(1, 2, 1, 4), row([1] * 4), maps)
        assert inputs.boundary_distance[0, 1, 0].tolist() == [4, 3, 2, 1]


class TestPredictedBoundaryDistance:
    def test_by_hand(self):
        # p > 0.5 in the third and fourth voxel.
        inputs = LossInputs(logits_of(SHIFTED), row([0] * 5), spacing=(5, 2))
        assert inputs.predicted_boundary_distance()[0, :, 0].tolist() == [[4, 2, 2, 2, 2]] * 2

    @pytest.mark.parametrize("p", [0.1, 0.9])
    def test_empty_and_full(self, p):
        assert not LossInputs(logits_of([p] * 4), row([0] * 4)).predicted_boundary_distance().any()

    def test_unlabelled_voxels_are_neither_side(self):
        # The third voxel is unknown: from the fourth the nearest outside is the fifth.
        inputs = LossInputs(logits_of(SHIFTED), row([0, 0, IGNORE, 1, 1]), ignore_label=IGNORE)
        assert inputs.predicted_boundary_distance()[0, 1, 0].tolist() == [3, 2, 0, 1, 1]
        # All that is known is predicted.
        inputs = LossInputs(logits_of(SHIFTED), row([IGNORE, IGNORE, 1, 1, IGNORE]), ignore_label=IGNORE)
        assert not inputs.predicted_boundary_distance().any()

    def test_most_probable(self):
        probabilities = torch.tensor([[0.2, 0.4, 0.5], [0.45, 0.35, 0.3], [0.35, 0.25, 0.2]])
        inputs = LossInputs(probabilities.log()[None, :, None], row([0, 0, 0]))
        assert not inputs.predicted_boundary_distance().any()
        expected = [[1, 1, 2], [1, 1, 2], [0, 0, 0]]
        assert inputs.predicted_boundary_distance(most_probable=True)[0, :, 0].tolist() == expected

    def test_most_probable_of_regions(self):
        # They overlap: no region takes a voxel from another.
        probabilities = torch.tensor([[0.9, 0.8, 0.1], [0.7, 0.9, 0.3]])
        inputs = LossInputs(torch.logit(probabilities)[None, :, None], torch.zeros(1, 2, 1, 3), regions=True)
        expected = [[2, 1, 1]] * 2
        for most_probable in (False, True):
            assert inputs.predicted_boundary_distance(most_probable)[0, :, 0].tolist() == expected

    def test_has_no_gradient(self):
        inputs = LossInputs(logits_of(SHIFTED).requires_grad_(), row([0] * 5))
        assert not inputs.predicted_boundary_distance().requires_grad
