"""The gradients of gated linear attention on the CPU, over items of one segment and one head.

One sweep serves for everything, with the roles exchanged:

    o     S [K, V]      = a S + k v^T        read by q      from first to last
    dq    S^T [V, K]    = a S^T + v k^T      read by do     from first to last
    dk    L^T [V, K]    = a L^T + do q^T     read by v      from last to first
    dv    L [K, V]      = a L + q do^T       read by k      from last to first

L is the gradient of the state. dg_t = a_t sum_V L_t * S_{t-1} needs both states at once: those of a chunk are kept for
L^T to meet, recomputed from the state at the beginning of the chunk that the first pass has marked. (In exact
arithmetic dg is the sum of q.dq - k.dk over the later tokens, which needs no states but loses all digits where a_t is
small.)
"""

from typing import NamedTuple

import numpy as np

from visionseq.kernels.compiled import compiled, inlined
from visionseq.kernels.gated_linear_attention.cpu_blocks import (
    CHUNK,
    ONE,
    add_scaled,
    add_scaled_product,
    clear,
    copy,
    dot,
    dot_of_three,
    load_state,
    new_block,
    read,
    read_decay,
    scale_rows,
    store_state,
    whole,
    write,
)
from visionseq.kernels.gated_linear_attention.cpu_tile import make_sweep
from visionseq.kernels.tile_product import LANES, ROWS

sweep_after = make_sweep(decay_by_row=True)
sweep_before = make_sweep(decay_by_row=True, before=True)
transposed_after = make_sweep(decay_by_row=False)
transposed_before = make_sweep(decay_by_row=False, before=True)
keep_states = make_sweep(decay_by_row=False, read=False, keep=True)
meet_after = make_sweep(decay_by_row=False, against=True)
meet_before = make_sweep(decay_by_row=False, before=True, against=True)


class Places(NamedTuple):
    """Where the vectors of a token begin in its row of the block; dq and dk take turns."""

    q: int
    k: int
    v: int
    decay: int
    d_o: int
    d_q: int
    d_k: int
    d_v: int
    d_g: int
    end: int


@compiled
def scan_gradients(
    first,
    last,
    q,
    k,
    v,
    decay,
    bonus,
    offsets,
    reverse,
    before,
    accumulate,
    scale,
    d_o,
    initial,
    adjoint,
    d_q,
    d_k,
    d_v,
    d_g,
    d_bonus,
):
    """Gradients of the items first ... last - 1, arguments as in `scan`.

    adjoint [N, H, K, V] comes as the gradient of the final states and leaves as that of the initial ones; it and
    d_g [M, H, K or 1] may be empty. d_bonus [N, H, K] is added to.
    """
    heads, keys, values = q.shape[1], q.shape[2], v.shape[2]
    width, width_v, gates = whole(keys), whole(values), d_g.size > 0
    at = lay_out(width, width_v)
    block = new_block(at.end)
    states = np.empty((heads, width, width_v), np.float32)
    transposed = np.empty((heads, width_v, width), np.float32)
    kept = np.empty((width_v, CHUNK * LANES), np.float32)
    marks = np.empty((marks_needed(first, last, heads, offsets) if gates else 1, heads, width_v, width), np.float32)
    following = np.empty((heads, width), np.float32)

    # the heads of a segment
    for n in range(first // heads, (last + heads - 1) // heads):
        start, length = offsets[n], offsets[n + 1] - offsets[n]
        low, high = max(first - n * heads, 0), min(last - n * heads, heads)

        # forwards, from the initial states
        for h in range(low, high):
            load_state(initial, n, h, True, transposed[h])
        _forwards(
            q, k, v, decay, bonus, d_o, d_q, scale, reverse, before, accumulate, start, length, low, high, gates,
            block, at, transposed, kept, marks,
        )  # fmt: skip

        # backwards, from the gradients of the final states
        for h in range(low, high):
            load_state(adjoint, n, h, False, states[h])
            load_state(adjoint, n, h, True, transposed[h])
            for j in range(keys):
                following[h, j] = ONE
        _backwards(
            q, k, v, decay, bonus, d_o, d_k, d_v, d_g, d_bonus[n], scale, reverse, before, accumulate, start, length,
            low, high, gates, block, at, states, transposed, kept, marks, following,
        )  # fmt: skip

        # the gradient of the initial state
        for h in range(low, high):
            if length and not before:
                scale_rows(following[h, :keys], states[h])
            store_state(states[h], n, h, adjoint)


@inlined
def _forwards(
    q, k, v, decay, bonus, d_o, d_q, scale, reverse, before, accumulate, start, length, low, high, gates,
    block, at, transposed, kept, marks,
):  # fmt: skip
    """dq_t = scale S_t do_t for the heads low ... high - 1; with gates, the states before every chunk are marked."""
    keys, values = q.shape[2], v.shape[2]
    for chunk in range((length + CHUNK - 1) // CHUNK):
        count = min(CHUNK, length - chunk * CHUNK)
        t, step = (start + length - 1 - chunk * CHUNK, -1) if reverse else (start + chunk * CHUNK, 1)

        # a head of the chunk
        for h in range(low, high):
            read(k, h, t, step, count, ONE, block, at.k)
            read(v, h, t, step, count, ONE, block, at.v)
            read(d_o, h, t, step, count, scale[h], block, at.d_o)
            read_decay(decay, h, t, step, count, keys, block, at.decay)
            if gates:
                copy(transposed[h], marks[chunk, h])
            sweep_queries(block, at, transposed[h], kept, keys, values, before, count)
            if bonus.size:
                add_bonus_to_queries(block, at, bonus[h], keys, values, count)
            write(block, at.d_q, h, t, step, count, accumulate, d_q)


@inlined
def _backwards(
    q, k, v, decay, bonus, d_o, d_k, d_v, d_g, d_bonus, scale, reverse, before, accumulate, start, length,
    low, high, gates, block, at, states, transposed, kept, marks, following,
):  # fmt: skip
    """dk_t = L_t v_t, dv_t = L_t^T k_t, dg_t = exp(g_t) sum_V L_t S_{t-1} for the heads low ... high - 1.

    L_t = scale q_t do_t^T + exp(g_{t+1}) L_{t+1} is in `states` and `transposed`; `following` is exp(g_{t+1}).
    """
    keys, values = q.shape[2], v.shape[2]
    for chunk in range((length + CHUNK - 1) // CHUNK - 1, -1, -1):
        count = min(CHUNK, length - chunk * CHUNK)
        t, step = (start + length - 1 - chunk * CHUNK, -1) if reverse else (start + chunk * CHUNK, 1)
        for h in range(low, high):
            read(q, h, t, step, count, ONE, block, at.q)
            read(k, h, t, step, count, ONE, block, at.k)
            read(v, h, t, step, count, ONE, block, at.v)
            read(d_o, h, t, step, count, scale[h], block, at.d_o)
            read_decay(decay, h, t, step, count, keys, block, at.decay)

            # the decay of the token after each one
            for j in range(keys):
                block[count, at.decay + j] = following[h, j]
                following[h, j] = block[0, at.decay + j]

            # the gradients of the tokens
            mark = marks[chunk if gates else 0, h]
            sweep_keys(block, at, transposed[h], mark, kept, keys, values, before, gates, count)
            sweep_values(block, at, states[h], kept, keys, values, before, count)
            if bonus.size:
                add_bonus(block, at, bonus[h], d_bonus[h], keys, values, count)
            write(block, at.d_k, h, t, step, count, accumulate, d_k)
            write(block, at.d_v, h, t, step, count, accumulate, d_v)
            if gates:
                multiply_gates(block, at, keys, d_g.shape[2], count)
                write(block, at.d_g, h, t, step, count, accumulate, d_g)


@inlined
def marks_needed(first, last, heads, offsets):
    longest = 0
    for n in range(first // heads, (last + heads - 1) // heads):
        longest = max(longest, offsets[n + 1] - offsets[n])
    return max((longest + CHUNK - 1) // CHUNK, 1)


@inlined
def lay_out(width, width_v):
    """q, k, v, the decay, and the gradients side by side."""
    v, decay = 2 * width, 2 * width + width_v
    d_o = decay + width
    d_q = d_o + width_v
    d_v = d_q + width
    return Places(0, width, v, decay, d_o, d_q, d_q, d_v, d_v + width_v, d_v + width_v + width)


@inlined
def sweep_queries(block, at, transposed, kept, keys, values, before, count):
    clear(block, at.d_q, whole(keys), count)
    for column in range(0, keys, LANES):
        for row in range(0, values, ROWS):
            if before:
                transposed_before(
                    block, transposed, kept, at.v, at.k, at.decay, at.d_o, at.d_q, at.d_g, row, column, 0, 1, count
                )
            else:
                transposed_after(
                    block, transposed, kept, at.v, at.k, at.decay, at.d_o, at.d_q, at.d_g, row, column, 0, 1, count
                )


@inlined
def sweep_keys(block, at, transposed, mark, kept, keys, values, before, gates, count):
    """From the last token to the first; a state that is read after its update decays by the gate of the token before
    it in this order, one row further down."""
    following, last = at.decay + block.shape[1], count - 1
    clear(block, at.d_k, whole(keys), count)
    clear(block, at.d_g, whole(keys), count)
    for column in range(0, keys, LANES):
        if gates:
            for row in range(0, values, ROWS):
                keep_states(block, mark, kept, at.v, at.k, at.decay, at.q, at.d_k, at.d_g, row, column, 0, 1, count)
        for row in range(0, values, ROWS):
            if gates and before:
                meet_before(
                    block, transposed, kept, at.d_o, at.q, at.decay, at.v, at.d_k, at.d_g, row, column, last, -1, count
                )
            elif gates:
                meet_after(
                    block, transposed, kept, at.d_o, at.q, following, at.v, at.d_k, at.d_g, row, column, last, -1, count
                )
            elif before:
                transposed_before(
                    block, transposed, kept, at.d_o, at.q, at.decay, at.v, at.d_k, at.d_g, row, column, last, -1, count
                )
            else:
                transposed_after(
                    block, transposed, kept, at.d_o, at.q, following, at.v, at.d_k, at.d_g, row, column, last, -1, count
                )


@inlined
def multiply_gates(block, at, keys, gates, count):
    """dg = exp(g) * (L * S), summed over the keys where they share one gate."""
    for i in range(count):
        row = block[i]
        gate, gradient = row[at.decay : at.decay + keys], row[at.d_g : at.d_g + keys]
        if gates == keys:
            for j in range(keys):
                gradient[j] *= gate[j]
        else:
            gradient[0] = dot(gate, gradient)


@inlined
def sweep_values(block, at, state, kept, keys, values, before, count):
    following, last = at.decay + block.shape[1], count - 1
    clear(block, at.d_v, whole(values), count)
    for column in range(0, values, LANES):
        for row in range(0, keys, ROWS):
            if before:
                sweep_before(
                    block, state, kept, at.q, at.d_o, at.decay, at.k, at.d_v, at.d_v, row, column, last, -1, count
                )
            else:
                sweep_after(
                    block, state, kept, at.q, at.d_o, following, at.k, at.d_v, at.d_v, row, column, last, -1, count
                )


@inlined
def add_bonus_to_queries(block, at, u, keys, values, count):
    """at.decay token's own value: o += (q * u . k) v, hence dq += (v . do) u * k."""
    for i in range(count):
        row = block[i]
        weight = dot(row[at.v : at.v + values], row[at.d_o : at.d_o + values])
        add_scaled_product(weight, u, row[at.k : at.k + keys], row[at.d_q : at.d_q + keys])


@inlined
def add_bonus(block, at, u, du, keys, values, count):
    """dk += (v . do) u * q, du += (v . do) q * k, dv += (q * u . k) do."""
    for i in range(count):
        row = block[i]
        q, k, v, do = (
            row[at.q : at.q + keys],
            row[at.k : at.k + keys],
            row[at.v : at.v + values],
            row[at.d_o : at.d_o + values],
        )
        weight = dot(v, do)
        add_scaled_product(weight, u, q, row[at.d_k : at.d_k + keys])
        add_scaled_product(weight, q, k, du)
        add_scaled(dot_of_three(u, q, k), do, row[at.d_v : at.d_v + values])
