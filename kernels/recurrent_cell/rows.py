"""What the loops over time share: the cells' numbers, where a sequence's tokens are, and small loops over units."""

import numpy as np

from visionseq.kernels.compiled import inlined
from visionseq.kernels.recurrent_cell.layout import NUMBERS

ROWS = 16  # sequences that go through time together
ELMAN, LSTM, GRU = NUMBERS["elman"], NUMBERS["lstm"], NUMBERS["gru"]
ZERO = np.float32(0)


@inlined
def length_of(offsets, n):
    return offsets[n + 1] - offsets[n]


@inlined
def token(offsets, n, step, reverse):
    return offsets[n + 1] - 1 - step if reverse else offsets[n] + step


@inlined
def copy(source, target):
    for u in range(target.shape[0]):
        target[u] = source[u]


@inlined
def add(one, other, target):
    for u in range(target.shape[0]):
        target[u] = one[u] + other[u]


@inlined
def fill(target, value):
    for u in range(target.shape[0]):
        target[u] = value
