"""Matrix products in numba for a few rows at a time, at the speed of a BLAS and with the same bits on any thread.

The matrix lies in tiles of 8 rows and 256 columns. A tile stays in the L1 cache while all rows of `out` take their part
of it, two at a time; its 8 rows have one base address and constant distances, so that the loop over columns, which
reads 8 arrays and writes 2, is vectorised with a single check for overlap. That check is made once for all rows: those
written together have to come from separate halves.
"""

import numpy as np
import torch
from torch import Tensor

from visionseq.kernels.compiled import compiled
from visionseq.kernels.recurrent_cell.prefetch import LINE, prefetch

LANES = 256  # columns of a tile
DEPTH = 8  # rows of a tile
VECTOR = 16  # columns are computed in multiples of it
OUTER = 16  # rows of each half in an outer product

R1, R2, R3, R4, R5, R6, R7 = (np.uint64(k * LANES) for k in range(1, DEPTH))


def round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def tiled(matrix_HKJ: Tensor) -> Tensor:
    """[H, K, J], J <= LANES -> tiles [H, ceil(K / DEPTH), DEPTH * LANES], filled up with zeros."""
    heads, depth, columns = matrix_HKJ.shape
    tiles = torch.zeros(heads, round_up(depth, DEPTH), LANES)
    tiles[:, :depth, :columns] = matrix_HKJ
    return tiles.view(heads, -1, DEPTH * LANES)


@compiled
def add_product(out, factors, tiles, rows, columns):
    """out[s, i, j] += sum_k factors[s, i, k] matrix[k, j] for both s, i < rows and j < columns."""
    ahead = DEPTH * LANES // LINE // rows if columns > LANES // 2 else 0  # lines of the next tile to fetch for each row
    for depth in range(tiles.shape[0]):
        k, tile, next_tile = depth * DEPTH, tiles[depth], tiles[min(depth + 1, tiles.shape[0] - 1)]
        for i in range(rows):
            for line in range(i * ahead, (i + 1) * ahead):
                prefetch(next_tile, line * LINE)
            a, b, out_a, out_b = factors[0, i], factors[1, i], out[0, i], out[1, i]
            a0, a1, a2, a3, a4, a5, a6, a7 = a[k], a[k + 1], a[k + 2], a[k + 3], a[k + 4], a[k + 5], a[k + 6], a[k + 7]
            b0, b1, b2, b3, b4, b5, b6, b7 = b[k], b[k + 1], b[k + 2], b[k + 3], b[k + 4], b[k + 5], b[k + 6], b[k + 7]
            for j in range(np.uint64(columns)):  # unsigned, or every element would be tested for a negative index
                r0, r1, r2, r3 = tile[j], tile[j + R1], tile[j + R2], tile[j + R3]
                r4, r5, r6, r7 = tile[j + R4], tile[j + R5], tile[j + R6], tile[j + R7]
                out_a[j] += a0 * r0 + a1 * r1 + a2 * r2 + a3 * r3 + a4 * r4 + a5 * r5 + a6 * r6 + a7 * r7
                out_b[j] += b0 * r0 + b1 * r1 + b2 * r2 + b3 * r3 + b4 * r4 + b5 * r5 + b6 * r6 + b7 * r7


@compiled
def add_outer(out, factors, left, tiles, columns):
    """out[s, i, j] += sum_k factors[k, left + s * OUTER + i] matrix[k, j] for both s, i < OUTER and j < columns."""
    right = left + 2 * OUTER
    for depth in range(tiles.shape[0]):
        k, tile = depth * DEPTH, tiles[depth]
        f0, f1, f2, f3 = (
            factors[k, left:right],
            factors[k + 1, left:right],
            factors[k + 2, left:right],
            factors[k + 3, left:right],
        )
        f4, f5, f6, f7 = (
            factors[k + 4, left:right],
            factors[k + 5, left:right],
            factors[k + 6, left:right],
            factors[k + 7, left:right],
        )
        for i in range(OUTER):
            a0, a1, a2, a3, a4, a5, a6, a7 = f0[i], f1[i], f2[i], f3[i], f4[i], f5[i], f6[i], f7[i]
            other = i + OUTER
            b0, b1, b2, b3 = f0[other], f1[other], f2[other], f3[other]
            b4, b5, b6, b7 = f4[other], f5[other], f6[other], f7[other]
            out_a, out_b = out[0, i], out[1, i]
            for j in range(np.uint64(columns)):
                r0, r1, r2, r3 = tile[j], tile[j + R1], tile[j + R2], tile[j + R3]
                r4, r5, r6, r7 = tile[j + R4], tile[j + R5], tile[j + R6], tile[j + R7]
                out_a[j] += a0 * r0 + a1 * r1 + a2 * r2 + a3 * r3 + a4 * r4 + a5 * r5 + a6 * r6 + a7 * r7
                out_b[j] += b0 * r0 + b1 * r1 + b2 * r2 + b3 * r3 + b4 * r4 + b5 * r5 + b6 * r6 + b7 * r7
