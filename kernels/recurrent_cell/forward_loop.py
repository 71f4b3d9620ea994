"""The loop over time in numba: a head of a few sequences goes through all its tokens, its states in the cache.

The sequences of an item are ordered from long to short, so that those still running are the first ones. The units are
computed in blocks whose gates fit a tile of the matrix product; y_t is complete only after the last block, hence two
arrays for y.
"""

import numpy as np

from visionseq.kernels.compiled import compiled
from visionseq.kernels.recurrent_cell.cells import elman, gru, lstm, slstm
from visionseq.kernels.recurrent_cell.prefetch import will_read, will_write
from visionseq.kernels.recurrent_cell.product import DEPTH, LANES, add_product
from visionseq.kernels.recurrent_cell.rows import ELMAN, GRU, LSTM, ROWS, add, copy, length_of, token


@compiled
def run_forward(
    first, last, groups, x, tiles, b, offsets, order, reverse, cell, floor, limit, width, states, final, gates
):
    """Items are groups of heads of ROWS sequences, of blocks of `width` units; `final` comes as the initial states."""
    heads, units = x.shape[2], x.shape[3]
    group = (heads + groups - 1) // groups
    shift = 1 if cell == GRU else 0  # its first recurrent gate has no part of x, its last gate no recurrent weights
    recurrent = b.shape[0] - shift
    sums, spare = np.zeros((2, ROWS // 2, LANES), np.float32), np.empty(width, np.float32)
    y_now = np.zeros((group, 2, ROWS // 2, tiles.shape[2] * DEPTH), np.float32)
    y_next = np.zeros_like(y_now)
    for item in range(first, last):
        low_head, segments = item % groups * group, order[item // groups * ROWS : (item // groups + 1) * ROWS]
        high_head = min(low_head + group, heads)
        active = segments.shape[0]
        for row in range(active):
            for h in range(low_head, high_head):
                copy(final[segments[row], 0, h], y_now[h - low_head, row % 2, row // 2, :units])
        for step in range(length_of(offsets, segments[0])):
            while length_of(offsets, segments[active - 1]) <= step:
                active -= 1
            for h in range(low_head, high_head):
                for block in range(tiles.shape[1]):
                    low, high = block * width, min((block + 1) * width, units)
                    size = high - low
                    for row in range(active):
                        n, s = segments[row], sums[row % 2, row // 2]
                        t, t_next = token(offsets, n, step, reverse), token(offsets, n, step + 1, reverse)
                        if shift:
                            copy(b[0, h, low:high], s[:size])
                        for g in range(shift, recurrent):
                            add(x[t, g - shift, h, low:high], b[g, h, low:high], s[g * width : g * width + size])
                        if step + 1 < length_of(offsets, n):
                            for g in range(x.shape[1]):
                                will_read(x[t_next, g, h, low:high])
                        for k in range(states.shape[1]):
                            will_write(states[t, k, h, low:high])
                        for g in range(gates.shape[1]):
                            will_write(gates[t, g, h, low:high])
                    add_product(sums, y_now[h - low_head], tiles[h, block], (active + 1) // 2, recurrent * width)
                    for row in range(active):
                        n = segments[row]
                        t, s = token(offsets, n, step, reverse), sums[row % 2, row // 2]
                        one, y = s[:size], y_next[h - low_head, row % 2, row // 2, low:high]
                        if cell == ELMAN:
                            elman(one, y)
                        else:
                            two, three = s[width : width + size], s[2 * width : 2 * width + size]
                            four = spare[:size] if cell == GRU else s[3 * width : 3 * width + size]
                            if cell == GRU:
                                add(x[t, 2, h, low:high], b[3, h, low:high], four)
                                gru(one, two, three, four, final[n, 0, h, low:high], y)
                            elif cell == LSTM:
                                lstm(one, two, three, four, y, final[n, 1, h, low:high])
                            else:
                                c, q, m = final[n, 1, h, low:high], final[n, 2, h, low:high], final[n, 3, h, low:high]
                                slstm(one, two, three, four, y, c, q, m, floor, limit, spare)
                            if gates.size:
                                copy(one, gates[t, 0, h, low:high])
                                copy(two, gates[t, 1, h, low:high])
                                copy(three, gates[t, 2, h, low:high])
                                copy(four, gates[t, 3, h, low:high])
                        copy(y, final[n, 0, h, low:high])
                        for k in range(states.shape[1]):
                            copy(final[n, k, h, low:high], states[t, k, h, low:high])
            y_now, y_next = y_next, y_now
