"""The recurrence on the CPU node by node: a direction of a head goes through its grid with one line of K x V states.

No states are kept for the backward, which is in `cpu_adjoint`.

Shapes: n = batches and heads, R directions, gates [n, R, N, 8] in the order of `grid_scan`.
"""

import numpy as np
import torch
from torch import Tensor

from visionseq.kernels.compiled import compiled, inlined
from visionseq.kernels.grid_scan.cpu_order import gates_of, line_x, step_y
from visionseq.kernels.hand_over import array, optional_array
from visionseq.kernels.threads import spread


def forward(
    q_nNK: Tensor,
    k_nNK: Tensor,
    v_nNV: Tensor,
    gates: Tensor,
    direct_nN: Tensor | None,
    left: Tensor | None,
    top: Tensor | None,
    size: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor]:
    """y [n, N, V], right [n, Y, K, V] and bottom [n, X, K, V] (of no heads where R = 4); q is scaled, `size` (X, Y)."""
    heads, directions = gates.shape[:2]
    y_RnNV = torch.zeros(directions, *v_nNV.shape)
    right, bottom = borders(q_nNK, v_nNV, size, directions)
    inputs = map(array, (q_nNK, k_nNK, v_nNV, gates))
    optional = optional_array(direct_nN, 2), optional_array(left, 4), optional_array(top, 4)
    spread(_forward, heads * directions, *inputs, *optional, *size, *map(array, (y_RnNV, right, bottom)))
    return add_directions(y_RnNV), right, bottom


def borders(q: Tensor, v: Tensor, size: tuple[int, int], directions: int) -> tuple[Tensor, Tensor]:
    """Room for the states of the edges through one x, [n, Y, K, V], and through one y, [n, X, K, V]."""
    heads = len(q) if directions == 1 else 0
    return torch.empty(heads, size[1], q.shape[-1], v.shape[-1]), torch.empty(heads, size[0], q.shape[-1], v.shape[-1])


def add_directions(parts: Tensor) -> Tensor:
    return parts[0] if len(parts) == 1 else parts.sum(0)


@compiled
def _forward(first, last, q, k, v, gates, direct, left, top, width, height, y, right, bottom):
    directions, keys, values = gates.shape[1], k.shape[2], v.shape[2]
    row, column = np.empty((height, keys, values), np.float32), np.empty((keys, values), np.float32)
    for item in range(first, last):
        n, r = item // directions, item % directions
        for h in range(height):
            enter(row[h], left, n, h)
        for line in range(width):
            x = line_x(line, width, r)
            enter(column, top, n, x)
            for step in range(height):
                h = step_y(step, height, r)
                i = x * height + h
                _visit(q[n, i], k[n, i], v[n, i], gates[n, r, i], row[h], column, y[r, n, i])
                if direct.size and r == 0:
                    _read_itself(q[n, i], k[n, i], v[n, i], direct[n, i], y[r, n, i])
            if bottom.size:
                bottom[n, x] = column
        if right.size:
            right[n] = row


@inlined
def enter(state, border, n, place):
    """Start from the state at a place of the border, from zero where there is none."""
    if border.size:
        state[:] = border[n, place]
    else:
        state[:] = 0


@inlined
def _visit(q, k, v, gates, left, up, y):
    """y += q (mark_l left + mark_u up), then the states that enter the node become those that leave it."""
    source_r, source_d, t_rl, t_ru, t_dl, t_du, mark_l, mark_u = gates_of(gates)
    for c in range(len(k)):
        left_c, up_c = left[c], up[c]
        q_l, q_u, k_r, k_d = q[c] * mark_l, q[c] * mark_u, k[c] * source_r, k[c] * source_d
        for j in range(len(v)):
            y[j] += q_l * left_c[j] + q_u * up_c[j]
        for j in range(len(v)):
            from_left, from_up = left_c[j], up_c[j]
            left_c[j] = t_rl * from_left + t_ru * from_up + k_r * v[j]
            up_c[j] = t_dl * from_left + t_du * from_up + k_d * v[j]


@inlined
def _read_itself(q, k, v, direct, y):
    score = np.float32(0)
    for c in range(len(k)):
        score += q[c] * k[c]
    score *= direct
    for j in range(len(v)):
        y[j] += score * v[j]
