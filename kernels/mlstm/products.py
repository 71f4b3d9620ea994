"""Small matrices inside numba kernels: rows of a head in scratch memory, and products near the speed of a BLAS.

The inner loop runs over the columns of two rows of the result and takes four rows of `b` at once: what limits it is
loads and stores, and so each loaded value takes part in two multiplications and each sum is stored once for four.
"""

import numba

from visionseq.kernels.compiled import FASTMATH

helper = numba.njit(nogil=True, cache=True, fastmath=FASTMATH, error_model="numpy")


@helper
def add_product(out, a, b, rows, columns, depth):
    """out[:rows, :columns] += a[:rows, :depth] @ b[:depth, :columns]; the rows of `out` and `b` are contiguous."""
    for i in range(0, rows - 1, 2):
        out_0, out_1 = out[i, :columns], out[i + 1, :columns]
        for d in range(0, depth - 3, 4):
            x0, x1, x2, x3 = a[i, d], a[i, d + 1], a[i, d + 2], a[i, d + 3]
            y0, y1, y2, y3 = a[i + 1, d], a[i + 1, d + 1], a[i + 1, d + 2], a[i + 1, d + 3]
            b_0, b_1, b_2, b_3 = b[d, :columns], b[d + 1, :columns], b[d + 2, :columns], b[d + 3, :columns]
            for j in range(columns):
                u0, u1, u2, u3 = b_0[j], b_1[j], b_2[j], b_3[j]
                out_0[j] += x0 * u0 + x1 * u1 + x2 * u2 + x3 * u3
                out_1[j] += y0 * u0 + y1 * u1 + y2 * u2 + y3 * u3
        for d in range(depth - depth % 4, depth):
            x0, y0, b_0 = a[i, d], a[i + 1, d], b[d, :columns]
            for j in range(columns):
                out_0[j] += x0 * b_0[j]
                out_1[j] += y0 * b_0[j]
    if rows % 2:
        out_0 = out[rows - 1, :columns]
        for d in range(depth):
            x0, b_0 = a[rows - 1, d], b[d, :columns]
            for j in range(columns):
                out_0[j] += x0 * b_0[j]


@helper
def set_product(out, a, b, rows, columns, depth):
    """out[:rows, :columns] = a[:rows, :depth] @ b[:depth, :columns]."""
    fill(out, rows, columns, 0)
    add_product(out, a, b, rows, columns, depth)


@helper
def fill(out, rows, columns, value):
    for i in range(rows):
        row = out[i, :columns]
        for j in range(columns):
            row[j] = value


@helper
def transpose(out, a, rows, columns):
    """out[:columns, :rows] = a[:rows, :columns]^T."""
    for i in range(rows):
        row = a[i, :columns]
        for j in range(columns):
            out[j, i] = row[j]


@helper
def scale_row(row, factor):
    for j in range(len(row)):
        row[j] *= factor


@helper
def add_row(out, factor, row):
    """out += factor * row."""
    for j in range(len(row)):
        out[j] += factor * row[j]


@helper
def dot(a, b):
    total = a[0] * b[0] if len(a) else a.dtype.type(0)
    for j in range(1, len(a)):
        total += a[j] * b[j]
    return total


@helper
def load_rows(out, source, head, t0, step, count, scale):
    """out[r] = scale * source[t0 + r * step, head], of [M, H, D]; step is -1 where time is reversed."""
    for r in range(count):
        row, source_row = out[r], source[t0 + r * step, head]
        for j in range(len(source_row)):
            row[j] = scale * source_row[j]


@helper
def store_rows(target, head, t0, step, count, rows, scale):
    """target[t0 + r * step, head] = scale * rows[r]."""
    for r in range(count):
        target_row, row = target[t0 + r * step, head], rows[r]
        for j in range(len(target_row)):
            target_row[j] = scale * row[j]
