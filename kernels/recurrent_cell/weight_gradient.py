"""The gradients of the recurrent weights and of the gates' biases in numba: sums over all tokens.

Tokens are collected until there are enough for a matrix product; added one by one, they would read and write the whole
gradient each time. It is transposed, as the gates of a token are the longer row: dR^T = sum of y_{t-1} d_gates^T.
"""

import numpy as np

from visionseq.kernels.compiled import compiled, inlined
from visionseq.kernels.recurrent_cell.product import (
    DEPTH,
    LANES,
    OUTER,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    VECTOR,
    add_outer,
)
from visionseq.kernels.recurrent_cell.rows import ZERO, add, copy

COLLECTED = 128  # tokens, a multiple of DEPTH


@inlined
def collect(count, y, d_gates, factors, tiles):
    """Token `count` of those collected: its y in factors [COLLECTED, D], its gates in tiles [blocks, ., .]."""
    copy(y, factors[count, : y.shape[0]])
    k, place = count // DEPTH, count % DEPTH * LANES
    for block in range(tiles.shape[0]):
        low, high = block * LANES, min((block + 1) * LANES, d_gates.shape[0])
        copy(d_gates[low:high], tiles[block, k, place : place + high - low])


@compiled
def add_collected(count, factors, tiles, sums, dR, db):
    """Add what was collected to dR [D, K] and db [K]; sums [2, OUTER, LANES] is used up."""
    if count == 0:
        return
    depth, units, gates = (count + DEPTH - 1) // DEPTH, dR.shape[0], dR.shape[1]
    for row in range(count, depth * DEPTH):  # what is behind the last token in the last tile must not count
        factors[row] = ZERO
        for block in range(tiles.shape[0]):
            tiles[block, depth - 1, row % DEPTH * LANES : (row % DEPTH + 1) * LANES] = ZERO
    for block in range(tiles.shape[0]):
        low, high = block * LANES, min((block + 1) * LANES, gates)
        for left in range(0, units, 2 * OUTER):
            sums[:] = ZERO
            add_outer(sums, factors, left, tiles[block, :depth], (high - low + VECTOR - 1) // VECTOR * VECTOR)
            for i in range(min(2 * OUTER, units - left)):
                total = dR[left + i, low:high]
                add(total, sums[i // OUTER, i % OUTER, : high - low], total)
        total = db[low:high]
        for k in range(depth):
            tile = tiles[block, k]
            for j in range(np.uint64(high - low)):
                one, other = tile[j] + tile[j + R1] + tile[j + R2] + tile[j + R3], tile[j + R4] + tile[j + R5]
                total[j] += one + (other + tile[j + R6] + tile[j + R7])
