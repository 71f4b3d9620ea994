"""Spiking neurons in Triton: a program takes a block of neurons through a whole segment, its state in registers.

Products and sums are not fused, so that the spikes are those of the reference. The backward reads the membranes; where
the forward rounded them to half precision, or did not keep the traces, it runs the forward again. Shapes: M rows, N
segments, S states, D = C * P neurons.
"""

import torch
import triton
from torch import Tensor

from visionseq.kernels.lif_scan.gpu_kernels import KINDS, run_backward, run_forward
from visionseq.kernels.lif_scan.registration import STATES, threshold_kind
from visionseq.kernels.lif_scan.surrogates import family_of

BLOCK = 256


def forward(
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
    """Spikes and membranes [M, C, P] in the dtype of x, and the final state [S, N, C, P]."""
    z, v = (torch.empty_like(x_MCP, memory_format=torch.contiguous_format) for _ in range(2))
    channels = _channels(leak_C, threshold_C, trace_leak_C, trace_scale_C, scale_input)
    options = (offsets, reverse, hard, scale_input)
    final = _run(x_MCP, channels, threshold_MCP, trace_leak_C is not None, initial_SNCP, *options, z, v, None)
    return z, v, final


def backward(
    d_z: Tensor | None,
    d_v: Tensor | None,
    d_final: Tensor | None,
    z_MCP: Tensor,
    v_MCP: Tensor,
    final_SNCP: Tensor,
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
) -> tuple[Tensor | None, ...]:
    """Gradients of x, leak, the thresholds, the leak and scale of the trace, and the initial state."""
    # the forward once more, where traces are missing or membranes were rounded
    x_MCP, adaptive = x_MCP.contiguous(), trace_leak_C is not None
    channels = _channels(leak_C, threshold_C, trace_leak_C, trace_scale_C, scale_input)
    traces = torch.empty_like(v_MCP, dtype=torch.float32) if adaptive else None
    if adaptive or v_MCP.dtype != torch.float32:
        v_MCP = torch.empty_like(v_MCP, dtype=torch.float32)
        z_MCP = torch.empty_like(z_MCP)
        options = (offsets, reverse, hard, scale_input)
        _run(x_MCP, channels, threshold_MCP, adaptive, initial_SNCP, *options, z_MCP, v_MCP, traces)

    # room for the gradients
    d_x = torch.empty_like(x_MCP)
    d_thresholds = None if threshold_MCP is None else torch.empty_like(x_MCP, dtype=torch.float32)
    d_initial = torch.empty_like(final_SNCP)
    d_neurons = final_SNCP.new_zeros(4, *final_SNCP.shape[1:])

    # back through all segments
    family, wide, height = family_of(surrogate, width)
    if d_initial.numel():
        run_backward[_grid(final_SNCP)](
            x_MCP,
            channels,
            None if threshold_MCP is None else threshold_MCP.contiguous(),
            initial_SNCP,
            offsets,
            v_MCP,
            traces,
            None if d_z is None else d_z.contiguous(),
            None if d_v is None else d_v.contiguous(),
            None if d_final is None else d_final.contiguous(),
            d_x,
            d_thresholds,
            d_neurons,
            d_initial,
            *_sizes(x_MCP, offsets),
            wide,
            height,
            HAS_INITIAL=initial_SNCP is not None,
            HAS_D_Z=d_z is not None,
            HAS_D_V=d_v is not None,
            HAS_D_FINAL=d_final is not None,
            KIND=KINDS[threshold_kind(threshold_MCP, trace_leak_C)],
            REVERSE=reverse,
            HARD=hard,
            SCALE_INPUT=scale_input,
            DETACH=detach_reset,
            FAMILY=family,
            BLOCK=BLOCK,
            enable_fp_fusion=False,
        )

    # sums over the neurons of a channel
    sums = d_neurons.sum((1, 3))
    of_channels = zip((leak_C, threshold_C, trace_leak_C, trace_scale_C), sums, strict=True)
    d_leak, d_threshold, d_trace_leak, d_trace_scale = (
        None if parameter is None else total.to(parameter.dtype, copy=True) for parameter, total in of_channels
    )
    if d_thresholds is not None and threshold_MCP is not None:
        d_thresholds = d_thresholds.to(threshold_MCP.dtype)
    d_state = None if initial_SNCP is None else d_initial
    return d_x, d_leak, d_threshold, d_thresholds, d_trace_leak, d_trace_scale, d_state


def _run(
    x_MCP: Tensor,
    channels: Tensor,
    threshold_MCP: Tensor | None,
    adaptive: bool,
    initial_SNCP: Tensor | None,
    offsets: Tensor,
    reverse: bool,
    hard: bool,
    scale_input: bool,
    z_MCP: Tensor,
    v_MCP: Tensor,
    traces: Tensor | None,
) -> Tensor:
    """Fill z, v and, if they are wanted, the traces; the final state."""
    kind = "adaptive" if adaptive else "fixed" if threshold_MCP is None else "given"
    final = x_MCP.new_empty((STATES[kind], len(offsets) - 1, *x_MCP.shape[1:]), dtype=torch.float32)
    if final.numel():
        run_forward[_grid(final)](
            x_MCP.contiguous(),
            channels,
            None if threshold_MCP is None else threshold_MCP.contiguous(),
            initial_SNCP,
            offsets,
            z_MCP,
            v_MCP,
            traces,
            final,
            *_sizes(x_MCP, offsets),
            HAS_INITIAL=initial_SNCP is not None,
            KEEP_TRACES=traces is not None,
            KIND=KINDS[kind],
            REVERSE=reverse,
            HARD=hard,
            SCALE_INPUT=scale_input,
            BLOCK=BLOCK,
            enable_fp_fusion=False,
        )
    return final


def _channels(
    leak_C: Tensor,
    threshold_C: Tensor | None,
    trace_leak_C: Tensor | None,
    trace_scale_C: Tensor | None,
    scale_input: bool,
) -> Tensor:
    """Parameters [5, C]: leak, scale of the input, threshold, leak and scale of the trace."""
    leak_C = leak_C.float()
    scale_C = 1 - leak_C if scale_input else torch.ones_like(leak_C)
    others = (threshold_C, trace_leak_C, trace_scale_C)
    zero = torch.zeros_like(leak_C)
    return torch.stack([leak_C, scale_C, *(zero if other is None else other.float() for other in others)])


def _sizes(x_MCP: Tensor, offsets: Tensor) -> tuple[int, int, int]:
    """Segments, channels and neurons of a channel."""
    return len(offsets) - 1, x_MCP.shape[1], x_MCP.shape[2]


def _grid(state_SNCP: Tensor) -> tuple[int, int]:
    return state_SNCP.shape[1], triton.cdiv(state_SNCP.shape[2] * state_SNCP.shape[3], BLOCK)
