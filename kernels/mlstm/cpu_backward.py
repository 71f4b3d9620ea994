"""The backward of the mLSTM on the CPU: all gradients of a chunk from the memory before it and the adjoint after it.

Equations (1) to (4) are those of `reference`. With the denominators and m held fixed this is gated linear attention.
The memory and its adjoint are kept transposed, [V, K], with those of the normaliser beside them. What remains is d_m,
the derivative by m_t through everything that comes after it: with a_t and b_t the derivatives by log F_t and log I_t
and w_t the share of the maximum that goes to the old m,

    d(logsig f_t + m_{t-1}) = a_t + w_t (d_m_t - a_t - b_t),   di_t = b_t + (1 - w_t) (d_m_t - a_t - b_t)
"""

import numpy as np

from visionseq.kernels.compiled import compiled
from visionseq.kernels.exponential import exp, sigmoid, softplus
from visionseq.kernels.mlstm.chunk import CHUNK, HIGHEST, ONE, ZERO, last_weights, load_gates, set_weights, weigh
from visionseq.kernels.small_matrices import (
    add_product,
    add_row,
    add_transposed_product,
    copy,
    dot,
    load_rows,
    matrix,
    row_of,
    scale,
    scale_row,
    set_product,
    store_rows,
    transpose,
    whole,
)

HALF = np.float32(0.5)


@compiled
def differentiate(first, last, q, k, v, i, f, c0, n0, m0, o, do, offsets, reverse, eps, dc, dn, dm, dq, dk, dv, di, df):
    # room for the states of all chunks of the longest segment, and scratch memory for one chunk
    heads, keys, values = q.shape[1], q.shape[2], v.shape[2]
    scaling, step = np.float32(1 / np.sqrt(keys)), -1 if reverse else 1
    longest = 0
    for n in range(len(offsets) - 1):
        longest = max(longest, offsets[n + 1] - offsets[n])
    chunks = (longest + CHUNK - 1) // CHUNK
    adjoint, m_before = matrix(values, keys), np.empty(chunks, np.float32)
    memories = np.zeros((chunks, adjoint.shape[0], adjoint.shape[1]), np.float32)
    normalisers = np.zeros((chunks, whole(keys)), np.float32)
    queries, keys_, d_rows = matrix(CHUNK, keys), matrix(CHUNK, keys), matrix(CHUNK, keys)
    values_, d_outputs, d_values = matrix(CHUNK, values), matrix(CHUNK, values), matrix(CHUNK, values)
    keys_across, values_across = matrix(keys, CHUNK), matrix(values, CHUNK)
    scores, weights, d_scores = matrix(CHUNK, CHUNK), matrix(CHUNK, CHUNK), matrix(CHUNK, CHUNK)
    forget, write, read, kept, m_rows = row_of(CHUNK), row_of(CHUNK), row_of(CHUNK), row_of(CHUNK), row_of(CHUNK)
    d_qn, d_floor, reads, writes, ones = row_of(CHUNK), row_of(CHUNK), row_of(CHUNK), row_of(CHUNK), row_of(CHUNK)
    ones[:] = ONE

    # a head of a segment: the memory before every chunk, the adjoints after the last
    for item in range(first, last):
        n, h = item // heads, item % heads
        start, length = offsets[n], offsets[n + 1] - offsets[n]
        if length == 0:
            continue
        t_first = start + length - 1 if reverse else start
        _keep_memories(
            memories, normalisers, m_before, k, v, i, f, c0[n, h], n0[n, h], m0[n, h], h, t_first, step, length
        )
        d_normaliser, d_m = dn[n, h], dm[n, h]
        transpose(adjoint, dc[n, h], keys, values)

        # a chunk at a time, from the last to the first: its rows
        for index in range((length - 1) // CHUNK, -1, -1):
            count, t0 = min(CHUNK, length - index * CHUNK), t_first + step * index * CHUNK
            memory, normaliser = memories[index], normalisers[index]
            load_rows(queries, q, h, t0, step, count, ONE)
            load_rows(keys_, k, h, t0, step, count, scaling)
            load_rows(values_, v, h, t0, step, count, ONE)

            # eq. (1): the gates, and the weights between the rows
            load_gates(forget, write, m_rows, i, f, h, t0, step, count, m_before[index])
            set_weights(weights, read, forget, write, count)
            decay = read[count - 1]
            kept[:count] = weights[count - 1, :count]

            # eq. (4): weighted scores, and the gradients of the outputs without their sizes
            transpose(keys_across, keys_, count, keys)
            transpose(values_across, values_, count, values)
            set_product(scores, queries, keys_across, count, count, keys)
            weigh(scores, weights, count)
            _load_output_gradients(
                d_outputs,
                d_qn,
                d_floor,
                o,
                do,
                h,
                t0,
                step,
                count,
                scores,
                queries,
                read,
                normaliser,
                m_rows,
                eps,
                keys,
            )

            # the gradients of the scores
            set_product(d_scores, d_outputs, values_across, count, count, values)
            _split(d_scores, weights, scores, d_qn, count)
            products = weights  # from here on d_score * score

            # dq, by the memory before the chunk and by its own rows
            set_product(d_rows, d_outputs, memory, count, keys, values)
            _finish_rows(d_rows, reads, queries, read, d_qn, normaliser, count, keys)
            add_product(d_rows, d_scores, keys_, count, keys, count)
            store_rows(dq, h, t0, step, count, d_rows, ONE)

            # dk, by the adjoint after the chunk and by its own rows
            set_product(d_rows, values_, adjoint, count, keys, values)
            _finish_rows(d_rows, writes, keys_, kept, ones, d_normaliser, count, keys)
            add_transposed_product(d_rows, d_scores, queries, count, keys, count)
            store_rows(dk, h, t0, step, count, d_rows, scaling)

            # dv, the same
            set_product(values_across, adjoint, keys_across, values, count, keys)
            transpose(d_values, values_across, values, count)
            for s in range(count):
                scale_row(d_values[s], kept[s])
            add_transposed_product(d_values, scores, d_outputs, count, values, count)
            store_rows(dv, h, t0, step, count, d_values, ONE)

            # the gates
            through = dot(d_normaliser, normaliser, keys)
            for j in range(values):
                through += dot(adjoint[j], memory[j], keys)
            d_m = _gate_gradients(
                di, df, i, f, h, t0, step, count, products, reads, writes, decay * through, d_floor, m_rows,
                m_before[index], d_m,
            )  # fmt: skip

            # the adjoints before the chunk: eq. (2) and (3)
            scale_row(d_normaliser, decay)
            scale(adjoint, decay, values)
            for r in range(count):
                scale_row(queries[r], read[r])
                add_row(d_normaliser, d_qn[r], queries[r])
            add_transposed_product(adjoint, d_outputs, queries, values, keys, count)
        transpose(dc[n, h], adjoint, values, keys)
        dm[n, h] = d_m


@compiled
def _keep_memories(memories, normalisers, m_before, k, v, i, f, c0, n0, m, h, t_first, step, length):
    """The memory [V, K], the normaliser and m before every chunk."""
    keys, values = c0.shape
    scaling = np.float32(1 / np.sqrt(keys))
    keys_, values_ = matrix(CHUNK, keys), matrix(CHUNK, values)
    forget, write, kept, m_rows = row_of(CHUNK), row_of(CHUNK), row_of(CHUNK), row_of(CHUNK)
    transpose(memories[0], c0, keys, values)
    normalisers[0, :keys] = n0
    m_before[0] = m
    for index in range((length - 1) // CHUNK):  # the chunk before `index + 1` is a full one
        t0, after = t_first + step * index * CHUNK, index + 1
        load_rows(keys_, k, h, t0, step, CHUNK, scaling)
        load_rows(values_, v, h, t0, step, CHUNK, ONE)
        m_before[after] = load_gates(forget, write, m_rows, i, f, h, t0, step, CHUNK, m_before[index])
        decay = last_weights(kept, forget, write, CHUNK)
        copy(memories[after], memories[index], values, keys)
        scale(memories[after], decay, values)
        normalisers[after, :keys] = normalisers[index, :keys]
        scale_row(normalisers[after], decay)
        for s in range(CHUNK):
            scale_row(keys_[s], kept[s])
            add_row(normalisers[after], ONE, keys_[s])
        add_transposed_product(memories[after], values_, keys_, values, keys, CHUNK)


@compiled
def _load_output_gradients(
    d_outputs, d_qn, d_floor, o, do, h, t0, step, count, scores, queries, read, normaliser, m_rows, eps, keys
):
    """The rows of do / size, the derivatives by q . n and, through the floor e^-m of the size, by m."""
    for r in range(count):
        t = t0 + r * step
        qn, row = read[r] * dot(queries[r], normaliser, keys), scores[r, :count]
        for s in range(count):
            qn += row[s]
        floor = exp(min(-m_rows[r], HIGHEST))
        inverse = ONE / (max(abs(qn), floor) + eps)
        d_size = -inverse * dot(do[t, h], o[t, h], o.shape[2])
        share = ONE if abs(qn) > floor else (HALF if abs(qn) == floor else ZERO)
        d_qn[r] = d_size * share * np.sign(qn)
        d_floor[r] = (share - ONE) * d_size * floor if -m_rows[r] < HIGHEST else ZERO
        row, source = d_outputs[r], do[t, h]
        for j in range(len(source)):
            row[j] = inverse * source[j]


@compiled
def _split(d_scores, weights, scores, d_qn, count):
    """With d the derivative by a weighted score: d_scores = d * weight, and d * weighted score in place of weights."""
    for r in range(count):
        row, weight, score, shift = d_scores[r, :count], weights[r, :count], scores[r, :count], d_qn[r]
        for s in range(count):
            d = row[s] + shift
            row[s] = d * weight[s]
            weight[s] = d * score[s]


@compiled
def _finish_rows(d_rows, products, rows, factor, share, vector, count, keys):
    """d_rows[r] = factor[r] (d_rows[r] + share[r] vector); its products with the rows."""
    for r in range(count):
        row, shift, weight = d_rows[r], share[r], factor[r]
        for j in range(keys):
            row[j] = weight * (row[j] + shift * vector[j])
        products[r] = dot(row, rows[r], keys)


@compiled
def _gate_gradients(di, df, i, f, h, t0, step, count, products, reads, writes, through, d_floor, m_rows, m_before, d_m):
    """Gradients of the chunk's gates; d_m of the row before the chunk.

    F_r is a factor of every product of a row at or after r with a row before r, of every read of the old memory at or
    after r, of everything written before r and kept to the end, and of what passes through the chunk.
    """
    columns = writes.copy()
    for r in range(count - 1, -1, -1):
        t, row = t0 + r * step, products[r, : r + 1]
        for s in range(r + 1):
            columns[s] += row[s]
        through += reads[r]
        a, b = through, columns[r]
        for s in range(r):
            a += columns[s]
        d_m += d_floor[r]
        decayed = (m_rows[r - 1] if r else m_before) - softplus(-f[t, h])
        share = ONE if decayed > i[t, h] else (HALF if decayed == i[t, h] else ZERO)
        di[t, h] = share * b + (ONE - share) * (d_m - a)
        d_m = (ONE - share) * a + share * (d_m - b)
        df[t, h] = d_m * sigmoid(-f[t, h])
    return d_m
