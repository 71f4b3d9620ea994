"""A chunk of the mLSTM inside numba kernels: its rows in scratch memory, its gates, the weights between its rows.

Row r of a chunk is token t0 + r * step, with step -1 where time is reversed. The weight with which row r sees what row
s wrote is the product of the forget gates between them and the input gate of s, built row by row: no differences of
cumulative sums, which lose digits, and no exponentials but those of the gates.
"""

import numpy as np

from visionseq.kernels.compiled import compiled, exact
from visionseq.kernels.exponential import exp, softplus
from visionseq.kernels.mlstm.reference import MAX_FLOOR

CHUNK = 32  # rows
ZERO, ONE, MINUS_INFINITY = np.float32(0), np.float32(1), np.float32(-np.inf)
HIGHEST = np.float32(MAX_FLOOR)


@exact
def load_gates(forget, write, m_rows, i, f, head, t0, step, count, m):
    """The gates F and I and the stabiliser m of each row; the m that the chunk leaves."""
    for r in range(count):
        t = t0 + r * step
        log_f, before = -softplus(-f[t, head]), m
        m = max(log_f + before, i[t, head])
        shift = m if m > MINUS_INFINITY else ZERO
        forget[r] = exp(log_f + (before - shift))  # the difference is exact where the rounded sum was not
        write[r], m_rows[r] = exp(i[t, head] - shift), m
    return m


@compiled
def set_weights(weights, read, forget, write, count):
    """weights[r, s], zero for s > r, and read[r], the decay of the memory from before the chunk to row r."""
    decay = ONE
    for r in range(count):
        row, gate = weights[r, :count], forget[r]
        for s in range(count):
            row[s] = ZERO
        if r:
            before = weights[r - 1, :r]
            for s in range(r):
                row[s] = gate * before[s]
        row[r] = write[r]
        decay *= gate
        read[r] = decay


@compiled
def last_weights(last, forget, write, count):
    """The last row of the weights alone; the decay over the chunk."""
    decay = ONE
    for r in range(count - 1, -1, -1):
        last[r] = write[r] * decay
        decay *= forget[r]
    return decay


@compiled
def weigh(scores, weights, count):
    for r in range(count):
        row, weight = scores[r, :count], weights[r, :count]
        for s in range(count):
            row[s] *= weight[s]
