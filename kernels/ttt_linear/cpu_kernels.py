"""The numba kernels of TTT-Linear: a head goes through a segment with its fast weights in the cache.

Shapes: N segments, H heads, K channels. In a mini-batch, with the weights W and b before it:

    (1)  grad_t = gradient of 1/2 |LN(z) - (v_t - k_t)|^2 by z = k_t W + b
    (2)  A_t = A_{t-1} + col_t k_t grad_t^T
    (3)  o_t = q_t (W - row_t A_t) + b - row_t a_t,  a_t the same sum for the bias
    (4)  W <- W - row A, with those of the last token

The work does not depend on the size of the mini-batch. The backward takes the weights kept before a group of
mini-batches, repeats the group, and goes back over each mini-batch: once forwards, with A, and once backwards, with the
adjoint D of A; X is the adjoint of the weights.
"""

import numpy as np

from visionseq.kernels.compiled import compiled, inlined

ZERO, ONE = np.float32(0), np.float32(1)


@compiled
def forward(
    first, last, v, q, k, row, col, weight, bias, offsets, reverse, size, group, eps,
    o, final_W, final_b, kept_W, kept_b,
):  # fmt: skip
    heads, channels = v.shape[1:]
    A, A_bias = np.empty((channels, channels), np.float32), np.empty(channels, np.float32)
    unit, error = np.empty(channels, np.float32), np.empty(channels, np.float32)
    grad, sums = np.empty(channels, np.float32), np.empty(channels, np.float32)

    # a head of a segment, in mini-batches
    for item in range(first, last):
        n, h = item // heads, item % heads
        start, length = offsets[n], offsets[n + 1] - offsets[n]
        W, b = final_W[n, h], final_b[n, h]
        for begin in range(0, length, size):
            # the weights before a group are kept for the backward
            if begin % group == 0:
                place = start // group + n + begin // group
                kept_W[place, h] = W
                kept_b[place, h] = b
            A[:] = ZERO
            A_bias[:] = ZERO
            end = min(begin + size, length)

            # eq. (1) and (2)
            for i in range(begin, end):
                t = start + (length - 1 - i if reverse else i)
                q_t, k_t, o_t, row_t, col_t = q[t, h], k[t, h], o[t, h], row[t, h], col[t, h]
                _inner_gradient(k_t, v[t, h], W, b, weight[h], bias[h], eps, unit, error, grad)
                _accumulate(k_t, col_t, grad, A, A_bias)

                # eq. (3)
                sums[:] = A_bias
                _add_product(sums, q_t, A)
                o_t[:] = b
                _add_product(o_t, q_t, W)
                for j in range(channels):
                    o_t[j] -= row_t * sums[j]

            # eq. (4)
            _descend(W, b, A, A_bias, row[start + (length - end if reverse else end - 1), h])


@compiled
def backward(
    first, last, v, q, k, row, col, weight, bias, kept_W, kept_b, d_o, offsets, reverse, size, group, eps,
    d_v, d_q, d_k, d_row, d_col, d_weight, d_bias, d_W, d_b,
):  # fmt: skip
    heads, channels = v.shape[1:]
    batches = group // size
    W, b = np.empty((batches, channels, channels), np.float32), np.empty((batches, channels), np.float32)
    A, D = np.empty((channels, channels), np.float32), np.empty((channels, channels), np.float32)
    A_bias, D_bias = np.empty(channels, np.float32), np.empty(channels, np.float32)
    sums, dz = np.empty(channels, np.float32), np.empty(channels, np.float32)
    unit, error = np.empty((size, channels), np.float32), np.empty((size, channels), np.float32)
    grad, std = np.empty((size, channels), np.float32), np.empty(size, np.float32)

    # a head of a segment, from its last group of mini-batches to its first
    for item in range(first, last):
        n, h = item // heads, item % heads
        start, length = offsets[n], offsets[n + 1] - offsets[n]
        X, X_bias = d_W[n, h], d_b[n, h]
        for place in range((length - 1) // group, -1, -1):
            # the weights before each mini-batch of the group, from those that were kept
            W[0] = kept_W[start // group + n + place, h]
            b[0] = kept_b[start // group + n + place, h]
            last_batch = (min(group, length - place * group) - 1) // size
            _repeat_group(
                W, b, A, A_bias, unit[0], error[0], grad[0], k, v, row, col, weight, bias, h, start, length,
                place * group, last_batch, size, reverse, eps,
            )  # fmt: skip

            # each mini-batch twice: forwards with A, backwards with the adjoint D of A
            for m in range(last_batch, -1, -1):
                begin = place * group + m * size
                end = min(begin + size, length)
                _forwards_over_batch(
                    W[m], b[m], A, A_bias, D, D_bias, X, X_bias, unit, error, grad, std, sums, q, k, v, row, col,
                    weight, bias, d_o, d_q, d_row, h, start, length, begin, end, reverse, eps,
                )  # fmt: skip
                _backwards_over_batch(
                    W[m], D, D_bias, X, X_bias, unit, error, grad, std, sums, dz, q, k, row, col, weight, d_o,
                    d_k, d_v, d_col, d_weight[n, h], d_bias[n, h], h, start, length, begin, end, reverse,
                )  # fmt: skip


@inlined
def _repeat_group(
    W, b, A, A_bias, unit, error, grad, k, v, row, col, weight, bias, h, start, length, first, last_batch, size,
    reverse, eps,
):  # fmt: skip
    """The weights before the mini-batches of a group that begins at token `first`: eq. (1), (2) and (4)."""
    for m in range(last_batch):
        A[:] = ZERO
        A_bias[:] = ZERO
        W[m + 1] = W[m]
        b[m + 1] = b[m]
        begin = first + m * size
        for i in range(begin, begin + size):
            t = start + (length - 1 - i if reverse else i)
            _inner_gradient(k[t, h], v[t, h], W[m], b[m], weight[h], bias[h], eps, unit, error, grad)
            _accumulate(k[t, h], col[t, h], grad, A, A_bias)
        _descend(W[m + 1], b[m + 1], A, A_bias, row[t, h])


@inlined
def _forwards_over_batch(
    W, b, A, A_bias, D, D_bias, X, X_bias, unit, error, grad, std, sums, q, k, v, row, col, weight, bias, d_o, d_q,
    d_row, h, start, length, begin, end, reverse, eps,
):  # fmt: skip
    """Eq. (1) and (2) for the tokens of a mini-batch, what eq. (3) gives for q and row, and D after the last token."""
    channels = sums.size
    A[:] = ZERO
    A_bias[:] = ZERO
    for i in range(begin, end):
        t, s = start + (length - 1 - i if reverse else i), i - begin
        q_t, do_t, dq_t, row_t = q[t, h], d_o[t, h], d_q[t, h], row[t, h]
        std[s] = _inner_gradient(k[t, h], v[t, h], W, b, weight[h], bias[h], eps, unit[s], error[s], grad[s])

        # A_t, and dq_t = (W - row_t A_t) do_t
        k_t, col_t, grad_t = k[t, h], col[t, h], grad[s]
        for j in range(channels):
            A_bias[j] += col_t * grad_t[j]
        for c in range(channels):
            A_c, W_c, written, dq = A[c], W[c], col_t * k_t[c], ZERO
            for j in range(channels):
                a = A_c[j] + written * grad_t[j]
                A_c[j] = a
                dq += (W_c[j] - row_t * a) * do_t[j]
            dq_t[c] = dq

        # drow_t = -(q_t A_t + a_t) . do_t
        sums[:] = A_bias
        _add_product(sums, q_t, A)
        d_row[t, h] = -_dot(sums, do_t)

    # eq. (4) backwards: the row of the last token, and the adjoint of A
    d_row[t, h] -= _dot(A_bias, X_bias)
    for c in range(channels):
        d_row[t, h] -= _dot(A[c], X[c])
    for c in range(channels):
        D_c, X_c = D[c], X[c]
        for j in range(channels):
            D_c[j] = -row_t * X_c[j]
    for j in range(channels):
        D_bias[j] = -row_t * X_bias[j]


@inlined
def _backwards_over_batch(
    W, D, D_bias, X, X_bias, unit, error, grad, std, sums, dz, q, k, row, col, weight, d_o, d_k, d_v, d_col, d_weight,
    d_bias, h, start, length, begin, end, reverse,
):  # fmt: skip
    """From the last token of a mini-batch to its first: D collects -row_t q_t do_t^T, X the adjoint of the weights."""
    channels = sums.size
    for i in range(end - 1, begin - 1, -1):
        t, s = start + (length - 1 - i if reverse else i), i - begin
        q_t, k_t, do_t, row_t, col_t = q[t, h], k[t, h], d_o[t, h], row[t, h], col[t, h]
        dk_t, dv_t, grad_t = d_k[t, h], d_v[t, h], grad[s]

        # D_t; by eq. (2) it gives k_t, col_t and the adjoint of grad_t
        for j in range(channels):
            D_bias[j] -= row_t * do_t[j]
        for c in range(channels):
            D_c, read, dk = D[c], row_t * q_t[c], ZERO
            for j in range(channels):
                adjoint = D_c[j] - read * do_t[j]
                D_c[j] = adjoint
                dk += adjoint * grad_t[j]
            dk_t[c] = col_t * dk

        # the gradient of col_t, and the adjoint of grad_t
        sums[:] = D_bias
        _add_product(sums, k_t, D)
        d_col[t, h] = _dot(sums, grad_t)
        for j in range(channels):
            sums[j] *= col_t

        # eq. (1) backwards
        _second_order(sums, unit[s], error[s], grad_t, std[s], weight[h], dz, dv_t, d_weight, d_bias)

        # the adjoint of the weights, and dk_t by z_t and by the error
        for j in range(channels):
            X_bias[j] += do_t[j] + dz[j]
        for c in range(channels):
            X_c, W_c, q_c, k_c, dk = X[c], W[c], q_t[c], k_t[c], ZERO
            for j in range(channels):
                X_c[j] += q_c * do_t[j] + k_c * dz[j]
                dk += W_c[j] * dz[j]
            dk_t[c] += dk - dv_t[c]


@inlined
def _inner_gradient(k, v, W, b, weight, bias, eps, unit, error, grad):
    """Gradient by z = k W + b of 1/2 |LN(z) - (v - k)|^2, the layer norm and its error; returns the deviation of z."""
    channels = np.float32(k.size)
    grad[:] = b
    _add_product(grad, k, W)
    mean, variance, mean_scaled, along = ZERO, ZERO, ZERO, ZERO
    for j in range(k.size):
        mean += grad[j]
    mean /= channels
    for j in range(k.size):
        variance += (grad[j] - mean) * (grad[j] - mean)
    std = np.sqrt(variance / channels + eps)
    inverse = ONE / std
    for j in range(k.size):
        unit[j] = (grad[j] - mean) * inverse
    for j in range(k.size):
        error[j] = weight[j] * unit[j] + bias[j] - v[j] + k[j]
    for j in range(k.size):
        mean_scaled += weight[j] * error[j]
        along += weight[j] * error[j] * unit[j]
    mean_scaled /= channels
    along /= channels
    for j in range(k.size):
        grad[j] = (weight[j] * error[j] - mean_scaled - unit[j] * along) * inverse
    return std


@inlined
def _second_order(d_grad, unit, error, grad, std, weight, dz, dv, d_weight, d_bias):
    """The gradients of `_inner_gradient` by z, by v and, added up, by the norm; d_grad is overwritten."""
    # means along the channels
    channels, inverse = np.float32(grad.size), ONE / std
    mean, along, scaled_along, by_std = ZERO, ZERO, ZERO, ZERO
    for j in range(grad.size):
        d_grad[j] *= inverse
    for j in range(grad.size):
        mean += d_grad[j]
        along += d_grad[j] * unit[j]
        scaled_along += weight[j] * error[j] * unit[j]
        by_std -= d_grad[j] * grad[j]
    mean /= channels
    along /= channels
    scaled_along /= channels

    # the gradients of v and of the norm, through the error
    for j in range(grad.size):  # by weight * error
        dv[j] = d_grad[j] - mean - unit[j] * along
    for j in range(grad.size):
        d_weight[j] += dv[j] * (error[j] + weight[j] * unit[j])
    for j in range(grad.size):  # by v, which is minus that by the error
        dv[j] *= -weight[j]
    for j in range(grad.size):
        d_bias[j] -= dv[j]

    # the gradient of z, through the norm and its deviation
    for j in range(grad.size):  # by the layer norm before weight and bias
        dz[j] = -d_grad[j] * scaled_along - weight[j] * (error[j] * along + dv[j])
    mean, along = ZERO, ZERO
    for j in range(grad.size):
        mean += dz[j]
        along += dz[j] * unit[j]
    mean /= channels
    along = (by_std - along * inverse) / channels
    for j in range(grad.size):
        dz[j] = (dz[j] - mean) * inverse + along * unit[j]


@inlined
def _accumulate(k, col, grad, A, A_bias):
    """A += col k grad^T, and the same for the bias."""
    for j in range(k.size):
        A_bias[j] += col * grad[j]
    for c in range(k.size):
        A_c, written = A[c], col * k[c]
        for j in range(k.size):
            A_c[j] += written * grad[j]


@inlined
def _descend(W, b, A, A_bias, row):
    """W -= row A, and the same for the bias."""
    for c in range(b.size):
        W_c, A_c = W[c], A[c]
        for j in range(b.size):
            W_c[j] -= row * A_c[j]
    for j in range(b.size):
        b[j] -= row * A_bias[j]


@inlined
def _dot(x, y):
    total = ZERO
    for j in range(x.size):
        total += x[j] * y[j]
    return total


@inlined
def _add_product(y, x, W):
    """y += x W, four rows at a time."""
    for c in range(0, x.size - 3, 4):
        W0, W1, W2, W3 = W[c], W[c + 1], W[c + 2], W[c + 3]
        x0, x1, x2, x3 = x[c], x[c + 1], x[c + 2], x[c + 3]
        for j in range(y.size):
            y[j] += x0 * W0[j] + x1 * W1[j] + x2 * W2[j] + x3 * W3[j]
    for c in range(x.size - x.size % 4, x.size):
        W0, x0 = W[c], x[c]
        for j in range(y.size):
            y[j] += x0 * W0[j]
