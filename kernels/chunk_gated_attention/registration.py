"""`visionseq::chunk_gated_attention` for torch.library: M rows of N segments, H heads, key size K, value size V.

On the CPU one kernel computes all of it. On a GPU the operator computes what the memory of the chunks before adds, in
float32; the attention inside the chunks is then torch's own operator.
"""

import torch
from torch import Tensor

from visionseq.kernels.operator import register


def _fake(q, k, v, g, initial_state, offsets, reverse: bool, chunk_size: int) -> tuple[Tensor, Tensor, Tensor]:
    segments, (rows, heads, keys), values = offsets.shape[0] - 1, q.shape, v.shape[-1]
    return (
        q.new_empty((rows, heads, values), dtype=torch.float32),
        q.new_empty((segments, heads, keys, values), dtype=torch.float32),
        q.new_empty((rows // chunk_size, heads, keys, values), dtype=torch.float32),
    )


def _flops(q, k, v, g, initial_state, offsets, reverse, chunk_size) -> int:
    rows, heads, keys = q.shape
    values = v.shape[-1]
    inside = 2 * chunk_size * (keys + values) if q.device.type == "cpu" else 0
    return rows * heads * (4 * keys * values + inside)


operator = register(
    "chunk_gated_attention",
    "Tensor q, Tensor k, Tensor v, Tensor g, Tensor? initial_state, Tensor offsets, bool reverse, int chunk_size",
    outputs=("o", "final_state", "states"),
    fake=_fake,
    flops=_flops,
)
