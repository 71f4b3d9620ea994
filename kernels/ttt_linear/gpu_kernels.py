"""The Triton kernels of TTT-Linear: a program takes a head through a segment, token by token, its weights in registers.

Shapes: M rows, N segments, H heads, K channels. A token adds to the sums A = sum col k grad^T of its mini-batch and is
read with W - row A. The backward repeats a group of mini-batches from the weights kept, and goes over each twice:
forwards with A, backwards with the adjoint D of A; X is the adjoint of the weights. Equations are numbered in
`cpu_kernels`.
"""

import triton
import triton.language as tl


@triton.jit
def forward(
    v, q, k, row, col, weight, bias, initial_W, initial_b, offsets, o, final_W, final_b, kept_W, kept_b,
    size, group, eps, channels,
    HAS_INITIAL: tl.constexpr, REVERSE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # a head of a segment, and its norm
    n, h, heads = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    channel = tl.arange(0, BLOCK)
    inside = channel < channels
    square, in_square = channel[:, None] * channels + channel[None, :], inside[:, None] & inside[None, :]
    gamma = tl.load(weight + h * channels + channel, mask=inside, other=0.0).to(tl.float32)
    beta = tl.load(bias + h * channels + channel, mask=inside, other=0.0).to(tl.float32)

    # the weights before the segment
    start = tl.load(offsets + n)
    length = tl.load(offsets + n + 1) - start
    W, b = tl.zeros([BLOCK, BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    if HAS_INITIAL:
        W = tl.load(initial_W + (n * heads + h) * channels * channels + square, mask=in_square, other=0.0)
        b = tl.load(initial_b + (n * heads + h) * channels + channel, mask=inside, other=0.0)

    # a mini-batch at a time; the weights before a group are kept for the backward
    for m in range(tl.cdiv(length, size)):
        begin = m * size
        steps = tl.minimum(size, length - begin)
        if begin % group == 0:
            place = (start // group + n + begin // group) * heads + h
            tl.store(kept_W + place * channels * channels + square, W, mask=in_square)
            tl.store(kept_b + place * channels + channel, b, mask=inside)

        # its tokens, one by one
        A, A_bias = tl.zeros([BLOCK, BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
        row_t = 0.0
        for i in range(steps):
            token = (start + (length - 1 - begin - i if REVERSE else begin + i)) * heads + h
            vector = token * channels + channel

            # the vectors of the token
            q_t = tl.load(q + vector, mask=inside, other=0.0).to(tl.float32)
            k_t = tl.load(k + vector, mask=inside, other=0.0).to(tl.float32)
            v_t = tl.load(v + vector, mask=inside, other=0.0).to(tl.float32)
            row_t, col_t = tl.load(row + token).to(tl.float32), tl.load(col + token).to(tl.float32)

            # eq. (1) and (2)
            grad = _inner_gradient(k_t, v_t, W, b, gamma, beta, inside, channels, eps)[0]
            A += (col_t * k_t)[:, None] * grad[None, :]
            A_bias += col_t * grad

            # eq. (3)
            o_t = tl.sum(q_t[:, None] * (W - row_t * A), 0) + b - row_t * A_bias
            tl.store(o + vector, o_t, mask=inside)

        # eq. (4)
        W -= row_t * A
        b -= row_t * A_bias

    # the weights after the segment
    tl.store(final_W + (n * heads + h) * channels * channels + square, W, mask=in_square)
    tl.store(final_b + (n * heads + h) * channels + channel, b, mask=inside)


@triton.jit
def backward(
    v, q, k, row, col, weight, bias, kept_W, kept_b, offsets, d_o, history_W, history_b,
    d_v, d_q, d_k, d_row, d_col, d_weight, d_bias, d_W, d_b, size, group, eps, channels,
    REVERSE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # a head of a segment, its norm and its scratch memory
    n, h, heads = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    channel = tl.arange(0, BLOCK)
    inside = channel < channels
    square, in_square = channel[:, None] * channels + channel[None, :], inside[:, None] & inside[None, :]
    gamma = tl.load(weight + h * channels + channel, mask=inside, other=0.0).to(tl.float32)
    beta = tl.load(bias + h * channels + channel, mask=inside, other=0.0).to(tl.float32)
    d_gamma, d_beta = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    history_W += (n * heads + h) * (group // size) * BLOCK * BLOCK + channel[:, None] * BLOCK + channel[None, :]
    history_b += (n * heads + h) * (group // size) * BLOCK + channel

    # the segment, and X, the adjoint of the weights after it
    start = tl.load(offsets + n)
    length = tl.load(offsets + n + 1) - start
    X = tl.load(d_W + (n * heads + h) * channels * channels + square, mask=in_square, other=0.0)
    X_bias = tl.load(d_b + (n * heads + h) * channels + channel, mask=inside, other=0.0)

    # groups of mini-batches from the last to the first
    groups = tl.cdiv(length, group)
    for later in range(groups):
        g = groups - 1 - later
        place = (start // group + n + g) * heads + h

        # forwards: the weights before each mini-batch of the group, eq. (1), (2) and (4)
        W = tl.load(kept_W + place * channels * channels + square, mask=in_square, other=0.0)
        b = tl.load(kept_b + place * channels + channel, mask=inside, other=0.0)
        batches = tl.cdiv(tl.minimum(group, length - g * group), size)
        for m in range(batches):
            tl.store(history_W + m * BLOCK * BLOCK, W)
            tl.store(history_b + m * BLOCK, b)
            if m + 1 < batches:
                A, A_bias, row_t = tl.zeros([BLOCK, BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32), 0.0
                for i in range(g * group + m * size, g * group + m * size + size):
                    token = (start + (length - 1 - i if REVERSE else i)) * heads + h
                    k_t = tl.load(k + token * channels + channel, mask=inside, other=0.0).to(tl.float32)
                    v_t = tl.load(v + token * channels + channel, mask=inside, other=0.0).to(tl.float32)
                    row_t, col_t = tl.load(row + token).to(tl.float32), tl.load(col + token).to(tl.float32)
                    grad = _inner_gradient(k_t, v_t, W, b, gamma, beta, inside, channels, eps)[0]
                    A += (col_t * k_t)[:, None] * grad[None, :]
                    A_bias += col_t * grad
                W -= row_t * A
                b -= row_t * A_bias
        tl.debug_barrier()

        # mini-batches from the last to the first
        for later_batch in range(batches):
            m = batches - 1 - later_batch
            begin = g * group + m * size
            steps = tl.minimum(size, length - begin)
            W, b = tl.load(history_W + m * BLOCK * BLOCK), tl.load(history_b + m * BLOCK)

            # a mini-batch forwards: eq. (1) and (2), and what eq. (3) gives for q and row
            A, A_bias, row_t = tl.zeros([BLOCK, BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32), 0.0
            for i in range(steps):
                token = (start + (length - 1 - begin - i if REVERSE else begin + i)) * heads + h
                vector = token * channels + channel
                q_t = tl.load(q + vector, mask=inside, other=0.0).to(tl.float32)
                k_t = tl.load(k + vector, mask=inside, other=0.0).to(tl.float32)
                v_t = tl.load(v + vector, mask=inside, other=0.0).to(tl.float32)
                do_t = tl.load(d_o + vector, mask=inside, other=0.0).to(tl.float32)
                row_t, col_t = tl.load(row + token).to(tl.float32), tl.load(col + token).to(tl.float32)
                grad = _inner_gradient(k_t, v_t, W, b, gamma, beta, inside, channels, eps)[0]
                A += (col_t * k_t)[:, None] * grad[None, :]
                A_bias += col_t * grad

                # drow_t = -(q_t A_t + a_t) . do_t, dq_t = (W - row_t A_t) do_t
                drow_t = -tl.sum((tl.sum(q_t[:, None] * A, 0) + A_bias) * do_t, 0)
                if i + 1 == steps:
                    drow_t -= tl.sum(tl.sum(A * X, 0) + A_bias * X_bias, 0)
                tl.store(d_row + token, drow_t)
                tl.store(d_q + vector, tl.sum((W - row_t * A) * do_t[None, :], 1), mask=inside)

            # the mini-batch backwards, from eq. (4): D is the adjoint of A_t
            D, D_bias = -row_t * X, -row_t * X_bias
            for later_token in range(steps):
                i = begin + steps - 1 - later_token
                token = (start + (length - 1 - i if REVERSE else i)) * heads + h
                vector = token * channels + channel

                # the vectors of the token
                q_t = tl.load(q + vector, mask=inside, other=0.0).to(tl.float32)
                k_t = tl.load(k + vector, mask=inside, other=0.0).to(tl.float32)
                v_t = tl.load(v + vector, mask=inside, other=0.0).to(tl.float32)
                do_t = tl.load(d_o + vector, mask=inside, other=0.0).to(tl.float32)
                row_t, col_t = tl.load(row + token).to(tl.float32), tl.load(col + token).to(tl.float32)
                grad, unit, error, std = _inner_gradient(k_t, v_t, W, b, gamma, beta, inside, channels, eps)

                # D_t; by eq. (2) it gives k_t, col_t and the adjoint of grad_t
                D -= (row_t * q_t)[:, None] * do_t[None, :]
                D_bias -= row_t * do_t
                by_grad = tl.sum(k_t[:, None] * D, 0) + D_bias

                # eq. (1) backwards
                dz_t, dv_t, dgamma_t = _second_order(col_t * by_grad, unit, error, grad, std, gamma, inside, channels)
                d_gamma += dgamma_t
                d_beta -= dv_t

                # the gradients of the token, and the adjoint of the weights
                tl.store(d_col + token, tl.sum(by_grad * grad, 0))
                dk_t = tl.sum(D * (col_t * grad)[None, :] + W * dz_t[None, :], 1)
                tl.store(d_v + vector, dv_t, mask=inside)
                tl.store(d_k + vector, dk_t - dv_t, mask=inside)
                X += q_t[:, None] * do_t[None, :] + k_t[:, None] * dz_t[None, :]
                X_bias += do_t + dz_t
        tl.debug_barrier()

    # the gradients of the weights before the segment, and of the norm
    tl.store(d_W + (n * heads + h) * channels * channels + square, X, mask=in_square)
    tl.store(d_b + (n * heads + h) * channels + channel, X_bias, mask=inside)
    tl.store(d_weight + (n * heads + h) * channels + channel, d_gamma, mask=inside)
    tl.store(d_bias + (n * heads + h) * channels + channel, d_beta, mask=inside)


@triton.jit
def _inner_gradient(k_t, v_t, W, b, gamma, beta, inside, channels, eps):
    """Gradient by z = k W + b of 1/2 |LN(z) - (v - k)|^2, the layer norm, its error and the deviation of z."""
    z = tl.sum(k_t[:, None] * W, 0) + b
    centred = tl.where(inside, z - tl.sum(z, 0) / channels, 0.0)
    std = tl.sqrt(tl.sum(centred * centred, 0) / channels + eps)
    unit = centred / std
    error = gamma * unit + beta - v_t + k_t
    scaled = gamma * error
    grad = (scaled - tl.sum(scaled, 0) / channels - unit * (tl.sum(scaled * unit, 0) / channels)) / std
    return tl.where(inside, grad, 0.0), unit, error, std


@triton.jit
def _second_order(d_grad, unit, error, grad, std, gamma, inside, channels):
    """The gradients of `_inner_gradient` by z, by v and by gamma."""
    d_grad = d_grad / std
    along = tl.sum(d_grad * unit, 0) / channels
    d_scaled = tl.where(inside, d_grad - tl.sum(d_grad, 0) / channels - unit * along, 0.0)
    d_error = gamma * d_scaled
    projected = tl.sum(gamma * error * unit, 0) / channels
    d_unit = gamma * d_error - d_grad * projected - gamma * error * along
    d_std = tl.sum(d_grad * grad, 0) + tl.sum(d_unit * unit, 0) / std
    dz = (d_unit - tl.sum(d_unit, 0) / channels) / std - unit * (d_std / channels)
    return tl.where(inside, dz, 0.0), -d_error, d_scaled * error + d_error * unit
