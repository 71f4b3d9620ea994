"""The loop over time backwards in numba: the gradients of x, R, b and the initial states."""

import numpy as np

from visionseq.kernels.compiled import compiled, inlined
from visionseq.kernels.recurrent_cell.adjoints import elman_backward, gru_backward, lstm_backward, slstm_backward
from visionseq.kernels.recurrent_cell.prefetch import will_read, will_write
from visionseq.kernels.recurrent_cell.product import DEPTH, LANES, OUTER, VECTOR, add_product
from visionseq.kernels.recurrent_cell.rows import ELMAN, GRU, LSTM, ROWS, ZERO, add, copy, fill, length_of, token
from visionseq.kernels.recurrent_cell.weight_gradient import COLLECTED, add_collected, collect


@compiled
def run_backward(
    first,
    last,
    groups,
    tiles,
    offsets,
    order,
    reverse,
    cell,
    limits,
    cut,
    clip,
    states,
    initial,
    gates,
    d_states,
    dx,
    dR,
    db,
    db_n,
    adjoint,
):
    """`adjoint` holds the gradient of the final states and becomes that of the initial ones.

    The items are groups of heads of every so many sequences; dR [parts, H, D, K], transposed, db [parts, H, K] and, for
    gru, db_n [parts, H, D] hold the sums of each part of the sequences.
    """
    heads, units, parts, gates_units = dx.shape[2], dx.shape[3], dR.shape[0], db.shape[2]
    group, wide = (heads + groups - 1) // groups, (units + 2 * OUTER - 1) // (2 * OUTER) * 2 * OUTER
    depth = tiles.shape[2] * DEPTH + VECTOR  # rows of a multiple of 4 KB would compete for the same lines of the cache
    d_gates = np.zeros((group, 2, ROWS // 2, depth), np.float32)
    sums, outer_sums = np.zeros((2, ROWS // 2, LANES), np.float32), np.zeros((2, OUTER, LANES), np.float32)
    factors = np.zeros((group, COLLECTED, wide), np.float32)
    gate_tiles = np.zeros((group, (gates_units + LANES - 1) // LANES, COLLECTED // DEPTH, DEPTH * LANES), np.float32)
    work = np.empty((5, units), np.float32)
    for item in range(first, last):
        part, low_head = item // groups, item % groups * group
        high_head = min(low_head + group, heads)
        collected = 0
        for top in range(part * ROWS, order.shape[0], parts * ROWS):
            segments = order[top : top + ROWS]
            active = 0
            for step in range(length_of(offsets, segments[0]) - 1, -1, -1):
                while active < segments.shape[0] and length_of(offsets, segments[active]) > step:
                    active += 1
                if collected + active > COLLECTED:
                    for h in range(low_head, high_head):
                        own = h - low_head
                        add_collected(collected, factors[own], gate_tiles[own], outer_sums, dR[part, h], db[part, h])
                    collected = 0
                for row in range(active):
                    if row + 1 < active:
                        n = segments[row + 1]
                        t, t_before = token(offsets, n, step, reverse), token(offsets, n, step - 1, reverse)
                        _will_need(t, t_before if step else t, low_head, high_head, states, gates, d_states, dx)
                    n = segments[row]
                    t, t_before = token(offsets, n, step, reverse), token(offsets, n, step - 1, reverse)
                    before = states[t_before] if step else initial[n]
                    for h in range(low_head, high_head):
                        own = h - low_head
                        d, carry = d_gates[own, row % 2, row // 2], adjoint[n]
                        _through_cell(
                            cell, t, h, limits, before, states, gates, d_states, dx, d[:gates_units], carry, work
                        )
                        if cell == GRU:
                            add(db_n[part, h], dx[t, 2, h], db_n[part, h])
                        collect(collected + row, before[0, h], d[:gates_units], factors[own], gate_tiles[own])
                collected += active
                if not cut:
                    for h in range(low_head, high_head):
                        own = h - low_head
                        _through_weights(d_gates[own], tiles[h], sums, adjoint, segments, active, h, clip)
        for h in range(low_head, high_head):
            own = h - low_head
            add_collected(collected, factors[own], gate_tiles[own], outer_sums, dR[part, h], db[part, h])


@inlined
def _through_cell(cell, t, h, limits, before, states, gates, d_states, dx, d, carry, work):
    """From the gradient of the states of token t to those of its gates, d and dx, and of the states before, carry."""
    units, dy, d_y = dx.shape[3], work[4], carry[0, h]
    if d_states.size:
        add(d_y, d_states[t, 0, h], dy)
        for k in range(1, states.shape[1]):
            add(carry[k, h], d_states[t, k, h], carry[k, h])
    else:
        copy(d_y, dy)
    one = d[:units]
    if cell == ELMAN:
        elman_backward(dy, states[t, 0, h], one, d_y)
        copy(one, dx[t, 0, h])
    else:
        i, f, z, o = gates[t, 0, h], gates[t, 1, h], gates[t, 2, h], gates[t, 3, h]
        two, three = d[units : 2 * units], d[2 * units : 3 * units]
        if cell == GRU:
            gru_backward(dy, i, f, z, o, before[0, h], one, two, three, dx[t, 2, h], d_y)
            copy(two, dx[t, 0, h])
            copy(three, dx[t, 1, h])
        else:
            four = d[3 * units : 4 * units]
            if cell == LSTM:
                lstm_backward(dy, i, f, z, o, before[1, h], states[t, 1, h], one, two, three, four, d_y, carry[1, h])
            else:
                slstm_backward(dy, i, f, z, o, before, states[t], h, one, two, three, four, carry, limits, work)
            copy(one, dx[t, 0, h])
            copy(two, dx[t, 1, h])
            copy(three, dx[t, 2, h])
            copy(four, dx[t, 3, h])


@inlined
def _through_weights(d_gates, tiles, sums, adjoint, segments, active, h, clip):
    """dy_{t-1} += R^T d_gates, clipped."""
    units = adjoint.shape[3]
    for block in range(tiles.shape[0]):
        low, high = block * LANES, min((block + 1) * LANES, units)
        columns = (high - low + VECTOR - 1) // VECTOR * VECTOR
        for row in range((active + 1) // 2 * 2):
            fill(sums[row % 2, row // 2, :columns], ZERO)
        add_product(sums, d_gates, tiles[block], (active + 1) // 2, columns)
        for row in range(active):
            total, part = adjoint[segments[row], 0, h, low:high], sums[row % 2, row // 2, : high - low]
            for u in range(high - low):
                total[u] += min(max(part[u], -clip), clip)


@inlined
def _will_need(t, t_before, low_head, high_head, states, gates, d_states, dx):
    """Ask for what a sequence reads and writes at token t."""
    for h in range(low_head, high_head):
        for g in range(gates.shape[1]):
            will_read(gates[t, g, h])
        for k in range(states.shape[1]):
            will_read(states[t_before, k, h])
        for k in range(d_states.shape[1]):
            will_read(d_states[t, k, h])
        for g in range(dx.shape[1]):
            will_write(dx[t, g, h])
