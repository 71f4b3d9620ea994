"""One token of each cell in numba, forward: gates of one sequence and one block of units, one array written per loop.

`gates` [LANES] holds the sums x + R y + b, a gate after the other at distances of `width`; what the backward needs of
them is left in their place. `n` is the bias of gru alone. The states c, n, m are replaced, y goes where it is told.
"""

import numpy as np

from visionseq.kernels.compiled import inlined
from visionseq.kernels.exponential import exp, sigmoid, softplus, tanh

ZERO, ONE = np.float32(0), np.float32(1)


@inlined
def elman(g, y):
    for u in range(y.shape[0]):
        y[u] = tanh(g[u])


@inlined
def lstm(i, f, z, o, y, c):
    size = y.shape[0]
    for u in range(size):
        i[u] = sigmoid(i[u])
    for u in range(size):
        f[u] = sigmoid(f[u])
    for u in range(size):
        z[u] = tanh(z[u])
    for u in range(size):
        o[u] = sigmoid(o[u])
    for u in range(size):
        c[u] = f[u] * c[u] + i[u] * z[u]
    for u in range(size):
        y[u] = o[u] * tanh(c[u])


@inlined
def gru(g, r, z, n, y_before, y):
    """n holds x_n + b_n."""
    size = y.shape[0]
    for u in range(size):
        r[u] = sigmoid(r[u])
    for u in range(size):
        z[u] = sigmoid(z[u])
    for u in range(size):
        n[u] = tanh(n[u] + r[u] * g[u])
    for u in range(size):
        y[u] = z[u] * y_before[u] + (ONE - z[u]) * n[u]


@inlined
def slstm(i, f, z, o, y, c, n, m, limits, forget):
    """limits: of n and of the exponent of F; `forget` [width] is used up."""
    size, (floor, largest_exponent) = y.shape[0], limits
    for u in range(size):
        z[u] = tanh(z[u])
    for u in range(size):
        o[u] = sigmoid(o[u])
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
