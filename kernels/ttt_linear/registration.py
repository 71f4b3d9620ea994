"""`visionseq::ttt_linear` for torch.library: M rows of N segments, H heads of K channels, fast weights W and b.

Beside its results the operator gives what its backward would have to compute again: the weights before every group of
mini-batches of a segment.
"""

import torch
from torch import Tensor

from visionseq.kernels.operator import register

GROUP = 32  # fewest tokens in a group


def group_size(mini_batch_size: int) -> int:
    """Tokens in a group: whole mini-batches."""
    return mini_batch_size * -(-GROUP // mini_batch_size)


def count_groups(rows: int, segments: int, mini_batch_size: int) -> int:
    """Enough room for all; segment n, from row s on, has the places s // group_size + n and following."""
    return rows // group_size(mini_batch_size) + segments


def _fake(
    v_MHK: Tensor,
    q_MHK: Tensor,
    k_MHK: Tensor,
    eta_row_MH: Tensor,
    eta_col_MH: Tensor,
    norm_weight_HK: Tensor,
    norm_bias_HK: Tensor,
    initial_W: Tensor | None,
    initial_b: Tensor | None,
    offsets: Tensor,
    reverse: bool,
    mini_batch_size: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    rows, heads, channels = v_MHK.shape
    segments = offsets.shape[0] - 1
    groups = count_groups(rows, segments, mini_batch_size)

    def states(*shape: int) -> Tensor:
        return v_MHK.new_empty(shape, dtype=torch.float32)

    return (
        torch.empty_like(v_MHK, memory_format=torch.contiguous_format),
        states(segments, heads, channels, channels),
        states(segments, heads, channels),
        states(groups, heads, channels, channels),
        states(groups, heads, channels),
    )


def _flops(v, q, k, eta_row, eta_col, norm_weight, norm_bias, W, b, offsets, reverse, mini_batch_size, eps) -> int:
    return 8 * v.numel() * v.shape[-1]


operator = register(
    "ttt_linear",
    "Tensor v, Tensor q, Tensor k, Tensor eta_row, Tensor eta_col, Tensor norm_weight, Tensor norm_bias, "
    "Tensor? initial_W, Tensor? initial_b, Tensor offsets, bool reverse, int mini_batch_size, float eps",
    outputs=("o", "final_W", "final_b", "kept_W", "kept_b"),
    fake=_fake,
    flops=_flops,
)
