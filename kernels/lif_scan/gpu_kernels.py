"""The Triton kernels of spiking neurons; the equations of the backward are numbered in `adjoints`."""

import triton
import triton.language as tl

FIXED, GIVEN, ADAPTIVE = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
KINDS = {"fixed": 0, "given": 1, "adaptive": 2}


@triton.jit
def run_forward(
    x,
    channels,
    thresholds,
    initial,
    offsets,
    z,
    v,
    traces,
    final,
    segments,
    channel_count,
    inner,
    HAS_INITIAL: tl.constexpr,
    KEEP_TRACES: tl.constexpr,
    KIND: tl.constexpr,
    REVERSE: tl.constexpr,
    HARD: tl.constexpr,
    SCALE_INPUT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    # a block of neurons of a segment, and its parameters
    n = tl.program_id(0).to(tl.int64)
    neurons = channel_count * inner
    neuron = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = neuron < neurons
    leak, scale, resting, trace_leak, trace_scale = _parameters(channels, neuron // inner, channel_count, mask)

    # the segment, and the state before it
    start = tl.load(offsets + n)
    length = tl.load(offsets + n + 1) - start
    plane = segments.to(tl.int64) * neurons
    place = n * neurons + neuron
    v_now, z_now, third = _state(initial, place, plane, mask, KIND, HAS_INITIAL, BLOCK)
    threshold = _threshold(resting, trace_scale, third, KIND)

    # a token at a time: the membrane, with the reset by the spike before
    for i in range(length):
        row = (start + (length - 1 - i if REVERSE else i)) * neurons + neuron
        current = tl.load(x + row, mask=mask, other=0.0).to(tl.float32)
        if SCALE_INPUT:
            current = scale * current
        v_now = leak * v_now * (1.0 - z_now) + current if HARD else leak * v_now + current - threshold * z_now

        # the threshold of the token, and its spike
        if KIND == GIVEN:
            third = tl.load(thresholds + row, mask=mask, other=0.0).to(tl.float32)
        if KIND == ADAPTIVE:
            third = trace_leak * third + (1.0 - trace_leak) * z_now
            if KEEP_TRACES:
                tl.store(traces + row, third, mask=mask)
        threshold = _threshold(resting, trace_scale, third, KIND)
        z_now = (v_now > threshold).to(tl.float32)
        tl.store(z + row, z_now, mask=mask)
        tl.store(v + row, v_now, mask=mask)

    # the state after the last token
    tl.store(final + place, v_now, mask=mask)
    tl.store(final + plane + place, z_now, mask=mask)
    if KIND != FIXED:
        tl.store(final + 2 * plane + place, third, mask=mask)


@triton.jit
def run_backward(
    x,
    channels,
    thresholds,
    initial,
    offsets,
    v,
    traces,
    d_z,
    d_v,
    d_final,
    d_x,
    d_thresholds,
    d_neurons,
    d_initial,
    segments,
    channel_count,
    inner,
    width,
    height,
    HAS_INITIAL: tl.constexpr,
    HAS_D_Z: tl.constexpr,
    HAS_D_V: tl.constexpr,
    HAS_D_FINAL: tl.constexpr,
    KIND: tl.constexpr,
    REVERSE: tl.constexpr,
    HARD: tl.constexpr,
    SCALE_INPUT: tl.constexpr,
    DETACH: tl.constexpr,
    FAMILY: tl.constexpr,
    BLOCK: tl.constexpr,
):
    # a block of neurons of a segment, and its parameters
    n = tl.program_id(0).to(tl.int64)
    neurons = channel_count * inner
    neuron = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = neuron < neurons
    leak, scale, resting, trace_leak, trace_scale = _parameters(channels, neuron // inner, channel_count, mask)

    # the segment, the state before it and the adjoint of the one after it
    start = tl.load(offsets + n)
    length = tl.load(offsets + n + 1) - start
    plane = segments.to(tl.int64) * neurons
    place = n * neurons + neuron
    first_v, first_z, first_third = _state(initial, place, plane, mask, KIND, HAS_INITIAL, BLOCK)
    zero = tl.zeros([BLOCK], tl.float32)
    carry_v, carry_z, carry_third = _state(d_final, place, plane, mask, KIND, HAS_D_FINAL, BLOCK)
    carry_threshold = carry_third if KIND == GIVEN else zero
    d_leak, d_resting, d_trace_leak, d_trace_scale = zero, zero, zero, zero

    # a token at a time, from the last to the first
    for i in range(length):
        step = length - 1 - i
        row = (start + (i if REVERSE else step)) * neurons + neuron
        row_before = row + (neurons if REVERSE else -neurons)
        later = step + tl.zeros_like(neuron) > 0  # a vector: the interpreter has no mask from a scalar
        inside = mask & later

        # membranes, spikes and thresholds of the token and of the one before it
        third, third_before = zero, zero
        if KIND == GIVEN:
            third = tl.load(thresholds + row, mask=mask, other=0.0).to(tl.float32)
            third_before = tl.load(thresholds + row_before, mask=inside, other=0.0).to(tl.float32)
        if KIND == ADAPTIVE:
            third = tl.load(traces + row, mask=mask, other=0.0)
            third_before = tl.load(traces + row_before, mask=inside, other=0.0)
        v_now = tl.load(v + row, mask=mask, other=0.0)
        v_before = tl.load(v + row_before, mask=inside, other=0.0)
        third_before = tl.where(later, third_before, first_third)
        threshold = _threshold(resting, trace_scale, third, KIND)
        threshold_before = _threshold(resting, trace_scale, third_before, KIND)
        z_before = tl.where(later, (v_before > threshold_before).to(tl.float32), first_z)
        v_before = tl.where(later, v_before, first_v)

        # eq. (1) to (3), and dx of eq. (6)
        if HAS_D_Z:
            carry_z += tl.load(d_z + row, mask=mask, other=0.0).to(tl.float32)
        if HAS_D_V:
            carry_v += tl.load(d_v + row, mask=mask, other=0.0).to(tl.float32)
        through_spike = carry_z * _slope(v_now - threshold, width, height, FAMILY)
        adjoint = carry_v + through_spike
        tl.store(d_x + row, scale * adjoint, mask=mask)
        d_threshold = carry_threshold - through_spike

        # eq. (5)
        carry_z, carry_threshold = zero, zero
        if HARD:
            d_leak += adjoint * v_before * (1.0 - z_before)
            carry_v = leak * adjoint * (1.0 - z_before)
            if not DETACH:
                carry_z = -leak * adjoint * v_before
        else:
            d_leak += adjoint * v_before
            carry_v = leak * adjoint
            carry_threshold = -adjoint * z_before
            if not DETACH:
                carry_z = -adjoint * threshold_before

        # dleak of eq. (6)
        if SCALE_INPUT:
            d_leak -= adjoint * tl.load(x + row, mask=mask, other=0.0).to(tl.float32)

        # the gradient of the threshold; eq. (4) and (7) where it follows a trace
        if KIND == GIVEN:
            tl.store(d_thresholds + row, d_threshold, mask=mask)
        else:
            d_resting += d_threshold
        if KIND == ADAPTIVE:
            d_trace_scale += d_threshold * third
            carry_third += trace_scale * d_threshold
            d_trace_leak += carry_third * (third_before - z_before)
            carry_z += (1.0 - trace_leak) * carry_third
            carry_third = trace_leak * carry_third

    # the threshold of the state before the first token
    if KIND == GIVEN:
        carry_third = carry_threshold
    else:
        d_resting += carry_threshold
    if KIND == ADAPTIVE:
        d_trace_scale += carry_threshold * first_third
        carry_third += trace_scale * carry_threshold

    # the gradients of the state and of the neurons' parameters
    tl.store(d_initial + place, carry_v, mask=mask)
    tl.store(d_initial + plane + place, carry_z, mask=mask)
    if KIND != FIXED:
        tl.store(d_initial + 2 * plane + place, carry_third, mask=mask)
    tl.store(d_neurons + place, d_leak, mask=mask)
    tl.store(d_neurons + plane + place, d_resting, mask=mask)
    tl.store(d_neurons + 2 * plane + place, d_trace_leak, mask=mask)
    tl.store(d_neurons + 3 * plane + place, d_trace_scale, mask=mask)


@triton.jit
def _parameters(channels, channel, count, mask):
    leak = tl.load(channels + channel, mask=mask, other=0.0)
    scale = tl.load(channels + count + channel, mask=mask, other=0.0)
    resting = tl.load(channels + 2 * count + channel, mask=mask, other=0.0)
    trace_leak = tl.load(channels + 3 * count + channel, mask=mask, other=0.0)
    trace_scale = tl.load(channels + 4 * count + channel, mask=mask, other=0.0)
    return leak, scale, resting, trace_leak, trace_scale


@triton.jit
def _state(state, place, plane, mask, KIND: tl.constexpr, GIVEN_STATE: tl.constexpr, BLOCK: tl.constexpr):
    """(v, z, third) of a state or of its gradient; zero where there is none."""
    v = tl.zeros([BLOCK], tl.float32)
    z = tl.zeros([BLOCK], tl.float32)
    third = tl.zeros([BLOCK], tl.float32)
    if GIVEN_STATE:
        v = tl.load(state + place, mask=mask, other=0.0)
        z = tl.load(state + plane + place, mask=mask, other=0.0)
        if KIND != FIXED:
            third = tl.load(state + 2 * plane + place, mask=mask, other=0.0)
    return v, z, third


@triton.jit
def _threshold(resting, trace_scale, third, KIND: tl.constexpr):
    if KIND == GIVEN:
        return third
    elif KIND == ADAPTIVE:
        return resting + trace_scale * third
    else:
        return resting


@triton.jit
def _slope(d, width, height, FAMILY: tl.constexpr):
    """The surrogate derivative; the families are those of `surrogates`."""
    if FAMILY == 0:
        return height / (1.0 + width * d * d)
    elif FAMILY == 1:
        root = 1.0 / (1.0 + width * tl.abs(d))
        return root * root
    elif FAMILY == 2:
        return tl.maximum(1.0 - width * tl.abs(d), 0.0)
    else:
        wide = 6.0 * width
        root = 2.5066282746310002  # of 2 pi
        side = _gauss(d - width, wide) + _gauss(d + width, wide)
        return (1.15 / (width * root)) * _gauss(d, width) - (0.15 / (wide * root)) * side


@triton.jit
def _gauss(d, deviation):
    ratio = d / deviation
    return tl.exp(-0.5 * ratio * ratio)
