"""`visionseq::mlstm` for torch.library: M rows of N segments, H heads, key size K, value size V."""

import torch
from torch import Tensor

from visionseq.kernels.operator import register


def _fake(q, k, v, i, f, initial_c, initial_n, initial_m, offsets, reverse: bool, eps: float) -> tuple[Tensor, ...]:
    segments, (rows, heads, keys), values = offsets.shape[0] - 1, q.shape, v.shape[-1]

    def state(*shape: int) -> Tensor:
        return q.new_empty(shape, dtype=torch.float32)

    return (
        q.new_empty((rows, heads, values)),
        state(segments, heads, keys, values),
        state(segments, heads, keys),
        state(segments, heads),
    )


def _flops(q, k, v, i, f, initial_c, initial_n, initial_m, offsets, reverse, eps) -> int:
    rows, heads, keys = q.shape
    return 5 * rows * heads * keys * (v.shape[-1] + 1)


operator = register(
    "mlstm",
    "Tensor q, Tensor k, Tensor v, Tensor i, Tensor f, Tensor? initial_c, Tensor? initial_n, Tensor? initial_m, "
    "Tensor offsets, bool reverse, float eps",
    outputs=("o", "final_c", "final_n", "final_m"),
    fake=_fake,
    flops=_flops,
)
