"""The forward of a block of spiking neurons in numba, rounded like the reference, so that the spikes are the same.

A product is written before it is added to something, in a loop of its own: in one loop LLVM would make a fused
multiply-add of the two, which rounds once. Where the product is exact (one factor is 0 or 1) that does not matter.
"""

import numpy as np

from visionseq.kernels.compiled import exact

BLOCK = 1024  # neurons that go through a segment together
ZERO, ONE = np.float32(0), np.float32(1)


@exact
def run_block(
    x,
    channels,
    thresholds,
    state,
    n,
    low,
    high,
    start,
    stop,
    reverse,
    hard,
    scale_input,
    adaptive,
    z,
    v,
    traces,
    top,
    left,
):
    """Fill z and v, and with adaptive thresholds `traces`, for the neurons low ... high of segment n.

    Token t has row `t - top` of z and v, with the first neuron at `left`; step i has row i of `traces`, or the last.
    """
    # the parameters of the neurons and their state before the first token
    size = high - low
    right = left + size
    leak, scale, resting = channels[0, low:high], channels[1, low:high], channels[2, low:high]
    trace_leak, trace_scale = channels[3, low:high], channels[4, low:high]
    v_before, z_before, third = state[0, n, low:high], state[1, n, low:high], state[state.shape[0] - 1, n, low:high]
    scaled = np.empty(size if scale_input else 0, np.float32)
    per_token, threshold = thresholds.size > 0, resting
    if per_token:
        threshold = third
    elif adaptive:
        threshold = np.empty(size, np.float32)
        _set_threshold(threshold, resting, trace_scale, third)

    # token by token
    for i in range(stop - start):
        t = stop - 1 - i if reverse else start + i
        x_t, z_t, v_t = x[t, low:high], z[t - top, left:right], v[t - top, left:right]

        # the membrane, with the reset by the previous spike
        if scale_input:
            for j in range(size):
                scaled[j] = scale[j] * x_t[j]
        current = scaled if scale_input else x_t
        if hard:
            for j in range(size):
                v_t[j] = leak[j] * v_before[j] * (ONE - z_before[j])
            for j in range(size):
                v_t[j] += current[j]
        else:
            for j in range(size):
                v_t[j] = leak[j] * v_before[j]
            for j in range(size):
                v_t[j] += current[j]
            for j in range(size):
                v_t[j] -= threshold[j] * z_before[j]

        # the threshold, which may follow the spikes by a trace
        if per_token:
            threshold = thresholds[t, low:high]
        elif adaptive:
            trace = traces[min(i, traces.shape[0] - 1), :size]
            for j in range(size):
                trace[j] = trace_leak[j] * third[j]
            for j in range(size):
                trace[j] += (ONE - trace_leak[j]) * z_before[j]
            _set_threshold(threshold, resting, trace_scale, trace)
            third = trace
        for j in range(size):
            z_t[j] = ONE if v_t[j] > threshold[j] else ZERO

        # the token becomes the one before
        v_before, z_before = v_t, z_t


@exact
def _set_threshold(threshold, resting, trace_scale, trace):
    for j in range(threshold.shape[0]):
        threshold[j] = trace_scale[j] * trace[j]
    for j in range(threshold.shape[0]):
        threshold[j] += resting[j]
