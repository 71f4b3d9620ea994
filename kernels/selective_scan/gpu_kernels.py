"""The Triton kernels of the selective scan: one chunk of tokens at a time, scanned in parallel over time.

A chunk is a tile [tokens K, channels E, states N] in registers. The backward needs the state before each token and the
decay of the token after it: it computes both from the neighbours' inputs, since a tile cannot be shifted in registers.
Tokens beyond the end have dt = 0: they pass the state and its adjoint on.
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
    BLOCK_E: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    segment = tl.program_id(0).to(tl.int64)
    g, e, mask_e = _channels(channels, groups, BLOCK_E)
    n = tl.arange(0, BLOCK_N)
    mask_n = n < states
    mask_EN = mask_e[:, None] & mask_n[None, :]
    place_EN = e[:, None] * states + n[None, :]
    start = tl.load(offsets + segment)
    length = tl.load(offsets + segment + 1) - start
    rate_EN = tl.load(A + place_EN, mask=mask_EN, other=0.0).to(tl.float32) * LOG2_E
    h_EN = tl.zeros([BLOCK_E, BLOCK_N], tl.float32)
    if initial is not None:
        h_EN = tl.load(initial + segment * channels * states + place_EN, mask=mask_EN, other=0.0)
    k = tl.arange(0, CHUNK)
    for c in range(tl.cdiv(length, CHUNK)):
        if c > 0:
            checkpoint = checkpoints + (start // CHUNK + c - 1) * states * channels
            tl.store(checkpoint + n[None, :] * channels + e[:, None], h_EN, mask=mask_EN)
        t, valid = _rows(c * CHUNK + k, start, length, REVERSE)
        mask_KE = valid[:, None] & mask_e[None, :]
        row_KE = t[:, None] * channels + e[None, :]
        u_KE = tl.load(u + row_KE, mask=mask_KE, other=0.0).to(tl.float32)
        dt_KE, _ = _time_step(delta, bias, row_KE, e, mask_KE, mask_e, SOFTPLUS)
        B_KN = _weights(B, t, g, n, valid, mask_n, states, groups)
        C_KN = _weights(C, t, g, n, valid, mask_n, states, groups)
        a_KEN = tl.exp2(dt_KE[:, :, None] * rate_EN[None, :, :])
        b_KEN = (dt_KE * u_KE)[:, :, None] * B_KN[:, None, :]
        b_KEN += tl.where(k[:, None, None] == 0, a_KEN * h_EN[None, :, :], 0.0)
        _, h_KEN = tl.associative_scan((a_KEN, b_KEN), 0, _compose)
        h_EN = tl.sum(tl.where(k[:, None, None] == CHUNK - 1, h_KEN, 0.0), 0)
        o_KE = tl.sum(h_KEN * C_KN[:, None, :], 2)
        if D is not None:
            o_KE += tl.load(D + e, mask=mask_e, other=0.0).to(tl.float32)[None, :] * u_KE
        if z is not None:
            z_KE = tl.load(z + row_KE, mask=mask_KE, other=0.0).to(tl.float32)
            o_KE *= z_KE * tl.sigmoid(z_KE)
        tl.store(y + row_KE, o_KE, mask=mask_KE)
    tl.store(final + segment * channels * states + place_EN, h_EN, mask=mask_EN)


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
    d_final,
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
    BLOCK_E: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    segment = tl.program_id(0).to(tl.int64)
    g, e, mask_e = _channels(channels, groups, BLOCK_E)
    block = (tl.program_id(1) % tl.cdiv(channels // groups, BLOCK_E)).to(tl.int64)
    n = tl.arange(0, BLOCK_N)
    mask_n = n < states
    mask_EN = mask_e[:, None] & mask_n[None, :]
    place_EN = e[:, None] * states + n[None, :]
    start = tl.load(offsets + segment)
    length = tl.load(offsets + segment + 1) - start
    A_EN = tl.load(A + place_EN, mask=mask_EN, other=0.0).to(tl.float32)
    rate_EN = A_EN * LOG2_E
    D_E = tl.zeros([BLOCK_E], tl.float32)
    if D is not None:
        D_E = tl.load(D + e, mask=mask_e, other=0.0).to(tl.float32)
    carry_EN = tl.zeros([BLOCK_E, BLOCK_N], tl.float32)
    if d_final is not None:
        carry_EN = tl.load(d_final + segment * channels * states + place_EN, mask=mask_EN, other=0.0)
    dA_EN = tl.zeros([BLOCK_E, BLOCK_N], tl.float32)
    dD_E = tl.zeros([BLOCK_E], tl.float32)
    dbias_E = tl.zeros([BLOCK_E], tl.float32)
    k = tl.arange(0, CHUNK)
    chunks = tl.cdiv(length, CHUNK)
    for i in range(chunks):
        c = chunks - 1 - i
        before_EN = tl.zeros([BLOCK_E, BLOCK_N], tl.float32)
        if c > 0:
            checkpoint = checkpoints + (start // CHUNK + c - 1) * states * channels
            before_EN = tl.load(checkpoint + n[None, :] * channels + e[:, None], mask=mask_EN, other=0.0)
        elif initial is not None:
            before_EN = tl.load(initial + segment * channels * states + place_EN, mask=mask_EN, other=0.0)
        t, valid = _rows(c * CHUNK + k, start, length, REVERSE)
        mask_KE = valid[:, None] & mask_e[None, :]
        row_KE = t[:, None] * channels + e[None, :]
        u_KE = tl.load(u + row_KE, mask=mask_KE, other=0.0).to(tl.float32)
        dt_KE, slope_KE = _time_step(delta, bias, row_KE, e, mask_KE, mask_e, SOFTPLUS)
        B_KN = _weights(B, t, g, n, valid, mask_n, states, groups)
        C_KN = _weights(C, t, g, n, valid, mask_n, states, groups)
        a_KEN = tl.exp2(dt_KE[:, :, None] * rate_EN[None, :, :])

        # h_{t-1}: the scan of the tokens one place earlier, begun with the state before the chunk
        t_before, valid_before = _rows(c * CHUNK + k - 1, start, length, REVERSE)
        valid_before = valid_before & (k > 0)
        mask_before = valid_before[:, None] & mask_e[None, :]
        row_before = t_before[:, None] * channels + e[None, :]
        dt_before, _ = _time_step(delta, bias, row_before, e, mask_before, mask_e, SOFTPLUS)
        u_before = tl.load(u + row_before, mask=mask_before, other=0.0).to(tl.float32)
        B_before = _weights(B, t_before, g, n, valid_before, mask_n, states, groups)
        decay_KEN = tl.exp2(dt_before[:, :, None] * rate_EN[None, :, :])
        written_KEN = (dt_before * u_before)[:, :, None] * B_before[:, None, :]
        written_KEN += tl.where(k[:, None, None] == 0, before_EN[None, :, :], 0.0)
        _, before_KEN = tl.associative_scan((decay_KEN, written_KEN), 0, _compose)
        ah_KEN = a_KEN * before_KEN
        h_KEN = ah_KEN + (dt_KE * u_KE)[:, :, None] * B_KN[:, None, :]

        r_KE = tl.load(d_y + row_KE, mask=mask_KE, other=0.0).to(tl.float32)
        if z is not None:
            z_KE = tl.load(z + row_KE, mask=mask_KE, other=0.0).to(tl.float32)
            sigmoid_KE = tl.sigmoid(z_KE)
            o_KE = tl.sum(h_KEN * C_KN[:, None, :], 2) + D_E[None, :] * u_KE
            dz_KE = r_KE * o_KE * sigmoid_KE * (1 + z_KE * (1 - sigmoid_KE))
            tl.store(d_z + row_KE, dz_KE, mask=mask_KE)
            r_KE *= z_KE * sigmoid_KE
        part = (block * rows + t[:, None]) * groups * states + g * states + n[None, :]
        mask_KN = valid[:, None] & mask_n[None, :]
        tl.store(d_C + part, tl.sum(r_KE[:, :, None] * h_KEN, 1), mask=mask_KN)

        # the adjoint L_t = r_t C_t + a_{t+1} L_{t+1}, begun with what comes from after the chunk
        t_after, valid_after = _rows(c * CHUNK + k + 1, start, length, REVERSE)
        mask_after = (valid_after & (k < CHUNK - 1))[:, None] & mask_e[None, :]
        row_after = t_after[:, None] * channels + e[None, :]
        dt_after, _ = _time_step(delta, bias, row_after, e, mask_after, mask_e, SOFTPLUS)
        decay_KEN = tl.exp2(dt_after[:, :, None] * rate_EN[None, :, :])
        read_KEN = r_KE[:, :, None] * C_KN[:, None, :]
        read_KEN += tl.where(k[:, None, None] == CHUNK - 1, carry_EN[None, :, :], 0.0)
        _, L_KEN = tl.associative_scan((decay_KEN, read_KEN), 0, _compose, reverse=True)
        carry_EN = tl.sum(tl.where(k[:, None, None] == 0, a_KEN * L_KEN, 0.0), 0)
        tl.store(d_B + part, tl.sum((dt_KE * u_KE)[:, :, None] * L_KEN, 1), mask=mask_KN)
        p_KE = tl.sum(L_KEN * B_KN[:, None, :], 2)
        Lah_KEN = L_KEN * ah_KEN
        dA_EN += tl.sum(Lah_KEN * dt_KE[:, :, None], 0)
        ddelta_KE = (u_KE * p_KE + tl.sum(Lah_KEN * A_EN[None, :, :], 2)) * slope_KE
        tl.store(d_u + row_KE, dt_KE * p_KE + D_E[None, :] * r_KE, mask=mask_KE)
        tl.store(d_delta + row_KE, ddelta_KE, mask=mask_KE)
        dD_E += tl.sum(r_KE * u_KE, 0)
        dbias_E += tl.sum(ddelta_KE, 0)
    tl.store(d_initial + segment * channels * states + place_EN, carry_EN, mask=mask_EN)
    tl.store(d_A + segment * channels * states + place_EN, dA_EN, mask=mask_EN)
    tl.store(d_D + segment * channels + e, dD_E, mask=mask_e)
    tl.store(d_bias + segment * channels + e, dbias_E, mask=mask_e)


@triton.jit
def _compose(decay, written, next_decay, next_written):
    """h -> decay h + written, followed by the next such step."""
    return decay * next_decay, next_decay * written + next_written


@triton.jit
def _channels(channels, groups, BLOCK_E: tl.constexpr):
    """The program's group, its channels, and which of them exist."""
    width = channels // groups
    blocks = tl.cdiv(width, BLOCK_E)
    g = (tl.program_id(1) // blocks).to(tl.int64)
    within = tl.program_id(1) % blocks * BLOCK_E + tl.arange(0, BLOCK_E)
    return g, g * width + within, within < width


@triton.jit
def _rows(i, start, length, REVERSE: tl.constexpr):
    """Rows of the i-th tokens of a segment, and which of them exist."""
    t = start + (length - 1 - i if REVERSE else i)
    return t, (i >= 0) & (i < length)


@triton.jit
def _weights(B, t, g, n, valid, mask_n, states, groups):
    place = (t[:, None] * groups + g) * states + n[None, :]
    return tl.load(B + place, mask=valid[:, None] & mask_n[None, :], other=0.0).to(tl.float32)


@triton.jit
def _time_step(delta, bias, row_KE, e, mask_KE, mask_e, SOFTPLUS: tl.constexpr):
    """dt, zero where there is no token, and its derivative by delta."""
    x_KE = tl.load(delta + row_KE, mask=mask_KE, other=0.0).to(tl.float32)
    if bias is not None:
        x_KE += tl.load(bias + e, mask=mask_e, other=0.0).to(tl.float32)[None, :]
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
