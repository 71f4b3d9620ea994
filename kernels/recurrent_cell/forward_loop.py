"""The loop over time in numba: a few sequences go through all their tokens, their states in the cache.

The sequences of an item are ordered from long to short, so that those still running are the first ones. The units are
computed in blocks whose gates stay in the L1 cache; y_t is complete only after the last block, hence two arrays for y.
"""

import numpy as np

from visionseq.kernels.compiled import compiled, inlined
from visionseq.kernels.recurrent_cell.cells import elman, gru, lstm, slstm
from visionseq.kernels.recurrent_cell.prefetch import will_read, will_write
from visionseq.kernels.recurrent_cell.product import LANES, add_product
from visionseq.kernels.recurrent_cell.rows import ELMAN, GRU, LSTM, ROWS, ZERO, copy, length_of, token

# Sequences whose memory is asked for in advance. Not more: sequences of 2^n tokens lie at distances that share a few
# lines of the cache, which the first of many would have left before its turn.
AHEAD = 2


@compiled
def run_forward(
    first,
    last,
    groups,
    x,
    panels,
    b,
    offsets,
    order,
    reverse,
    cell,
    limits,
    width,
    states,
    others,
    first_other,
    gates,
    final,
):
    """Items are groups of heads of ROWS sequences; `final` comes as the initial states, `width` is a block's units.

    y goes to states[t, 0], the other states to others[t, first_other:], the gates to gates[t, :kept].
    """
    # arrays that stay in the cache
    heads, units = x.shape[2], x.shape[3]
    group = (heads + groups - 1) // groups
    sums, spare = np.empty((ROWS, panels.shape[2] * LANES), np.float32), np.empty((5, width), np.float32)
    y_now = np.empty((group, ROWS, units), np.float32)
    y_next = np.empty_like(y_now)
    for item in range(first, last):
        # the sequences of an item and their initial outputs
        low_head, segments = item % groups * group, order[item // groups * ROWS : (item // groups + 1) * ROWS]
        high_head = min(low_head + group, heads)
        active = segments.shape[0]
        for row in range(active):
            for h in range(low_head, high_head):
                copy(final[segments[row], 0, h], y_now[h - low_head, row])

        # one token of all of them after the other
        for step in range(length_of(offsets, segments[0])):
            while length_of(offsets, segments[active - 1]) <= step:
                active -= 1
            for h in range(low_head, high_head):
                for block in range(panels.shape[1]):
                    low, high = block * width, min((block + 1) * width, units)
                    for row in range(min(AHEAD, active)):
                        t = token(offsets, segments[row], step, reverse)
                        _will_need(t, h, low, high, x, states, gates)
                    sums[:active] = ZERO
                    add_product(sums, y_now[h - low_head], panels[h, block], active, units)
                    for row in range(active):
                        if row + AHEAD < active:
                            t = token(offsets, segments[row + AHEAD], step, reverse)
                            _will_need(t, h, low, high, x, states, gates)
                        n, y_before = segments[row], y_now[h - low_head, row, low:high]
                        y = y_next[h - low_head, row, low:high]
                        t = token(offsets, n, step, reverse)
                        _through_cell(
                            cell, t, h, low, high, width, limits, x, b, sums[row], spare, y_before, y, final[n], gates
                        )
                        copy(y, states[t, 0, h, low:high])
                        for k in range(first_other, others.shape[1]):
                            copy(final[n, k - first_other + 1, h, low:high], others[t, k, h, low:high])
                        if step == length_of(offsets, n) - 1:
                            copy(y, final[n, 0, h, low:high])
            y_now, y_next = y_next, y_now


@inlined
def _through_cell(cell, t, h, low, high, width, limits, x, b, Ry, spare, y_before, y, final, gates):
    """y and the other states, in `final`, from R y_{t-1}; keeps the gates."""
    size = high - low
    x_1, b_1 = x[t, 0, h, low:high], b[0, h, low:high]
    if cell == ELMAN:
        elman(Ry[:size], x_1, b_1, y)
    else:
        Ry_3 = Ry[:size], Ry[width : width + size], Ry[2 * width : 2 * width + size]
        x_3 = x_1, x[t, 1, h, low:high], x[t, 2, h, low:high]
        b_4 = b_1, b[1, h, low:high], b[2, h, low:high], b[3, h, low:high]
        # where the gates go: what the backward needs, or memory that nobody reads
        if gates.size:
            kept = (
                gates[t, 0, h, low:high],
                gates[t, 1, h, low:high],
                gates[t, 2, h, low:high],
                gates[t, 3, h, low:high],
            )
        else:
            kept = spare[0, :size], spare[1, :size], spare[2, :size], spare[3, :size]

        # the cell
        if cell == GRU:
            gru(Ry_3, x_3, b_4, kept, y_before, y)
        else:
            Ry_4 = Ry_3[0], Ry_3[1], Ry_3[2], Ry[3 * width : 3 * width + size]
            x_4 = x_3[0], x_3[1], x_3[2], x[t, 3, h, low:high]
            c = final[1, h, low:high]
            if cell == LSTM:
                lstm(Ry_4, x_4, b_4, kept, y, c)
            else:
                slstm(Ry_4, x_4, b_4, kept, y, c, final[2, h, low:high], final[3, h, low:high], limits, spare[4])


@inlined
def _will_need(t, h, low, high, x, states, gates):
    """Ask for what a sequence reads and writes at token t."""
    for g in range(x.shape[1]):
        will_read(x[t, g, h, low:high])
    for k in range(states.shape[1]):
        will_write(states[t, k, h, low:high])
    for g in range(gates.shape[1]):
        will_write(gates[t, g, h, low:high])
