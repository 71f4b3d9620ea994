"""`visionseq::grid_scan` for torch.library: gates [B, X, Y, H, R] of R = 1 or 4 directions."""

import torch
from torch import Tensor

from visionseq.kernels.operator import register

ARGUMENTS = (
    "Tensor q, Tensor k, Tensor v, Tensor source_r, Tensor source_d, Tensor t_rl, Tensor? t_ru, Tensor? t_dl, "
    "Tensor t_du, Tensor mark_l, Tensor mark_u, Tensor? direct, Tensor? initial_left, Tensor? initial_top, float scale"
)


def _fake(q, k, v, source_r, *arguments) -> tuple[Tensor, Tensor, Tensor]:
    batch, x, y, heads, keys = q.shape
    output = torch.empty_like(v, memory_format=torch.contiguous_format)
    if source_r.shape[-1] != 1:
        return output, q.new_empty(0, dtype=torch.float32), q.new_empty(0, dtype=torch.float32)
    state = (heads, keys, v.shape[-1])
    right, bottom = (q.new_empty((batch, count, *state), dtype=torch.float32) for count in (y, x))
    return output, right, bottom


def _flops(q, k, v, source_r, *arguments) -> int:
    """Those of the recurrence with one direction; of the gates and two products of N x N with four, N = X Y."""
    if source_r.shape[-1] == 1:
        return 16 * q.numel() * v.shape[-1]
    batch, x, y, heads, keys = q.shape
    return batch * heads * (x * y) ** 2 * (6 * source_r.shape[-1] + 2 * (keys + v.shape[-1]) + 1)


operator = register("grid_scan", ARGUMENTS, outputs=("y", "right", "bottom"), fake=_fake, flops=_flops)
