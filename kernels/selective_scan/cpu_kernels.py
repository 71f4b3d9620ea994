"""The numba kernels of the selective scan: an item is a block of channels of one group in one segment.

Channels are the vectors of every inner loop; n is a loop around them, so that B and C are scalars and y needs no sum
across lanes. A token's values are copied into scratch rows that always have BLOCK lanes, with zeros beyond the block
and for absent arguments: a loop of constant length becomes a few vector instructions. Rows that one loop needs lie in
few arrays at constant distances: the compiler sees that they do not overlap, where many separate arrays make it give up
on vectors. For the same reason scratch is allocated in the kernel and the helpers are inlined into it.
"""

import numpy as np

from visionseq.kernels.compiled import compiled, inlined
from visionseq.kernels.exponential import LOG2_E, exp2, sigmoid, softplus
from visionseq.kernels.selective_scan.registration import CHECKPOINT_EVERY

BLOCK = 64  # channels in one item
CHUNK = CHECKPOINT_EVERY  # tokens
ZERO, ONE = np.float32(0), np.float32(1)

U, DT, DTU, O = range(4)  # noqa: E741 (scratch rows of each token of a chunk)
X, GATE, D_ROW, BIAS, R, P, Q, SUM_D, SUM_BIAS = range(9)  # scratch rows of the token at hand and of the item
RATE, STATE, ADJOINT, SUM_A = range(4)  # scratch rows of each of the N states
A_T, AH = range(2)  # scratch rows of each token and state: a_t and a_t h_{t-1}


@compiled
def forward_kernel(first, last, inputs, offsets, reverse, positive, y, final, checkpoints):
    u, delta, A, B, C, D, z, bias = inputs
    groups, states = B.shape[1:]
    rows, token = np.zeros((9, BLOCK), np.float32), np.zeros((4, BLOCK), np.float32)
    per_state = np.zeros((states, 2, BLOCK), np.float32)

    # a block of channels, with its parameters and its state
    for item in range(first, last):
        segment, g, low, high = locate(item, len(A) // groups, groups)
        start, stop = offsets[segment], offsets[segment + 1]
        load(D[low:high], rows[D_ROW])
        load(bias[low:high], rows[BIAS])
        load_transposed(A[low:high], per_state[:, RATE])
        load_transposed(final[segment, low:high], per_state[:, STATE])

        # eq. (1) and the skip connection of a token
        for i in range(stop - start):
            t = stop - 1 - i if reverse else start + i
            if i > 0 and i % CHUNK == 0:
                for n in range(states):
                    store(per_state[n, STATE], checkpoints[start // CHUNK + i // CHUNK - 1, n, low:high])
            load_token(u[t, low:high], delta[t, low:high], positive, rows, token)

            # eq. (2), and the sum of eq. (3)
            x, dtu, o = rows[X], token[DTU], token[O]
            for n in range(states):
                B_n, C_n, A_n, h_n = B[t, g, n], C[t, g, n], per_state[n, RATE], per_state[n, STATE]
                for j in range(BLOCK):
                    h = exp2(x[j] * A_n[j]) * h_n[j] + dtu[j] * B_n
                    h_n[j] = h
                    o[j] += h * C_n

            # the gate of eq. (3)
            if z.size:
                load(z[t, low:high], rows[GATE])
                gate = rows[GATE]
                for j in range(BLOCK):
                    o[j] *= gate[j] * sigmoid(gate[j])
            store(o, y[t, low:high])
        store_transposed(per_state[:, STATE], final[segment, low:high])


@compiled
def backward_kernel(first, last, inputs, initial, checkpoints, offsets, reverse, positive, d_y, gradients):
    u, delta, A, B, C, D, z, bias = inputs
    d_u, d_delta, d_A, d_B, d_C, d_D, d_z, d_bias, d_initial = gradients
    groups, states = B.shape[1:]
    rows, tokens = np.zeros((9, BLOCK), np.float32), np.zeros((CHUNK, 4, BLOCK), np.float32)
    per_state = np.zeros((states, 4, BLOCK), np.float32)
    decayed = np.zeros((CHUNK, states, 2, BLOCK), np.float32)

    # a block of channels, with its parameters and the adjoint of its state
    for item in range(first, last):
        segment, g, low, high = locate(item, len(A) // groups, groups)
        block = item % len(d_B)
        start, stop = offsets[segment], offsets[segment + 1]
        load(D[low:high], rows[D_ROW])
        load(bias[low:high], rows[BIAS])
        load_transposed(A[low:high], per_state[:, RATE])
        load_transposed(d_initial[segment, low:high], per_state[:, ADJOINT])
        clear(rows[SUM_D])
        clear(rows[SUM_BIAS])
        for n in range(states):
            clear(per_state[n, SUM_A])

        # from the last chunk to the first; the state before it was kept
        for c in range((stop - start + CHUNK - 1) // CHUNK - 1, -1, -1):
            for n in range(states):
                if c > 0:
                    load(checkpoints[start // CHUNK + c - 1, n, low:high], per_state[n, STATE])
                else:
                    clear(per_state[n, STATE])
            if c == 0 and initial.size:
                load_transposed(initial[segment, low:high], per_state[:, STATE])

            # forwards once more: eq. (1) and (2) for the tokens of the chunk
            steps = min(CHUNK, stop - start - c * CHUNK)
            origin = stop - 1 - c * CHUNK if reverse else start + c * CHUNK
            for k in range(steps):
                t = origin - k if reverse else origin + k
                load_token(u[t, low:high], delta[t, low:high], positive, rows, tokens[k])
                replay(B[t, g], C[t, g], rows, tokens[k], per_state, decayed[k])

            # backwards: through eq. (3), (2) and (1)
            for k in range(steps - 1, -1, -1):
                t = origin - k if reverse else origin + k
                load(d_y[t, low:high], rows[R])
                if z.size:
                    load(z[t, low:high], rows[GATE])
                    undo_gate(rows, tokens[k])
                    store(tokens[k, O], d_z[t, low:high])
                sweep(B[t, g], C[t, g], rows, tokens[k], per_state, decayed[k], d_B[block, t, g], d_C[block, t, g])
                load(delta[t, low:high], rows[X])
                finish_token(positive, rows, tokens[k])
                store(rows[P], d_u[t, low:high])
                store(rows[Q], d_delta[t, low:high])

        # the sums over the segment
        store_transposed(per_state[:, ADJOINT], d_initial[segment, low:high])
        for n in range(states):
            store(per_state[n, SUM_A], d_A[segment, n, low:high])
        store(rows[SUM_D], d_D[segment, low:high])
        store(rows[SUM_BIAS], d_bias[segment, low:high])


@inlined
def locate(item, width, groups):
    """Segment, group and channels of an item, where a group has `width` channels."""
    blocks = (width + BLOCK - 1) // BLOCK
    g = item // blocks % groups
    low = g * width + item % blocks * BLOCK
    return item // blocks // groups, g, low, min(low + BLOCK, (g + 1) * width)


@inlined
def load_token(u, delta, positive, rows, token):
    """u; dt = softplus(delta + bias), that times u and that for powers of 2; the skip connection as the start of o."""
    load(u, token[U])
    load(delta, token[DT])
    u_t, dt, dtu, o, x, D_j, bias_j = token[U], token[DT], token[DTU], token[O], rows[X], rows[D_ROW], rows[BIAS]
    for j in range(BLOCK):
        dt[j] += bias_j[j]
    if positive:
        for j in range(BLOCK):
            dt[j] = softplus(dt[j])
    for j in range(BLOCK):
        x[j] = dt[j] * LOG2_E
        dtu[j] = dt[j] * u_t[j]
        o[j] = D_j[j] * u_t[j]


@inlined
def replay(B_t, C_t, rows, token, per_state, decayed):
    """One token of the recurrence, with a_t and a_t h_{t-1} kept."""
    x, dtu, o = rows[X], token[DTU], token[O]
    for n in range(len(per_state)):
        B_n, C_n, A_n, h_n, a_n, ah_n = (
            B_t[n],
            C_t[n],
            per_state[n, RATE],
            per_state[n, STATE],
            decayed[n, A_T],
            decayed[n, AH],
        )
        for j in range(BLOCK):
            a = exp2(x[j] * A_n[j])
            h = a * h_n[j]
            a_n[j] = a
            ah_n[j] = h
            h += dtu[j] * B_n
            h_n[j] = h
            o[j] += h * C_n


@inlined
def undo_gate(rows, token):
    """The gradients of z, in place of o, and of o, in place of that of y."""
    o, r, gate = token[O], rows[R], rows[GATE]
    for j in range(BLOCK):
        sig = sigmoid(gate[j])
        o[j] *= r[j] * sig * (ONE + gate[j] * (ONE - sig))
        r[j] *= gate[j] * sig


@inlined
def sweep(B_t, C_t, rows, token, per_state, decayed, d_B, d_C):
    """One token of the adjoint L: p = sum_n L B, q = sum_n L a h_{t-1} A, and the gradients of B, C and A."""
    dt, dtu, r, p, q = token[DT], token[DTU], rows[R], rows[P], rows[Q]
    r_dtu = ZERO
    for j in range(BLOCK):
        r_dtu += r[j] * dtu[j]
        p[j] = ZERO
        q[j] = ZERO
    for n in range(len(per_state)):
        B_n, C_n, A_n, L_n, sum_n = B_t[n], C_t[n], per_state[n, RATE], per_state[n, ADJOINT], per_state[n, SUM_A]
        a_n, ah_n = decayed[n, A_T], decayed[n, AH]
        dB, r_ah = ZERO, ZERO
        for j in range(BLOCK):
            L = L_n[j] + r[j] * C_n
            dB += L * dtu[j]
            r_ah += r[j] * ah_n[j]
            p[j] += L * B_n
            L_n[j] = L * a_n[j]
            Lah = L * ah_n[j]
            q[j] += Lah * A_n[j]
            sum_n[j] += Lah * dt[j]
        d_B[n] = dB
        d_C[n] = r_ah + B_n * r_dtu


@inlined
def finish_token(positive, rows, token):
    """The gradients of u, in place of p, and of delta, in place of q; the sums for D and the bias."""
    u_t, dt, x, D_j, bias_j = token[U], token[DT], rows[X], rows[D_ROW], rows[BIAS]
    r, p, q, sum_D, sum_bias = rows[R], rows[P], rows[Q], rows[SUM_D], rows[SUM_BIAS]
    for j in range(BLOCK):
        sum_D[j] += r[j] * u_t[j]
        q[j] += u_t[j] * p[j]
        p[j] = dt[j] * p[j] + D_j[j] * r[j]
    if positive:
        for j in range(BLOCK):
            q[j] *= sigmoid(x[j] + bias_j[j])
    for j in range(BLOCK):
        sum_bias[j] += q[j]


@inlined
def load(source, row):
    """The channels of a block, or none, into a scratch row, with zeros beyond them."""
    for j in range(source.size):
        row[j] = source[j]
    for j in range(source.size, BLOCK):
        row[j] = ZERO


@inlined
def clear(row):
    for j in range(BLOCK):
        row[j] = ZERO


@inlined
def store(row, target):
    for j in range(target.size):
        target[j] = row[j]


@inlined
def load_transposed(source, rows):
    """[channels, N] of a block, or none, into the scratch rows of N states, with zeros beyond them."""
    for n in range(len(rows)):
        row = rows[n]
        for j in range(len(source)):
            row[j] = source[j, n]
        for j in range(len(source), BLOCK):
            row[j] = ZERO


@inlined
def store_transposed(rows, target):
    for n in range(target.shape[1]):
        for j in range(target.shape[0]):
            target[j, n] = rows[n, j]
