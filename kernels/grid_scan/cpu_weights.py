"""The four directions on the CPU as one weight between every two nodes: y = scale ((G + direct) * (q k^T)) v.

In place of K x V states, every edge carries a vector over the N = X Y nodes that wrote to it: entry j is the factor
with which k_j v_j^T has arrived. What a node reads of these vectors is its row of G. Since G knows nothing of channels,
the four directions share two products of matrices; the kernels make and use the G of one head at a time.

Shapes: n = batches and heads, R = 4 directions, gates [n, R, N, 8] in the order of `grid_scan`.
"""

import numpy as np
import torch
from torch import Tensor

from visionseq.kernels.compiled import compiled, inlined
from visionseq.kernels.grid_scan.cpu_order import gates_of, line_x, step_y
from visionseq.kernels.grid_scan.layout import heads_together
from visionseq.kernels.hand_over import array, optional_array
from visionseq.kernels.threads import spread

GROUP = 1 << 19  # elements of the N x N matrices of the heads worked on together, so that they stay in the cache


def forward(
    q_nNK: Tensor, k_nNK: Tensor, v_nNV: Tensor, gates: Tensor, direct_nN: Tensor | None, size: tuple[int, int]
) -> Tensor:
    """y [n, N, V]; q is scaled, `size` is (X, Y)."""
    y_nNV = torch.empty_like(v_nNV)
    for heads in heads_together(*q_nNK.shape[:2], elements=GROUP):
        weights = torch.bmm(q_nNK[heads], k_nNK[heads].mT)
        direct = optional_array(None if direct_nN is None else direct_nN[heads], 2)
        spread(_weigh, len(weights), array(gates[heads]), direct, *size, array(weights))
        torch.bmm(weights, v_nNV[heads], out=y_nNV[heads])
    return y_nNV


def backward(
    d_y: Tensor,
    q_nNK: Tensor,
    k_nNK: Tensor,
    v_nNV: Tensor,
    gates: Tensor,
    direct_nN: Tensor | None,
    size: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the scaled q, k, v, the gates and direct; G is computed once more."""
    d_q, d_k, d_v, d_gates = map(torch.empty_like, (q_nNK, k_nNK, v_nNV, gates))
    d_direct = torch.empty(q_nNK.shape[:2])
    for heads in heads_together(*q_nNK.shape[:2], elements=GROUP):
        q, k, v, dy = q_nNK[heads], k_nNK[heads], v_nNV[heads], d_y[heads]
        weights, d_weights = torch.bmm(q, k.mT), torch.bmm(dy, v.mT)
        direct = optional_array(None if direct_nN is None else direct_nN[heads], 2)
        results = (weights, d_weights, d_gates[heads], d_direct[heads])
        spread(_weigh_backward, len(weights), array(gates[heads]), direct, *size, *map(array, results))
        torch.bmm(weights.mT, dy, out=d_v[heads])
        torch.bmm(d_weights, k, out=d_q[heads])
        torch.bmm(d_weights.mT, q, out=d_k[heads])
    return d_q, d_k, d_v, d_gates, d_direct


@compiled
def _weigh(first, last, gates, direct, width, height, weights):
    """Multiply the N x N weights of every head by G + direct."""
    nodes = width * height
    g = np.empty((nodes, nodes), np.float32)
    row, column = np.empty((height, nodes), np.float32), np.empty(nodes, np.float32)
    for n in range(first, last):
        g[:] = 0
        for r in range(4):
            _add_direction(gates[n, r], width, height, r, row, column, g)
        _scale_rows(g, direct, n, weights[n])


@compiled
def _weigh_backward(first, last, gates, direct, width, height, weights, d_weights, d_gates, d_direct):
    """Multiply the weights q k^T and the products dy v^T by G + direct; give the gradients of the gates and direct."""
    nodes = width * height
    g, d_g = np.empty((nodes, nodes), np.float32), np.empty((nodes, nodes), np.float32)
    right, down = np.empty((nodes, nodes), np.float32), np.empty((nodes, nodes), np.float32)
    row, column = np.empty((height, nodes), np.float32), np.empty(nodes, np.float32)
    zeros = np.zeros(nodes, np.float32)
    for n in range(first, last):
        g[:] = 0
        for i in range(nodes):
            d_row, a, b = d_g[i], weights[n, i], d_weights[n, i]
            for j in range(nodes):
                d_row[j] = a[j] * b[j]
            d_direct[n, i] = d_row[i]
        for r in range(4):
            _keep_direction(gates[n, r], width, height, r, zeros, right, down, g)
            _adjoint_direction(gates[n, r], width, height, r, zeros, right, down, d_g, row, column, d_gates[n, r])
        _scale_rows(g, direct, n, weights[n])
        _scale_rows(g, direct, n, d_weights[n])


@inlined
def _scale_rows(g, direct, n, weights):
    for i in range(len(g)):
        g_i, weights_i = g[i], weights[i]
        diagonal = g_i[i] + direct[n, i] if direct.size else g_i[i]
        diagonal *= weights_i[i]
        for j in range(len(g_i)):
            weights_i[j] *= g_i[j]
        weights_i[i] = diagonal


@inlined
def _node(step, line, width, height, r):
    """The node visited as the given one of the given line, and the range of the nodes that can have reached it."""
    x, y = line_x(line, width, r), step_y(step, height, r)
    if r % 2 == 1:
        return x * height + y, y, x * height, width * height
    return x * height + y, y, 0, (x + 1) * height


@inlined
def _add_direction(gates, width, height, r, row, column, g):
    """Add to G; `row` holds the vectors of the edges into the next line for every y, `column` that of the edge down."""
    row[:] = 0
    for line in range(width):
        column[:] = 0
        for step in range(height):
            i, y, low, high = _node(step, line, width, height, r)
            source_r, source_d, t_rl, t_ru, t_dl, t_du, mark_l, mark_u = gates_of(gates[i])
            left, up, g_i = row[y, low:high], column[low:high], g[i, low:high]
            for j in range(high - low):
                g_i[j] += mark_l * left[j] + mark_u * up[j]
            for j in range(high - low):
                from_left, from_up = left[j], up[j]
                left[j] = t_rl * from_left + t_ru * from_up
                up[j] = t_dl * from_left + t_du * from_up
            row[y, i] = source_r
            column[i] = source_d


@inlined
def _keep_direction(gates, width, height, r, zeros, right, down, g):
    """As `_add_direction`, keeping the vectors of the edges that leave every node."""
    to_left = height if r % 2 == 1 else -height
    to_up = 1 if r >= 2 else -1
    for line in range(width):
        for step in range(height):
            i, _, low, high = _node(step, line, width, height, r)
            source_r, source_d, t_rl, t_ru, t_dl, t_du, mark_l, mark_u = gates_of(gates[i])
            left = right[i + to_left, low:high] if line > 0 else zeros[low:high]
            up = down[i + to_up, low:high] if step > 0 else zeros[low:high]
            g_i, right_i, down_i = g[i, low:high], right[i, low:high], down[i, low:high]
            for j in range(high - low):
                g_i[j] += mark_l * left[j] + mark_u * up[j]
            for j in range(high - low):
                right_i[j] = t_rl * left[j] + t_ru * up[j]
            for j in range(high - low):
                down_i[j] = t_dl * left[j] + t_du * up[j]
            right[i, i] = source_r
            down[i, i] = source_d
            # the next line also reads the entries of its own nodes, which nothing has reached yet
            if r % 2 == 1:
                right[i, max(low - height, 0) : low] = 0
            else:
                right[i, high : high + height] = 0


@inlined
def _adjoint_direction(gates, width, height, r, zeros, right, down, d_g, row, column, d_gates):
    """Gradients of the gates of one direction; `row` and `column` hold the adjoints of what they hold forwards."""
    to_left = height if r % 2 == 1 else -height
    to_up = 1 if r >= 2 else -1
    row[:] = 0

    # back over the nodes; the vectors of the entering edges are those that were kept
    for line in range(width - 1, -1, -1):
        column[:] = 0
        for step in range(height - 1, -1, -1):
            i, y, low, high = _node(step, line, width, height, r)
            _, _, t_rl, t_ru, t_dl, t_du, mark_l, mark_u = gates_of(gates[i])
            left = right[i + to_left, low:high] if line > 0 else zeros[low:high]
            up = down[i + to_up, low:high] if step > 0 else zeros[low:high]
            d_g_i, d_right, d_down = d_g[i, low:high], row[y, low:high], column[low:high]

            # the gradients of the gates
            d_gates_i = d_gates[i]
            d_gates_i[0], d_gates_i[1] = row[y, i], column[i]
            d_rl = d_ru = d_dl = d_du = d_l = d_u = np.float32(0)

            # transitions and marks: sums over the nodes that wrote
            for j in range(high - low):
                d_rl += d_right[j] * left[j]
                d_ru += d_right[j] * up[j]
                d_dl += d_down[j] * left[j]
                d_du += d_down[j] * up[j]
                d_l += d_g_i[j] * left[j]
                d_u += d_g_i[j] * up[j]

            # the adjoints of the edges that enter
            d_gates_i[2], d_gates_i[3], d_gates_i[4], d_gates_i[5] = d_rl, d_ru, d_dl, d_du
            d_gates_i[6], d_gates_i[7] = d_l, d_u
            for j in range(high - low):
                to_right, to_down = d_right[j], d_down[j]
                d_right[j] = mark_l * d_g_i[j] + t_rl * to_right + t_dl * to_down
                d_down[j] = mark_u * d_g_i[j] + t_ru * to_right + t_du * to_down
