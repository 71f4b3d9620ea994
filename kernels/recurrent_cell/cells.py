"""One token of each cell in numba, forward: gates of one sequence and one block of units, one array written per loop.

`Ry`, `x` and `b` hold an array for each gate; `gates` are written, and hold what the backward needs. None of them may
overlap. The states c, n, m are replaced.
"""

import numpy as np

from visionseq.kernels.compiled import inlined
from visionseq.kernels.exponential import exp, sigmoid, softplus, tanh

ZERO, ONE = np.float32(0), np.float32(1)


@inlined
def elman(Ry, x, b, y):
    for u in range(y.shape[0]):
        y[u] = tanh(Ry[u] + x[u] + b[u])


@inlined
def lstm(Ry, x, b, gates, y, c):
    size = y.shape[0]
    (Ry_i, Ry_f, Ry_z, Ry_o), (x_i, x_f, x_z, x_o), (b_i, b_f, b_z, b_o), (i, f, z, o) = Ry, x, b, gates
    for u in range(size):
        i[u] = sigmoid(Ry_i[u] + x_i[u] + b_i[u])
    for u in range(size):
        f[u] = sigmoid(Ry_f[u] + x_f[u] + b_f[u])
    for u in range(size):
        z[u] = tanh(Ry_z[u] + x_z[u] + b_z[u])
    for u in range(size):
        o[u] = sigmoid(Ry_o[u] + x_o[u] + b_o[u])
    for u in range(size):
        c[u] = f[u] * c[u] + i[u] * z[u]
    for u in range(size):
        y[u] = o[u] * tanh(c[u])


@inlined
def gru(Ry, x, b, gates, y_before, y):
    size = y.shape[0]
    (Ry_g, Ry_r, Ry_z), (x_r, x_z, x_n), (b_g, b_r, b_z, b_n), (g, r, z, n) = Ry, x, b, gates
    for u in range(size):
        g[u] = Ry_g[u] + b_g[u]
    for u in range(size):
        r[u] = sigmoid(Ry_r[u] + x_r[u] + b_r[u])
    for u in range(size):
        z[u] = sigmoid(Ry_z[u] + x_z[u] + b_z[u])
    for u in range(size):
        n[u] = tanh(x_n[u] + b_n[u] + r[u] * g[u])
    for u in range(size):
        y[u] = z[u] * y_before[u] + (ONE - z[u]) * n[u]


@inlined
def slstm(Ry, x, b, gates, y, c, n, m, limits, forget):
    """limits: of n and of the exponent of F; `forget` [width] is used up."""
    size, (floor, largest_exponent) = y.shape[0], limits
    (Ry_i, Ry_f, Ry_z, Ry_o), (x_i, x_f, x_z, x_o), (b_i, b_f, b_z, b_o), (i, f, z, o) = Ry, x, b, gates
    for u in range(size):
        i[u] = Ry_i[u] + x_i[u] + b_i[u]
    for u in range(size):
        f[u] = Ry_f[u] + x_f[u] + b_f[u]
    for u in range(size):
        z[u] = tanh(Ry_z[u] + x_z[u] + b_z[u])
    for u in range(size):
        o[u] = sigmoid(Ry_o[u] + x_o[u] + b_o[u])
    for u in range(size):
        forget[u] = m[u] - softplus(-f[u])
    for u in range(size):
        m[u] = i[u] if n[u] == ZERO or i[u] > forget[u] else forget[u]
    for u in range(size):
        forget[u] = exp(min(forget[u] - m[u], largest_exponent))
    for u in range(size):
        c[u] = forget[u] * c[u] + exp(i[u] - m[u]) * z[u]
    for u in range(size):
        n[u] = max(forget[u] * n[u] + exp(i[u] - m[u]), floor)
    for u in range(size):
        y[u] = o[u] * c[u] / n[u]
