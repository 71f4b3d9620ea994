"""The gradient of the recurrent weights in numba: dR = sum over all tokens of d_gates y_{t-1}^T.

Tokens are collected until there are enough for a matrix product; added one by one, they would read and write the
whole gradient each time.
"""

from visionseq.kernels.compiled import inlined
from visionseq.kernels.recurrent_cell.product import DEPTH, LANES, OUTER, VECTOR, add_outer, subroutine
from visionseq.kernels.recurrent_cell.rows import ZERO, add, copy

COLLECTED = 128  # tokens, a multiple of DEPTH


@inlined
def collect(count, d_gates, y, factors, tiles):
    """Token `count` of those collected: its factors [COLLECTED, K] and its row of the tiles [blocks, ., .]."""
    copy(d_gates, factors[count, : d_gates.shape[0]])
    k, place = count // DEPTH, count % DEPTH * LANES
    for block in range(tiles.shape[0]):
        low, high = block * LANES, min((block + 1) * LANES, y.shape[0])
        copy(y[low:high], tiles[block, k, place : place + high - low])


@subroutine
def add_collected(count, factors, tiles, sums, dR):
    """Add what was collected to dR [K, D]; sums [2, OUTER, LANES] is used up."""
    if count == 0:
        return
    depth, units = (count + DEPTH - 1) // DEPTH, dR.shape[1]
    factors[count : depth * DEPTH] = ZERO  # what is behind the last token in the last tile must not count
    for block in range(tiles.shape[0]):
        low, high = block * LANES, min((block + 1) * LANES, units)
        for row in range(count, depth * DEPTH):
            tiles[block, depth - 1, row % DEPTH * LANES : (row % DEPTH + 1) * LANES] = ZERO
        for left in range(0, dR.shape[0], 2 * OUTER):
            sums[:] = ZERO
            add_outer(sums, factors, left, tiles[block, :depth], (high - low + VECTOR - 1) // VECTOR * VECTOR)
            for i in range(min(2 * OUTER, dR.shape[0] - left)):
                total = dR[left + i, low:high]
                add(total, sums[i // OUTER, i % OUTER, : high - low], total)
