"""Blocks of CHUNK tokens of one head, every vector padded with zeros to whole tiles, and the states of one head.

All vectors of a token lie side by side in one row of the block, and a row is an odd number of cache lines long: arrays
of their own, each a power of two apart, would evict one another from the L1 cache. Loops in place of slice assignments:
numba compiles them three times faster.
"""

import numpy as np

from visionseq.kernels.compiled import inlined
from visionseq.kernels.tile_product import LANES

CHUNK = 32
ONE = np.float32(1)


@inlined
def whole(size):
    """The size rounded up to whole tiles."""
    return (size + LANES - 1) // LANES * LANES


@inlined
def new_block(width):
    """Room for CHUNK tokens and one more row, for the decay after the last."""
    lines = width // LANES
    return np.zeros((CHUNK + 1, (lines + 1 - lines % 2) * LANES), np.float32)


@inlined
def clear(block, column, width, count):
    for i in range(count):
        row = block[i, column : column + width]
        for j in range(width):
            row[j] = np.float32(0)


@inlined
def read(source, h, t, step, count, factor, block, column):
    """Columns of row i of the block = factor * source[t + i * step, h]."""
    for i in range(count):
        row = source[t + i * step, h]
        into = block[i, column : column + row.shape[0]]
        for j in range(row.shape[0]):
            into[j] = factor * row[j]


@inlined
def read_decay(decay, h, t, step, count, keys, block, column):
    """The same for decays [M or 1, H, K or 1]."""
    for i in range(count):
        row, into = decay[t + i * step if decay.shape[0] > 1 else 0, h], block[i, column : column + keys]
        if row.shape[0] == keys:
            for j in range(keys):
                into[j] = row[j]
        else:
            for j in range(keys):
                into[j] = row[0]


@inlined
def write(block, column, h, t, step, count, accumulate, target):
    """target[t + i * step, h] = the columns of row i of the block, or += them."""
    for i in range(count):
        into = target[t + i * step, h]
        row = block[i, column : column + into.shape[0]]
        if accumulate:
            for j in range(into.shape[0]):
                into[j] += row[j]
        else:
            for j in range(into.shape[0]):
                into[j] = row[j]


@inlined
def load_state(states, n, h, transposed, state):
    """state = states[n, h], transposed or not; zero where there are no states."""
    for i in range(state.shape[0]):
        for j in range(state.shape[1]):
            state[i, j] = np.float32(0)
    if states.size:
        source = states[n, h]
        for i in range(source.shape[0]):
            for j in range(source.shape[1]):
                if transposed:
                    state[j, i] = source[i, j]
                else:
                    state[i, j] = source[i, j]


@inlined
def store_state(state, n, h, states):
    if states.size:
        into = states[n, h]
        for i in range(into.shape[0]):
            for j in range(into.shape[1]):
                into[i, j] = state[i, j]


@inlined
def copy(source, target):
    for i in range(source.shape[0]):
        row, into = source[i], target[i]
        for j in range(row.shape[0]):
            into[j] = row[j]


@inlined
def scale_rows(factors, state):
    for i in range(factors.shape[0]):
        row = state[i]
        for j in range(row.shape[0]):
            row[j] *= factors[i]


@inlined
def dot(a, b):
    total = np.float32(0)
    for j in range(a.shape[0]):
        total += a[j] * b[j]
    return total


@inlined
def dot_of_three(a, b, c):
    total = np.float32(0)
    for j in range(a.shape[0]):
        total += a[j] * b[j] * c[j]
    return total


@inlined
def add_scaled(factor, a, into):
    for j in range(a.shape[0]):
        into[j] += factor * a[j]


@inlined
def add_scaled_product(factor, a, b, into):
    for j in range(a.shape[0]):
        into[j] += factor * a[j] * b[j]
