"""The min-plus pass of `distance_transform` as one Triton kernel: nothing but its input and output touches memory."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

_BLOCK_LINES = 64
_BLOCK_POSITIONS = 32


def min_plus(lines: torch.Tensor, ids: torch.Tensor | None, step: float) -> tuple[torch.Tensor, torch.Tensor | None]:
    """As `nnunet_rw.losses.distance_transform.min_plus_by_broadcast`."""
    lines = lines.contiguous()
    size, number = lines.shape
    minimum = torch.empty_like(lines)
    ids = None if ids is None else ids.contiguous()
    nearest = None if ids is None else torch.empty_like(ids)
    grid = (triton.cdiv(number, _BLOCK_LINES), triton.cdiv(size, _BLOCK_POSITIONS))
    # Triton launches on the current GPU, which need not be the tensor's.
    with torch.cuda.device_of(lines):
        _kernel[grid](
            lines,
            lines if ids is None else ids,
            minimum,
            minimum if nearest is None else nearest,
            size,
            number,
            step,
            WITH_IDS=ids is not None,
            BLOCK_LINES=_BLOCK_LINES,
            BLOCK_POSITIONS=_BLOCK_POSITIONS,
        )
    return minimum, nearest


@triton.jit
def _kernel(  # type: ignore[no-untyped-def]
    lines,
    ids,
    minimum,
    nearest,
    size,
    number,
    step,
    WITH_IDS: tl.constexpr,
    BLOCK_LINES: tl.constexpr,
    BLOCK_POSITIONS: tl.constexpr,
):
    line = tl.program_id(0).to(tl.int64) * BLOCK_LINES + tl.arange(0, BLOCK_LINES)
    position = tl.program_id(1) * BLOCK_POSITIONS + tl.arange(0, BLOCK_POSITIONS)
    inside = line < number
    best = tl.full((BLOCK_POSITIONS, BLOCK_LINES), float("inf"), tl.float32)
    best_id = tl.zeros((BLOCK_POSITIONS, BLOCK_LINES), tl.int64)
    for source in range(0, size):
        # 64-bit: a batch of large patches has more than 2^31 voxels times channels.
        row = tl.cast(source, tl.int64) * number
        value = tl.load(lines + row + line, mask=inside, other=float("inf"))
        offset = (position - source).to(tl.float32) * step
        candidate = value[None, :] + (offset * offset)[:, None]
        if WITH_IDS:
            source_id = tl.load(ids + row + line, mask=inside, other=0)
            best_id = tl.where(candidate < best, source_id[None, :], best_id)
        best = tl.minimum(best, candidate)
    target = position.to(tl.int64)[:, None] * number + line[None, :]
    written = (position < size)[:, None] & inside[None, :]
    tl.store(minimum + target, best, mask=written)
    if WITH_IDS:
        tl.store(nearest + target, best_id, mask=written)
