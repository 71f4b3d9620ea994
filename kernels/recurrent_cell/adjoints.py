"""One token of each cell in numba, backward: from the gradient of y to those of the gates, one array written per loop.

dy is complete, d_y carries what reaches y_{t-1} past the recurrent weights, d_c, d_n, d_m carry the gradients of the
states in and out. The kept gates are those that `cells` has left.
"""

import numpy as np

from visionseq.kernels.compiled import inlined
from visionseq.kernels.exponential import exp, sigmoid, softplus, tanh
from visionseq.kernels.recurrent_cell.rows import fill

ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)


@inlined
def elman_backward(dy, y, d_g, d_y):
    for u in range(dy.shape[0]):
        d_g[u] = dy[u] * (ONE - y[u] * y[u])
    fill(d_y, ZERO)


@inlined
def lstm_backward(dy, i, f, z, o, c_before, c, d_i, d_f, d_z, d_o, d_y, d_c):
    size = dy.shape[0]
    for u in range(size):
        d_o[u] = tanh(c[u])
    for u in range(size):
        d_c[u] += dy[u] * o[u] * (ONE - d_o[u] * d_o[u])
    for u in range(size):
        d_o[u] *= dy[u] * o[u] * (ONE - o[u])
    for u in range(size):
        d_i[u] = d_c[u] * z[u] * i[u] * (ONE - i[u])
    for u in range(size):
        d_f[u] = d_c[u] * c_before[u] * f[u] * (ONE - f[u])
    for u in range(size):
        d_z[u] = d_c[u] * i[u] * (ONE - z[u] * z[u])
    for u in range(size):
        d_c[u] *= f[u]
    fill(d_y, ZERO)


@inlined
def gru_backward(dy, g, r, z, n, y_before, d_g, d_r, d_z, d_n, d_y):
    size = dy.shape[0]
    for u in range(size):
        d_z[u] = dy[u] * (y_before[u] - n[u]) * z[u] * (ONE - z[u])
    for u in range(size):
        d_n[u] = dy[u] * (ONE - z[u]) * (ONE - n[u] * n[u])
    for u in range(size):
        d_g[u] = d_n[u] * r[u]
    for u in range(size):
        d_r[u] = d_n[u] * g[u] * r[u] * (ONE - r[u])
    for u in range(size):
        d_y[u] = dy[u] * z[u]


@inlined
def slstm_backward(dy, i, f, z, o, before, y, now, h, d_i, d_f, d_z, d_o, carry, limits, work):
    """With s = m_{t-1} + logsig(f): I = exp(i - m), F = exp(s - m); limits: of n, of the exponent of F.

    `before` and `now` hold c, n, m; `work` [4, units] is used up.
    """
    size, (floor, limit) = dy.shape[0], limits
    c_before, n_before, m_before = before[0, h], before[1, h], before[2, h]
    c, n, m = now[0, h], now[1, h], now[2, h]
    d_y, d_c, d_n, d_m = carry[0, h], carry[1, h], carry[2, h], carry[3, h]
    s, forget, d_input, d_forget = work[0], work[1], work[2], work[3]  # the last two: of the exponents of I and F

    # s and F again
    for u in range(size):
        s[u] = m_before[u] - softplus(-f[u])
    for u in range(size):
        forget[u] = exp(min(s[u] - m[u], limit))

    # y = o c / n
    for u in range(size):
        d_o[u] = dy[u] * c[u] / n[u] * o[u] * (ONE - o[u])
    for u in range(size):
        d_c[u] += dy[u] * o[u] / n[u]
    for u in range(size):
        d_n[u] -= dy[u] * y[u] / n[u]
    for u in range(size):  # no gradient passes where the floor holds n up
        d_n[u] = d_n[u] if forget[u] * n_before[u] + exp(i[u] - m[u]) >= floor else ZERO

    # c = F c + I z and n = F n + I
    for u in range(size):
        d_input[u] = (d_c[u] * z[u] + d_n[u]) * exp(i[u] - m[u])
    for u in range(size):
        d_forget[u] = (d_c[u] * c_before[u] + d_n[u] * n_before[u]) * forget[u]
    for u in range(size):
        d_forget[u] = d_forget[u] if s[u] - m[u] <= limit else ZERO
    for u in range(size):
        d_z[u] = d_c[u] * exp(i[u] - m[u]) * (ONE - z[u] * z[u])
    for u in range(size):
        d_c[u] *= forget[u]
    for u in range(size):
        d_n[u] *= forget[u]

    # m = max(i, s)
    for u in range(size):
        d_m[u] -= d_input[u] + d_forget[u]
    for u in range(size):  # the share of m that is i's: the larger takes the gradient, equal ones take half of it each
        share = HALF if i[u] == s[u] else ONE if i[u] > s[u] else ZERO
        forget[u] = ONE if n_before[u] == ZERO else share
    for u in range(size):
        d_i[u] = d_input[u] + forget[u] * d_m[u]
    for u in range(size):
        d_m[u] = d_forget[u] + (ONE - forget[u]) * d_m[u]
    for u in range(size):
        d_f[u] = d_m[u] * sigmoid(-f[u])
    fill(d_y, ZERO)
