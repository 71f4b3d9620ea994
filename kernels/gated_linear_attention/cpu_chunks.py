"""The gradients of gated linear attention on the CPU where a head has one gate for all its keys: by matrix products.

In a chunk, S is the state before its first token and L the gradient of the state after its last one; e_i is the decay
from the beginning to token i, f_j from token j to the end, D_ij = e_i / e_j from j to i, formed as products of gates:

    W_ij = D_ij do_i.v_j       dq_i = e_i S do_i + sum_{j <= i} W_ij k_j       dk_j = f_j L v_j + sum_{i >= j} W_ij q_i
    A_ij = D_ij q_i.k_j        dv_j = f_j L^T k_j + sum_{i >= j} A_ij do_i

    dg_t = sum over j < t <= i of D_ij (q_i.k_j) (do_i.v_j), over what reaches back (i >= t) or ahead (j < t) of the
           chunk, and S.L: everything that passes token t, so that nothing cancels where the gate is small
"""

import numpy as np

from visionseq.kernels.compiled import compiled, inlined
from visionseq.kernels.gated_linear_attention.cpu_blocks import (
    CHUNK,
    ONE,
    copy,
    dot,
    load_state,
    new_matrix,
    read,
    store_state,
    whole,
    write,
)
from visionseq.kernels.gated_linear_attention.cpu_product import (
    LANES,
    ROWS,
    add_product,
    add_transposed_product,
    tile_of_product,
    tile_of_transposed_product,
)


@compiled
def chunk_gradients(
    first, last, q, k, v, decay, offsets, reverse, accumulate, scale, d_o, initial, adjoint, d_q, d_k, d_v, d_g
):
    """As `scan_gradients`, for decay [M or 1, H, 1] and tokens that read the state after its update."""
    heads, keys, values = q.shape[1], q.shape[2], v.shape[2]
    width, width_v = whole(keys), whole(values)
    q_, k_, k_end, dq, dk = (
        new_matrix(CHUNK, width),
        new_matrix(CHUNK, width),
        new_matrix(CHUNK, width),
        new_matrix(CHUNK, width),
        new_matrix(CHUNK, width),
    )
    v_, v_end, do, do_start, dv = (
        new_matrix(CHUNK, width_v),
        new_matrix(CHUNK, width_v),
        new_matrix(CHUNK, width_v),
        new_matrix(CHUNK, width_v),
        new_matrix(CHUNK, width_v),
    )
    k_T, v_T = new_matrix(width, CHUNK), new_matrix(width_v, CHUNK)
    A, W, P = new_matrix(CHUNK, CHUNK), new_matrix(CHUNK, CHUNK), new_matrix(CHUNK, CHUNK)
    a, e, f = np.empty(CHUNK, np.float32), np.empty(CHUNK, np.float32), np.empty(CHUNK, np.float32)
    back, ahead = np.empty(CHUNK, np.float32), np.empty(CHUNK, np.float32)
    L = np.empty((heads, width, width_v), np.float32)
    L_T = np.empty((heads, width_v, width), np.float32)
    S_T = np.empty((heads, width_v, width), np.float32)
    longest = 0
    for n in range(first // heads, (last + heads - 1) // heads):
        longest = max(longest, offsets[n + 1] - offsets[n])
    marks = np.empty(((longest + CHUNK - 1) // CHUNK, heads, width_v, width), np.float32)
    for n in range(first // heads, (last + heads - 1) // heads):
        start, length = offsets[n], offsets[n + 1] - offsets[n]
        low, high = max(first - n * heads, 0), min(last - n * heads, heads)
        chunks = (length + CHUNK - 1) // CHUNK
        for h in range(low, high):
            load_state(initial, n, h, True, S_T[h])
        for chunk in range(chunks):
            count = min(CHUNK, length - chunk * CHUNK)
            t, step = (start + length - 1 - chunk * CHUNK, -1) if reverse else (start + chunk * CHUNK, 1)
            for h in range(low, high):
                copy(S_T[h], marks[chunk, h])
                if chunk + 1 < chunks:
                    read(k, h, t, step, count, ONE, k_, 0)
                    read(v, h, t, step, count, ONE, v_, 0)
                    read_gates(decay, h, t, step, count, a, e, f)
                    scale_rows(f, k_, count, k_end)
                    scale_all(S_T[h], e[count - 1])
                    add_transposed_product(S_T[h], v_, k_end, 0, 0, 0, values, width, count)
        for h in range(low, high):
            load_state(adjoint, n, h, False, L[h])
            load_state(adjoint, n, h, True, L_T[h])
        for chunk in range(chunks - 1, -1, -1):
            count = min(CHUNK, length - chunk * CHUNK)
            t, step = (start + length - 1 - chunk * CHUNK, -1) if reverse else (start + chunk * CHUNK, 1)
            for h in range(low, high):
                read(q, h, t, step, count, ONE, q_, 0)
                read(k, h, t, step, count, ONE, k_, 0)
                read(v, h, t, step, count, ONE, v_, 0)
                read(d_o, h, t, step, count, scale[h], do, 0)
                read_gates(decay, h, t, step, count, a, e, f)
                scale_rows(f, k_, count, k_end)
                scale_rows(f, v_, count, v_end)
                scale_rows(e, do, count, do_start)
                transpose(k_, count, k_T)
                transpose(v_, count, v_T)
                clear_all(A)
                clear_all(W)
                for row in range(0, count, ROWS):
                    for column in range(0, row + ROWS, LANES):
                        tile_of_product(A, q_, k_T, row, column, row, 0, 0, column, keys)
                        tile_of_product(W, do, v_T, row, column, row, 0, 0, column, values)
                weigh(A, W, P, a, count)
                clear_all(dq)
                clear_all(dk)
                clear_all(dv)
                add_product(dq, do_start, marks[chunk, h], 0, 0, 0, count, width, values)
                add_product(dk, v_end, L_T[h], 0, 0, 0, count, width, values)
                add_product(dv, k_end, L[h], 0, 0, 0, count, width_v, keys)
                if d_g.size:
                    passing = e[count - 1] * dot_all(marks[chunk, h], L_T[h])
                    for i in range(count):
                        back[i] = dot(q_[i], dq[i])
                        ahead[i] = dot(k_[i], dk[i])
                    write_gate_gradients(P, back, ahead, passing, h, t, step, count, accumulate, d_g)
                for row in range(0, count, ROWS):
                    depth = min(row + ROWS, count)
                    for column in range(0, width, LANES):
                        tile_of_product(dq, W, k_, row, column, row, 0, 0, column, depth)
                        tile_of_transposed_product(dk, W, q_, row, column, row, row, row, column, count - row)
                    for column in range(0, width_v, LANES):
                        tile_of_transposed_product(dv, A, do, row, column, row, row, row, column, count - row)
                scale_all(L[h], e[count - 1])
                scale_all(L_T[h], e[count - 1])
                add_transposed_product(L[h], q_, do_start, 0, 0, 0, keys, width_v, count)
                add_transposed_product(L_T[h], do_start, q_, 0, 0, 0, values, width, count)
                write(dq, 0, h, t, step, count, accumulate, d_q)
                write(dk, 0, h, t, step, count, accumulate, d_k)
                write(dv, 0, h, t, step, count, accumulate, d_v)
        for h in range(low, high):
            store_state(L[h], n, h, adjoint)


@inlined
def read_gates(decay, h, t, step, count, a, e, f):
    """The gates a_i, and their products e_i up to token i and f_i after it."""
    product = ONE
    for i in range(count):
        a[i] = decay[t + i * step if decay.shape[0] > 1 else 0, h, 0]
        product *= a[i]
        e[i] = product
    product = ONE
    for i in range(count - 1, -1, -1):
        f[i] = product
        product *= a[i]


@inlined
def weigh(A, W, P, a, count):
    """A *= D and W *= D, P = A * W / D, where D_ij is zero for j > i."""
    decay = np.zeros(CHUNK, np.float32)
    for i in range(count):
        a_i, A_i, W_i, P_i = a[i], A[i], W[i], P[i]
        for j in range(CHUNK):
            decay[j] *= a_i
        decay[i] = ONE
        for j in range(CHUNK):
            A_i[j] *= decay[j]
        for j in range(CHUNK):
            P_i[j] = A_i[j] * W_i[j]
        for j in range(CHUNK):
            W_i[j] *= decay[j]


@inlined
def write_gate_gradients(P, back, ahead, passing, h, t, step, count, accumulate, d_g):
    """dg_t = sum_{j < t <= i} P_ij + sum_{i >= t} back_i + sum_{j < t} ahead_j + passing."""
    columns = np.zeros(CHUNK, np.float32)
    for i in range(1, count):
        ahead[count - i] = ahead[count - i - 1]
    ahead[0] = passing
    for i in range(1, count):
        ahead[i] += ahead[i - 1]
    later = np.float32(0)
    for i in range(count - 1, -1, -1):
        P_i = P[i]
        for j in range(CHUNK):
            columns[j] += P_i[j]
        later += back[i]
        total = ahead[i] + later
        for j in range(i):
            total += columns[j]
        if accumulate:
            d_g[t + i * step, h, 0] += total
        else:
            d_g[t + i * step, h, 0] = total


@inlined
def scale_rows(factors, source, count, target):
    for i in range(count):
        factor, row, into = factors[i], source[i], target[i]
        for j in range(row.shape[0]):
            into[j] = factor * row[j]


@inlined
def transpose(source, count, target):
    for i in range(count):
        row = source[i]
        for j in range(target.shape[0]):
            target[j, i] = row[j]


@inlined
def clear_all(matrix):
    for i in range(matrix.shape[0]):
        row = matrix[i]
        for j in range(row.shape[0]):
            row[j] = np.float32(0)


@inlined
def scale_all(matrix, factor):
    for i in range(matrix.shape[0]):
        row = matrix[i]
        for j in range(row.shape[0]):
            row[j] *= factor


@inlined
def dot_all(a, b):
    total = np.float32(0)
    for i in range(a.shape[0]):
        total += dot(a[i], b[i])
    return total
