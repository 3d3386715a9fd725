"""Distance transforms of tensors: against SciPy on a CPU, by passes on any device, by the Triton kernel."""

import importlib.util
import os
import subprocess
import sys
from importlib import metadata
from types import ModuleType

import numpy as np
import pytest
import references
import torch
from loss_problems import SPACING_MM

from nnunet_rw.losses import distance_transform
from nnunet_rw.losses.distance_transform import (
    _triton_kernel,
    distance_to,
    mean_spacing,
    min_plus_by_broadcast,
    nearest_id,
    spacing_rows,
    squared_distance,
)

SHAPES = [(11, 9, 7), (13, 10)]
DENSITIES = [0.02, 0.3, 0.9]


def random_mask(shape, density=0.1, batch=2, channels=3, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random((batch, channels, *shape)) < density)


def reference_of(mask, spacing):
    """SciPy's, sample by sample and channel by channel; the diagonal where the mask is empty."""
    return np.stack([[references.distance_to(channel, spacing) for channel in sample] for sample in mask.numpy()])


def by_passes(mask, spacing):
    return squared_distance(mask, spacing)[0].sqrt()


TRANSFORMS = pytest.mark.parametrize("transform", [distance_to, by_passes])


class TestDistanceTo:
    @TRANSFORMS
    def test_by_hand(self, transform):
        # One voxel, in the middle of the second row; steps of 1.5 mm down and 2 mm across.
        mask = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0]], dtype=torch.bool)[None, None]
        expected = [[2.5, 1.5, 2.5, (2.25 + 16) ** 0.5], [2, 0, 2, 4]]
        torch.testing.assert_close(transform(mask, (1.5, 2.0))[0, 0], torch.tensor(expected))

    @TRANSFORMS
    @pytest.mark.parametrize("density", DENSITIES)
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("spacing_mm", [SPACING_MM, (1, 1, 1), (5, 0.3, 0.3)])
    def test_equals_scipy(self, transform, shape, density, spacing_mm):
        mask, spacing_mm = random_mask(shape, density), spacing_mm[: len(shape)]
        computed = transform(mask, spacing_mm)
        assert computed.shape == mask.shape
        assert computed.dtype == torch.float32
        # A thousandth of the smallest step.
        np.testing.assert_allclose(computed, reference_of(mask, spacing_mm), rtol=0, atol=1e-3 * min(spacing_mm))

    def test_default_unit_is_the_voxel(self):
        mask = random_mask((7, 6, 5))
        assert torch.equal(distance_to(mask), distance_to(mask, (1, 1, 1)))

    @TRANSFORMS
    def test_empty_mask_gives_the_diagonal(self, transform):
        # sqrt((4 * 1.5)^2 + (3 * 2)^2) mm.
        computed = transform(torch.zeros(1, 1, 4, 3, dtype=torch.bool), (1.5, 2.0))
        torch.testing.assert_close(computed, torch.full((1, 1, 4, 3), 72**0.5))

    @TRANSFORMS
    def test_full_mask(self, transform):
        assert not transform(torch.ones(2, 1, 4, 3, 2, dtype=torch.bool), SPACING_MM).any()

    @TRANSFORMS
    @pytest.mark.parametrize("voxel", [(0, 0, 0), (4, 3, 2), (2, 1, 2)])
    def test_single_voxel(self, transform, voxel):
        mask = torch.zeros(1, 1, 5, 4, 3, dtype=torch.bool)
        mask[(0, 0, *voxel)] = True
        offsets = (np.indices((5, 4, 3)).T - voxel) * SPACING_MM
        expected = np.sqrt((offsets**2).sum(-1)).T
        np.testing.assert_allclose(transform(mask, SPACING_MM)[0, 0], expected, rtol=1e-5)

    @TRANSFORMS
    @pytest.mark.parametrize("shape", [(1, 1, 1), (1, 6, 1), (1, 1)])
    def test_axes_of_one_voxel(self, transform, shape):
        spacing_mm = SPACING_MM[: len(shape)]
        for density in (0, 0.5, 1):
            mask = random_mask(shape, density)
            np.testing.assert_allclose(transform(mask, spacing_mm), reference_of(mask, spacing_mm), atol=1e-5)

    @TRANSFORMS
    def test_samples_and_channels_are_independent(self, transform):
        mask = random_mask((8, 7, 6))
        mask[0, 1], mask[1, 2] = False, True
        alone = [[transform(channel[None, None], SPACING_MM)[0, 0] for channel in sample] for sample in mask]
        assert torch.equal(transform(mask, SPACING_MM), torch.stack([torch.stack(sample) for sample in alone]))

    @TRANSFORMS
    def test_layout_in_memory_does_not_matter(self, transform):
        mask = random_mask((8, 7, 6))
        channels_last = mask.contiguous(memory_format=torch.channels_last_3d)
        assert torch.equal(transform(channels_last, SPACING_MM), transform(mask, SPACING_MM))
        turned = transform(mask.transpose(2, 4), SPACING_MM[::-1]).transpose(2, 4)
        torch.testing.assert_close(turned, transform(mask, SPACING_MM))

    @TRANSFORMS
    def test_input_is_unchanged(self, transform):
        mask = random_mask((8, 7, 6))
        before = mask.clone()
        transform(mask, SPACING_MM)
        assert torch.equal(mask, before)

    @pytest.mark.parametrize("function", [distance_to, nearest_id])
    def test_spacing_that_does_not_fit(self, function):
        with pytest.raises(ValueError, match=r"spacing of 2 numbers, one per axis, but got \(1, 2, 3\)"):
            function(torch.zeros(1, 1, 4, 3, dtype=torch.int64) > 0, (1, 2, 3))


ROWS_MM = torch.tensor([SPACING_MM, (0.5, 3.0, 1.0)])


class TestSpacing:
    def test_rows_by_hand(self):
        values = torch.zeros(2, 3, 5, 4)
        assert spacing_rows(values, None) == [(1.0, 1.0)] * 2
        assert spacing_rows(values, (2, 0.5)) == [(2.0, 0.5)] * 2
        assert spacing_rows(values, torch.tensor([2.0, 0.5])) == [(2.0, 0.5)] * 2
        assert spacing_rows(values, torch.tensor([[2.0, 0.5], [1.0, 4.0]])) == [(2.0, 0.5), (1.0, 4.0)]

    @pytest.mark.parametrize("shape", [(1, 2), (3, 2), (2, 3), (2, 1)])
    def test_rows_that_do_not_fit(self, shape):
        with pytest.raises(ValueError, match="Expected a spacing of 2 numbers, one per axis, but got tensor"):
            spacing_rows(torch.zeros(2, 3, 5, 4), torch.ones(shape))

    def test_mean_by_hand(self):
        assert mean_spacing(torch.tensor([[2.0, 0.5], [1.0, 4.0]])) == [1.5, 2.25]
        assert mean_spacing(torch.tensor([2.0, 0.5])) == [2.0, 0.5]
        assert mean_spacing((2.0, 0.5)) == (2.0, 0.5)
        assert mean_spacing(None) is None

    def test_distances_in_steps_of_every_sample_by_hand(self):
        # One voxel at the left of a row: steps of 2 mm in the first sample, of half a mm in the second.
        mask = torch.tensor([1, 0, 0, 0], dtype=torch.bool).expand(2, 1, 1, 4)
        spacing = torch.tensor([[9.0, 2.0], [9.0, 0.5]])
        assert distance_to(mask, spacing)[:, 0, 0].tolist() == [[0, 2, 4, 6], [0, 0.5, 1, 1.5]]

    def test_nearest_id_in_steps_of_every_sample_by_hand(self):
        # The voxel below 7 is one step down from it and three across from 3.
        ids = torch.tensor([[7, 0, 0, 0], [0, 0, 0, 3]]).expand(2, 1, 2, 4)
        spacing = torch.tensor([[1.0, 1.0], [4.0, 1.0]])
        nearest = nearest_id(ids, spacing)[:, 0]
        assert nearest[:, 1, 0].tolist() == [7, 3]
        assert nearest[:, 0, 0].tolist() == [7, 7]

    def test_equal_sample_by_sample(self):
        mask, ids = random_mask((8, 7, 6)), random_ids((8, 7, 6))
        mask[0, 1], mask[1, 2] = False, True
        for function, values in ((distance_to, mask), (nearest_id, ids)):
            found = function(values, ROWS_MM)
            alone = [function(sample[None], row.tolist()) for sample, row in zip(values, ROWS_MM, strict=True)]
            assert found.dtype == alone[0].dtype
            assert torch.equal(found, torch.cat(alone))
            assert not torch.equal(found, function(values, ROWS_MM[0]))

    def test_rows_that_are_alike_are_one_spacing(self):
        mask, ids = random_mask((8, 7, 6)), random_ids((8, 7, 6))
        rows = ROWS_MM[[0, 0]]
        assert torch.equal(distance_to(mask, rows), distance_to(mask, ROWS_MM[0].tolist()))
        assert torch.equal(nearest_id(ids, rows), nearest_id(ids, ROWS_MM[0].tolist()))


def nearest_id_by_passes(ids, spacing):
    return squared_distance(ids > 0, spacing, ids)[1]


NEAREST = pytest.mark.parametrize("nearest", [nearest_id, nearest_id_by_passes])


def random_ids(shape, number=4, seed=0):
    """(2, 2, ...) ids of single voxels."""
    rng = np.random.default_rng(seed)
    ids = np.zeros((2, 2, *shape), np.int64)
    for piece in ids.reshape(4, -1):
        piece[rng.choice(piece.size, number, replace=False)] = rng.permutation(number) + 1
    return torch.from_numpy(ids)


class TestNearestId:
    @NEAREST
    def test_by_hand(self, nearest):
        # Steps of 3 mm down and 1 mm across. The last voxel of the upper row is 4 mm from 5 and 3 mm from 2, the one
        # before it 3 mm from 5 and sqrt(10) mm from 2.
        ids = torch.tensor([[5, 0, 0, 0, 0], [0, 0, 0, 0, 2]])[None, None]
        computed = nearest(ids, (3.0, 1.0))[0, 0].tolist()
        assert computed == [[5, 5, 5, 5, 2], [5, 2, 2, 2, 2]]

    @NEAREST
    @pytest.mark.parametrize("shape", SHAPES)
    def test_equals_brute_force(self, nearest, shape):
        ids, spacing_mm = random_ids(shape), SPACING_MM[: len(shape)]
        computed = nearest(ids, spacing_mm)
        assert computed.dtype == torch.int64
        clear_voxels = 0
        for piece, cells in zip(ids.flatten(0, 1).numpy(), computed.flatten(0, 1).numpy(), strict=True):
            distances = np.stack([references.distance_to(piece == number, spacing_mm) for number in (1, 2, 3, 4)])
            first, second = np.sort(distances, 0)[:2]
            clear = second - first > 1e-4  # the others may go to either
            np.testing.assert_array_equal(cells[clear], distances.argmin(0)[clear] + 1)
            np.testing.assert_allclose(np.take_along_axis(distances, cells[None] - 1, 0)[0], first, atol=1e-4)
            clear_voxels += clear.sum()
        assert clear_voxels > 0.9 * ids.numel()

    @NEAREST
    def test_no_id_and_ids_everywhere(self, nearest):
        ids = torch.zeros(2, 1, 4, 3, 2, dtype=torch.int64)
        ids[1] = torch.arange(1, 25).view(4, 3, 2)
        assert torch.equal(nearest(ids, SPACING_MM), ids)

    @NEAREST
    def test_one_voxel(self, nearest):
        ids = torch.tensor([0, 7]).view(2, 1, 1, 1, 1)
        assert torch.equal(nearest(ids, SPACING_MM), ids)

    @NEAREST
    def test_large_ids(self, nearest):
        # More than float32 holds apart.
        ids = torch.tensor([2**24 + 1, 0, 0, 2**24 + 3])[None, None, None]
        assert nearest(ids, (1.0, 1.0)).flatten().tolist() == [2**24 + 1] * 2 + [2**24 + 3] * 2

    @NEAREST
    def test_input_is_unchanged(self, nearest):
        ids = random_ids((5, 4, 3))
        before = ids.clone()
        nearest(ids, SPACING_MM)
        assert torch.equal(ids, before)


class TestChunks:
    # 7 * 7 differences per line of the shortest axis and room for fewer, for three lines, for all.
    @pytest.mark.parametrize("elements", [1, 150, 2**26])
    def test_change_nothing(self, monkeypatch, elements):
        mask, ids = random_mask((11, 9, 7)), random_ids((11, 9, 7))
        expected = squared_distance(mask, SPACING_MM)[0], *squared_distance(ids > 0, SPACING_MM, ids)
        monkeypatch.setattr(distance_transform, "_CHUNK_ELEMENTS", elements)
        computed = squared_distance(mask, SPACING_MM)[0], *squared_distance(ids > 0, SPACING_MM, ids)
        for values, others in zip(computed, expected, strict=True):
            assert torch.equal(values, others)


class TestMinPlus:
    def test_by_hand(self):
        # Steps of 2: 0 + (2 n)^2 from the second voxel, 9 + (2 n)^2 from the last; 100 is never the least.
        lines = torch.tensor([100.0, 0, 100, 100, 100, 9])[:, None]
        minimum, nearest = min_plus_by_broadcast(lines, torch.tensor([3, 1, 3, 3, 3, 2])[:, None], 2.0)
        assert minimum[:, 0].tolist() == [4, 0, 4, 16, 13, 9]
        assert nearest[:, 0].tolist() == [1, 1, 1, 1, 2, 2]
        assert min_plus_by_broadcast(lines, None, 2.0)[1] is None


TRITON_PROGRAM = """
import torch
from nnunet_rw.losses.distance_transform import min_plus_by_broadcast
from nnunet_rw.losses.triton_min_plus import min_plus

torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
# Sizes that fill no block, one block of 32 positions and 64 lines, and a little more.
for shape in [(1, 1), (1, 7), (5, 1), (3, 65), (33, 3), (32, 64), (37, 71)]:
    lines = 50 * torch.rand(shape, generator=generator)
    ids = torch.randint(0, 9, shape, generator=generator)
    for step in (0.7, 3.0):
        minimum, nearest = min_plus(lines, ids, step)
        expected, expected_nearest = min_plus_by_broadcast(lines, ids, step)
        torch.testing.assert_close(minimum, expected, rtol=1e-6, atol=1e-6)
        assert torch.equal(nearest, expected_nearest)
        minimum, nearest = min_plus(lines, None, step)
        torch.testing.assert_close(minimum, expected, rtol=1e-6, atol=1e-6)
        assert nearest is None
    # Lines that do not lie in memory as they are read.
    turned = lines.T.contiguous().T
    assert torch.equal(min_plus(turned, ids, 0.7)[0], min_plus(lines, ids, 0.7)[0])
print("the same")
"""


def triton_interprets():
    """From 3.0 on its interpreter runs on CPUs."""
    return importlib.util.find_spec("triton") is not None and int(metadata.version("triton").partition(".")[0]) >= 3


@pytest.mark.skipif(not triton_interprets(), reason="There is no Triton with an interpreter.")
def test_triton_kernel_in_its_interpreter():
    # Triton reads the variable when it is imported, which torch may have done in this process.
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", TRITON_PROGRAM], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the same\n"


@pytest.mark.parametrize("failure", [RuntimeError("Failed to find C compiler"), ImportError("no triton")])
def test_without_a_kernel_plain_torch_does_it(monkeypatch, failure):
    def fails(*arguments):
        raise failure

    module = ModuleType("nnunet_rw.losses.triton_min_plus")
    module.min_plus = fails
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(torch, "zeros", lambda *arguments, device=None, **options: None)
    _triton_kernel.cache_clear()
    with pytest.warns(UserWarning, match=f"Triton cannot be used .*{failure}.* plain torch"):
        assert _triton_kernel() is None
    _triton_kernel.cache_clear()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="There is no CUDA device.")
class TestOnCuda:
    def test_every_sample_may_have_a_spacing_of_its_own(self):
        mask = random_mask((40, 33, 30))
        np.testing.assert_allclose(distance_to(mask.cuda(), ROWS_MM).cpu(), distance_to(mask, ROWS_MM), rtol=1e-5)

    @pytest.mark.parametrize("density", [0, *DENSITIES, 1])
    @pytest.mark.parametrize("shape", [(40, 33, 70), (65, 37)])
    def test_distance_equals_scipy(self, shape, density):
        mask, spacing_mm = random_mask(shape, density), SPACING_MM[: len(shape)]
        computed = distance_to(mask.cuda(), spacing_mm)
        assert computed.device.type == "cuda"
        expected = reference_of(mask, spacing_mm)
        np.testing.assert_allclose(computed.cpu(), expected, rtol=1e-5, atol=1e-3 * min(spacing_mm))

    @pytest.mark.parametrize("shape", [(40, 33, 70), (65, 37)])
    def test_nearest_id_is_as_near_as_on_a_cpu(self, shape):
        ids, spacing_mm = random_ids(shape), SPACING_MM[: len(shape)]
        computed = nearest_id(ids.cuda(), spacing_mm)
        assert computed.device.type == "cuda"
        assert computed.dtype == torch.int64
        # Ties may go to either.
        assert (computed.cpu() == nearest_id(ids, spacing_mm)).float().mean() > 0.95
        for piece, cells in zip(ids.flatten(0, 1).numpy(), computed.cpu().flatten(0, 1).numpy(), strict=True):
            distances = np.stack([references.distance_to(piece == number, spacing_mm) for number in (1, 2, 3, 4)])
            chosen = np.take_along_axis(distances, cells[None] - 1, 0)[0]
            np.testing.assert_allclose(chosen, distances.min(0), atol=1e-3)
