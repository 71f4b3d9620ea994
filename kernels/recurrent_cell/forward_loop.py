"""The loop over time in numba: a few sequences go through all their tokens, their states in the cache.

The sequences of an item are ordered from long to short, so that those still running are the first ones. The units are
computed in blocks whose gates stay in the L1 cache; y_t is complete only after the last block, hence two arrays for y.
"""

import numpy as np

from visionseq.kernels.compiled import compiled, inlined
from visionseq.kernels.recurrent_cell.cells import elman, gru, lstm, slstm
from visionseq.kernels.recurrent_cell.prefetch import will_read, will_write
from visionseq.kernels.recurrent_cell.product import LANES, add_product
from visionseq.kernels.recurrent_cell.rows import ELMAN, GRU, LSTM, ROWS, add, copy, length_of, token

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
    sums, spare = np.empty((ROWS, panels.shape[2] * LANES), np.float32), np.empty(width, np.float32)
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
                    for row in range(active):
                        if row + AHEAD < active:
                            _will_need(token(offsets, segments[row + AHEAD], step, reverse), h, low, high, x)
                        t = token(offsets, segments[row], step, reverse)
                        _begin(cell, t, h, low, high, width, x, b, sums[row])
                    add_product(sums, y_now[h - low_head], panels[h, block], active, units)
                    for row in range(active):
                        if row + AHEAD < active:
                            t = token(offsets, segments[row + AHEAD], step, reverse)
                            _will_fill(t, h, low, high, states, gates)
                        n, y = segments[row], y_next[h - low_head, row, low:high]
                        t = token(offsets, n, step, reverse)
                        _through_cell(cell, t, h, low, high, width, limits, x, b, sums[row], spare, y, final[n], gates)
                        copy(y, final[n, 0, h, low:high])
                        copy(y, states[t, 0, h, low:high])
                        for k in range(first_other, others.shape[1]):
                            copy(final[n, k - first_other + 1, h, low:high], others[t, k, h, low:high])
            y_now, y_next = y_next, y_now


@inlined
def _begin(cell, t, h, low, high, width, x, b, s):
    """s = x + b, gate by gate; the first recurrent gate of gru, R_g y, has no part of x."""
    size, shift = high - low, 1 if cell == GRU else 0
    if shift:
        copy(b[0, h, low:high], s[:size])
    for g in range(shift, b.shape[0] - shift):
        add(x[t, g - shift, h, low:high], b[g, h, low:high], s[g * width : g * width + size])


@inlined
def _through_cell(cell, t, h, low, high, width, limits, x, b, s, spare, y, final, gates):
    """y and the other states, in `final`, from the sums of the gates; keeps the gates."""
    size = high - low
    one = s[:size]
    if cell == ELMAN:
        elman(one, y)
    else:
        two, three = s[width : width + size], s[2 * width : 2 * width + size]
        four = spare[:size] if cell == GRU else s[3 * width : 3 * width + size]
        if cell == GRU:
            add(x[t, 2, h, low:high], b[3, h, low:high], four)
            gru(one, two, three, four, final[0, h, low:high], y)
        elif cell == LSTM:
            lstm(one, two, three, four, y, final[1, h, low:high])
        else:
            c, n, m = final[1, h, low:high], final[2, h, low:high], final[3, h, low:high]
            slstm(one, two, three, four, y, c, n, m, limits, spare)
        if gates.size:
            copy(one, gates[t, 0, h, low:high])
            copy(two, gates[t, 1, h, low:high])
            copy(three, gates[t, 2, h, low:high])
            copy(four, gates[t, 3, h, low:high])


@inlined
def _will_need(t, h, low, high, x):
    for g in range(x.shape[1]):
        will_read(x[t, g, h, low:high])


@inlined
def _will_fill(t, h, low, high, states, gates):
    for k in range(states.shape[1]):
        will_write(states[t, k, h, low:high])
    for g in range(gates.shape[1]):
        will_write(gates[t, g, h, low:high])
