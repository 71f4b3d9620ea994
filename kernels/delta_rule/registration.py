"""`visionseq::delta_rule` for torch.library: M rows of N segments, H heads, states [K, V].

Log decays are [M, H, K], or [M, H, 1] where a head has one. Beside its results the operator gives what its backward
would have to compute again: a_t^T S_{t-1} for every token, and the state before every `CHECKPOINT`-th token of a
segment, value channels first.
"""

import torch
from torch import Tensor

from visionseq.kernels.operator import register

CHECKPOINT = 32  # tokens from one kept state to the next


def count_checkpoints(rows: int, segments: int) -> int:
    """Enough room for all; segment n, from row s on, has the places s // CHECKPOINT + n and following."""
    return rows // CHECKPOINT + segments


def _fake(
    v_MHV: Tensor,
    q_MHK: Tensor,
    k_MHK: Tensor,
    a_MHK: Tensor,
    b_MHK: Tensor,
    g_MHK: Tensor | None,
    initial_NHKV: Tensor | None,
    offsets: Tensor,
    reverse: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows, heads, values = v_MHV.shape
    keys, segments = q_MHK.shape[2], offsets.shape[0] - 1
    o_MHV = torch.empty_like(v_MHV, memory_format=torch.contiguous_format)
    final_NHKV = v_MHV.new_empty((segments, heads, keys, values), dtype=torch.float32)
    read_MHV = v_MHV.new_empty((rows, heads, values), dtype=torch.float32)
    kept = v_MHV.new_empty((count_checkpoints(rows, segments), heads, values, keys), dtype=torch.float32)
    return o_MHV, final_NHKV, read_MHV, kept


def _flops(v, q, k, a, b, g, initial_state, offsets, reverse, scale) -> int:
    return 8 * v.numel() * q.shape[-1]


operator = register(
    "delta_rule",
    "Tensor v, Tensor q, Tensor k, Tensor a, Tensor b, Tensor? g, Tensor? initial_state, Tensor offsets, "
    "bool reverse, float scale",
    outputs=("o", "final_state", "read", "checkpoints"),
    fake=_fake,
    flops=_flops,
)
