"""What several losses take from one output: distances to the boundaries of target and prediction."""

import numpy as np
import pytest
import references
import torch
from loss_problems import IGNORE, ROW, SHIFTED, SPACING_MM, P, logits_of, random_problem, row

from nnunet_rw.losses import LossInputs, build
from nnunet_rw.losses.inputs import ById


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

    @pytest.mark.parametrize("kind", ["boundary_distance", "interior_distance"])
    @pytest.mark.parametrize("sign", [1, -1])
    def test_of_a_map_that_was_given(self, kind, sign):
        # A lesion cut by the patch, which it fills: its boundary is outside. A sign that the map has is ignored.
        maps = {kind: sign * torch.tensor([[4.0, 3, 2, 1]] * 2)[None, :, None]}
        inputs = LossInputs(torch.zeros(1, 2, 1, 4), row([1] * 4), maps)
        assert inputs.boundary_distance[0, :, 0].tolist() == [[4, 3, 2, 1]] * 2
        assert inputs.signed_distance[0, :, 0].tolist() == [[4, 3, 2, 1], [-4, -3, -2, -1]]

    def test_unlabelled_voxels_of_a_map_that_was_given_are_zero(self):
        maps = {"boundary_distance": torch.tensor([[2.0, 1, 5, 1]] * 2)[None, :, None]}
        inputs = LossInputs(torch.zeros(1, 2, 1, 4), row([0, 0, IGNORE, 1]), maps, ignore_label=IGNORE)
        assert inputs.boundary_distance[0, :, 0].tolist() == [[2, 1, 0, 1]] * 2
        assert inputs.signed_distance[0, :, 0].tolist() == [[-2, -1, 0, 1], [2, 1, 0, -1]]

    def test_one_interior_distance_serves_two_classes(self):
        maps = {"interior_distance": torch.tensor([6.0, 4, 2, 2, 4], dtype=torch.float16)[None, None, None]}
        inputs = LossInputs(logits_of(P), row(ROW), maps)
        assert inputs.boundary_distance.dtype == torch.float64
        assert inputs.boundary_distance[0, :, 0].tolist() == [[6, 4, 2, 2, 4]] * 2
        assert list(inputs.maps) == ["interior_distance"]

    def test_interior_distances_serve_regions(self):
        maps = {"interior_distance": torch.tensor([[1.0, 1, 2, 3], [3, 2, 1, 1]])[None, :, None]}
        target = torch.tensor([[0, 1, 1, 1], [0, 0, 0, 1]])[None, :, None]
        inputs = LossInputs(torch.zeros(1, 2, 1, 4), target, maps, regions=True)
        assert inputs.signed_distance[0, :, 0].tolist() == [[1, -1, -2, -3], [3, 2, 1, -1]]

    def test_one_interior_distance_does_not_serve_three_classes(self):
        # Class 1 ends at class 2, but the boundary of the background does not lie there.
        maps = {"interior_distance": torch.tensor([1.0, 1, 1, 2])[None, None, None]}
        inputs = LossInputs(torch.zeros(1, 3, 1, 4), row([0, 1, 2, 2]), maps)
        assert inputs.boundary_distance[0, :, 0].tolist() == [[1, 1, 2, 3], [1, 1, 1, 2], [2, 1, 1, 2]]
        assert list(inputs.maps) == ["interior_distance", "boundary_distance"]

    @pytest.mark.parametrize(
        ("num_heads", "regions", "kind"),
        [(2, False, "interior_distance"), (3, True, "interior_distance"), (3, False, "boundary_distance")],
    )
    def test_completed_are_the_maps_that_are_carried(self, num_heads, regions, kind):
        target = torch.zeros(1, num_heads if regions else 1, 4, 3)
        inputs = LossInputs(torch.zeros(1, num_heads, 4, 3), target, regions=regions)
        assert list(inputs.complete(["boundary_distance", "lesion_ids"])) == [kind, "lesion_ids", "lesion_table"]

    @pytest.mark.parametrize("kind", ["boundary_distance", "interior_distance"])
    def test_map_that_does_not_fit(self, kind):
        maps = {kind: torch.zeros(1, 3, 1, 5)}
        with pytest.raises(
            ValueError, match=rf"Expected a {kind} map of shape .*\(1, 2, 1, 5\), but got \(1, 3, 1, 5\)"
        ):
            LossInputs(logits_of(P), row(ROW), maps).boundary_distance.sum()


class TestSignedDistance:
    def test_by_hand(self):
        # Negative where the target has the head: of foreground in the last two voxels, of background in the others.
        inputs = LossInputs(logits_of(P), row(ROW), spacing=(5, 2))
        assert inputs.signed_distance[0, :, 0].tolist() == [[-6, -4, -2, 2, 4], [6, 4, 2, -2, -4]]

    def test_overlapping_regions(self):
        target = torch.tensor([[0, 1, 1, 1, 0], [0, 0, 1, 1, 0]])[None, :, None]
        inputs = LossInputs(torch.zeros(1, 2, 1, 5), target, regions=True)
        assert inputs.signed_distance[0, :, 0].tolist() == [[1, -1, -2, -1, 1], [2, 1, -1, -1, 1]]

    def test_absent_and_full(self):
        inputs = LossInputs(torch.zeros(1, 3, 1, 4), row([1] * 4))
        assert not inputs.signed_distance.any()

    @pytest.mark.parametrize("regions", [False, True], ids=["classes", "regions"])
    @pytest.mark.parametrize("ignore", [False, True], ids=["labelled", "ignore"])
    def test_equals_the_slow_reference(self, regions, ignore):
        logits, target, heads = random_problem((7, 6, 5), regions, ignore)
        inputs = LossInputs(torch.from_numpy(logits), torch.from_numpy(target), None, SPACING_MM, **heads)
        reference = references.LossReference(logits, target, SPACING_MM, **heads)
        expected = [[reference._signed_distance(b, c) for c in range(reference.heads)] for b in range(2)]
        np.testing.assert_allclose(inputs.signed_distance, expected, rtol=0, atol=1e-4)


class TestSpacingOfEverySample:
    @pytest.mark.parametrize("kind", ["interior_distance", "boundary_distance", "lesion_ids"])
    @pytest.mark.parametrize("regions", [False, True], ids=["classes", "regions"])
    def test_maps_are_computed_sample_by_sample(self, regions, kind):
        logits, target, heads = random_problem((7, 6, 5), regions, ignore=True)
        logits, target = torch.from_numpy(logits), torch.from_numpy(target)
        spacing = torch.tensor([SPACING_MM, (0.5, 3.0, 1.0)])
        computed = LossInputs(logits, target, None, spacing, **heads).map(kind)
        for b in range(2):
            alone = LossInputs(logits[[b]], target[[b]], None, spacing[b].tolist(), **heads).map(kind)
            assert torch.equal(computed[[b]], alone)

    def test_predicted_boundary_by_hand(self):
        # p > 0.5 in the third and fourth voxel: steps 2 1 | 1 1 | 1 of 2 mm, and of half a mm.
        inputs = LossInputs(logits_of(SHIFTED).repeat(2, 1, 1, 1), row([0] * 5).repeat(2, 1, 1, 1))
        inputs.spacing = torch.tensor([[5.0, 2.0], [5.0, 0.5]])
        distance = inputs.predicted_boundary_distance()[:, 1, 0]
        assert distance.tolist() == [[4, 2, 2, 2, 2], [1, 0.5, 0.5, 0.5, 0.5]]


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


class TestMaps:
    @pytest.mark.parametrize("name", ["rrw", "boundary", "dice"])
    def test_unknown_kinds_are_refused(self, name):
        message = (
            r"^Expected maps of boundary_distance, interior_distance, lesion_ids, lesion_table, but got 'distance'\.$"
        )
        with pytest.raises(ValueError, match=message):
            build(name)(torch.zeros(1, 2, 1, 4), row([0, 1, 1, 0]), {"distance": torch.ones(1, 1, 1, 4)})

    @pytest.mark.parametrize(("regions", "channels"), [(False, 1), (False, 2), (True, 2)])
    def test_the_sign_of_interior_distances_is_ignored(self, regions, channels):
        # p = 1/2 everywhere. Of the second head D / max D = 1/2, 1, of the first 1, 1: z = -1, 1, 1, -1 and
        # 1, -1/2, -1, 1; their mean is 1/16 and half of it the loss.
        distance = torch.tensor([1.0, 1, 2, 1]).expand(1, channels, 1, 4)
        target = row([0, 1, 1, 0])
        if regions:
            target = torch.cat([1 - target, target], 1)
        for sign in (1, -1, torch.tensor([1.0, -1, 1, -1])):
            maps = {"interior_distance": sign * distance}
            value = build("rrw", regions=regions)(torch.zeros(1, 2, 1, 4), target, maps)
            assert value.item() == pytest.approx(1 / 32)


@pytest.mark.parametrize("num_classes", [2, 3, 40])
@pytest.mark.parametrize("scale", [0.0, 10.0, 100.0, 1e4])
def test_log_complement_of_large_and_of_tiny_probabilities(num_classes, scale):
    logits = scale * torch.randn(1, num_classes, 20, 20, generator=torch.Generator().manual_seed(0))
    found = LossInputs(logits, torch.zeros(1, 1, 20, 20, dtype=torch.int64)).log_complements
    # In double precision, the class left out, as the sum of all others.
    others = [torch.cat([logits[:, :c], logits[:, c + 1 :]], 1).double().logsumexp(1) for c in range(num_classes)]
    expected = torch.stack(others, 1) - logits.double().logsumexp(1, keepdim=True)
    told = expected < -1e-9  # by that difference
    torch.testing.assert_close(found.double()[told], expected[told], rtol=2e-5, atol=0)
    assert (found[~told] <= 0).all()
    assert (found[~told] > -2e-9).all()


@pytest.mark.parametrize("name", ["focal", "softmax_focal", "wce", "focal_gdl_bce", "cc_dice_ce"])
def test_what_autograd_keeps_grows_as_the_classes(name):
    def kept(num_classes):
        numbers = []
        logits = torch.zeros(1, num_classes, 6, 6, requires_grad=True)
        target = torch.zeros(1, 1, 6, 6, dtype=torch.int64)
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: numbers.append(tensor.numel()) or tensor, lambda x: x
        ):
            build(name)(logits, target)
        return sum(numbers)

    assert kept(40) < 2.5 * kept(20)


class TestById:
    ids = torch.tensor([[0, 1, 1, 3, 0, 1], [2, 2, 0, 0, 2, 3]])[:, None, None]

    @pytest.mark.parametrize("lanes", [None, 1, 2, 4, 100])
    def test_by_hand(self, lanes):
        # On a GPU a sum is spread over lanes, on a CPU it has one.
        sums = ById(self.ids, 5, lanes).sums
        values = torch.tensor([[1.0, 2, 3, 4, 5, 6], [1, 1, 1, 1, 1, 9]])[:, None, None]
        assert sums(values)[:, 0].tolist() == [[6, 11, 0, 4, 0], [2, 0, 3, 9, 0]]
        assert sums(torch.ones((), dtype=torch.int64))[:, 0].tolist() == [[2, 3, 0, 1, 0], [2, 0, 3, 1, 0]]

    @pytest.mark.parametrize("lanes", [None, 1, 3])
    def test_highest(self, lanes):
        values = torch.tensor([[1.0, 2, 3, 4, 5, 6], [1, 0, 1, 1, 7, 9]])[:, None, None].requires_grad_()
        highest = ById(self.ids, 5, lanes).highest(values)
        assert highest[:, 0].tolist() == [[5, 6, 0, 4, 0], [1, 0, 7, 9, 0]]
        assert not highest.requires_grad

    @pytest.mark.parametrize("lanes", [1, 3])
    def test_gradient(self, lanes):
        values = torch.ones(2, 1, 1, 6, requires_grad=True)
        (ById(self.ids, 5, lanes).sums(values) * torch.tensor([1.0, 10, 100, 1000, 0])).sum().backward()
        assert values.grad[0].flatten().tolist() == [1, 10, 10, 1000, 1, 10]

    def test_what_is_small_beside_the_sum(self):
        values = torch.cat([torch.tensor([2.0**24]), torch.ones(64)])[None, None, None]
        assert ById(torch.zeros_like(values, dtype=torch.int64), 1).sums(values).item() == 2**24 + 64
