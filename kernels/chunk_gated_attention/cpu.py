"""The hybrid attention on the CPU: a head of a segment goes through its chunks with the memory beside it.

Shapes: M rows in S chunks of C, N segments, H heads, K key size, V value size. The softmax is taken for a block of rows
against all keys of their chunk, so that no C x C matrix exists.
"""

import numpy as np
import torch
from torch import Tensor

from visionseq.kernels.chunk_gated_attention.cpu_backward import differentiate
from visionseq.kernels.chunk_gated_attention.rows import ONE, ROWS, load_decays, softmax
from visionseq.kernels.compiled import compiled
from visionseq.kernels.hand_over import array
from visionseq.kernels.small_matrices import (
    add_product,
    add_transposed_product,
    copy,
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
    g_MH: Tensor,
    initial_NHKV: Tensor | None,
    offsets: Tensor,
    reverse: bool,
    chunk_size: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """o [M, H, V], the final memory [N, H, K, V] and the memories that the chunks saw [S, H, K, V]."""
    (rows, heads, keys), segments, values = q_MHK.shape, len(offsets) - 1, v_MHV.shape[2]
    final_NHKV = torch.zeros(segments, heads, keys, values) if initial_NHKV is None else initial_NHKV.clone()
    states_SHKV, o_MHV = torch.empty(rows // chunk_size, heads, keys, values), torch.empty(v_MHV.shape)
    inputs = map(array, (q_MHK, k_MHK, v_MHV, g_MH))
    results = map(array, (final_NHKV, states_SHKV, o_MHV))
    spread(_forward, segments * heads, *inputs, offsets.numpy(), reverse, chunk_size, *results)
    return o_MHV, final_NHKV, states_SHKV


def backward(
    d_o: Tensor | None,
    d_final: Tensor | None,
    d_states: None,
    o_MHV: Tensor,
    final_NHKV: Tensor,
    states_SHKV: Tensor,
    q_MHK: Tensor,
    k_MHK: Tensor,
    v_MHV: Tensor,
    g_MH: Tensor,
    initial_NHKV: Tensor | None,
    offsets: Tensor,
    reverse: bool,
    chunk_size: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """Gradients of q, k, v, g and the initial memory."""
    d_o = torch.zeros(o_MHV.shape) if d_o is None else d_o
    d_memory = torch.zeros(final_NHKV.shape) if d_final is None else d_final.float().clone()
    arguments = (q_MHK, k_MHK, v_MHV, g_MH)
    gradients = [torch.empty(x.shape) for x in arguments]
    inputs, results = map(array, (*arguments, states_SHKV, d_o)), map(array, (d_memory, *gradients))
    spread(differentiate, d_memory[..., 0, 0].numel(), *inputs, offsets.numpy(), reverse, chunk_size, *results)
    d_q, d_k, d_v, d_g = (gradient.to(x.dtype) for gradient, x in zip(gradients, arguments, strict=True))
    return d_q, d_k, d_v, d_g, None if initial_NHKV is None else d_memory


@compiled
def _forward(first, last, q, k, v, g, offsets, reverse, chunk, final, states, o):
    heads, keys, values = q.shape[1], q.shape[2], v.shape[2]
    scaling, step = np.float32(1 / np.sqrt(keys)), -1 if reverse else 1
    keys_, values_, keys_across = matrix(chunk, keys), matrix(chunk, values), matrix(keys, chunk)
    queries, scores, outputs = matrix(ROWS, keys), matrix(ROWS, chunk), matrix(ROWS, values)
    memory, damping, inverse = matrix(keys, values), row_of(chunk), row_of(ROWS)

    # a head of a segment, from the memory before its first chunk
    for item in range(first, last):
        n, h = item // heads, item % heads
        copy(memory, final[n, h], keys, values)
        for start in range(offsets[n], offsets[n + 1], chunk):
            t0 = offsets[n] + offsets[n + 1] - 1 - start if reverse else start
            copy(states[min(t0, t0 + step * (chunk - 1)) // chunk, h], memory, keys, values)

            # the keys, values and gates of a chunk
            load_rows(keys_, k, h, t0, step, chunk, scaling)
            load_rows(values_, v, h, t0, step, chunk, ONE)
            transpose(keys_across, keys_, chunk, keys)
            decay = load_decays(damping, g, h, t0, step, chunk)

            # eq. (1) for a block of rows at a time
            for row in range(0, chunk, ROWS):
                count, t = min(ROWS, chunk - row), t0 + step * row
                load_rows(queries, q, h, t, step, count, ONE)
                set_product(scores, queries, keys_across, count, chunk, keys)
                softmax(scores, inverse, count, chunk)
                set_product(outputs, scores, values_, count, values, chunk)
                for r in range(count):
                    scale_row(outputs[r], inverse[r])
                    scale_row(queries[r], damping[row + r])
                add_product(outputs, queries, memory, count, values, keys)
                store_rows(o, h, t, step, count, outputs, ONE)

            # eq. (2)
            scale(memory, decay, keys)
            add_transposed_product(memory, keys_, values_, keys, values, chunk)
        copy(final[n, h], memory, keys, values)
