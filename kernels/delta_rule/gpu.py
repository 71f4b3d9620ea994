"""The delta rule in Triton: a program takes a block of value channels through a segment, its state in registers.

Shapes: M rows, N segments, H heads, K keys, V values. The backward takes the kept states, repeats the recurrence over
one chunk with the states written to scratch memory, and goes back over it; the gradients that are sums over values
come out one for each block of values.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from visionseq.kernels.checks import check_width
from visionseq.kernels.delta_rule.registration import CHECKPOINT, count_checkpoints

WIDEST = 1024  # K: up to here the kernels compile without a spill
STATE = 2048  # numbers of the state that one program holds
NO_DECAY, BY_HEAD, BY_CHANNEL = 0, 1, 2


def forward(
    v_MHV: Tensor,
    q_MHK: Tensor,
    k_MHK: Tensor,
    a_MHK: Tensor,
    b_MHK: Tensor,
    g_MHK: Tensor | None,
    initial_NHKV: Tensor | None,
    offsets: Tensor,
    reverse: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """o [M, H, V] in the dtype of v, the final state [N, H, K, V], a^T S [M, H, V] and the states kept."""
    check_width("q", q_MHK.shape[2], WIDEST)
    (rows, heads, values), keys, segments = v_MHV.shape, q_MHK.shape[2], len(offsets) - 1
    o = torch.empty_like(v_MHV, memory_format=torch.contiguous_format)
    final = v_MHV.new_empty((segments, heads, keys, values), dtype=torch.float32)
    read = v_MHV.new_empty(v_MHV.shape, dtype=torch.float32)
    kept = v_MHV.new_zeros((count_checkpoints(rows, segments), heads, values, keys), dtype=torch.float32)
    block_k, block_v = _blocks(keys, values)
    if final.numel():
        _forward[segments, heads, triton.cdiv(values, block_v)](
            *(x.contiguous() for x in (v_MHV, q_MHK, k_MHK, a_MHK, b_MHK)),
            None if g_MHK is None else g_MHK.contiguous(),
            None if initial_NHKV is None else initial_NHKV.contiguous(),
            offsets,
            *(o, final, read, kept, scale, keys, values),
            HAS_INITIAL=initial_NHKV is not None,
            GATE=_gate(g_MHK, keys),
            REVERSE=reverse,
            CHECKPOINT=CHECKPOINT,
            BLOCK_K=block_k,
            BLOCK_V=block_v,
        )
    return o, final, read, kept


def backward(
    d_o: Tensor | None,
    d_final: Tensor | None,
    d_read: None,
    d_kept: None,
    o_MHV: Tensor,
    final_NHKV: Tensor,
    read_MHV: Tensor,
    kept: Tensor,
    v_MHV: Tensor,
    q_MHK: Tensor,
    k_MHK: Tensor,
    a_MHK: Tensor,
    b_MHK: Tensor,
    g_MHK: Tensor | None,
    initial_NHKV: Tensor | None,
    offsets: Tensor,
    reverse: bool,
    scale: float,
) -> tuple[Tensor | None, ...]:
    """Gradients of all tensors but the offsets; the equations are numbered in `cpu.backward`."""
    # one program for each segment, head and block of value channels
    (_, heads, values), keys, segments = v_MHV.shape, q_MHK.shape[2], len(offsets) - 1
    block_k, block_v = _blocks(keys, values)
    grid = (segments, heads, triton.cdiv(values, block_v))

    # sums over values come out once for each block
    d_v = torch.empty_like(v_MHV, memory_format=torch.contiguous_format)
    d_q, d_k, d_a, d_b = (q_MHK.new_empty(grid[2], *q_MHK.shape, dtype=torch.float32) for _ in range(4))
    d_g = None if g_MHK is None else g_MHK.new_empty(grid[2], *g_MHK.shape, dtype=torch.float32)
    d_initial = torch.empty_like(final_NHKV)
    if final_NHKV.numel():
        _backward[grid](
            *(x.contiguous() for x in (v_MHV, q_MHK, k_MHK, a_MHK, b_MHK)),
            None if g_MHK is None else g_MHK.contiguous(),
            *(read_MHV, kept, offsets),
            torch.zeros_like(d_v) if d_o is None else d_o.contiguous(),
            None if d_final is None else d_final.contiguous(),
            v_MHV.new_empty(*grid, CHECKPOINT, block_k, block_v, dtype=torch.float32),
            *(d_v, d_q, d_k, d_a, d_b, d_g, d_initial, scale, len(v_MHV), keys, values),
            HAS_D_FINAL=d_final is not None,
            GATE=_gate(g_MHK, keys),
            REVERSE=reverse,
            CHECKPOINT=CHECKPOINT,
            BLOCK_K=block_k,
            BLOCK_V=block_v,
        )

    # the blocks' parts added
    return (
        d_v,
        *(d.sum(0).to(x.dtype) for d, x in ((d_q, q_MHK), (d_k, k_MHK), (d_a, a_MHK), (d_b, b_MHK))),
        None if g_MHK is None or d_g is None else d_g.sum(0).to(g_MHK.dtype),
        None if initial_NHKV is None else d_initial,
    )


def _blocks(keys: int, values: int) -> tuple[int, int]:
    block_k = triton.next_power_of_2(keys)
    return block_k, min(triton.next_power_of_2(values), max(1, STATE // block_k))


def _gate(g_MHK: Tensor | None, keys: int) -> int:
    if g_MHK is None:
        return NO_DECAY
    return BY_CHANNEL if g_MHK.shape[2] == keys else BY_HEAD


@triton.jit
def _forward(
    v, q, k, a, b, g, initial, offsets, o, final, read, kept, scale, keys, values,
    HAS_INITIAL: tl.constexpr, GATE: tl.constexpr, REVERSE: tl.constexpr, CHECKPOINT: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    # the place of the program's block of the state
    n, h, heads = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    key = tl.arange(0, BLOCK_K)
    value = tl.program_id(2) * BLOCK_V + tl.arange(0, BLOCK_V)
    in_keys, in_values = key < keys, value < values
    inside = in_keys[:, None] & in_values[None, :]

    # the segment, and the state before it
    start = tl.load(offsets + n)
    length = tl.load(offsets + n + 1) - start
    place = (n * heads + h) * keys * values + key[:, None] * values + value[None, :]
    S = tl.zeros([BLOCK_K, BLOCK_V], tl.float32)
    if HAS_INITIAL:
        S = tl.load(initial + place, mask=inside, other=0.0)

    # a token at a time; the state before every chunk is kept
    for i in range(length):
        t = start + (length - 1 - i if REVERSE else i)
        if i % CHECKPOINT == 0:
            slot = start // CHECKPOINT + n + i // CHECKPOINT
            tl.store(kept + (slot * heads + h) * keys * values + value[None, :] * keys + key[:, None], S, mask=inside)

        # the vectors of the token
        row_k, row_v = (t * heads + h) * keys + key, (t * heads + h) * values + value
        a_t = tl.load(a + row_k, mask=in_keys, other=0.0).to(tl.float32)
        b_t = tl.load(b + row_k, mask=in_keys, other=0.0).to(tl.float32)
        k_t = tl.load(k + row_k, mask=in_keys, other=0.0).to(tl.float32)
        q_t = tl.load(q + row_k, mask=in_keys, other=0.0).to(tl.float32)
        v_t = tl.load(v + row_v, mask=in_values, other=0.0).to(tl.float32)

        # S_t = diag(e) S_{t-1} + b_t (a_t^T S_{t-1}) + k_t v_t^T, and o_t
        u_t = tl.sum(a_t[:, None] * S, 0)
        decay = _decay(g, t * heads + h, key, keys, GATE)
        S = decay[:, None] * S + b_t[:, None] * u_t[None, :] + k_t[:, None] * v_t[None, :]
        tl.store(read + row_v, u_t, mask=in_values)
        tl.store(o + row_v, scale * tl.sum(q_t[:, None] * S, 0), mask=in_values)
    tl.store(final + place, S, mask=inside)


@triton.jit
def _backward(
    v, q, k, a, b, g, read, kept, offsets, d_o, d_final, history, d_v, d_q, d_k, d_a, d_b, d_g, d_initial, scale,
    rows, keys, values,
    HAS_D_FINAL: tl.constexpr, GATE: tl.constexpr, REVERSE: tl.constexpr, CHECKPOINT: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    # the place of the program's block of the state, and its memory for the states of a chunk
    n, h, heads = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    block, blocks = tl.program_id(2).to(tl.int64), tl.num_programs(2)
    key = tl.arange(0, BLOCK_K)
    value = block * BLOCK_V + tl.arange(0, BLOCK_V)
    in_keys, in_values = key < keys, value < values
    inside = in_keys[:, None] & in_values[None, :]
    scratch = tl.arange(0, BLOCK_K)[:, None] * BLOCK_V + tl.arange(0, BLOCK_V)[None, :]
    scratch += ((n * heads + h) * blocks + block) * CHECKPOINT * BLOCK_K * BLOCK_V

    # the segment, and L, the adjoint of the state after it
    start = tl.load(offsets + n)
    length = tl.load(offsets + n + 1) - start
    place = (n * heads + h) * keys * values + key[:, None] * values + value[None, :]
    L = tl.zeros([BLOCK_K, BLOCK_V], tl.float32)
    if HAS_D_FINAL:
        L = tl.load(d_final + place, mask=inside, other=0.0)

    # chunks from the last to the first
    chunks = tl.cdiv(length, CHECKPOINT)
    for c in range(chunks):
        chunk = chunks - 1 - c
        begin = chunk * CHECKPOINT
        steps = tl.minimum(CHECKPOINT, length - begin)
        slot = start // CHECKPOINT + n + chunk

        # the states of the chunk once more, from the one that was kept
        S = tl.load(
            kept + (slot * heads + h) * keys * values + value[None, :] * keys + key[:, None], mask=inside, other=0.0
        )
        for i in range(steps):
            t = start + (length - 1 - begin - i if REVERSE else begin + i)
            tl.store(history + scratch + i * BLOCK_K * BLOCK_V, S)
            S = _advance(S, v, k, b, g, read, t * heads + h, key, value, keys, values, GATE)
        tl.debug_barrier()

        # back over the tokens of the chunk
        for j in range(steps):
            i = steps - 1 - j
            t = start + (length - 1 - begin - i if REVERSE else begin + i)
            row_k, row_v = (t * heads + h) * keys + key, (t * heads + h) * values + value
            S = tl.load(history + scratch + i * BLOCK_K * BLOCK_V)

            # the vectors of the token, and what the forward read
            q_t = tl.load(q + row_k, mask=in_keys, other=0.0).to(tl.float32)
            k_t = tl.load(k + row_k, mask=in_keys, other=0.0).to(tl.float32)
            a_t = tl.load(a + row_k, mask=in_keys, other=0.0).to(tl.float32)
            b_t = tl.load(b + row_k, mask=in_keys, other=0.0).to(tl.float32)
            v_t = tl.load(v + row_v, mask=in_values, other=0.0).to(tl.float32)
            u_t = tl.load(read + row_v, mask=in_values, other=0.0)
            do_t = scale * tl.load(d_o + row_v, mask=in_values, other=0.0).to(tl.float32)

            # eq. (1), with m_t, and eq. (2) for v
            L += q_t[:, None] * do_t[None, :]
            m_t = tl.sum(L * b_t[:, None], 0)
            part = block * rows * heads * keys + row_k
            tl.store(d_v + row_v, tl.sum(L * k_t[:, None], 0), mask=in_values)

            # eq. (5): S_t do_t from S_{t-1} do_t
            decay = _decay(g, t * heads + h, key, keys, GATE)
            dq_t = decay * tl.sum(S * do_t[None, :], 1)
            dq_t += b_t * tl.sum(u_t * do_t, 0) + k_t * tl.sum(v_t * do_t, 0)
            tl.store(d_q + part, dq_t, mask=in_keys)

            # eq. (2) for k, a and b
            tl.store(d_k + part, tl.sum(L * v_t[None, :], 1), mask=in_keys)
            tl.store(d_a + part, tl.sum(S * m_t[None, :], 1), mask=in_keys)
            tl.store(d_b + part, tl.sum(L * u_t[None, :], 1), mask=in_keys)

            # eq. (3)
            if GATE == 2:
                tl.store(d_g + part, decay * tl.sum(L * S, 1), mask=in_keys)
            elif GATE == 1:
                tl.store(d_g + (block * rows + t) * heads + h, tl.sum(decay * tl.sum(L * S, 1), 0))

            # eq. (4)
            L = decay[:, None] * L + a_t[:, None] * m_t[None, :]
        tl.debug_barrier()
    tl.store(d_initial + place, L, mask=inside)


@triton.jit
def _advance(S, v, k, b, g, read, row, key, value, keys, values, GATE: tl.constexpr):
    """The state after a token, from that before it and a^T S."""
    k_t = tl.load(k + row * keys + key, mask=key < keys, other=0.0).to(tl.float32)
    b_t = tl.load(b + row * keys + key, mask=key < keys, other=0.0).to(tl.float32)
    v_t = tl.load(v + row * values + value, mask=value < values, other=0.0).to(tl.float32)
    u_t = tl.load(read + row * values + value, mask=value < values, other=0.0)
    decay = _decay(g, row, key, keys, GATE)
    return decay[:, None] * S + b_t[:, None] * u_t[None, :] + k_t[:, None] * v_t[None, :]


@triton.jit
def _decay(g, row, key, keys, GATE: tl.constexpr):
    """exp(g) of a token for each key."""
    decay = tl.full([key.shape[0]], 1.0, tl.float32)
    if GATE == 2:
        decay = tl.exp(tl.load(g + row * keys + key, mask=key < keys, other=0.0).to(tl.float32))
    elif GATE == 1:
        decay = decay * tl.exp(tl.load(g + row).to(tl.float32))
    return decay
