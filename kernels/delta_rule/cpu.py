"""The delta rule on the CPU: value channels are independent rows of keys, a block of which goes through a segment.

Shapes: M rows, N segments, H heads, K keys, V values; states are kept transposed, [V, K], so that the inner loops run
over contiguous keys. The backward takes the kept states, repeats the recurrence over one chunk and goes back over it.
"""

import numpy as np
import torch
from torch import Tensor

from visionseq.kernels.compiled import compiled, inlined
from visionseq.kernels.delta_rule.registration import CHECKPOINT, count_checkpoints
from visionseq.kernels.hand_over import array
from visionseq.kernels.threads import spread

BLOCK = 64  # value channels in one item
ZERO = np.float32(0)


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
    (rows, heads, values), keys, segments = v_MHV.shape, q_MHK.shape[2], len(offsets) - 1
    o_MHV, read_MHV = torch.empty(v_MHV.shape), torch.empty(v_MHV.shape)
    state_NHVK = _transposed(initial_NHKV, (segments, heads, values, keys))
    kept = torch.zeros(count_checkpoints(rows, segments), heads, values, keys)  # some places may stay free
    inputs = map(array, (v_MHV, q_MHK, k_MHK, a_MHK, b_MHK, _decay(g_MHK, q_MHK)))
    results = map(array, (o_MHV, read_MHV, state_NHVK, kept))
    items = segments * heads * _count_blocks(values)
    spread(_forward, items, *inputs, offsets.numpy(), reverse, np.float32(scale), *results)
    return o_MHV.to(v_MHV.dtype), state_NHVK.mT.contiguous(), read_MHV, kept


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
    """Gradients of all tensors but the offsets, with L_t the adjoint of S_t and m_t = L_t^T b_t.

    (1)  L_t = scale q_t do_t^T + carry
    (2)  dk_t = L_t v_t,  dv_t = L_t^T k_t,  da_t = S_{t-1} m_t,  db_t = L_t (S_{t-1}^T a_t)
    (3)  dg_t = exp(g_t) sum_V L_t S_{t-1}
    (4)  carry = diag(exp(g_t)) L_t + a_t m_t^T
    (5)  dq_t = scale S_t do_t
    """
    (_, heads, values), segments = v_MHV.shape, len(offsets) - 1
    blocks = _count_blocks(values)
    d_o = torch.zeros(v_MHV.shape) if d_o is None else d_o
    decay = _decay(g_MHK, q_MHK)
    d_v = torch.empty(v_MHV.shape)
    d_q, d_k, d_a, d_b, d_g = (torch.empty(blocks, *x.shape) for x in (q_MHK, k_MHK, a_MHK, b_MHK, decay))
    adjoint_NHVK = _transposed(d_final, (segments, heads, values, q_MHK.shape[2]))
    inputs = map(array, (v_MHV, q_MHK, k_MHK, a_MHK, b_MHK, decay, read_MHV, kept, d_o))
    results = map(array, (d_v, d_q, d_k, d_a, d_b, d_g, adjoint_NHVK))
    spread(_backward, segments * heads * blocks, *inputs, offsets.numpy(), reverse, np.float32(scale), *results)
    return (
        d_v.to(v_MHV.dtype),
        *(_sum_blocks(d, x) for d, x in ((d_q, q_MHK), (d_k, k_MHK), (d_a, a_MHK), (d_b, b_MHK), (d_g, g_MHK))),
        None if initial_NHKV is None else adjoint_NHVK.mT.contiguous(),
    )


def _sum_blocks(d_x: Tensor, x: Tensor | None) -> Tensor | None:
    if x is None:
        return None
    return (d_x.sum(0) if len(d_x) > 1 else d_x.squeeze(0)).to(x.dtype)


def _count_blocks(values: int) -> int:
    return -(-values // BLOCK)


def _transposed(state_NHKV: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    if state_NHKV is None:
        return torch.zeros(shape)
    return state_NHKV.mT.to(torch.float32, copy=True, memory_format=torch.contiguous_format)


def _decay(g_MHK: Tensor | None, q_MHK: Tensor) -> Tensor:
    """exp(g) [M, H, K] or [M, H, 1]; without decay [M, H, 0]."""
    return torch.empty(*q_MHK.shape[:2], 0) if g_MHK is None else g_MHK.float().exp()


@compiled
def _forward(first, last, v, q, k, a, b, decay, offsets, reverse, scale, o, read, state, kept):
    heads, values = v.shape[1:]
    blocks = (values + BLOCK - 1) // BLOCK
    e = np.ones(q.shape[2], np.float32)

    # a block of value channels of a head goes through a segment
    for item in range(first, last):
        n, h, low = item // blocks // heads, item // blocks % heads, item % blocks * BLOCK
        high = min(low + BLOCK, values)
        start, length = offsets[n], offsets[n + 1] - offsets[n]
        S = state[n, h, low:high]
        for i in range(length):
            t = start + (length - 1 - i if reverse else i)
            if i % CHECKPOINT == 0:
                kept[start // CHECKPOINT + n + i // CHECKPOINT, h, low:high] = S

            # the decays and vectors of a token
            if decay.shape[2]:
                e[:] = decay[t, h]
            q_t, k_t, a_t, b_t = q[t, h], k[t, h], a[t, h], b[t, h]
            v_t, o_t, read_t = v[t, h, low:high], o[t, h, low:high], read[t, h, low:high]

            # S_t = diag(e) S_{t-1} + b_t (a_t^T S_{t-1}) + k_t v_t^T, row by row of its transpose
            for r in range(high - low):
                S_r, v_r, u_r, o_r = S[r], v_t[r], ZERO, ZERO
                for j in range(S_r.size):
                    u_r += a_t[j] * S_r[j]
                for j in range(S_r.size):
                    s = e[j] * S_r[j] + b_t[j] * u_r + k_t[j] * v_r
                    S_r[j] = s
                    o_r += q_t[j] * s
                read_t[r] = u_r
                o_t[r] = scale * o_r


@compiled
def _backward(
    first, last, v, q, k, a, b, decay, read, kept, d_o, offsets, reverse, scale, d_v, d_q, d_k, d_a, d_b, d_g, adjoint
):
    heads, values = v.shape[1:]
    keys, gated = q.shape[2], decay.shape[2] > 0
    blocks = (values + BLOCK - 1) // BLOCK
    e, by_gate = np.ones(keys, np.float32), np.empty(keys, np.float32)
    history = np.empty((CHECKPOINT, BLOCK, keys), np.float32)  # the states before the tokens of a chunk

    # a block of value channels of a head; L is the adjoint of its state
    for item in range(first, last):
        n, h, block = item // blocks // heads, item // blocks % heads, item % blocks
        low, high = block * BLOCK, min((block + 1) * BLOCK, values)
        start, length = offsets[n], offsets[n + 1] - offsets[n]
        L = adjoint[n, h, low:high]
        for chunk in range((length - 1) // CHECKPOINT, -1, -1):
            # the states of a chunk once more, from the one that was kept
            begin, steps = chunk * CHECKPOINT, min(CHECKPOINT, length - chunk * CHECKPOINT)
            history[0, : high - low] = kept[start // CHECKPOINT + n + chunk, h, low:high]
            for i in range(steps):
                t = start + (length - 1 - begin - i if reverse else begin + i)
                if gated:
                    e[:] = decay[t, h]
                if i + 1 < steps:
                    _advance(history[i], history[i + 1], e, k[t, h], b[t, h], v[t, h, low:high], read[t, h, low:high])

            # back over the tokens of the chunk
            for i in range(steps - 1, -1, -1):
                t = start + (length - 1 - begin - i if reverse else begin + i)
                if gated:
                    e[:] = decay[t, h]
                q_t, k_t, a_t, b_t = q[t, h], k[t, h], a[t, h], b[t, h]
                dq_t, dk_t, da_t, db_t = d_q[block, t, h], d_k[block, t, h], d_a[block, t, h], d_b[block, t, h]
                dg_t = d_g[block, t, h]
                for gradient in (dq_t, dk_t, da_t, db_t, by_gate):
                    gradient[:] = ZERO

                # all equations but (5), and the sum of eq. (3)
                by_u, by_v = _through_rows(
                    L, history[i], e, q_t, k_t, a_t, b_t, v[t, h, low:high], read[t, h, low:high], d_o[t, h, low:high],
                    scale, gated, dq_t, dk_t, da_t, db_t, d_v[t, h, low:high], by_gate,
                )  # fmt: skip

                # eq. (5): S_t do_t from S_{t-1} do_t
                for j in range(keys):
                    dq_t[j] = e[j] * dq_t[j] + b_t[j] * by_u + k_t[j] * by_v

                # eq. (3), for each key or for the head
                if dg_t.size == keys:
                    for j in range(keys):
                        dg_t[j] = e[j] * by_gate[j]
                elif gated:
                    total = ZERO
                    for j in range(keys):
                        total += by_gate[j]
                    dg_t[0] = e[0] * total


@inlined
def _through_rows(
    L, S, e, q_t, k_t, a_t, b_t, v_t, read_t, do_t, scale, gated, dq_t, dk_t, da_t, db_t, dv_t, by_gate
):  # fmt: skip
    """A token backwards, a row of the transposed state S before it and of its adjoint L at a time.

    dq_t is left to be finished from S_{t-1} do_t and the two sums returned, over u_t do_t and v_t do_t; by_gate is the
    sum of eq. (3) over the value channels.
    """
    by_u, by_v = ZERO, ZERO
    for r in range(v_t.size):
        L_r, S_r, m, dv = L[r], S[r], ZERO, ZERO
        v_r, u_r, do_r = v_t[r], read_t[r], scale * do_t[r]

        # eq. (1), with m_t and eq. (2) for v
        for j in range(e.size):
            adj = L_r[j] + q_t[j] * do_r
            L_r[j] = adj
            m += adj * b_t[j]
            dv += adj * k_t[j]

        # eq. (2) for k, a and b, and the sums of eq. (3) and (5)
        dv_t[r] = dv
        by_u += u_r * do_r
        by_v += v_r * do_r
        for j in range(e.size):
            dq_t[j] += S_r[j] * do_r
        for j in range(e.size):
            dk_t[j] += L_r[j] * v_r
        for j in range(e.size):
            da_t[j] += S_r[j] * m
        for j in range(e.size):
            db_t[j] += L_r[j] * u_r

        # eq. (3), the sum over the value channels
        if gated:
            for j in range(e.size):
                by_gate[j] += L_r[j] * S_r[j]
        for j in range(e.size):
            L_r[j] = e[j] * L_r[j] + a_t[j] * m
    return by_u, by_v


@inlined
def _advance(old, new, e, k_t, b_t, v_t, read_t):
    """The states after a token, from those before it and a^T S."""
    for r in range(v_t.size):
        old_r, new_r, u_r, v_r = old[r], new[r], read_t[r], v_t[r]
        for j in range(e.size):
            new_r[j] = e[j] * old_r[j] + b_t[j] * u_r + k_t[j] * v_r
