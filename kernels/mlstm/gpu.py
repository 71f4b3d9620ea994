"""The mLSTM in Triton: a program takes a block of value channels of one head through a whole segment, token by token.

Equations are numbered in `reference`. Shapes: M rows, N segments, H heads, K key size, V value size. The memory
[K, block of V] stays in registers. The backward first keeps the state before every chunk of CHUNK rows; segment n has
its chunks from offsets[n] // CHUNK + n on. Blocks of values give partial gradients, which are added at the end.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from visionseq.kernels.checks import check_width
from visionseq.kernels.mlstm.gpu_backward import _backward, gates
from visionseq.kernels.mlstm.reference import MAX_FLOOR

CHUNK = 32
WIDEST = 1024  # K: up to here the kernels compile without a spill
TILE = 2048  # elements of the memory in one program


def forward(
    q_MHK: Tensor,
    k_MHK: Tensor,
    v_MHV: Tensor,
    i_MH: Tensor,
    f_MH: Tensor,
    initial_c: Tensor | None,
    initial_n: Tensor | None,
    initial_m: Tensor | None,
    offsets: Tensor,
    reverse: bool,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """o [M, H, V] in the dtype of q and the final state C [N, H, K, V], n [N, H, K], m [N, H]."""
    check_width("q", q_MHK.shape[2], WIDEST)
    o_MHV = q_MHK.new_empty(v_MHV.shape)
    state = _new_states(q_MHK, v_MHV, len(offsets) - 1)
    inputs = [x.contiguous() for x in (q_MHK, k_MHK, v_MHV, i_MH, f_MH)]
    initial = [None if x is None else x.contiguous() for x in (initial_c, initial_n, initial_m)]
    _run(inputs, initial, offsets, o_MHV, None, state, reverse, eps)
    return o_MHV, *state


def backward(
    d_o: Tensor | None,
    d_final_c: Tensor | None,
    d_final_n: Tensor | None,
    d_final_m: Tensor | None,
    o_MHV: Tensor,
    final_c: Tensor,
    final_n: Tensor,
    final_m: Tensor,
    q_MHK: Tensor,
    k_MHK: Tensor,
    v_MHV: Tensor,
    i_MH: Tensor,
    f_MH: Tensor,
    initial_c: Tensor | None,
    initial_n: Tensor | None,
    initial_m: Tensor | None,
    offsets: Tensor,
    reverse: bool,
    eps: float,
) -> tuple[Tensor | None, ...]:
    """Gradients of q, k, v, i, f and of the initial state."""
    # what the kernels read
    arguments = (q_MHK, k_MHK, v_MHV, i_MH, f_MH)
    inputs = [x.contiguous() for x in arguments]
    initial = [None if x is None else x.contiguous() for x in (initial_c, initial_n, initial_m)]
    d_o = torch.zeros_like(o_MHV) if d_o is None else d_o.contiguous()
    do_o_MH = (d_o.float() * o_MHV).sum(-1)

    # the state before every chunk, and m of every row
    segments, heads = final_m.shape
    kept = _new_states(q_MHK, v_MHV, len(q_MHK) // CHUNK + segments)
    m_rows = torch.empty_like(inputs[3], dtype=torch.float32)
    _run(inputs, initial, offsets, None, m_rows, kept, reverse, eps)
    d_state = [
        torch.zeros_like(x) if d is None else d.float().contiguous()
        for d, x in zip((d_final_c, d_final_n, d_final_m), (final_c, final_n, final_m), strict=True)
    ]

    # room for the states of one chunk in each program, and for the gradients of each block of values
    keys, values, width, block = _sizes(q_MHK, v_MHV)
    blocks = triton.cdiv(values, block)
    programs = segments * heads * blocks
    chunk_c, chunk_n = (
        q_MHK.new_empty((programs, CHUNK, *size), dtype=torch.float32) for size in ((width, block), (width,))
    )
    d_q, d_k, d_i, d_f = (
        q_MHK.new_empty((blocks, *x.shape), dtype=torch.float32) for x in (*arguments[:2], i_MH, f_MH)
    )
    d_v, d_c = (torch.empty_like(inputs[2], dtype=torch.float32), torch.empty_like(final_c))
    d_n, d_m = (q_MHK.new_empty((blocks, *x.shape), dtype=torch.float32) for x in (final_n, final_m))

    # back through all segments
    if segments * heads * keys * values:
        _backward[segments * heads, blocks](
            *inputs,
            m_rows,
            *kept,
            chunk_c,
            chunk_n,
            offsets,
            d_o,
            do_o_MH,
            *d_state,
            d_q,
            d_k,
            d_v,
            d_i,
            d_f,
            d_c,
            d_n,
            d_m,
            len(q_MHK),
            segments,
            heads,
            keys,
            values,
            keys**-0.5,
            eps,
            REVERSE=reverse,
            MAX_FLOOR=MAX_FLOOR,
            CHUNK=CHUNK,
            BK=width,
            BV=block,
            num_warps=_warps(width * block),
        )

    # the blocks' parts added
    gradients = [x.sum(0) for x in (d_q, d_k)] + [d_v] + [x.sum(0) for x in (d_i, d_f)]
    gradients = [gradient.to(x.dtype) for gradient, x in zip(gradients, arguments, strict=True)]
    return *gradients, *([None] * 3 if initial_c is None else (d_c, d_n.sum(0), d_m.sum(0)))


def _new_states(q_MHK: Tensor, v_MHV: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    (_, heads, keys), values = q_MHK.shape, v_MHV.shape[2]
    shapes = ((count, heads, keys, values), (count, heads, keys), (count, heads))
    c, n, m = (q_MHK.new_empty(shape, dtype=torch.float32) for shape in shapes)
    return c, n, m


def _sizes(q_MHK: Tensor, v_MHV: Tensor) -> tuple[int, int, int, int]:
    """K, V, and the sides of the memory in one program."""
    keys, values = q_MHK.shape[2], v_MHV.shape[2]
    width = max(16, triton.next_power_of_2(keys))
    return (keys, values, width, min(max(16, triton.next_power_of_2(values)), TILE // width))


def _warps(tile: int) -> int:
    """One warp for a memory that it holds alone, whose sums then need no shared memory."""
    return 1 if tile <= 1024 else 4


def _run(
    inputs: list[Tensor],
    initial: list[Tensor | None],
    offsets: Tensor,
    o_MHV: Tensor | None,
    m_rows: Tensor | None,
    state: tuple[Tensor, ...],
    reverse: bool,
    eps: float,
) -> None:
    """Outputs and the final state or, without outputs, m of every row and the state before every chunk."""
    keys, values, width, block = _sizes(inputs[0], inputs[2])
    segments, heads = len(offsets) - 1, inputs[0].shape[1]
    if segments * heads * keys * values:
        _forward[segments * heads, triton.cdiv(values, block)](
            *inputs,
            *initial,
            offsets,
            o_MHV,
            m_rows,
            *state,
            heads,
            keys,
            values,
            keys**-0.5,
            eps,
            HAS_INITIAL=initial[0] is not None,
            REVERSE=reverse,
            KEEP=o_MHV is None,
            MAX_FLOOR=MAX_FLOOR,
            CHUNK=CHUNK,
            BK=width,
            BV=block,
            num_warps=_warps(width * block),
        )


@triton.jit
def _forward(
    q,
    k,
    v,
    i,
    f,
    initial_c,
    initial_n,
    initial_m,
    offsets,
    o,
    m_rows,
    state_c,
    state_n,
    state_m,
    heads,
    keys,
    values,
    scaling,
    eps,
    HAS_INITIAL: tl.constexpr,
    REVERSE: tl.constexpr,
    KEEP: tl.constexpr,
    MAX_FLOOR: tl.constexpr,
    CHUNK: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
):
    # a head of a segment, and the program's block of the memory
    item = tl.program_id(0).to(tl.int64)
    n, h = item // heads, item % heads
    key, value = tl.arange(0, BK), tl.program_id(1) * BV + tl.arange(0, BV)
    key_mask, value_mask = key < keys, value < values
    square = (key * values)[:, None] + value[None, :]
    square_mask = key_mask[:, None] & value_mask[None, :]

    # the state before the segment
    memory_KV, normaliser_K = tl.zeros([BK, BV], tl.float32), tl.zeros([BK], tl.float32)
    m = tl.full([], -float("inf"), tl.float32)
    if HAS_INITIAL:
        memory_KV = tl.load(initial_c + item * keys * values + square, mask=square_mask, other=0.0)
        normaliser_K = tl.load(initial_n + item * keys + key, mask=key_mask, other=0.0)
        m = tl.load(initial_m + item)

    # a token at a time; the state before every chunk is kept
    start = tl.load(offsets + n)
    length = tl.load(offsets + n + 1) - start
    place = (start // CHUNK + n) * heads + h
    for index in range(length):
        if KEEP and index % CHUNK == 0:
            tl.store(state_c + place * keys * values + square, memory_KV, mask=square_mask)
            tl.store(state_n + place * keys + key, normaliser_K, mask=key_mask)
            tl.store(state_m + place, m)
            place += heads

        # eq. (1)
        at = (start + (length - 1 - index if REVERSE else index)) * heads + h
        forget, write, m = gates(i, f, at, m)

        # eq. (2) and (3)
        k_K = tl.load(k + at * keys + key, mask=key_mask, other=0.0).to(tl.float32) * (write * scaling)
        v_V = tl.load(v + at * values + value, mask=value_mask, other=0.0).to(tl.float32)
        memory_KV = forget * memory_KV + k_K[:, None] * v_V[None, :]
        normaliser_K = forget * normaliser_K + k_K

        # eq. (4)
        if KEEP:
            tl.store(m_rows + at, m)
        else:
            q_K = tl.load(q + at * keys + key, mask=key_mask, other=0.0).to(tl.float32)
            floor = tl.exp(tl.minimum(-m, MAX_FLOOR))
            size = tl.maximum(tl.abs(tl.sum(q_K * normaliser_K, 0)), floor) + eps
            o_V = tl.sum(q_K[:, None] * memory_KV, 0) / size
            tl.store(o + at * values + value, o_V, mask=value_mask)

    # the state after the last token
    if not KEEP:
        tl.store(state_c + item * keys * values + square, memory_KV, mask=square_mask)
        tl.store(state_n + item * keys + key, normaliser_K, mask=key_mask)
        tl.store(state_m + item, m)
