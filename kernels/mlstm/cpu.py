"""The mLSTM on the CPU: a head of a segment goes through its chunks of rows by products of small matrices.

Shapes: M rows, N segments, H heads, K key size, V value size. The backward runs the memory once more, keeps it before
each chunk, and takes the chunks from the last to the first.
"""

import numpy as np
import torch
from torch import Tensor

from visionseq.kernels.compiled import compiled
from visionseq.kernels.exponential import exp
from visionseq.kernels.hand_over import array
from visionseq.kernels.mlstm.chunk import CHUNK, HIGHEST, ONE, load_gates, set_weights, weigh
from visionseq.kernels.mlstm.cpu_backward import differentiate
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
)
from visionseq.kernels.threads import spread


def forward(
    q_MHK: Tensor,
    k_MHK: Tensor,
    v_MHV: Tensor,
    i_MH: Tensor,
    f_MH: Tensor,
    initial_c: Tensor | None,
    initial_n: Tensor | None,
    initial_m: Tensor | None,
    offsets: Tensor,
    reverse: bool,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """o [M, H, V] in the dtype of q and the final state C [N, H, K, V], n [N, H, K], m [N, H]."""
    (_, heads, keys), segments = q_MHK.shape, len(offsets) - 1
    o_MHV = torch.empty(v_MHV.shape)
    state = _start(initial_c, initial_n, initial_m, (segments, heads, keys, v_MHV.shape[2]))
    inputs = map(array, (q_MHK, k_MHK, v_MHV, i_MH, f_MH))
    results = map(array, (*state, o_MHV))
    spread(_forward, segments * heads, *inputs, offsets.numpy(), reverse, np.float32(eps), *results)
    return o_MHV.to(q_MHK.dtype), *state


def backward(
    d_o: Tensor | None,
    d_final_c: Tensor | None,
    d_final_n: Tensor | None,
    d_final_m: Tensor | None,
    o_MHV: Tensor,
    final_c: Tensor,
    final_n: Tensor,
    final_m: Tensor,
    q_MHK: Tensor,
    k_MHK: Tensor,
    v_MHV: Tensor,
    i_MH: Tensor,
    f_MH: Tensor,
    initial_c: Tensor | None,
    initial_n: Tensor | None,
    initial_m: Tensor | None,
    offsets: Tensor,
    reverse: bool,
    eps: float,
) -> tuple[Tensor | None, ...]:
    """Gradients of q, k, v, i, f and of the initial state."""
    arguments = (q_MHK, k_MHK, v_MHV, i_MH, f_MH)
    initial = _start(initial_c, initial_n, initial_m, tuple(final_c.shape))
    final = (final_c, final_n, final_m)
    d_state = [
        torch.zeros(x.shape) if d is None else d.float().clone()
        for d, x in zip((d_final_c, d_final_n, d_final_m), final, strict=True)
    ]
    d_o = torch.zeros(o_MHV.shape) if d_o is None else d_o
    gradients = [torch.empty(x.shape) for x in arguments]
    spread(
        differentiate,
        final_m.numel(),
        *map(array, (*arguments, *initial, o_MHV, d_o)),
        offsets.numpy(),
        reverse,
        np.float32(eps),
        *map(array, (*d_state, *gradients)),
    )
    converted = [gradient.to(x.dtype) for gradient, x in zip(gradients, arguments, strict=True)]
    return *converted, *([None] * 3 if initial_c is None else d_state)


def _start(
    c: Tensor | None, n: Tensor | None, m: Tensor | None, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """A fresh contiguous copy of the initial state."""
    if c is None or n is None or m is None:
        return torch.zeros(shape), torch.zeros(shape[:3]), torch.full(shape[:2], -torch.inf)
    return c.clone(), n.clone(), m.clone()


@compiled
def _forward(first, last, q, k, v, i, f, offsets, reverse, eps, final_c, final_n, final_m, o):
    heads, keys, values = q.shape[1], q.shape[2], v.shape[2]
    scaling, step = np.float32(1 / np.sqrt(keys)), -1 if reverse else 1
    queries, keys_, keys_across = matrix(CHUNK, keys), matrix(CHUNK, keys), matrix(keys, CHUNK)
    values_, outputs, memory = matrix(CHUNK, values), matrix(CHUNK, values), matrix(keys, values)
    scores, weights = matrix(CHUNK, CHUNK), matrix(CHUNK, CHUNK)
    forget, write, read, m_rows = row_of(CHUNK), row_of(CHUNK), row_of(CHUNK), row_of(CHUNK)

    # a head of a segment, from its initial state
    for item in range(first, last):
        n, h = item // heads, item % heads
        copy(memory, final_c[n, h], keys, values)
        normaliser, m = final_n[n, h], final_m[n, h]
        start, stop = offsets[n], offsets[n + 1]
        for base in range(0, stop - start, CHUNK):
            count, t0 = min(CHUNK, stop - start - base), stop - 1 - base if reverse else start + base

            # a chunk of rows; eq. (1), and the weight with which each row sees the others
            load_rows(queries, q, h, t0, step, count, ONE)
            load_rows(keys_, k, h, t0, step, count, scaling)
            load_rows(values_, v, h, t0, step, count, ONE)
            m = load_gates(forget, write, m_rows, i, f, h, t0, step, count, m)
            set_weights(weights, read, forget, write, count)

            # what the rows of the chunk read of each other, and of the memory
            transpose(keys_across, keys_, count, keys)
            set_product(scores, queries, keys_across, count, count, keys)
            weigh(scores, weights, count)

            # the decays of the reads and of the writes
            for r in range(count):
                scale_row(queries[r], read[r])
                scale_row(keys_[r], weights[count - 1, r])

            # eq. (2) and (4)
            set_product(outputs, scores, values_, count, values, count)
            add_product(outputs, queries, memory, count, values, keys)

            # eq. (4): the denominator
            for r in range(count):
                qn, row = dot(queries[r], normaliser, keys), scores[r]
                for s in range(count):
                    qn += row[s]
                scale_row(outputs[r], ONE / (max(abs(qn), exp(min(-m_rows[r], HIGHEST))) + eps))
            store_rows(o, h, t0, step, count, outputs, ONE)

            # eq. (2) and (3) at the end of the chunk
            scale(memory, read[count - 1], keys)
            scale_row(normaliser, read[count - 1])
            for s in range(count):
                add_row(normaliser, ONE, keys_[s])
            add_transposed_product(memory, keys_, values_, keys, values, count)
        copy(final_c[n, h], memory, keys, values)
        final_m[n, h] = m
