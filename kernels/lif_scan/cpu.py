"""Spiking neurons on the CPU: a block of neurons goes through a whole segment before the next block begins.

The forward keeps nothing for the backward, which runs the block again from its currents, into the cache. Products and
sums that decide about spikes are rounded one by one, as torch rounds them, so that the spikes are those of the
reference. Shapes: M rows, N segments, S states, D = C * P neurons.
"""

import numpy as np
import torch
from torch import Tensor

from visionseq.kernels.allocation import empty
from visionseq.kernels.compiled import compiled
from visionseq.kernels.hand_over import array, optional_array
from visionseq.kernels.lif_scan.adjoints import run_backward
from visionseq.kernels.lif_scan.neurons import BLOCK, run_block
from visionseq.kernels.lif_scan.registration import STATES, threshold_kind
from visionseq.kernels.lif_scan.slopes import slope_arguments
from visionseq.kernels.threads import spread


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
    kind = threshold_kind(threshold_MCP, trace_leak_C)
    shape = (STATES[kind], len(offsets) - 1, *x_MCP.shape[1:])
    final_SNCP = torch.zeros(shape) if initial_SNCP is None else initial_SNCP.clone()
    z_MCP, v_MCP = empty(x_MCP.shape), empty(x_MCP.shape)
    channels = _neurons(x_MCP, leak_C, threshold_C, trace_leak_C, trace_scale_C, scale_input)
    x, z, v = (array(tensor.flatten(1)) for tensor in (x_MCP, z_MCP, v_MCP))
    thresholds = optional_array(None if threshold_MCP is None else threshold_MCP.flatten(1), 2)
    final = array(final_SNCP.flatten(2))
    items = shape[1] * -(-x.shape[1] // BLOCK)
    options = (reverse, hard, scale_input, kind == "adaptive")
    spread(_forward, items, x, channels, thresholds, offsets.numpy(), *options, z, v, final)
    return z_MCP.to(x_MCP.dtype), v_MCP.to(x_MCP.dtype), final_SNCP


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
    # the initial state, and room for the gradients
    kind = threshold_kind(threshold_MCP, trace_leak_C)
    initial = torch.zeros(final_SNCP.shape) if initial_SNCP is None else initial_SNCP
    d_initial = torch.zeros(final_SNCP.shape) if d_final is None else d_final.float().clone()
    d_x = empty(x_MCP.shape)
    d_thresholds = None if threshold_MCP is None else empty(x_MCP.shape)
    d_neurons = torch.zeros(4, final_SNCP.shape[1], *x_MCP.shape[1:])

    # neurons of all channels side by side
    x, dx, dz, dv, thresholds, dth = (
        optional_array(None if tensor is None else tensor.flatten(1), 2)
        for tensor in (x_MCP, d_x, d_z, d_v, threshold_MCP, d_thresholds)
    )
    state, adjoint, d_channels = (array(tensor.flatten(2)) for tensor in (initial, d_initial, d_neurons))

    # back through all segments
    channels = _neurons(x_MCP, leak_C, threshold_C, trace_leak_C, trace_scale_C, scale_input)
    flags = (reverse, hard, scale_input, kind == "adaptive", detach_reset)
    items = final_SNCP.shape[1] * -(-x.shape[1] // BLOCK)
    sizes = offsets.numpy()
    inputs = (x, channels, thresholds, state, sizes, *flags, *slope_arguments(surrogate, width))
    spread(run_backward, items, *inputs, dz, dv, dx, dth, d_channels, adjoint)

    # sums over the neurons of a channel
    sums = _sum_neurons(d_neurons)
    of_channels = zip((leak_C, threshold_C, trace_leak_C, trace_scale_C), sums, strict=True)
    d_leak, d_threshold, d_trace_leak, d_trace_scale = (
        None if parameter is None else total.to(parameter.dtype, copy=True) for parameter, total in of_channels
    )
    if d_thresholds is not None and threshold_MCP is not None:
        d_thresholds = d_thresholds.to(threshold_MCP.dtype)
    d_state = None if initial_SNCP is None else d_initial
    return d_x.to(x_MCP.dtype), d_leak, d_threshold, d_thresholds, d_trace_leak, d_trace_scale, d_state


def _neurons(
    x_MCP: Tensor,
    leak_C: Tensor,
    threshold_C: Tensor | None,
    trace_leak_C: Tensor | None,
    trace_scale_C: Tensor | None,
    scale_input: bool,
) -> np.ndarray:
    """Parameters [5, D] of every neuron: leak, scale of the input, threshold, leak and scale of the trace."""
    channels, inner = x_MCP.shape[1:]
    leak_C = leak_C.float()
    rows = torch.zeros(5, channels)
    rows[0], rows[1] = leak_C, 1 - leak_C if scale_input else 1.0
    for row, parameter in zip(rows[2:], (threshold_C, trace_leak_C, trace_scale_C), strict=True):
        if parameter is not None:
            row.copy_(parameter)
    return array(rows.unsqueeze(-1).expand(-1, -1, inner).flatten(1))


def _sum_neurons(d_KNCP: Tensor) -> Tensor:
    """[K, C] from [K, N, C, P], in an order that does not depend on the number of threads."""
    kinds, _, channels, _ = d_KNCP.shape
    sums = torch.empty(kinds, channels)
    spread(_sum_channels, kinds * channels, array(d_KNCP), array(sums))
    return sums


@compiled
def _forward(first, last, x, channels, thresholds, offsets, reverse, hard, scale_input, adaptive, z, v, final):
    blocks = (x.shape[1] + BLOCK - 1) // BLOCK
    traces = np.empty((1, BLOCK), np.float32)
    for item in range(first, last):
        n, low = item // blocks, item % blocks * BLOCK
        high = min(low + BLOCK, x.shape[1])
        start, stop = offsets[n], offsets[n + 1]
        if start == stop:
            continue
        options = (reverse, hard, scale_input, adaptive)
        run_block(x, channels, thresholds, final, n, low, high, start, stop, *options, z, v, traces, 0, low)
        t = start if reverse else stop - 1
        final[0, n, low:high] = v[t, low:high]
        final[1, n, low:high] = z[t, low:high]
        if thresholds.size:
            final[2, n, low:high] = thresholds[t, low:high]
        elif adaptive:
            final[2, n, low:high] = traces[0, : high - low]


@compiled
def _sum_channels(first, last, partials, sums):
    segments, channels = partials.shape[1:3]
    for item in range(first, last):
        kind, c = item // channels, item % channels
        total = 0.0
        for n in range(segments):
            row = partials[kind, n, c]
            for p in range(row.shape[0]):
                total += row[p]
        sums[kind, c] = total
