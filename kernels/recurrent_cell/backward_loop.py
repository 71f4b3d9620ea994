"""The loop over time backwards in numba: the gradients of x, R, b and the initial states."""

import numpy as np

from visionseq.kernels.compiled import compiled, inlined
from visionseq.kernels.recurrent_cell.adjoints import elman_backward, gru_backward, lstm_backward, slstm_backward
from visionseq.kernels.recurrent_cell.prefetch import will_read, will_write
from visionseq.kernels.recurrent_cell.product import LANES, add_product
from visionseq.kernels.recurrent_cell.rows import ELMAN, GRU, LSTM, ROWS, ZERO, add, copy, length_of, token
from visionseq.kernels.recurrent_cell.weight_gradient import COLLECTED, add_collected, collect


@compiled
def run_backward(
    first,
    last,
    groups,
    panels,
    offsets,
    order,
    reverse,
    cell,
    limits,
    cut,
    clip,
    states,
    others,
    first_other,
    gates,
    initial,
    d_states,
    dx,
    dR,
    db,
    db_n,
    adjoint,
):
    """`adjoint` holds the gradient of the final states and becomes that of the initial ones.

    The items are groups of heads of every so many sequences; dR [parts, H, K, columns], db [parts, H, K] and, for gru,
    db_n [parts, H, D] hold the sums of each part of the sequences.
    """
    # arrays that stay in the cache: the gates' gradients and y_{t-1} of the tokens collected for dR, and sums
    heads, units, parts, gates_units = dx.shape[2], dx.shape[3], dR.shape[0], db.shape[2]
    group = (heads + groups - 1) // groups
    stride = (gates_units + LANES - 1) // LANES * LANES + LANES  # rows of a multiple of 4 KB would share cache lines
    d_gates = np.empty((group, COLLECTED, stride), np.float32)
    y_panels = np.zeros((group, panels.shape[1], COLLECTED, LANES), np.float32)
    sums, work = np.empty((ROWS, panels.shape[1] * LANES), np.float32), np.empty((5, units), np.float32)
    for item in range(first, last):
        part, low_head = item // groups, item % groups * group
        high_head = min(low_head + group, heads)
        collected = 0
        for top in range(part * ROWS, order.shape[0], parts * ROWS):
            # one token of ROWS sequences after the other, from the last
            segments = order[top : top + ROWS]
            active = 0
            for step in range(length_of(offsets, segments[0]) - 1, -1, -1):
                while active < segments.shape[0] and length_of(offsets, segments[active]) > step:
                    active += 1
                if collected + active > COLLECTED:
                    for h in range(low_head, high_head):
                        near = h - low_head
                        add_collected(collected, d_gates[near], y_panels[near], dR[part, h], db[part, h])
                    collected = 0

                # through the cells
                for row in range(active):
                    if row + 1 < active:
                        n = segments[row + 1]
                        t, t_before = token(offsets, n, step, reverse), token(offsets, n, step - 1, reverse)
                        t_before = t_before if step else t
                        _will_need(t, low_head, high_head, gates, d_states, dx)
                        _will_need_before(t_before, low_head, high_head, states, others, first_other)
                    n = segments[row]
                    t, t_before = token(offsets, n, step, reverse), token(offsets, n, step - 1, reverse)
                    y_before = states[t_before, 0] if step else initial[n, 0]
                    before = others[t_before, first_other:] if step else initial[n, 1:]
                    for h in range(low_head, high_head):
                        near = h - low_head
                        d, carry = d_gates[near, collected + row, :gates_units], adjoint[n]
                        y, now = states[t, 0, h], others[t, first_other:]
                        _through_cell(
                            cell, t, h, limits, y_before[h], before, y, now, gates, d_states, dx, d, carry, work
                        )
                        if cell == GRU:
                            add(db_n[part, h], dx[t, 2, h], db_n[part, h])
                        collect(collected + row, y_before[h], y_panels[near])

                # through the recurrent weights
                if not cut:
                    for h in range(low_head, high_head):
                        rows = d_gates[h - low_head, collected : collected + active]
                        _through_weights(rows, gates_units, panels[h], sums, adjoint, segments, active, h, clip)
                collected += active
        for h in range(low_head, high_head):
            near = h - low_head
            add_collected(collected, d_gates[near], y_panels[near], dR[part, h], db[part, h])


@inlined
def _through_cell(cell, t, h, limits, y_before, before, y, now, gates, d_states, dx, d, carry, work):
    """From the gradient of the states of token t to those of its gates, d and dx, and of the states before, carry."""
    units, dy, d_y = dx.shape[3], work[4], carry[0, h]
    if d_states.size:
        add(d_y, d_states[t, 0, h], dy)
        for k in range(1, d_states.shape[1]):
            add(carry[k, h], d_states[t, k, h], carry[k, h])
    else:
        copy(d_y, dy)
    one = d[:units]
    if cell == ELMAN:
        elman_backward(dy, y, one, d_y)
    else:
        i, f, z, o = gates[t, 0, h], gates[t, 1, h], gates[t, 2, h], gates[t, 3, h]
        two, three = d[units : 2 * units], d[2 * units : 3 * units]
        if cell == GRU:
            gru_backward(dy, i, f, z, o, y_before, one, two, three, dx[t, 2, h], d_y)
        else:
            four = d[3 * units : 4 * units]
            if cell == LSTM:
                lstm_backward(dy, i, f, z, o, before[0, h], now[0, h], one, two, three, four, d_y, carry[1, h])
            else:
                slstm_backward(dy, i, f, z, o, before, y, now, h, one, two, three, four, carry, limits, work)
    _copy_to_dx(d[units:] if cell == GRU else d, t, h, dx)


@inlined
def _copy_to_dx(d, t, h, dx):
    """The gates' gradients to dx[t, :, h], but the last of gru, which is there already."""
    gates, heads, units = d.shape[0] // dx.shape[3], dx.shape[2], dx.shape[3]
    if heads == 1:  # the gates lie side by side there as well
        copy(d, dx[t].reshape(dx.shape[1] * units)[: gates * units])
    else:
        for g in range(gates):
            copy(d[g * units : (g + 1) * units], dx[t, g, h])


@inlined
def _through_weights(d_gates, gates_units, panels, sums, adjoint, segments, active, h, clip):
    """dy_{t-1} += R^T d_gates, clipped."""
    units = adjoint.shape[3]
    sums[:active] = ZERO
    add_product(sums, d_gates, panels, active, gates_units)
    for row in range(active):
        total, part = adjoint[segments[row], 0, h], sums[row]
        for u in range(units):
            total[u] += min(max(part[u], -clip), clip)


@inlined
def _will_need(t, low_head, high_head, gates, d_states, dx):
    """Ask for what a sequence reads and writes at token t."""
    for h in range(low_head, high_head):
        for g in range(gates.shape[1]):
            will_read(gates[t, g, h])
        for k in range(d_states.shape[1]):
            will_read(d_states[t, k, h])
        for g in range(dx.shape[1]):
            will_write(dx[t, g, h])


@inlined
def _will_need_before(t_before, low_head, high_head, states, others, first_other):
    """Ask for the states of the token before."""
    for h in range(low_head, high_head):
        will_read(states[t_before, 0, h])
        for k in range(first_other, others.shape[1]):
            will_read(others[t_before, k, h])
