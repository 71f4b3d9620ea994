"""The gradients of the recurrent weights and of the gates' biases in numba: sums over all tokens.

Tokens are collected until there are enough for a matrix product; added one by one, they would read and write the whole
gradient each time.
"""

from visionseq.kernels.compiled import compiled, inlined
from visionseq.kernels.recurrent_cell.product import LANES, add_outer
from visionseq.kernels.recurrent_cell.rows import add

COLLECTED = 128  # tokens


@inlined
def collect(count, y, panels):
    """Put y of token `count` into panels [E / LANES, COLLECTED, LANES]."""
    for p in range(panels.shape[0]):
        low, high = p * LANES, min((p + 1) * LANES, y.shape[0])
        part, vector = y[low:high], panels[p, count]
        for lane in range(high - low):
            vector[lane] = part[lane]


@compiled
def add_collected(count, d_gates, y_panels, dR, db):
    """dR = sum of d_gates y_{t-1}^T and db = sum of d_gates, over tokens: add those collected, `count` of them."""
    if count == 0:
        return
    add_outer(dR, d_gates, y_panels, count)
    for row in range(count):
        add(db, d_gates[row, : db.shape[0]], db)
