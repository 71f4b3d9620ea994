"""The Triton kernels of the selective scan: one chunk of tokens at a time, scanned in parallel over time.

A chunk is a tile [tokens K, channels E], which stays in registers while a loop goes through the N states: a scan for
each. What a chunk hands to the next lies in memory between them: the states in the checkpoints, the adjoint in the
gradient of the initial state. Therefore each chunk ends with a barrier, and a tile must have elements for every warp,
so that a sum over its tokens waits for all of them before it is stored. The backward needs the state before each token
and the decay of the token after it: it computes both from the neighbours' inputs, since a tile cannot be shifted in
registers. Tokens beyond the end have dt = 0: they pass the state and its adjoint on.
"""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def forward_kernel(
    u,
    delta,
    A,
    B,
    C,
    D,
    z,
    bias,
    initial,
    offsets,
    y,
    final,
    checkpoints,
    channels,
    states,
    groups,
    REVERSE: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    # the segment, and the program's channels of one group
    segment = tl.program_id(0).to(tl.int64)
    g, e, has_e = _channels(channels, groups, BLOCK)
    start = tl.load(offsets + segment)
    length = (tl.load(offsets + segment + 1) - start).to(tl.int32)
    state_E = segment * channels * states + e * states

    # a chunk at a time, k counts its tokens
    k = tl.arange(0, CHUNK)
    shift = -k if REVERSE else k
    chunks = tl.cdiv(length, CHUNK)
    for c in range(chunks):
        left = length - c * CHUNK
        row = start + (left - 1 if REVERSE else c * CHUNK)
        at_KE, mask_KE = shift[:, None] * channels + e[None, :], (k < left)[:, None] & has_e[None, :]
        weights = row * groups * states + g * states
        at_K = shift * groups * states

        # inputs, time steps and the skip connection
        u_KE = tl.load(u + row * channels + at_KE, mask=mask_KE, other=0.0).to(tl.float32)
        dt_KE, _ = _time_step(delta + row * channels, at_KE, bias, e, has_e, mask_KE, SOFTPLUS)
        o_KE = _optional(D, e, has_e)[None, :] * u_KE
        checkpoint = checkpoints + (start // CHUNK + c) * states * channels + e

        # the scan of each state: what the tokens write, begun with the state before the chunk
        for n in range(states):
            h_E = _state(c, checkpoint - states * channels + n * channels, initial, state_E + n, has_e)
            rate_E = tl.load(A + e * states + n, mask=has_e, other=0.0).to(tl.float32) * LOG2_E
            B_K = tl.load(B + weights + at_K + n, mask=k < left, other=0.0).to(tl.float32)
            C_K = tl.load(C + weights + at_K + n, mask=k < left, other=0.0).to(tl.float32)
            a_KE = tl.exp2(dt_KE * rate_E[None, :])
            b_KE = dt_KE * u_KE * B_K[:, None] + tl.where(k[:, None] == 0, a_KE * h_E[None, :], 0.0)

            # what they read, and the state after the chunk
            _, h_KE = tl.associative_scan((a_KE, b_KE), 0, _compose)
            o_KE += h_KE * C_K[:, None]
            h_E = tl.sum(tl.where(k[:, None] == CHUNK - 1, h_KE, 0.0), 0)
            if c + 1 < chunks:
                tl.store(checkpoint + n * channels, h_E, mask=has_e)
            else:
                tl.store(final + state_E + n, h_E, mask=has_e)

        # the gate
        if z is not None:
            z_KE = tl.load(z + row * channels + at_KE, mask=mask_KE, other=0.0).to(tl.float32)
            o_KE *= z_KE * tl.sigmoid(z_KE)
        tl.store(y + row * channels + at_KE, o_KE, mask=mask_KE)
        tl.debug_barrier()


@triton.jit
def backward_kernel(
    u,
    delta,
    A,
    B,
    C,
    D,
    z,
    bias,
    initial,
    offsets,
    checkpoints,
    d_y,
    d_u,
    d_delta,
    d_A,
    d_B,
    d_C,
    d_D,
    d_z,
    d_bias,
    d_initial,
    rows,
    channels,
    states,
    groups,
    REVERSE: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    # the segment, and the program's channels of one group
    segment = tl.program_id(0).to(tl.int64)
    g, e, has_e = _channels(channels, groups, BLOCK)
    part = (tl.program_id(1) % tl.cdiv(channels // groups, BLOCK)).to(tl.int64) * rows * groups * states
    start = tl.load(offsets + segment)
    length = (tl.load(offsets + segment + 1) - start).to(tl.int32)
    state_E = segment * channels * states + e * states
    dD_E, dbias_E = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)

    # chunks from the last to the first, k counts the tokens of one
    k = tl.arange(0, CHUNK)
    shift = -k if REVERSE else k
    one = -1 if REVERSE else 1
    chunks = tl.cdiv(length, CHUNK)
    for i in range(chunks):
        c = chunks - 1 - i
        left = length - c * CHUNK
        row = start + (left - 1 if REVERSE else c * CHUNK)
        at_KE, mask_KE = shift[:, None] * channels + e[None, :], (k < left)[:, None] & has_e[None, :]
        weights = row * groups * states + g * states
        at_K = shift * groups * states

        # inputs and time steps of the tokens, of those before and of those after them
        u_KE = tl.load(u + row * channels + at_KE, mask=mask_KE, other=0.0).to(tl.float32)
        dt_KE, slope_KE = _time_step(delta + row * channels, at_KE, bias, e, has_e, mask_KE, SOFTPLUS)
        before = (row - one) * channels
        mask_before = ((k > 0) & (k <= left))[:, None] & has_e[None, :]
        dt_before, _ = _time_step(delta + before, at_KE, bias, e, has_e, mask_before, SOFTPLUS)
        dtu_before = dt_before * tl.load(u + before + at_KE, mask=mask_before, other=0.0).to(tl.float32)
        after = (row + one) * channels
        mask_after = ((k < left - 1) & (k < CHUNK - 1))[:, None] & has_e[None, :]
        dt_after, _ = _time_step(delta + after, at_KE, bias, e, has_e, mask_after, SOFTPLUS)

        # the gradient before the gate, and sums over the states: o, the gradients of dt u and of dt
        r_KE = tl.load(d_y + row * channels + at_KE, mask=mask_KE, other=0.0).to(tl.float32)
        if z is not None:
            z_KE = tl.load(z + row * channels + at_KE, mask=mask_KE, other=0.0).to(tl.float32)
            r_KE *= z_KE * tl.sigmoid(z_KE)
        o_KE = _optional(D, e, has_e)[None, :] * u_KE
        p_KE, q_KE = tl.zeros([CHUNK, BLOCK], tl.float32), tl.zeros([CHUNK, BLOCK], tl.float32)
        checkpoint = checkpoints + (start // CHUNK + c - 1) * states * channels + e

        # the decay, input and output weights of each state
        for n in range(states):
            A_E = tl.load(A + e * states + n, mask=has_e, other=0.0).to(tl.float32)
            rate_E = A_E * LOG2_E
            B_K = tl.load(B + weights + at_K + n, mask=k < left, other=0.0).to(tl.float32)
            C_K = tl.load(C + weights + at_K + n, mask=k < left, other=0.0).to(tl.float32)
            # h_{t-1}: the scan of the tokens one place earlier, begun with the state before the chunk
            h_E = _state(c, checkpoint + n * channels, initial, state_E + n, has_e)
            B_before = B + weights - one * groups * states + at_K + n
            b_before = tl.load(B_before, mask=(k > 0) & (k <= left), other=0.0).to(tl.float32)[:, None] * dtu_before
            b_before += tl.where(k[:, None] == 0, h_E[None, :], 0.0)
            _, h_before = tl.associative_scan((tl.exp2(dt_before * rate_E[None, :]), b_before), 0, _compose)
            a_KE = tl.exp2(dt_KE * rate_E[None, :])
            ah_KE = a_KE * h_before
            h_KE = ah_KE + dt_KE * u_KE * B_K[:, None]
            o_KE += h_KE * C_K[:, None]
            tl.store(d_C + part + weights + at_K + n, tl.sum(r_KE * h_KE, 1), mask=k < left)
            # the adjoint L_t = r_t C_t + a_{t+1} L_{t+1}, begun with what comes from after the chunk
            L_E = tl.load(d_initial + state_E + n, mask=has_e, other=0.0)
            read_KE = r_KE * C_K[:, None] + tl.where(k[:, None] == CHUNK - 1, L_E[None, :], 0.0)
            a_after = tl.exp2(dt_after * rate_E[None, :])
            _, L_KE = tl.associative_scan((a_after, read_KE), 0, _compose, reverse=True)
            tl.store(d_B + part + weights + at_K + n, tl.sum(L_KE * dt_KE * u_KE, 1), mask=k < left)
            p_KE += L_KE * B_K[:, None]
            Lah_KE = L_KE * ah_KE
            q_KE += Lah_KE * A_E[None, :]
            dA_E = tl.load(d_A + state_E + n, mask=has_e, other=0.0) + tl.sum(Lah_KE * dt_KE, 0)
            tl.store(d_A + state_E + n, dA_E, mask=has_e)
            L_E = tl.sum(tl.where(k[:, None] == 0, a_KE * L_KE, 0.0), 0)
            tl.store(d_initial + state_E + n, L_E, mask=has_e)

        # the gradient of the gate
        if z is not None:
            z_KE = tl.load(z + row * channels + at_KE, mask=mask_KE, other=0.0).to(tl.float32)
            dy_KE = tl.load(d_y + row * channels + at_KE, mask=mask_KE, other=0.0).to(tl.float32)
            slope_z = tl.sigmoid(z_KE) * (1 + z_KE * (1 - tl.sigmoid(z_KE)))
            tl.store(d_z + row * channels + at_KE, dy_KE * o_KE * slope_z, mask=mask_KE)

        # the gradients of the inputs, and sums over the tokens
        ddelta_KE = (u_KE * p_KE + q_KE) * slope_KE
        tl.store(d_delta + row * channels + at_KE, ddelta_KE, mask=mask_KE)
        du_KE = dt_KE * p_KE + _optional(D, e, has_e)[None, :] * r_KE
        tl.store(d_u + row * channels + at_KE, du_KE, mask=mask_KE)
        dD_E += tl.sum(r_KE * u_KE, 0)
        dbias_E += tl.sum(ddelta_KE, 0)
        tl.debug_barrier()

    # sums over the segment
    tl.store(d_D + segment * channels + e, dD_E, mask=has_e)
    tl.store(d_bias + segment * channels + e, dbias_E, mask=has_e)


@triton.jit
def _compose(decay, written, next_decay, next_written):
    """h -> decay h + written, followed by the next such step."""
    return decay * next_decay, next_decay * written + next_written


@triton.jit
def _channels(channels, groups, BLOCK: tl.constexpr):
    """The program's group, its channels, and which of them exist."""
    width = channels // groups
    blocks = tl.cdiv(width, BLOCK)
    g = tl.program_id(1) // blocks
    within = tl.program_id(1) % blocks * BLOCK + tl.arange(0, BLOCK)
    return g, g * width + within, within < width


@triton.jit
def _state(c, checkpoint, initial, state_E, has_e):
    """The state before chunk c."""
    h_E = tl.zeros(has_e.shape, tl.float32)
    if c > 0:
        h_E = tl.load(checkpoint, mask=has_e, other=0.0)
    elif initial is not None:
        h_E = tl.load(initial + state_E, mask=has_e, other=0.0)
    return h_E


@triton.jit
def _optional(weights, e, has_e):
    """Weights of the channels, zero where there are none."""
    if weights is None:
        return tl.zeros(e.shape, tl.float32)
    else:
        return tl.load(weights + e, mask=has_e, other=0.0).to(tl.float32)


@triton.jit
def _time_step(delta, at_KE, bias, e, has_e, mask_KE, SOFTPLUS: tl.constexpr):
    """dt, zero where there is no token, and its derivative by delta."""
    x_KE = tl.load(delta + at_KE, mask=mask_KE, other=0.0).to(tl.float32) + _optional(bias, e, has_e)[None, :]
    slope_KE = tl.full(x_KE.shape, 1.0, tl.float32)
    if SOFTPLUS:
        slope_KE = tl.sigmoid(x_KE)
        x_KE = tl.maximum(x_KE, 0.0) + _log1p(tl.exp(-tl.abs(x_KE)))
    return tl.where(mask_KE, x_KE, 0.0), tl.where(mask_KE, slope_KE, 0.0)


@triton.jit
def _log1p(w):
    """log(1 + w) = 2 artanh(w / (2 + w)) for w in [0, 1], to 1e-7 of its value."""
    s = w / (2 + w)
    q = s * s
    return 2 * s * (1 + q * (1 / 3 + q * (1 / 5 + q * (1 / 7 + q * (1 / 9 + q * (1 / 11 + q / 13))))))
