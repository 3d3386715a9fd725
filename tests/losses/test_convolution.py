"""Means over crosses and balls."""

import pytest
import torch

from nnunet_rw.losses.hausdorff import BallMean, cross_mean


class TestCrossMean:
    def test_of_a_row(self):
        computed = cross_mean(torch.tensor([1.0, 2, 4, 8])[None, None])
        torch.testing.assert_close(computed[0, 0], torch.tensor([3, 7, 14, 12]) / 3)

    def test_of_an_image(self):
        # 1 2 3 above 4 5 6: each with its neighbours, over five.
        computed = cross_mean(torch.tensor([[1.0, 2, 3], [4, 5, 6]])[None, None])
        torch.testing.assert_close(computed[0, 0], torch.tensor([[7, 11, 11], [10, 17, 14]]) / 5)

    def test_of_a_volume(self):
        # One voxel reaches itself and its six neighbours.
        values = torch.zeros(2, 1, 3, 4, 5)
        values[1, 0, 1, 2, 3] = 7
        computed = cross_mean(values)
        assert computed.sum() == 7
        assert computed[1, 0, [1, 0, 2, 1, 1, 1, 1], [2, 2, 2, 1, 3, 2, 2], [3, 3, 3, 3, 3, 2, 4]].tolist() == [1] * 7

    def test_of_one_voxel_and_one_slice(self):
        assert cross_mean(torch.tensor(6.0).view(1, 1, 1, 1, 1)).item() == pytest.approx(6 / 7)
        computed = cross_mean(torch.tensor([[3.0, 6]])[None, None])
        torch.testing.assert_close(computed[0, 0], torch.tensor([[9, 9]]) / 5)

    def test_gradient(self):
        values = torch.rand(1, 2, 3, 4, 2, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(cross_mean, values)


class TestBallMean:
    @staticmethod
    def means(values, radius, spacing=None, known=None, largest_radius=None):
        values = torch.tensor(values, dtype=torch.float64)[None, None]
        known = torch.ones_like(values) if known is None else torch.tensor(known, dtype=torch.float64)[None, None]
        balls = BallMean(known, spacing, largest_radius or radius)
        return balls.mean(balls.spectrum(values), radius)[0, 0]

    def test_of_a_row(self):
        # Two steps of 2 mm to either side, as far as the row goes.
        computed = self.means([1.0, 0, 1, 0, 0, 0], 4.5, spacing=[2])
        assert computed.tolist() == pytest.approx([2 / 3, 2 / 4, 2 / 5, 1 / 5, 1 / 4, 0])

    def test_of_an_image_in_mm(self):
        # Steps of 1 and 2 mm: radius 2 is two voxels down or one aside, a diagonal step is sqrt(5).
        values = [[1.0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 0, 0]]
        expected = [[1 / 4, 1 / 5, 1 / 4], [1 / 5, 0, 1 / 5], [1 / 5, 1 / 6, 1 / 5], [0, 0, 1 / 4]]
        # Of (2, 1): itself, (1, 1), (0, 1), (3, 1), (2, 0), (2, 2). Of (0, 1): itself, down two, aside two.
        for largest_radius in (2, 5):
            computed = self.means(values, 2, spacing=(1, 2), largest_radius=largest_radius)
            torch.testing.assert_close(computed, torch.tensor(expected, dtype=torch.float64))

    def test_unknown_voxels_do_not_count(self):
        computed = self.means([1.0, 1, 0, 0, 1], 1, known=[1, 0, 1, 1, 1])
        assert computed[[0, 2, 3, 4]].tolist() == pytest.approx([1, 0, 1 / 3, 1 / 2])

    @pytest.mark.parametrize(("step", "radius"), [(0.2, 0.6), (0.1, 0.3), (0.7, 2.1), (1, 3)])
    def test_far_end_is_out_of_reach(self, step, radius):
        # Three steps, though 0.6 / 0.2 is less than 3 to a computer: the last voxel does not come round to the first.
        computed = self.means([0.0] * 8 + [1], radius, spacing=[step])
        assert computed.tolist() == pytest.approx([0] * 5 + [1 / 7, 1 / 6, 1 / 5, 1 / 4])

    def test_ball_larger_than_the_image(self):
        computed = self.means([[1.0, 0, 0], [1, 1, 0]], 50)
        torch.testing.assert_close(computed, torch.full((2, 3), 0.5, dtype=torch.float64))
