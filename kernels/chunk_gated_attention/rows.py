"""Rows of a chunk inside numba kernels: their softmax, and the two readings of their gates."""

import numpy as np

from visionseq.kernels.compiled import compiled
from visionseq.kernels.exponential import exp
from visionseq.kernels.small_matrices import scale_row

ROWS = 32  # taken against all keys of their chunk at once
LANES = 16  # maxima taken side by side
ZERO, ONE, MINUS_INFINITY = np.float32(0), np.float32(1), np.float32(-np.inf)


@compiled
def softmax(scores, inverse, rows, columns):
    """e^(score - max of the row) in place of the scores; one over the sums of the rows."""
    highest = np.empty(LANES, np.float32)
    for r in range(rows):
        row = scores[r, :columns]
        highest[:] = MINUS_INFINITY
        for start in range(0, columns - LANES + 1, LANES):
            part = row[start : start + LANES]
            for j in range(LANES):
                highest[j] = part[j] if part[j] > highest[j] else highest[j]
        most = MINUS_INFINITY
        for j in range(LANES):
            most = max(most, highest[j])
        for j in range(columns - columns % LANES, columns):
            most = max(most, row[j])
        total = ZERO
        for j in range(columns):
            row[j] = exp(row[j] - most)
            total += row[j]
        inverse[r] = ONE / total


@compiled
def normalised_softmax(scores, inverse, rows, columns):
    softmax(scores, inverse, rows, columns)
    for r in range(rows):
        scale_row(scores[r, :columns], inverse[r])


@compiled
def load_decays(damping, g, head, t0, step, count):
    """exp of the running sums of the log gates g [M, H], row by row; the decay of the memory, exp of their mean."""
    total = ZERO
    for r in range(count):
        total += g[t0 + r * step, head]
        damping[r] = exp(total)
    return exp(total / np.float32(count))
