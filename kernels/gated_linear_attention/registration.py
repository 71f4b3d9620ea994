"""`visionseq::gated_linear_attention` for torch.library: M rows of N segments, H heads, states [K, V]."""

import torch
from torch import Tensor

from visionseq.kernels.operator import register


def _fake(
    q_MHK: Tensor,
    k_MHK: Tensor,
    v_MHV: Tensor,
    g_MHK: Tensor | None,
    bonus_HK: Tensor | None,
    initial_NHKV: Tensor | None,
    offsets: Tensor,
    reverse: bool,
    scale: float,
    chunk: int,
    both: bool,
    gate_gradient: bool,
) -> tuple[Tensor, Tensor]:
    heads, keys = q_MHK.shape[1:]
    segments = 0 if both else offsets.shape[0] - 1
    final_NHKV = v_MHV.new_empty((segments, heads, keys, v_MHV.shape[-1]), dtype=torch.float32)
    return torch.empty_like(v_MHV, memory_format=torch.contiguous_format), final_NHKV


def _flops(q, k, v, g, bonus, initial_state, offsets, reverse, scale, chunk, both, gate_gradient) -> int:
    """A decay, a rank-one update and a read of the state for each token and head, twice where it looks both ways."""
    return (2 if both or chunk else 1) * 5 * q.numel() * v.shape[-1]


operator = register(
    "gated_linear_attention",
    "Tensor q, Tensor k, Tensor v, Tensor? g, Tensor? bonus, Tensor? initial_state, Tensor offsets, bool reverse, "
    "float scale, int chunk, bool both, bool gate_gradient",
    outputs=("o", "final_state"),
    fake=_fake,
    flops=_flops,
)
