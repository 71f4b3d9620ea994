"""`visionseq::linear_scan` for torch.library: M rows of N segments, P gates each shared by Q channels."""

import torch
from torch import Tensor

from visionseq.kernels.operator import register


def _fake(
    a_MP: Tensor, b_MPQ: Tensor, initial_NPQ: Tensor | None, offsets: Tensor, reverse: bool, exclusive: bool
) -> tuple[Tensor, Tensor]:
    state_NPQ = b_MPQ.new_empty((offsets.shape[0] - 1, *b_MPQ.shape[1:]), dtype=torch.float32)
    return torch.empty_like(b_MPQ, memory_format=torch.contiguous_format), state_NPQ


def _flops(a, b, initial_state, offsets, reverse, exclusive) -> int:
    return 2 * b.numel()


operator = register(
    "linear_scan",
    "Tensor a, Tensor b, Tensor? initial_state, Tensor offsets, bool reverse, bool exclusive",
    outputs=("h", "final_state"),
    fake=_fake,
    flops=_flops,
    shaped_like={"b": "h"},
)
