"""The backward of the hybrid attention on the CPU: a head of a segment goes through its chunks from the last.

Beside the ordinary backward of softmax attention there is the memory's: with M before the chunk, R the adjoint of the
memory after it and G_i the running sum of the gates,

    dq_i += e^G_i M do_i,  dG_i = q_i . e^G_i M do_i,  dk_j += R v_j,  dv_j += R^T k_j,  d mean = decay <R, M>
    R <- decay R + sum_i e^G_i q_i do_i^T
"""

import numpy as np

from visionseq.kernels.chunk_gated_attention.rows import ONE, ROWS, ZERO, load_decays, normalised_softmax
from visionseq.kernels.compiled import compiled
from visionseq.kernels.small_matrices import (
    add_product,
    add_row,
    add_transposed_product,
    clear,
    copy,
    dot,
    load_rows,
    matrix,
    row_of,
    scale_row,
    set_product,
    store_rows,
    transpose,
)


@compiled
def differentiate(first, last, q, k, v, g, states, do, offsets, reverse, chunk, d_memory, dq, dk, dv, dg):
    heads, keys, values = q.shape[1], q.shape[2], v.shape[2]
    scaling, step = np.float32(1 / np.sqrt(keys)), -1 if reverse else 1
    keys_, d_keys, keys_across = matrix(chunk, keys), matrix(chunk, keys), matrix(keys, chunk)
    values_, d_values, values_across = matrix(chunk, values), matrix(chunk, values), matrix(values, chunk)
    queries, d_queries, d_outputs = matrix(ROWS, keys), matrix(ROWS, keys), matrix(ROWS, values)
    scores, d_scores, inverse = matrix(ROWS, chunk), matrix(ROWS, chunk), row_of(ROWS)
    adjoint, d_read, across = matrix(keys, values), matrix(keys, values), matrix(values, keys)
    damping, d_sums = row_of(chunk), row_of(chunk)

    # a head of a segment, from its last chunk to its first; `adjoint` is that of the memory
    for item in range(first, last):
        n, h = item // heads, item % heads
        copy(adjoint, d_memory[n, h], keys, values)
        for start in range(offsets[n + 1] - chunk, offsets[n] - 1, -chunk):
            t0 = offsets[n] + offsets[n + 1] - 1 - start if reverse else start
            memory = states[min(t0, t0 + step * (chunk - 1)) // chunk, h]

            # the chunk as the forward saw it
            load_rows(keys_, k, h, t0, step, chunk, scaling)
            load_rows(values_, v, h, t0, step, chunk, ONE)
            transpose(keys_across, keys_, chunk, keys)
            transpose(values_across, values_, chunk, values)
            decay = load_decays(damping, g, h, t0, step, chunk)

            # eq. (2) backwards: the keys and values that the memory was made of
            transpose(across, adjoint, keys, values)
            set_product(d_keys, values_, across, chunk, keys, values)
            set_product(d_values, keys_, adjoint, chunk, values, keys)

            # eq. (1) backwards for a block of rows at a time
            transpose(across, memory, keys, values)
            clear(d_read, keys)
            for row in range(0, chunk, ROWS):
                count, t = min(ROWS, chunk - row), t0 + step * row
                load_rows(queries, q, h, t, step, count, ONE)
                load_rows(d_outputs, do, h, t, step, count, ONE)
                set_product(scores, queries, keys_across, count, chunk, keys)
                normalised_softmax(scores, inverse, count, chunk)

                # through the softmax
                set_product(d_scores, d_outputs, values_across, count, chunk, values)
                add_transposed_product(d_values, scores, d_outputs, chunk, values, count)
                _differentiate_softmax(d_scores, scores, count, chunk)
                add_transposed_product(d_keys, d_scores, queries, chunk, keys, count)

                # through the read of the memory, and the queries of both
                set_product(d_queries, d_outputs, across, count, keys, values)
                for r in range(count):
                    scale_row(d_queries[r], damping[row + r])
                    d_sums[row + r] = dot(d_queries[r], queries[r], keys)
                    scale_row(queries[r], damping[row + r])
                add_product(d_queries, d_scores, keys_, count, keys, chunk)
                store_rows(dq, h, t, step, count, d_queries, ONE)
                add_transposed_product(d_read, queries, d_outputs, keys, values, count)

            # eq. (2) backwards: the memory before the chunk, and the gates
            store_rows(dk, h, t0, step, chunk, d_keys, scaling)
            store_rows(dv, h, t0, step, chunk, d_values, ONE)
            d_mean = ZERO
            for d in range(keys):
                d_mean += decay * dot(adjoint[d], memory[d], values)
                scale_row(adjoint[d], decay)
                add_row(adjoint[d], ONE, d_read[d])
            _store_gate_gradients(dg, h, t0, step, chunk, d_sums, d_mean)
        copy(d_memory[n, h], adjoint, keys, values)


@compiled
def _differentiate_softmax(d_scores, probabilities, rows, columns):
    for r in range(rows):
        row, probability = d_scores[r, :columns], probabilities[r, :columns]
        mean = dot(row, probability, columns)
        for j in range(columns):
            row[j] = probability[j] * (row[j] - mean)


@compiled
def _store_gate_gradients(dg, head, t0, step, count, d_sums, d_mean):
    """A gate is part of the sums of its row and of all later ones, and of the mean."""
    total = d_mean / np.float32(count)
    for r in range(count - 1, -1, -1):
        total += d_sums[r]
        dg[t0 + r * step, head] = total
