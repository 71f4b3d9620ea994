"""The backward of the recurrence node by node on the CPU, for which the forward has kept no states.

A direction of a head walks its lines from the last to the first, a band of lines at a time: the states that enter each
band are found in a first pass over the grid, those within a band in a second one, and then come the adjoints. With
sqrt(X) bands of as many lines the states of few lines are kept at a time; a small grid is one band.

Shapes: n = batches and heads, R directions, gates [n, R, N, 8] in the order of `grid_scan`.
"""

from math import isqrt

import numpy as np
import torch
from torch import Tensor

from visionseq.kernels.compiled import compiled, inlined
from visionseq.kernels.grid_scan.cpu_order import gates_of, line_x, step_y
from visionseq.kernels.grid_scan.cpu_states import add_directions, borders, enter
from visionseq.kernels.hand_over import array, optional_array
from visionseq.kernels.threads import spread

KEPT = 1 << 20  # elements of all states of a grid that are cheaper to keep than to compute twice


def backward(
    d_y: Tensor,
    d_right: Tensor | None,
    d_bottom: Tensor | None,
    q_nNK: Tensor,
    k_nNK: Tensor,
    v_nNV: Tensor,
    gates: Tensor,
    direct_nN: Tensor | None,
    left: Tensor | None,
    top: Tensor | None,
    size: tuple[int, int],
) -> tuple[Tensor, ...]:
    """Gradients of the scaled q, k, v, the gates, direct, and with one direction of left and top."""
    heads, directions = gates.shape[:2]
    d_q, d_k, d_v = (torch.zeros(directions, *tensor.shape) for tensor in (q_nNK, k_nNK, v_nNV))
    d_gates, d_direct = torch.empty_like(gates), torch.empty(q_nNK.shape[:2])
    d_left, d_top = borders(q_nNK, v_nNV, size, directions)
    inputs = map(array, (q_nNK, k_nNK, v_nNV, gates))
    optional = optional_array(direct_nN, 2), _flat(left), _flat(top)
    cotangents = array(d_y), _flat(d_right), _flat(d_bottom)
    band = _lines_of_a_band(size, q_nNK.shape[-1] * v_nNV.shape[-1])
    results = *map(array, (d_q, d_k, d_v, d_gates, d_direct)), _flat(d_left), _flat(d_top)
    spread(_backward, heads * directions, *inputs, *optional, *cotangents, *size, band, *results)
    d_borders = (d_left, d_top) if directions == 1 else ()
    return add_directions(d_q), add_directions(d_k), add_directions(d_v), d_gates, d_direct, *d_borders


def _lines_of_a_band(size: tuple[int, int], state: int) -> int:
    lines = size[0] if 2 * size[0] * size[1] * state <= KEPT else isqrt(size[0])
    return max(1, lines)


def _flat(border: Tensor | None) -> np.ndarray:
    """States [n, place, K V]."""
    return optional_array(None if border is None else border.flatten(2), 3)


@compiled
def _backward(
    first, last, q, k, v, gates, direct, left, top, d_y, d_right, d_bottom, width, height, band,
    d_q, d_k, d_v, d_gates, d_direct, d_left, d_top,
):  # fmt: skip
    directions, state = gates.shape[1], k.shape[2] * v.shape[2]
    bands = max((width + band - 1) // band, 1)
    entering = np.empty((bands, height, state), np.float32)
    right, down = np.empty((band + 1, height, state), np.float32), np.empty((band, height + 1, state), np.float32)
    row, column = np.empty((height, state), np.float32), np.empty(state, np.float32)

    # a direction of a head
    for item in range(first, last):
        n, r = item // directions, item % directions
        for h in range(height):
            enter(right[0, h], left, n, h)
            enter(row[h], d_right, n, h)

        # first pass: the states that enter each band
        for line in range((bands - 1) * band):
            if line % band == 0:
                entering[line // band] = right[0]
            x = line_x(line, width, r)
            enter(down[0, 0], top, n, x)
            _follow_line(k[n], v[n], gates[n, r], x, height, r, right[0], down[0], right[1])
            right[0] = right[1]
        entering[bands - 1] = right[0]

        # from the last band to the first
        for b in range(bands - 1, -1, -1):
            start, stop = b * band, min((b + 1) * band, width)
            right[0] = entering[b]

            # second pass: the states within the band
            for line in range(start, stop):
                x, place = line_x(line, width, r), line - start
                enter(down[place, 0], top, n, x)
                _follow_line(k[n], v[n], gates[n, r], x, height, r, right[place], down[place], right[place + 1])

            # the adjoints, node by node from the last line of the band to its first
            for line in range(stop - 1, start - 1, -1):
                x, place = line_x(line, width, r), line - start
                enter(column, d_bottom, n, x)
                for step in range(height - 1, -1, -1):
                    h = step_y(step, height, r)
                    i = x * height + h
                    _adjoint(
                        q[n, i], k[n, i], v[n, i], gates[n, r, i], d_y[n, i], right[place, h], down[place, step],
                        row[h], column, d_q[r, n, i], d_k[r, n, i], d_v[r, n, i], d_gates[n, r, i],
                    )  # fmt: skip
                    if direct.size and r == 0:
                        d_direct[n, i] = _adjoint_of_itself(
                            q[n, i], k[n, i], v[n, i], direct[n, i], d_y[n, i], d_q[r, n, i], d_k[r, n, i], d_v[r, n, i]
                        )
                if d_top.size:
                    d_top[n, x] = column
        if d_left.size:
            d_left[n] = row


@inlined
def _follow_line(k, v, gates, x, height, r, left, down, right):
    """The states that leave the nodes of a line; those down begin with the one that enters the line."""
    for step in range(height):
        h = step_y(step, height, r)
        i = x * height + h
        source_r, source_d, t_rl, t_ru, t_dl, t_du, _, _ = gates_of(gates[i])
        values = v.shape[1]
        for c in range(k.shape[1]):
            low, high = c * values, (c + 1) * values
            left_c, up_c, right_c, down_c = (
                left[h, low:high],
                down[step, low:high],
                right[h, low:high],
                down[step + 1, low:high],
            )
            k_r, k_d, v_i = k[i, c] * source_r, k[i, c] * source_d, v[i]
            for j in range(values):
                right_c[j] = t_rl * left_c[j] + t_ru * up_c[j] + k_r * v_i[j]
            for j in range(values):
                down_c[j] = t_dl * left_c[j] + t_du * up_c[j] + k_d * v_i[j]


@inlined
def _adjoint(q, k, v, gates, d_y, left, up, d_right, d_down, d_q, d_k, d_v, d_gates):
    """The adjoints of the states that leave a node become those of the states that enter it."""
    source_r, source_d, t_rl, t_ru, t_dl, t_du, mark_l, mark_u = gates_of(gates)
    values = len(v)
    d_source_r = d_source_d = d_rl = d_ru = d_dl = d_du = d_mark_l = d_mark_u = np.float32(0)

    # a key channel at a time
    for c in range(len(k)):
        low, high = c * values, (c + 1) * values
        left_c, up_c, d_right_c, d_down_c = left[low:high], up[low:high], d_right[low:high], d_down[low:high]

        # products with the states that enter, and those with the adjoints of the states that leave
        left_y = up_y = right_v = down_v = np.float32(0)
        for j in range(values):
            left_y += left_c[j] * d_y[j]
            up_y += up_c[j] * d_y[j]
            right_v += d_right_c[j] * v[j]
            down_v += d_down_c[j] * v[j]
            d_rl += d_right_c[j] * left_c[j]
            d_ru += d_right_c[j] * up_c[j]
            d_dl += d_down_c[j] * left_c[j]
            d_du += d_down_c[j] * up_c[j]

        # the gradients of q, k and the gates of sources and marks
        q_c, k_c = q[c], k[c]
        d_q[c], d_k[c] = mark_l * left_y + mark_u * up_y, source_r * right_v + source_d * down_v
        d_source_r += k_c * right_v
        d_source_d += k_c * down_v
        d_mark_l += q_c * left_y
        d_mark_u += q_c * up_y

        # the gradient of v, and the adjoints of the states that enter
        q_l, q_u, k_r, k_d = q_c * mark_l, q_c * mark_u, k_c * source_r, k_c * source_d
        for j in range(values):
            d_v[j] += k_r * d_right_c[j] + k_d * d_down_c[j]
        for j in range(values):
            to_right, to_down = d_right_c[j], d_down_c[j]
            d_right_c[j] = q_l * d_y[j] + t_rl * to_right + t_dl * to_down
            d_down_c[j] = q_u * d_y[j] + t_ru * to_right + t_du * to_down

    # the gates in the order of `grid_scan`
    d_gates[0], d_gates[1], d_gates[2], d_gates[3] = d_source_r, d_source_d, d_rl, d_ru
    d_gates[4], d_gates[5], d_gates[6], d_gates[7] = d_dl, d_du, d_mark_l, d_mark_u


@inlined
def _adjoint_of_itself(q, k, v, direct, d_y, d_q, d_k, d_v):
    """The gradient of direct; adds those of q, k and v."""
    score = read = np.float32(0)
    for c in range(len(k)):
        score += q[c] * k[c]
    for j in range(len(v)):
        read += v[j] * d_y[j]
    for c in range(len(k)):
        d_q[c] += direct * read * k[c]
        d_k[c] += direct * read * q[c]
    for j in range(len(v)):
        d_v[j] += direct * score * d_y[j]
    return score * read
