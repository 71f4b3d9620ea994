"""The backward of spiking neurons in numba: a block runs forward again into the cache, then back, stretch by stretch.

With S the gradient that passes through the spike z_t, and G that of v_t (carries are what later tokens have left):

    (1)  S = (dz_t + carry_z) slope(v_t - th_t)
    (2)  G = carry_v + dv_t + S
    (3)  dth_t = carry_th - S
    (4)  trace   dscale += dth_t a_t;  carry_a += scale dth_t;  dleak_a += carry_a (a_{t-1} - z_{t-1})
    (5)  hard    dleak += G v_{t-1} (1 - z_{t-1});  carry_v = leak G (1 - z_{t-1});  carry_z = -leak G v_{t-1}
         soft    dleak += G v_{t-1};  carry_v = leak G;  carry_z = -G th_{t-1};  carry_th = -G z_{t-1}
    (6)  dx_t = w G;  dleak -= G x_t where w = 1 - leak
    (7)  trace   carry_z += (1 - leak_a) carry_a;  carry_a = leak_a carry_a

carry_z of eq. (5) is zero where the reset is detached. Every loop writes one array: more would keep it from being
vectorised.
"""

import numpy as np

from visionseq.kernels.compiled import compiled, inlined
from visionseq.kernels.lif_scan.neurons import BLOCK, run_block
from visionseq.kernels.lif_scan.slopes import slopes

ONE = np.float32(1)
STEPS = 128  # tokens of a stretch; what a block makes of them stays in the cache


@compiled
def run_backward(
    first,
    last,
    x,
    channels,
    thresholds,
    state,
    offsets,
    reverse,
    hard,
    scale_input,
    adaptive,
    detach_reset,
    family,
    width,
    height,
    dz,
    dv,
    dx,
    dth,
    sums,
    adjoint,
):
    """The items are the blocks of neurons of each segment; `adjoint` holds d_final and becomes d_initial."""
    # scratch for a stretch of the longest segment
    fixed_hard = hard and not (adaptive or thresholds.size)
    per_token, blocks, longest = thresholds.size > 0, (x.shape[1] + BLOCK - 1) // BLOCK, 1
    for n in range(offsets.shape[0] - 1):
        longest = max(longest, offsets[n + 1] - offsets[n])
    steps, widest = min(longest, STEPS), min(BLOCK, x.shape[1])
    z, v = np.empty((steps, widest), np.float32), np.empty((steps, widest), np.float32)
    traces = np.empty((steps if adaptive else 1, widest), np.float32)
    states = np.empty((state.shape[0], (longest + STEPS - 1) // STEPS, x.shape[1]), np.float32)  # before each stretch
    nothing, buffers = np.zeros(widest, np.float32), np.empty((4, widest), np.float32)
    options = (reverse, hard, scale_input, adaptive)

    # a block of neurons of a segment
    for item in range(first, last):
        n, low = item // blocks, item % blocks * BLOCK
        high = min(low + BLOCK, x.shape[1])
        size, start, stop = high - low, offsets[n], offsets[n + 1]
        if start == stop:
            continue

        # forwards: the states before each stretch
        stretches = (stop - start + STEPS - 1) // STEPS
        states[:, 0, low:high] = state[:, n, low:high]
        for c in range(stretches - 1):
            begin, end = _stretch(c, start, stop, reverse)
            run_block(x, channels, thresholds, states, c, low, high, begin, end, *options, z, v, traces, begin, 0)
            t = begin if reverse else end - 1
            states[0, c + 1, low:high] = v[t - begin, :size]
            states[1, c + 1, low:high] = z[t - begin, :size]
            if per_token:
                states[2, c + 1, low:high] = thresholds[t, low:high]
            elif adaptive:
                states[2, c + 1, low:high] = traces[end - begin - 1, :size]

        # the parameters of the neurons, their sums, and the carries of what later tokens have left
        leak, scale, resting = channels[0, low:high], channels[1, low:high], channels[2, low:high]
        trace_leak, trace_scale = channels[3, low:high], channels[4, low:high]
        sum_leak, sum_threshold = sums[0, n, low:high], sums[1, n, low:high]
        sum_trace_leak, sum_trace_scale = sums[2, n, low:high], sums[3, n, low:high]
        carry_v, carry_z = adjoint[0, n, low:high], adjoint[1, n, low:high]
        carry_third = adjoint[adjoint.shape[0] - 1, n, low:high]
        S, carry_th = buffers[0, :size], buffers[1, :size]
        level, level_before = buffers[2, :size], buffers[3, :size]
        carry_th[:] = carry_third if per_token else nothing[:size]
        threshold = threshold_before = resting

        # from the last stretch to the first: forwards once more, then back
        for c in range(stretches - 1, -1, -1):
            begin, end = _stretch(c, start, stop, reverse)
            run_block(x, channels, thresholds, states, c, low, high, begin, end, *options, z, v, traces, begin, 0)
            third = states[state.shape[0] - 1, c, low:high]

            # the token, its threshold, and the one before
            for i in range(end - begin - 1, -1, -1):
                t, t_before = (end - 1 - i, end - i) if reverse else (begin + i, begin + i - 1)
                x_t, v_t, G = x[t, low:high], v[t - begin, :size], dx[t, low:high]
                dz_t = dz[t, low:high] if dz.size else nothing[:size]
                dv_t = dv[t, low:high] if dv.size else nothing[:size]
                v_before = v[t_before - begin, :size] if i else states[0, c, low:high]
                z_before = z[t_before - begin, :size] if i else states[1, c, low:high]
                if per_token:
                    threshold = thresholds[t, low:high]
                    threshold_before = thresholds[t_before, low:high] if i else third
                elif adaptive:
                    trace, trace_before = traces[i, :size], traces[i - 1, :size] if i else third
                    _levels(resting, trace_scale, trace, level)
                    _levels(resting, trace_scale, trace_before, level_before)
                    threshold, threshold_before = level, level_before

                # eq. (1) and (2)
                slopes(family, width, height, v_t, threshold, S)
                for j in range(size):
                    S[j] *= dz_t[j] + carry_z[j]
                for j in range(size):
                    G[j] = carry_v[j] + dv_t[j] + S[j]

                # eq. (3): the threshold of the token, or the sum over all tokens
                if fixed_hard:
                    _subtract(sum_threshold, S)
                else:
                    _subtract(carry_th, S)
                    if per_token:
                        dth[t, low:high] = carry_th
                    else:
                        _add(sum_threshold, carry_th)

                # eq. (4)
                if adaptive:
                    _through_threshold(carry_th, trace_scale, trace, sum_trace_scale, carry_third)
                    for j in range(size):
                        sum_trace_leak[j] += carry_third[j] * (trace_before[j] - z_before[j])

                # eq. (5)
                if hard:
                    _through_hard_reset(detach_reset, G, leak, v_before, z_before, sum_leak, carry_v, carry_z, carry_th)
                else:
                    _through_soft_reset(
                        detach_reset,
                        G,
                        leak,
                        v_before,
                        z_before,
                        threshold_before,
                        sum_leak,
                        carry_v,
                        carry_z,
                        carry_th,
                    )

                # eq. (6)
                if scale_input:
                    for j in range(size):
                        sum_leak[j] -= G[j] * x_t[j]
                    for j in range(size):
                        G[j] *= scale[j]

                # eq. (7)
                if adaptive:
                    for j in range(size):
                        carry_z[j] += (ONE - trace_leak[j]) * carry_third[j]
                    for j in range(size):
                        carry_third[j] *= trace_leak[j]

        # the threshold before the first token
        if per_token:
            carry_third[:] = carry_th
        else:
            _add(sum_threshold, carry_th)
        if adaptive:
            _through_threshold(carry_th, trace_scale, third, sum_trace_scale, carry_third)


@inlined
def _stretch(c, start, stop, reverse):
    """First token, and the one after the last, of the c-th stretch in the order of time."""
    if reverse:
        return max(start, stop - (c + 1) * STEPS), stop - c * STEPS
    return start + c * STEPS, min(stop, start + (c + 1) * STEPS)


@inlined
def _levels(resting, trace_scale, trace, threshold):
    for j in range(threshold.shape[0]):
        threshold[j] = resting[j] + trace_scale[j] * trace[j]


@inlined
def _add(total, part):
    for j in range(total.shape[0]):
        total[j] += part[j]


@inlined
def _subtract(total, part):
    for j in range(total.shape[0]):
        total[j] -= part[j]


@inlined
def _through_threshold(dth, trace_scale, trace, sum_trace_scale, carry_trace):
    for j in range(dth.shape[0]):
        sum_trace_scale[j] += dth[j] * trace[j]
    for j in range(dth.shape[0]):
        carry_trace[j] += trace_scale[j] * dth[j]


@inlined
def _through_hard_reset(detached, G, leak, v_before, z_before, sum_leak, carry_v, carry_z, carry_th):
    size = G.shape[0]
    for j in range(size):
        sum_leak[j] += G[j] * v_before[j] * (ONE - z_before[j])
    for j in range(size):
        carry_v[j] = leak[j] * G[j] * (ONE - z_before[j])
    if detached:
        carry_z[:] = 0
    else:
        for j in range(size):
            carry_z[j] = -leak[j] * G[j] * v_before[j]
    carry_th[:] = 0  # consumed; only the soft reset sends something back to the threshold


@inlined
def _through_soft_reset(detached, G, leak, v_before, z_before, threshold, sum_leak, carry_v, carry_z, carry_th):
    size = G.shape[0]
    for j in range(size):
        sum_leak[j] += G[j] * v_before[j]
    for j in range(size):
        carry_v[j] = leak[j] * G[j]
    if detached:
        carry_z[:] = 0
    else:
        for j in range(size):
            carry_z[j] = -G[j] * threshold[j]
    for j in range(size):
        carry_th[j] = -G[j] * z_before[j]
