"""`visionseq::chunk_gated_attention` for torch.library: what the chunks before add to the attention inside chunks.

M rows of N segments, H heads, key size K, value size V. Softmax attention inside the chunks is torch's own operator.
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
    return 4 * rows * heads * keys * v.shape[-1]


operator = register(
    "chunk_gated_attention",
    "Tensor q, Tensor k, Tensor v, Tensor g, Tensor? initial_state, Tensor offsets, bool reverse, int chunk_size",
    outputs=("across", "final_state", "states"),
    fake=_fake,
    flops=_flops,
)
