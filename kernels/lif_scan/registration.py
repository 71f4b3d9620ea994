"""`visionseq::lif_scan` for torch.library: M rows of N segments, C channels of P elements, S states.

Which of the optional tensors are given decides the threshold: [C] alone is fixed, [M, C, P] is given for each token,
[C] with the leak and the scale of the trace [C] is adaptive.
"""

import torch
from torch import Tensor

from visionseq.kernels.operator import register

STATES = {"fixed": 2, "given": 3, "adaptive": 3}
FLOPS = 10  # of the forward, for each element


def threshold_kind(token_threshold: Tensor | None, trace_leak: Tensor | None) -> str:
    """Which of `STATES` a call is."""
    if trace_leak is not None:
        return "adaptive"
    return "fixed" if token_threshold is None else "given"


def _fake(
    x_MCP: Tensor,
    leak_C: Tensor,
    threshold_C: Tensor | None,
    threshold_MCP: Tensor | None,
    trace_leak_C: Tensor | None,
    trace_scale_C: Tensor | None,
    initial_SNCP: Tensor | None,
    offsets: Tensor,
    reverse: bool,
    hard: bool,
    scale_input: bool,
    surrogate: str,
    width: float,
    detach_reset: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    z_MCP, v_MCP = (torch.empty_like(x_MCP, memory_format=torch.contiguous_format) for _ in range(2))
    states = STATES[threshold_kind(threshold_MCP, trace_leak_C)]
    final_SNCP = x_MCP.new_empty((states, offsets.shape[0] - 1, *x_MCP.shape[1:]), dtype=torch.float32)
    return z_MCP, v_MCP, final_SNCP


def _flops(x, *others) -> int:
    return FLOPS * x.numel()


operator = register(
    "lif_scan",
    "Tensor x, Tensor leak, Tensor? threshold, Tensor? token_threshold, Tensor? trace_leak, Tensor? trace_scale, "
    "Tensor? initial_state, Tensor offsets, bool reverse, bool hard, bool scale_input, str surrogate, float width, "
    "bool detach_reset",
    outputs=("z", "v", "final_state"),
    fake=_fake,
    flops=_flops,
)
