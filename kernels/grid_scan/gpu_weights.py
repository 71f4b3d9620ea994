"""The four directions in Triton as one weight between every two nodes: y = scale (G * (q k^T)) v, as in `cpu_weights`.

A program goes through the grid four times with the vectors of a block of sources in the lanes of one warp: the vector
of the edge down in registers, those of the edges into the next line in memory.

Shapes: n = batches and heads, N = X Y nodes, gates [n, 4, N, 8] in the order of `grid_scan`.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from visionseq.kernels.grid_scan.layout import heads_together

BLOCK = 32  # sources
GROUP = 1 << 26  # elements of the N x N matrices of the heads worked on together


def forward(q_nNK: Tensor, k_nNK: Tensor, v_nNV: Tensor, gates: Tensor, size: tuple[int, int]) -> Tensor:
    """y [n, N, V]; q is scaled, `size` is (X, Y)."""
    y_nNV = torch.empty_like(v_nNV)
    for heads in heads_together(*q_nNK.shape[:2], elements=GROUP):
        weights = torch.bmm(q_nNK[heads], k_nNK[heads].mT).mul_(_gate_weights(gates[heads], size))
        torch.bmm(weights, v_nNV[heads], out=y_nNV[heads])
    return y_nNV


def backward(
    d_y: Tensor, q_nNK: Tensor, k_nNK: Tensor, v_nNV: Tensor, gates: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the scaled q, k, v and the gates."""
    d_q, d_k, d_v, d_gates = map(torch.empty_like, (q_nNK, k_nNK, v_nNV, gates))
    for heads in heads_together(*q_nNK.shape[:2], elements=GROUP):
        q, k, v, dy = q_nNK[heads], k_nNK[heads], v_nNV[heads], d_y[heads]
        weights, products = torch.bmm(q, k.mT), torch.bmm(dy, v.mT)
        d_gates[heads] = _adjoint_of_gates(gates[heads], size, weights * products)
        g = _gate_weights(gates[heads], size)
        d_weights = products.mul_(g)
        torch.bmm(weights.mul_(g).mT, dy, out=d_v[heads])
        torch.bmm(d_weights, k, out=d_q[heads])
        torch.bmm(d_weights.mT, q, out=d_k[heads])
    return d_q, d_k, d_v, d_gates


def _gate_weights(gates: Tensor, size: tuple[int, int]) -> Tensor:
    """G [n, N, N]."""
    heads, _, nodes, _ = gates.shape
    g = gates.new_zeros(heads, nodes, nodes)
    row = gates.new_empty(heads, size[1], nodes)
    if g.numel():
        _add_directions[heads, triton.cdiv(nodes, BLOCK)](gates, row, g, *size, BLOCK=BLOCK, num_warps=1)
    return g


def _adjoint_of_gates(gates: Tensor, size: tuple[int, int], d_g: Tensor) -> Tensor:
    """The gradient of the gates for that of G."""
    heads, _, nodes, _ = gates.shape
    blocks = triton.cdiv(nodes, BLOCK)
    parts = gates.new_zeros(blocks, *gates.shape)
    left, up = torch.empty_like(d_g), torch.empty_like(d_g)
    row = gates.new_empty(heads, size[1], nodes)
    if d_g.numel():
        _adjoint_directions[heads, blocks](gates, row, left, up, d_g, parts, *size, BLOCK=BLOCK, num_warps=1)
    return parts.sum(0)


@triton.jit
def _place(line, step, width, height, r):
    """y and the index of the node that direction r visits at a step of a line."""
    x = tl.where(r % 2 == 1, width - 1 - line, line)
    y = tl.where(r >= 2, height - 1 - step, step)
    return y, x * height + y


@triton.jit
def _first_line(block, width, height, r, BLOCK: tl.constexpr):
    """The first line of a direction that has nodes of the block of sources."""
    last = tl.minimum((block + 1) * BLOCK, width * height) - 1
    return tl.where(r % 2 == 1, width - 1 - last // height, block * BLOCK // height)


@triton.jit
def _add_directions(gates, row, g, width, height, BLOCK: tl.constexpr):
    # a head, and the program's block of sources
    n, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    nodes = width * height
    source = block * BLOCK + tl.arange(0, BLOCK)
    mask = source < nodes
    row += n * height * nodes

    # one direction after the other; nothing has reached its first line
    for r in range(4):
        for y in range(height):
            tl.store(row + y * nodes + source, tl.zeros([BLOCK], tl.float32), mask=mask)
        tl.debug_barrier()

        # a line at a time
        for line in range(_first_line(block, width, height, r, BLOCK), width):
            up = tl.zeros([BLOCK], tl.float32)
            for step in range(height):
                y, i = _place(line, step, width, height, r)
                gate = gates + ((n * 4 + r) * nodes + i) * 8
                left = tl.load(row + y * nodes + source, mask=mask, other=0.0)

                # what the node reads
                at = g + (n * nodes + i) * nodes + source
                read = tl.load(gate + 6) * left + tl.load(gate + 7) * up
                tl.store(at, tl.load(at, mask=mask, other=0.0) + read, mask=mask)

                # what leaves it
                is_source = (source == i).to(tl.float32)
                right = tl.load(gate + 2) * left + tl.load(gate + 3) * up + tl.load(gate) * is_source
                up = tl.load(gate + 4) * left + tl.load(gate + 5) * up + tl.load(gate + 1) * is_source
                tl.store(row + y * nodes + source, right, mask=mask)
            tl.debug_barrier()  # the next line reads what this one has written


@triton.jit
def _adjoint_directions(gates, row, lefts, ups, d_g, d_gates, width, height, BLOCK: tl.constexpr):
    # a head, and the program's block of sources
    n, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    nodes = width * height
    source = block * BLOCK + tl.arange(0, BLOCK)
    mask = source < nodes
    row += n * height * nodes

    # one direction after the other; nothing has reached its first line
    for r in range(4):
        first = _first_line(block, width, height, r, BLOCK)
        for y in range(height):
            tl.store(row + y * nodes + source, tl.zeros([BLOCK], tl.float32), mask=mask)
        tl.debug_barrier()

        # forwards, keeping the vectors of the edges that enter every node
        for line in range(first, width):
            up = tl.zeros([BLOCK], tl.float32)
            for step in range(height):
                y, i = _place(line, step, width, height, r)
                gate = gates + ((n * 4 + r) * nodes + i) * 8
                left = tl.load(row + y * nodes + source, mask=mask, other=0.0)
                tl.store(lefts + (n * nodes + i) * nodes + source, left, mask=mask)
                tl.store(ups + (n * nodes + i) * nodes + source, up, mask=mask)
                is_source = (source == i).to(tl.float32)
                right = tl.load(gate + 2) * left + tl.load(gate + 3) * up + tl.load(gate) * is_source
                up = tl.load(gate + 4) * left + tl.load(gate + 5) * up + tl.load(gate + 1) * is_source
                tl.store(row + y * nodes + source, right, mask=mask)
            tl.debug_barrier()  # the next line reads what this one has written

        # the adjoints after the last line are zero
        for y in range(height):
            tl.store(row + y * nodes + source, tl.zeros([BLOCK], tl.float32), mask=mask)
        tl.debug_barrier()

        # back over the nodes: the vectors and adjoints of their edges
        for back in range(width - first):
            d_down = tl.zeros([BLOCK], tl.float32)
            for back_step in range(height):
                y, i = _place(width - 1 - back, height - 1 - back_step, width, height, r)
                at = (n * nodes + i) * nodes + source
                left = tl.load(lefts + at, mask=mask, other=0.0)
                up = tl.load(ups + at, mask=mask, other=0.0)
                d_read = tl.load(d_g + at, mask=mask, other=0.0)
                d_right = tl.load(row + y * nodes + source, mask=mask, other=0.0)

                # the gradients of the gates: sources, transitions, marks
                gate = gates + ((n * 4 + r) * nodes + i) * 8
                d_gate = d_gates + (((block * tl.num_programs(0) + n) * 4 + r) * nodes + i) * 8
                is_source = source == i
                tl.store(d_gate, tl.sum(tl.where(is_source, d_right, 0.0)))
                tl.store(d_gate + 1, tl.sum(tl.where(is_source, d_down, 0.0)))
                tl.store(d_gate + 2, tl.sum(d_right * left))
                tl.store(d_gate + 3, tl.sum(d_right * up))
                tl.store(d_gate + 4, tl.sum(d_down * left))
                tl.store(d_gate + 5, tl.sum(d_down * up))
                tl.store(d_gate + 6, tl.sum(d_read * left))
                tl.store(d_gate + 7, tl.sum(d_read * up))

                # the adjoints of the edges that enter
                to_left = tl.load(gate + 6) * d_read + tl.load(gate + 2) * d_right + tl.load(gate + 4) * d_down
                d_down = tl.load(gate + 7) * d_read + tl.load(gate + 3) * d_right + tl.load(gate + 5) * d_down
                tl.store(row + y * nodes + source, to_left, mask=mask)
            tl.debug_barrier()
