"""Losses on a GPU: the values of the CPU, and no step that waits for one; skipped where there is none.

What can be seen without a GPU is in test_gpu_tensors.py.
"""

import pytest
import torch
from loss_problems import losses

from benchmarks.on_gpu.agreement import run
from benchmarks.patches import Batch, batch_of
from nnunet_rw.losses import build
from nnunet_rw.maps.kinds import KINDS

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="There is no CUDA device."),
]


@pytest.fixture(scope="module")
def batch():
    labels = torch.zeros(2, 20, 18, 16, dtype=torch.uint8).numpy()
    labels[0, 3:6, 4:9, 5:7] = labels[1, 10:14, 2:5, 3:9] = 1
    labels[0, 9:12, 4:9, 5:7] = labels[1, 2:4, 9:12, 3:9] = 2
    whole = batch_of(labels, 3, tuple(KINDS))
    return Batch(whole.logits.half(), whole.target, whole.maps).to("cuda")


@pytest.mark.parametrize(("name", "options"), losses())
def test_no_step_waits(batch, name, options):
    loss, logits = build(name, **options), batch.logits.detach().requires_grad_()
    for mode in ("default", "error"):  # the first compiles
        torch.cuda.set_sync_debug_mode(mode)
        try:
            with torch.autocast("cuda", torch.float16):
                value = loss(logits, batch.target, dict(batch.maps), (1.0, 1.0, 1.0))
            value.backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()


def test_agreement_with_the_cpu():
    rows = run("cuda")
    assert [row["check"] for row in rows if not row["passed"]] == []
