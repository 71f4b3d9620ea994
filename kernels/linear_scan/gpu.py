"""The linear recurrence in Triton: a program takes a block of channels through a whole segment, its state in registers.

Shapes: M rows, N segments, D = P * Q channels; channel d has gate d // Q.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 256


def forward(
    a_MP: Tensor, b_MPQ: Tensor, initial_NPQ: Tensor | None, offsets: Tensor, reverse: bool, exclusive: bool
) -> tuple[Tensor, Tensor]:
    """h [M, P, Q] in the dtype of b and the final state [N, P, Q]."""
    gates, shared = b_MPQ.shape[1:]
    h = torch.empty_like(b_MPQ, memory_format=torch.contiguous_format)
    final = b_MPQ.new_empty((len(offsets) - 1, gates, shared), dtype=torch.float32)
    if final.numel():
        _forward[_grid(final)](
            a_MP.contiguous(),
            b_MPQ.contiguous(),
            initial_NPQ,
            offsets,
            h,
            final,
            gates,
            shared,
            HAS_INITIAL=initial_NPQ is not None,
            REVERSE=reverse,
            EXCLUSIVE=exclusive,
            BLOCK=BLOCK,
        )
    return h, final


def backward(
    d_h: Tensor | None,
    d_final: Tensor | None,
    h_MPQ: Tensor,
    final_NPQ: Tensor,
    a_MP: Tensor,
    b_MPQ: None,
    initial_NPQ: Tensor | None,
    offsets: Tensor,
    reverse: bool,
    exclusive: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of a, b and the initial state: l_t = dh_t + a_{t+1} l_{t+1}, db_t = l_t, da_t = l_t h_{t-1}."""
    gates, shared = h_MPQ.shape[1:]
    d_h = torch.zeros_like(h_MPQ) if d_h is None else d_h.contiguous()
    d_a = torch.empty_like(h_MPQ, dtype=torch.float32)
    d_b, d_initial = torch.empty_like(h_MPQ), torch.empty_like(final_NPQ)
    if final_NPQ.numel():
        _backward[_grid(final_NPQ)](
            a_MP.contiguous(),
            h_MPQ,
            initial_NPQ,
            offsets,
            d_h,
            None if d_final is None else d_final.contiguous(),
            d_a,
            d_b,
            d_initial,
            gates,
            shared,
            HAS_INITIAL=initial_NPQ is not None,
            HAS_D_FINAL=d_final is not None,
            REVERSE=reverse,
            EXCLUSIVE=exclusive,
            BLOCK=BLOCK,
        )
    return d_a.sum(-1).to(a_MP.dtype), d_b, None if initial_NPQ is None else d_initial


def _grid(state_NPQ: Tensor) -> tuple[int, int]:
    return state_NPQ.shape[0], triton.cdiv(state_NPQ[0].numel(), BLOCK)


@triton.jit
def _forward(
    a,
    b,
    initial,
    offsets,
    h,
    final,
    gates,
    shared,
    HAS_INITIAL: tl.constexpr,
    REVERSE: tl.constexpr,
    EXCLUSIVE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    n = tl.program_id(0).to(tl.int64)
    width = gates * shared
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = channel < width
    gate = channel // shared
    start = tl.load(offsets + n)
    length = tl.load(offsets + n + 1) - start
    state = tl.zeros([BLOCK], tl.float32)
    if HAS_INITIAL:
        state = tl.load(initial + n * width + channel, mask=mask, other=0.0)
    for i in range(length):
        t = start + (length - 1 - i if REVERSE else i)
        before = state
        a_t = tl.load(a + t * gates + gate, mask=mask, other=0.0).to(tl.float32)
        state = a_t * state + tl.load(b + t * width + channel, mask=mask, other=0.0).to(tl.float32)
        tl.store(h + t * width + channel, before if EXCLUSIVE else state, mask=mask)
    tl.store(final + n * width + channel, state, mask=mask)


@triton.jit
def _backward(
    a,
    h,
    initial,
    offsets,
    d_h,
    d_final,
    d_a,
    d_b,
    d_initial,
    gates,
    shared,
    HAS_INITIAL: tl.constexpr,
    HAS_D_FINAL: tl.constexpr,
    REVERSE: tl.constexpr,
    EXCLUSIVE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    # a block of channels of a segment
    n = tl.program_id(0).to(tl.int64)
    width = gates * shared
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = channel < width
    gate = channel // shared

    # the segment, and the adjoint of the state after it
    start = tl.load(offsets + n)
    length = tl.load(offsets + n + 1) - start
    carry = tl.zeros([BLOCK], tl.float32)
    if HAS_D_FINAL:
        carry = tl.load(d_final + n * width + channel, mask=mask, other=0.0)

    # a token at a time, from the last to the first
    for i in range(length):
        t = start + (i if REVERSE else length - 1 - i)
        dh_t = tl.load(d_h + t * width + channel, mask=mask, other=0.0).to(tl.float32)
        a_t = tl.load(a + t * gates + gate, mask=mask, other=0.0).to(tl.float32)

        # the state before the token, which is h_t itself where EXCLUSIVE, and the adjoint of the state after it
        if EXCLUSIVE:
            adjoint = carry
            before = tl.load(h + t * width + channel, mask=mask, other=0.0).to(tl.float32)
            carry = a_t * carry + dh_t
        else:
            adjoint = carry + dh_t
            t_before = t + (1 if REVERSE else -1)
            before = tl.zeros([BLOCK], tl.float32)
            if i + 1 < length:
                before = tl.load(h + t_before * width + channel, mask=mask, other=0.0).to(tl.float32)
            elif HAS_INITIAL:
                before = tl.load(initial + n * width + channel, mask=mask, other=0.0)
            carry = a_t * adjoint

        # da_t = L_t h_{t-1}, db_t = L_t, with L_t the adjoint of the state after the token
        tl.store(d_a + t * width + channel, adjoint * before, mask=mask)
        tl.store(d_b + t * width + channel, adjoint, mask=mask)
    tl.store(d_initial + n * width + channel, carry, mask=mask)
