"""The forward scan of gated linear attention on the CPU, over items of one segment and one head.

An item takes CHUNK tokens at a time, in the order of the scan, and sweeps the tiles of its state over them.
"""

import numpy as np

from visionseq.kernels.compiled import compiled
from visionseq.kernels.gated_linear_attention.cpu_blocks import (
    CHUNK,
    ONE,
    add_scaled,
    clear,
    dot_of_three,
    load_state,
    new_block,
    read,
    read_decay,
    store_state,
    whole,
    write,
)
from visionseq.kernels.gated_linear_attention.cpu_tile import make_sweep
from visionseq.kernels.tile_product import LANES, ROWS

sweep_after = make_sweep(decay_by_row=True)
sweep_before = make_sweep(decay_by_row=True, before=True)


@compiled
def scan(first, last, q, k, v, decay, bonus, offsets, reverse, before, accumulate, scale, o, final):
    """o [M, H, V] of the items first ... last - 1.

    decay [M or 1, H, K or 1] = exp(g); bonus [H, K] and final [N, H, K, V], which comes as the initial states, may be
    empty; `before`: tokens read the state before its update; `accumulate`: add to what o holds; scale [H].
    """
    heads, keys, values = q.shape[1], q.shape[2], v.shape[2]
    width, width_v = whole(keys), whole(values)
    Q, K, V, A, OUT = 0, width, 2 * width, 2 * width + width_v, 3 * width + width_v
    block = new_block(OUT + width_v)
    states = np.empty((heads, width, width_v), np.float32)

    # the heads of a segment start from their states
    for n in range(first // heads, (last + heads - 1) // heads):
        start, length = offsets[n], offsets[n + 1] - offsets[n]
        low, high = max(first - n * heads, 0), min(last - n * heads, heads)
        for h in range(low, high):
            load_state(final, n, h, False, states[h])

        # in chunks of tokens, whose vectors stand side by side in a block
        for done in range(0, length, CHUNK):
            count = min(CHUNK, length - done)
            t, step = (start + length - 1 - done, -1) if reverse else (start + done, 1)
            for h in range(low, high):
                read(q, h, t, step, count, scale[h], block, Q)
                read(k, h, t, step, count, ONE, block, K)
                read(v, h, t, step, count, ONE, block, V)
                read_decay(decay, h, t, step, count, keys, block, A)
                clear(block, OUT, width_v, count)

                # S_t = exp(g_t) S_{t-1} + k_t v_t^T, and what q_t reads of it, for a tile of the state at a time
                state = states[h]
                for column in range(0, values, LANES):
                    for row in range(0, keys, ROWS):
                        if before:
                            sweep_before(block, state, state, K, V, A, Q, OUT, OUT, row, column, 0, 1, count)
                        else:
                            sweep_after(block, state, state, K, V, A, Q, OUT, OUT, row, column, 0, 1, count)

                # the token itself, with the weight of the bonus
                if bonus.size:
                    for i in range(count):
                        row = block[i]
                        weight = dot_of_three(bonus[h], row[Q : Q + keys], row[K : K + keys])
                        add_scaled(weight, row[V : V + values], row[OUT : OUT + values])
                write(block, OUT, h, t, step, count, accumulate, o)

        # the states after the segment
        for h in range(low, high):
            store_state(states[h], n, h, final)
