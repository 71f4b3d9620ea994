"""`visionseq::selective_scan` for torch.library: M rows of S segments, E channels in G groups, N states each.

The third output holds the state before every 32nd token of a segment but the first; the backward recomputes the states
between. Its size depends on the shapes alone: a segment of L rows that begins at row r owns the places r // 32 onwards,
of which it needs fewer than L / 32.
"""

import torch
from torch import Tensor

from visionseq.kernels.operator import register

CHECKPOINT_EVERY = 32  # tokens


def _fake(
    u_ME: Tensor,
    delta_ME: Tensor,
    A_EN: Tensor,
    B_MGN: Tensor,
    C_MGN: Tensor,
    D_E: Tensor | None,
    z_ME: Tensor | None,
    bias_E: Tensor | None,
    initial_SEN: Tensor | None,
    offsets: Tensor,
    reverse: bool,
    softplus: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    y_ME = torch.empty_like(u_ME, memory_format=torch.contiguous_format)
    final_SEN = u_ME.new_empty((offsets.shape[0] - 1, *A_EN.shape), dtype=torch.float32)
    return y_ME, final_SEN, u_ME.new_empty(checkpoint_shape(u_ME, A_EN), dtype=torch.float32)


def checkpoint_shape(u_ME: Tensor, A_EN: Tensor) -> tuple[int, int, int]:
    """[C, N, E]: with the channels last, as the kernels run over them."""
    return u_ME.shape[0] // CHECKPOINT_EVERY, A_EN.shape[1], A_EN.shape[0]


def _flops(u, delta, A, B, C, D, z, delta_bias, initial_state, offsets, reverse, delta_softplus) -> int:
    """An exponential and six operations for every state value."""
    return 7 * u.numel() * A.shape[1]


operator = register(
    "selective_scan",
    "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? delta_bias, "
    "Tensor? initial_state, Tensor offsets, bool reverse, bool delta_softplus",
    outputs=("y", "final_state", "checkpoints"),
    fake=_fake,
    flops=_flops,
)
