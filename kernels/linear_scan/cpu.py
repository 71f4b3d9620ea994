"""The linear recurrence on the CPU: a block of channels goes through a whole segment with its state in the L1 cache.

Shapes: M rows, N segments, P gates, each shared by Q channels. With Q = 1 the inner loop runs over gates and channels
alike, otherwise a gate is a scalar for its channels.
"""

import numpy as np
import torch
from torch import Tensor

from visionseq.kernels.compiled import compiled
from visionseq.kernels.hand_over import array, optional_array
from visionseq.kernels.threads import spread

CHANNEL_BLOCK = 512  # channels with gates of their own in one item
SHARED_BLOCK = 2048  # channels under one gate in one item
FEW = 8  # channels under one gate that are too few to vectorise over


def forward(
    a_MP: Tensor, b_MPQ: Tensor, initial_NPQ: Tensor | None, offsets: Tensor, reverse: bool, exclusive: bool
) -> tuple[Tensor, Tensor]:
    """h [M, P, Q] in the dtype of b and the final state [N, P, Q]."""
    gates, shared = b_MPQ.shape[1:]
    segments = len(offsets) - 1
    h_MPQ = torch.empty(b_MPQ.shape)
    final_NPQ = torch.zeros(segments, gates, shared) if initial_NPQ is None else initial_NPQ.clone()
    options = (offsets.numpy(), reverse, exclusive)
    if shared < FEW:
        inputs, results = (_widened(a_MP, shared), _flat(b_MPQ)), (_flat(h_MPQ), _flat(final_NPQ))
        spread(_forward_by_channel, segments * -(-gates * shared // CHANNEL_BLOCK), *inputs, *options, *results)
    else:
        inputs, results = (array(a_MP), array(b_MPQ)), (array(h_MPQ), array(final_NPQ))
        spread(_forward_shared, segments * gates * -(-shared // SHARED_BLOCK), *inputs, *options, *results)
    return h_MPQ.to(b_MPQ.dtype), final_NPQ


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
    """Gradients of a, b and the initial state.

    (1)  db_t = carry + dh_t      exclusive: db_t = carry
    (2)  da_t = db_t h_{t-1}
    (3)  carry = a_t db_t         exclusive: carry = a_t db_t + dh_t
    """
    gates, shared = h_MPQ.shape[1:]
    segments = len(offsets) - 1
    d_h = torch.zeros(h_MPQ.shape) if d_h is None else d_h
    d_b = torch.empty(h_MPQ.shape)
    d_initial = torch.zeros(final_NPQ.shape) if d_final is None else d_final.float().clone()
    options = (offsets.numpy(), reverse, exclusive)
    if shared < FEW:
        d_a = torch.empty(h_MPQ.shape)
        initial = np.empty((0, 0), np.float32) if initial_NPQ is None else _flat(initial_NPQ)
        inputs = (_widened(a_MP, shared), _flat(h_MPQ), initial)
        results = map(_flat, (d_h, d_a, d_b, d_initial))
        spread(_backward_by_channel, segments * -(-gates * shared // CHANNEL_BLOCK), *inputs, *options, *results)
        d_a = d_a.sum(-1) if shared > 1 else d_a.squeeze(-1)
    else:
        blocks = -(-shared // SHARED_BLOCK)
        d_a = torch.empty(blocks, *a_MP.shape)
        inputs = (array(a_MP), array(h_MPQ), optional_array(initial_NPQ, 3))
        results = map(array, (d_h, d_a, d_b, d_initial))
        spread(_backward_shared, segments * gates * blocks, *inputs, *options, *results)
        d_a = d_a.sum(0) if blocks > 1 else d_a.squeeze(0)
    return d_a.to(a_MP.dtype), d_b.to(h_MPQ.dtype), None if initial_NPQ is None else d_initial


def _flat(tensor: Tensor) -> np.ndarray:
    """[M, P, Q] -> [M, P Q]."""
    first, gates, shared = tensor.shape
    return array(tensor).reshape(first, gates * shared)


def _widened(a_MP: Tensor, shared: int) -> np.ndarray:
    """[M, P] -> [M, P Q], every gate Q times."""
    gates = array(a_MP)
    return gates if shared == 1 else np.repeat(gates, shared, axis=1)


@compiled
def _forward_by_channel(first, last, a, b, offsets, reverse, exclusive, h, final):
    width = a.shape[1]
    blocks = (width + CHANNEL_BLOCK - 1) // CHANNEL_BLOCK
    for item in range(first, last):
        n, low = item // blocks, item % blocks * CHANNEL_BLOCK
        high = min(low + CHANNEL_BLOCK, width)
        start, stop = offsets[n], offsets[n + 1]
        state = final[n, low:high]
        for i in range(stop - start):
            t = stop - 1 - i if reverse else start + i
            a_t, b_t, h_t = a[t, low:high], b[t, low:high], h[t, low:high]
            if exclusive:
                for j in range(high - low):
                    h_t[j] = state[j]
                    state[j] = a_t[j] * state[j] + b_t[j]
            else:
                for j in range(high - low):
                    new = a_t[j] * state[j] + b_t[j]
                    h_t[j] = new
                    state[j] = new


@compiled
def _forward_shared(first, last, a, b, offsets, reverse, exclusive, h, final):
    gates, width = b.shape[1:]
    blocks = (width + SHARED_BLOCK - 1) // SHARED_BLOCK
    for item in range(first, last):
        n, p, low = item // blocks // gates, item // blocks % gates, item % blocks * SHARED_BLOCK
        high = min(low + SHARED_BLOCK, width)
        start, stop = offsets[n], offsets[n + 1]
        state = final[n, p, low:high]
        for i in range(stop - start):
            t = stop - 1 - i if reverse else start + i
            gate = a[t, p]
            b_t, h_t = b[t, p, low:high], h[t, p, low:high]
            if exclusive:
                for j in range(high - low):
                    h_t[j] = state[j]
                    state[j] = gate * state[j] + b_t[j]
            else:
                for j in range(high - low):
                    new = gate * state[j] + b_t[j]
                    h_t[j] = new
                    state[j] = new


@compiled
def _backward_by_channel(first, last, a, h, initial, offsets, reverse, exclusive, dh, da, db, adjoint):
    width = a.shape[1]
    blocks = (width + CHANNEL_BLOCK - 1) // CHANNEL_BLOCK
    zeros = np.zeros(CHANNEL_BLOCK, np.float32)

    # a block of channels of a segment
    for item in range(first, last):
        n, low = item // blocks, item % blocks * CHANNEL_BLOCK
        high = min(low + CHANNEL_BLOCK, width)
        start, stop = offsets[n], offsets[n + 1]
        before_first = initial[n, low:high] if initial.size else zeros[: high - low]
        carry = adjoint[n, low:high]

        # from its last token to its first: eq. (1), (2) and (3), each in a loop of its own
        for i in range(stop - start):
            t = start + i if reverse else stop - 1 - i
            a_t, dh_t, da_t, db_t = a[t, low:high], dh[t, low:high], da[t, low:high], db[t, low:high]
            if exclusive:
                before = h[t, low:high]
                for j in range(high - low):
                    db_t[j] = carry[j]
                for j in range(high - low):
                    da_t[j] = db_t[j] * before[j]
                for j in range(high - low):
                    carry[j] = a_t[j] * db_t[j] + dh_t[j]
            else:
                t_before = t + 1 if reverse else t - 1
                before = h[t_before, low:high] if i + 1 < stop - start else before_first
                for j in range(high - low):
                    db_t[j] = carry[j] + dh_t[j]
                for j in range(high - low):
                    da_t[j] = db_t[j] * before[j]
                for j in range(high - low):
                    carry[j] = a_t[j] * db_t[j]


@compiled
def _backward_shared(first, last, a, h, initial, offsets, reverse, exclusive, dh, da, db, adjoint):
    gates, width = h.shape[1:]
    blocks = (width + SHARED_BLOCK - 1) // SHARED_BLOCK
    zeros = np.zeros(SHARED_BLOCK, np.float32)

    # a block of the channels under one gate, in one segment
    for item in range(first, last):
        n, p, block = item // blocks // gates, item // blocks % gates, item % blocks
        low, high = block * SHARED_BLOCK, min((block + 1) * SHARED_BLOCK, width)
        start, stop = offsets[n], offsets[n + 1]
        before_first = initial[n, p, low:high] if initial.size else zeros[: high - low]
        carry = adjoint[n, p, low:high]

        # from its last token to its first: eq. (1) and (3), and the sum over channels of eq. (2)
        for i in range(stop - start):
            t = start + i if reverse else stop - 1 - i
            gate, gradient = a[t, p], np.float32(0)
            dh_t, db_t = dh[t, p, low:high], db[t, p, low:high]
            if exclusive:
                before = h[t, p, low:high]
                for j in range(high - low):
                    db_t[j] = carry[j]
                    gradient += carry[j] * before[j]
                    carry[j] = gate * carry[j] + dh_t[j]
            else:
                t_before = t + 1 if reverse else t - 1
                before = h[t_before, p, low:high] if i + 1 < stop - start else before_first
                for j in range(high - low):
                    total = carry[j] + dh_t[j]
                    db_t[j] = total
                    gradient += total * before[j]
                    carry[j] = gate * total
            da[block, t, p] = gradient
