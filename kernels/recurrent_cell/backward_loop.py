"""The loop over time backwards in numba: the gradients of x, R, b and the initial states."""

import numpy as np

from visionseq.kernels.compiled import compiled, inlined
from visionseq.kernels.recurrent_cell.adjoints import elman_backward, gru_backward, lstm_backward, slstm_backward
from visionseq.kernels.recurrent_cell.prefetch import will_read, will_write
from visionseq.kernels.recurrent_cell.product import DEPTH, LANES, OUTER, VECTOR, add_product
from visionseq.kernels.recurrent_cell.rows import ELMAN, GRU, LSTM, ROWS, ZERO, add, copy, length_of, token
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
    floor,
    limit,
    cut,
    clip,
    states,
    initial,
    gates,
    d_states,
    dx,
    dR,
    db,
    adjoint,
):
    """`adjoint` holds the gradient of the final states and becomes that of the initial ones.

    Items are groups of heads of every so many sequences; dR [parts, H, K, D] and db [parts, H, G, D] hold the sum of
    each part of the sequences.
    """
    heads, units, parts = dx.shape[2], dx.shape[3], dR.shape[0]
    group = (heads + groups - 1) // groups
    # rows as long as a multiple of 4 KB would compete for the same lines of the cache: VECTOR more
    depth, wide = tiles.shape[2] * DEPTH + VECTOR, (dR.shape[2] + 2 * OUTER - 1) // (2 * OUTER) * 2 * OUTER + VECTOR
    d_gates = np.zeros((group, 2, ROWS // 2, depth), np.float32)
    sums, outer_sums = np.zeros((2, ROWS // 2, LANES), np.float32), np.zeros((2, OUTER, LANES), np.float32)
    factors = np.zeros((group, COLLECTED, wide), np.float32)
    y_tiles = np.zeros((group, tiles.shape[1], COLLECTED // DEPTH, DEPTH * LANES), np.float32)
    dy, work = np.empty(units, np.float32), np.empty((4, units), np.float32)
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
                        add_collected(collected, factors[h - low_head], y_tiles[h - low_head], outer_sums, dR[part, h])
                    collected = 0
                for row in range(active):
                    n = segments[row]
                    t = token(offsets, n, step, reverse)
                    before = states[token(offsets, n, step - 1, reverse)] if step else initial[n]
                    for h in range(low_head, high_head):
                        d = d_gates[h - low_head, row % 2, row // 2]
                        one, d_y = d[:units], adjoint[n, 0, h]
                        if d_states.size:
                            for k in range(states.shape[1]):
                                add(adjoint[n, k, h], d_states[t, k, h], adjoint[n, k, h])
                        copy(d_y, dy)
                        if cell == ELMAN:
                            elman_backward(dy, states[t, 0, h], one, d_y)
                        else:
                            i, f, z, o = gates[t, 0, h], gates[t, 1, h], gates[t, 2, h], gates[t, 3, h]
                            two, three = d[units : 2 * units], d[2 * units : 3 * units]
                            four = dx[t, 2, h] if cell == GRU else d[3 * units : 4 * units]
                            if cell == GRU:
                                gru_backward(dy, i, f, z, o, before[0, h], one, two, three, four, d_y)
                            elif cell == LSTM:
                                c, d_c = states[t, 1, h], adjoint[n, 1, h]
                                lstm_backward(dy, i, f, z, o, before[1, h], c, one, two, three, four, d_y, d_c)
                            else:
                                now, carry, limits = states[t], adjoint[n], (floor, limit)
                                slstm_backward(
                                    dy, i, f, z, o, before, now, h, one, two, three, four, carry, limits, work
                                )
                        if step:
                            _ask_for(token(offsets, n, step - 1, reverse), h, gates, states, d_states, dx)
                        _spread(d, dx, db[part, h], t, h, cell)
                        collect(
                            collected + row,
                            d[: dR.shape[2]],
                            before[0, h],
                            factors[h - low_head],
                            y_tiles[h - low_head],
                        )
                collected += active
                if cut:
                    continue
                for h in range(low_head, high_head):
                    for block in range(tiles.shape[1]):
                        low, high = block * LANES, min((block + 1) * LANES, units)
                        columns = (high - low + VECTOR - 1) // VECTOR * VECTOR
                        sums[:] = ZERO
                        add_product(sums, d_gates[h - low_head], tiles[h, block], (active + 1) // 2, columns)
                        for row in range(active):
                            total = adjoint[segments[row], 0, h, low:high]
                            _add_clipped(sums[row % 2, row // 2, : high - low], clip, total)
        for h in range(low_head, high_head):
            add_collected(collected, factors[h - low_head], y_tiles[h - low_head], outer_sums, dR[part, h])


@inlined
def _ask_for(t, h, gates, states, d_states, dx):
    """Prefetch what the token t needs."""
    for g in range(gates.shape[1]):
        will_read(gates[t, g, h])
    for k in range(d_states.shape[1]):
        will_read(d_states[t, k, h])
    for g in range(dx.shape[1]):
        will_write(dx[t, g, h])


@inlined
def _spread(d, dx, db, t, h, cell):
    """The gradients of the sums of each gate -> those of x and b."""
    units, shift = dx.shape[3], 1 if cell == GRU else 0
    if shift:
        add(db[3], dx[t, 2, h], db[3])
    for g in range(db.shape[0] - shift):
        part = d[g * units : (g + 1) * units]
        add(db[g], part, db[g])
        if g >= shift:
            copy(part, dx[t, g - shift, h])


@inlined
def _add_clipped(part, limit, total):
    for u in range(total.shape[0]):
        total[u] += min(max(part[u], -limit), limit)
