"""Small matrices inside numba kernels: rows of a head in scratch memory, and their products by tiles in registers.

Scratch matrices have whole tiles in both directions. What lies beyond the sizes that a call names may be anything: it
is computed along and never read as part of a sum.
"""

import numpy as np

from visionseq.kernels.compiled import compiled
from visionseq.kernels.tile_product import (
    LANES,
    ROWS,
    tile_of_product,
    tile_of_transposed_product,
)


@compiled
def whole(size):
    """The size rounded up to whole tiles."""
    return (size + LANES - 1) // LANES * LANES


@compiled
def matrix(rows, columns):
    """Zeros in whole tiles; a row is an odd number of tiles wide, or many rows would share few sets of the cache.

    One at a time: what is unpacked from a larger array counts as strided, and its loops stay scalar.
    """
    return np.zeros((whole(rows), whole(columns) | LANES), np.float32)


@compiled
def row_of(size):
    return np.zeros(whole(size), np.float32)


@compiled
def add_product(out, a, b, rows, columns, depth):
    """out[:rows, :columns] += a[:rows, :depth] @ b[:depth, :columns]."""
    for j in range(0, columns, LANES):
        for i in range(0, rows, ROWS):
            tile_of_product(out, a, b, i, j, i, 0, 0, j, depth)


@compiled
def add_transposed_product(out, a, b, rows, columns, depth):
    """out[:rows, :columns] += a[:depth, :rows]^T @ b[:depth, :columns]."""
    for j in range(0, columns, LANES):
        for i in range(0, rows, ROWS):
            tile_of_transposed_product(out, a, b, i, j, 0, i, 0, j, depth)


@compiled
def set_product(out, a, b, rows, columns, depth):
    """out[:rows, :columns] = a[:rows, :depth] @ b[:depth, :columns]."""
    clear(out, rows)
    add_product(out, a, b, rows, columns, depth)


@compiled
def clear(out, rows):
    for i in range(whole(rows)):
        row = out[i]
        for j in range(len(row)):
            row[j] = np.float32(0)


@compiled
def transpose(out, a, rows, columns):
    """out[:columns, :rows] = a[:rows, :columns]^T."""
    for i in range(rows):
        row = a[i, :columns]
        for j in range(columns):
            out[j, i] = row[j]


@compiled
def copy(out, a, rows, columns):
    for i in range(rows):
        row, source = out[i, :columns], a[i, :columns]
        for j in range(columns):
            row[j] = source[j]


@compiled
def scale(a, factor, rows):
    for i in range(rows):
        scale_row(a[i], factor)


@compiled
def scale_row(row, factor):
    for j in range(len(row)):
        row[j] *= factor


@compiled
def add_row(out, factor, row):
    """out += factor * row[: len(out)]."""
    for j in range(len(out)):
        out[j] += factor * row[j]


@compiled
def dot(a, b, count):
    """The product of the first `count` elements."""
    total = np.float32(0)
    for j in range(count):
        total += a[j] * b[j]
    return total


@compiled
def load_rows(out, source, head, t0, step, count, factor):
    """out[r] = factor * source[t0 + r * step, head], of [M, H, D]; step is -1 where time is reversed."""
    for r in range(count):
        row, source_row = out[r], source[t0 + r * step, head]
        for j in range(len(source_row)):
            row[j] = factor * source_row[j]


@compiled
def store_rows(target, head, t0, step, count, rows, factor):
    """target[t0 + r * step, head] = factor * rows[r]."""
    for r in range(count):
        target_row, row = target[t0 + r * step, head], rows[r]
        for j in range(len(target_row)):
            target_row[j] = factor * row[j]
