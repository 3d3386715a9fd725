"""Losses of tensors on a GPU, without one: PyTorch's fake tensors know where they are, and hold no values.

An operation of tensors on two devices fails, and so does whatever needs a value on the CPU: a copy, or a condition that
would make every step wait for the GPU.
"""

import sys
from types import ModuleType

import pytest
import torch
from loss_problems import WEIGHTED_BY_CASE, losses
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten

from nnunet_rw.losses import LOSSES, build
from nnunet_rw.losses.compound import MappedLoss
from nnunet_rw.losses.distance_transform import _triton_kernel, min_plus_by_broadcast
from nnunet_rw.maps.kinds import LabelScheme, stored_kinds

SHAPE, COARSE = (12, 10, 8), (6, 5, 4)
SPACING_MM = (1.0, 1.5, 2.0)
# And options that make tensors of their own.
WITH_MORE_OPTIONS = [
    *losses(),
    ("dice", {**WEIGHTED_BY_CASE, "scope": "patch"}),
    ("wce", {"class_weights": (1, 2, 3)}),
]


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    # The kernel does not run on fake tensors; the same passes in plain torch do.
    module = ModuleType("nnunet_rw.losses.triton_min_plus")
    module.min_plus = min_plus_by_broadcast
    monkeypatch.setitem(sys.modules, module.__name__, module)
    _triton_kernel.cache_clear()
    with FakeTensorMode():
        try:
            torch.zeros(1, device="cuda")
        except RuntimeError as error:  # the oldest versions, of those built for CUDA
            pytest.skip(f"This PyTorch makes no tensors of a GPU where there is none ({error}).")
        yield
    _triton_kernel.cache_clear()


def on_gpu(*shape, **options):
    return torch.zeros(shape, device="cuda", **options)


def target_of(regions, shape=SHAPE):
    return on_gpu(2, 4, *shape) if regions else on_gpu(2, 1, *shape, dtype=torch.int64)


def maps_of(kinds, regions):
    maps = {
        "interior_distance": on_gpu(2, 3 if regions else 1, *SHAPE, dtype=torch.float16),
        "boundary_distance": on_gpu(2, 3, *SHAPE, dtype=torch.float16),
        "lesion_ids": on_gpu(2, 3 if regions else 2, *SHAPE),
    }
    scheme = LabelScheme(((1,), (2,), (3,)), regions=True) if regions else LabelScheme.classes(3)
    return {kind: maps[kind] for kind in stored_kinds(kinds, scheme)} | {"lesion_table": on_gpu(2, 2, 9)}


@pytest.mark.parametrize("regions", [False, True], ids=["classes", "regions"])
@pytest.mark.parametrize(("name", "options"), losses())
def test_nothing_leaves_the_gpu(name, options, regions):
    loss = build(name, regions=regions, ignore_label=3, **options)
    value = loss(on_gpu(2, 3, *SHAPE), target_of(regions), maps_of(loss.kinds, regions), SPACING_MM)
    assert value.device.type == "cuda"
    assert value.shape == ()


@pytest.mark.parametrize("regions", [False, True], ids=["classes", "regions"])
@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if "lesion_ids" not in loss.kinds])
def test_distances_that_were_not_carried_are_computed_there(name, regions):
    loss = build(name, regions=regions, ignore_label=3)
    assert loss(on_gpu(2, 3, *SHAPE), target_of(regions), None, SPACING_MM).device.type == "cuda"


def test_deep_supervision():
    loss = build("compound", terms=[("rrw",), ("cc_dice_ce",), ("hausdorff_dt", 0.1)])
    mapped = MappedLoss(loss, (0.7, 0.3), SPACING_MM)
    mapped.maps = maps_of(["lesion_ids"], False)  # the distances are computed
    outputs = [on_gpu(2, 3, *shape) for shape in (SHAPE, COARSE)]
    assert mapped(outputs, [target_of(False, shape) for shape in (SHAPE, COARSE)]).device.type == "cuda"


@pytest.mark.parametrize("regions", [False, True], ids=["classes", "regions"])
def test_every_sample_may_have_a_spacing_of_its_own(regions):
    # As a rule the loader's rows of mm are all that is on the CPU; a fake tensor has no values to read, a tuple has.
    loss = build("compound", terms=[("boundary",), ("hausdorff_dt",)], regions=regions)
    rows = torch.empty(2, 3)
    rows.tolist = lambda: [list(SPACING_MM), [2.0, 0.5, 1.0]]
    target = on_gpu(2, 3, *SHAPE) if regions else target_of(False)
    assert loss(on_gpu(2, 3, *SHAPE), target, None, rows).device.type == "cuda"


class NoTraffic(TorchDispatchMode):
    """Refuses operations that bring a tensor from the CPU to the GPU or back: each makes the step wait."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        tensors = [leaf for leaf in tree_flatten((arguments, options, result))[0] if isinstance(leaf, torch.Tensor)]
        assert len({tensor.device.type for tensor in tensors}) <= 1, function
        return result


@pytest.mark.parametrize("regions", [False, True], ids=["classes", "regions"])
@pytest.mark.parametrize(("name", "options"), WITH_MORE_OPTIONS)
def test_nothing_is_copied_to_the_gpu_of_half_precision_logits(name, options, regions):
    loss = build(name, regions=regions, ignore_label=3, **options)
    logits, target = on_gpu(2, 3, *SHAPE, dtype=torch.float16), target_of(regions)
    maps = maps_of(loss.kinds, regions)
    with NoTraffic():
        value = loss(logits, target, maps, SPACING_MM)
    # Sums over many voxels of mm^2 would overflow float16.
    assert value.dtype == torch.float32


@pytest.mark.parametrize("regions", [False, True], ids=["classes", "regions"])
@pytest.mark.parametrize(("name", "options"), WITH_MORE_OPTIONS)
def test_gradients_need_no_values_on_the_cpu(name, options, regions):
    # Autograd does not run on a fake GPU. Meta tensors have no values either, so what reads one fails.
    loss = build(name, regions=regions, ignore_label=3, **options)
    maps = maps_of(loss.kinds, regions)
    with _disable_current_modes():
        logits = torch.empty(2, 3, *SHAPE, dtype=torch.float16, device="meta", requires_grad=True)
        target = torch.empty(2, 4 if regions else 1, *SHAPE, device="meta")
        maps = {kind: torch.empty(values.shape, device="meta") for kind, values in maps.items()}
        loss(logits, target, maps, SPACING_MM).backward()
        assert logits.grad.dtype == torch.float16


@pytest.mark.parametrize("operation", [lambda: on_gpu(2).new_tensor([1.0, 2.0]), lambda: on_gpu(2).cpu()])
def test_traffic_would_be_seen(operation):
    with NoTraffic(), pytest.raises(AssertionError):
        operation()


def test_a_copy_to_the_cpu_would_be_seen():
    with pytest.raises(RuntimeError):
        on_gpu(2).cpu().numpy()
    with pytest.raises(RuntimeError):
        on_gpu(2) + torch.zeros(2)
    with pytest.raises(RuntimeError):
        bool(on_gpu(1) > 0)
