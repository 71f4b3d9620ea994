"""The recurrence in Triton node by node: a program takes a block of V through the grid, the state down in registers.

The states of the edges into the next line are in memory, in the tensor that ends as `right`. The backward walks the
lines from the last to the first in bands of about sqrt(X): it has kept the states that enter each band, keeps those of
every node of one band in a second pass, and then computes the adjoints.

Shapes: n = batches and heads, R directions, N = X Y nodes, gates [n, R, N, 8] in the order of `grid_scan`.
"""

from math import isqrt
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from visionseq.kernels.checks import check_width

WIDEST = 1024  # K: up to here the kernels compile without a spill
TILE = 512  # elements of a state that a program holds


def forward(
    q_nNK: Tensor,
    k_nNK: Tensor,
    v_nNV: Tensor,
    gates: Tensor,
    left: Tensor | None,
    top: Tensor | None,
    size: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor]:
    """y [n, N, V], right [n R, Y, K, V] and bottom [n R, X, K, V]; q is scaled, `size` is (X, Y)."""
    check_width("q", q_nNK.shape[2], WIDEST)
    grid, shared = _launch(q_nNK, k_nNK, v_nNV, gates, size)
    y = v_nNV.new_zeros(grid[0], *v_nNV.shape[1:])
    row, bottom = _row(q_nNK, v_nNV, gates, left, size), _lines(q_nNK, v_nNV, gates, size[0])
    if all(grid):
        every = {"start": 0, "stop": size[0], "lefts": None, "ups": None, "KEEP": False}
        _scan[grid](**shared, **every, top=top, row=row, bottom=bottom, y=y, HAS_TOP=top is not None, WRITE=True)
    return y.unflatten(0, gates.shape[:2]).sum(1), row, bottom


def backward(
    d_y: Tensor,
    d_right: Tensor | None,
    d_bottom: Tensor | None,
    q_nNK: Tensor,
    k_nNK: Tensor,
    v_nNV: Tensor,
    gates: Tensor,
    left: Tensor | None,
    top: Tensor | None,
    size: tuple[int, int],
) -> tuple[Tensor, ...]:
    """Gradients of the scaled q, k, v, the gates, and with one direction of left and top."""
    grid, shared = _launch(q_nNK, k_nNK, v_nNV, gates, size)
    blocks, nodes = grid[1], q_nNK.shape[1]
    d_q, d_k = (q_nNK.new_zeros(blocks, grid[0], nodes, q_nNK.shape[2]) for _ in range(2))
    d_v, d_gates = v_nNV.new_zeros(grid[0], nodes, v_nNV.shape[2]), gates.new_zeros(blocks, *gates.shape)
    d_row, d_top = _row(q_nNK, v_nNV, gates, d_right, size), _lines(q_nNK, v_nNV, gates, size[0])
    row, entering = _row(q_nNK, v_nNV, gates, left, size), []
    band = max(isqrt(size[0]), 1)
    lefts, ups = (_lines(q_nNK, v_nNV, gates, band * size[1]) for _ in range(2))
    starts = range(0, size[0] if all(grid) else 0, band)
    forwards = shared | {"top": top, "bottom": None, "y": None, "HAS_TOP": top is not None, "WRITE": False}
    for start in starts:
        entering.append(row.clone())
        _scan[grid](**forwards, start=start, stop=min(start + band, size[0]), row=row, lefts=None, ups=None, KEEP=False)
    gradients = {"d_q": d_q, "d_k": d_k, "d_v": d_v, "d_gates": d_gates, "d_top": d_top, "row": d_row}
    for start in reversed(starts):
        lines = {"start": start, "stop": min(start + band, size[0]), "lefts": lefts, "ups": ups}
        _scan[grid](**forwards, **lines, row=entering.pop(), KEEP=True)
        ends = {"d_bottom": d_bottom, "HAS_D_BOTTOM": d_bottom is not None}
        _adjoint[grid](**shared, **lines, **gradients, **ends, d_y=d_y)
    d_q, d_k = (d.sum(0).unflatten(0, gates.shape[:2]).sum(1) for d in (d_q, d_k))
    d_borders = (d_row, d_top) if gates.shape[1] == 1 else ()
    return d_q, d_k, d_v.unflatten(0, gates.shape[:2]).sum(1), d_gates.sum(0), *d_borders


def _launch(
    q: Tensor, k: Tensor, v: Tensor, gates: Tensor, size: tuple[int, int]
) -> tuple[tuple[int, int], dict[str, Any]]:
    """The grid of programs, directions of heads by blocks of V, and what both kernels are given."""
    keys, values = q.shape[2], v.shape[2]
    block_k = triton.next_power_of_2(keys)
    block_v = max(min(TILE // block_k, triton.next_power_of_2(values)), 1)
    grid = gates.shape[0] * gates.shape[1], triton.cdiv(values, block_v)
    sizes = {"width": size[0], "height": size[1], "directions": gates.shape[1], "keys": keys, "values": values}
    return grid, {"q": q, "k": k, "v": v, "gates": gates, **sizes, "BLOCK_K": block_k, "BLOCK_V": block_v}


def _lines(q: Tensor, v: Tensor, gates: Tensor, count: int) -> Tensor:
    """Room for so many states of every direction of a head."""
    return q.new_empty(gates.shape[0] * gates.shape[1], count, q.shape[2], v.shape[2])


def _row(q: Tensor, v: Tensor, gates: Tensor, border: Tensor | None, size: tuple[int, int]) -> Tensor:
    """The states of the edges into a line, from the border or zero."""
    return _lines(q, v, gates, size[1]).zero_() if border is None else border.clone()


@triton.jit
def _place(line, step, width, height, r):
    """x, y and the index of the node that direction r visits at a step of a line."""
    x = tl.where(r % 2 == 1, width - 1 - line, line)
    y = tl.where(r >= 2, height - 1 - step, step)
    return x, y, x * height + y


@triton.jit
def _scan(
    q,
    k,
    v,
    gates,
    top,
    row,
    bottom,
    y,
    lefts,
    ups,
    start,
    stop,
    width,
    height,
    directions,
    keys,
    values,
    HAS_TOP: tl.constexpr,
    WRITE: tl.constexpr,
    KEEP: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    # a direction of a head, and the program's tile of its states
    item = tl.program_id(0).to(tl.int64)
    n, r = item // directions, item % directions
    c, j = tl.arange(0, BLOCK_K), tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    mask_k, mask_v = c < keys, j < values
    mask, tile, state = mask_k[:, None] & mask_v[None, :], c[:, None] * values + j[None, :], keys * values

    # a line at a time, beginning with the state that enters it from above
    for line in range(start, stop):
        x, h, i = _place(line, 0, width, height, r)
        up = tl.zeros([BLOCK_K, BLOCK_V], tl.float32)
        if HAS_TOP:
            up = tl.load(top + (n * width + x) * state + tile, mask=mask, other=0.0)

        # a node at a time: the states that enter it, its key and value
        for step in range(height):
            x, h, i = _place(line, step, width, height, r)
            node = n * width * height + i
            gate = gates + (item * width * height + i) * 8
            edge = row + (item * height + h) * state + tile
            left = tl.load(edge, mask=mask, other=0.0)
            k_i = tl.load(k + node * keys + c, mask=mask_k, other=0.0)
            v_i = tl.load(v + node * values + j, mask=mask_v, other=0.0)

            # what the backward keeps
            if KEEP:
                kept = ((item * (stop - start) + line - start) * height + h) * state + tile
                tl.store(lefts + kept, left, mask=mask)
                tl.store(ups + kept, up, mask=mask)

            # y = q (mark_l left + mark_u up)
            if WRITE:
                q_i = tl.load(q + node * keys + c, mask=mask_k, other=0.0)
                read = tl.load(gate + 6) * left + tl.load(gate + 7) * up
                y_i = tl.sum(q_i[:, None] * read, axis=0)
                tl.store(y + (item * width * height + i) * values + j, y_i, mask=mask_v)

            # right = t_rl left + t_ru up + source_r k v^T, and down the same
            write = k_i[:, None] * v_i[None, :]
            right = tl.load(gate + 2) * left + tl.load(gate + 3) * up + tl.load(gate) * write
            up = tl.load(gate + 4) * left + tl.load(gate + 5) * up + tl.load(gate + 1) * write
            tl.store(edge, right, mask=mask)

        # the state that leaves the line
        if WRITE:
            tl.store(bottom + (item * width + x) * state + tile, up, mask=mask)
        tl.debug_barrier()  # the next line reads what this one has written


@triton.jit
def _adjoint(
    q,
    k,
    v,
    gates,
    lefts,
    ups,
    d_y,
    d_bottom,
    row,
    d_q,
    d_k,
    d_v,
    d_gates,
    d_top,
    start,
    stop,
    width,
    height,
    directions,
    keys,
    values,
    HAS_D_BOTTOM: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    # a direction of a head, and the program's tile of its states
    item, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    n, r, items, nodes = item // directions, item % directions, tl.num_programs(0), width * height
    c, j = tl.arange(0, BLOCK_K), block * BLOCK_V + tl.arange(0, BLOCK_V)
    mask_k, mask_v = c < keys, j < values
    mask, tile, state = mask_k[:, None] & mask_v[None, :], c[:, None] * values + j[None, :], keys * values

    # a line at a time, from the last to the first
    for back in range(stop - start):
        line = stop - 1 - back
        x, h, i = _place(line, 0, width, height, r)
        d_down = tl.zeros([BLOCK_K, BLOCK_V], tl.float32)
        if HAS_D_BOTTOM:
            d_down = tl.load(d_bottom + (n * width + x) * state + tile, mask=mask, other=0.0)

        # a node at a time: the adjoints of the states that leave it, the states that enter it
        for back_step in range(height):
            x, h, i = _place(line, height - 1 - back_step, width, height, r)
            node, visit = n * nodes + i, item * nodes + i
            gate, d_gate = gates + visit * 8, d_gates + (block * items * nodes + visit) * 8
            edge = row + (item * height + h) * state + tile
            kept = ((item * (stop - start) + line - start) * height + h) * state + tile
            d_right = tl.load(edge, mask=mask, other=0.0)
            left = tl.load(lefts + kept, mask=mask, other=0.0)
            up = tl.load(ups + kept, mask=mask, other=0.0)

            # transitions: products of both
            tl.store(d_gate + 2, tl.sum(d_right * left))
            tl.store(d_gate + 3, tl.sum(d_right * up))
            tl.store(d_gate + 4, tl.sum(d_down * left))
            tl.store(d_gate + 5, tl.sum(d_down * up))

            # marks and q, by the states that enter
            d_y_i = tl.load(d_y + node * values + j, mask=mask_v, other=0.0)
            q_i = tl.load(q + node * keys + c, mask=mask_k, other=0.0)
            left_y, up_y = tl.sum(left * d_y_i[None, :], axis=1), tl.sum(up * d_y_i[None, :], axis=1)
            tl.store(d_gate + 6, tl.sum(q_i * left_y))
            tl.store(d_gate + 7, tl.sum(q_i * up_y))
            part = (block * items * nodes + visit) * keys + c
            tl.store(d_q + part, tl.load(gate + 6) * left_y + tl.load(gate + 7) * up_y, mask=mask_k)

            # sources, k and v, by the adjoints of the states that leave
            v_i = tl.load(v + node * values + j, mask=mask_v, other=0.0)
            k_i = tl.load(k + node * keys + c, mask=mask_k, other=0.0)
            right_v, down_v = tl.sum(d_right * v_i[None, :], axis=1), tl.sum(d_down * v_i[None, :], axis=1)
            tl.store(d_gate, tl.sum(k_i * right_v))
            tl.store(d_gate + 1, tl.sum(k_i * down_v))
            source_r, source_d = tl.load(gate), tl.load(gate + 1)
            tl.store(d_k + part, source_r * right_v + source_d * down_v, mask=mask_k)
            d_v_i = tl.sum(k_i[:, None] * (source_r * d_right + source_d * d_down), axis=0)
            tl.store(d_v + visit * values + j, d_v_i, mask=mask_v)

            # the adjoints of the states that enter
            read = q_i[:, None] * d_y_i[None, :]
            d_left = tl.load(gate + 6) * read + tl.load(gate + 2) * d_right + tl.load(gate + 4) * d_down
            d_down = tl.load(gate + 7) * read + tl.load(gate + 3) * d_right + tl.load(gate + 5) * d_down
            tl.store(edge, d_left, mask=mask)
        tl.store(d_top + (item * width + x) * state + tile, d_down, mask=mask)
        tl.debug_barrier()  # the next line reads what this one has written
