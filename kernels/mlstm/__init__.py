"""The matrix memory of xLSTM: gated linear attention with an exponential input gate and a normaliser."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from visionseq.errors import KernelArgumentError
from visionseq.kernels.autocast import without_autocast
from visionseq.kernels.checks import check_rank, check_shape, check_tensors, state_dtype
from visionseq.kernels.mlstm import reference
from visionseq.kernels.mlstm.registration import operator
from visionseq.kernels.segments import check_cu_seqlens, count_segments, row_offsets, run_segments
from visionseq.kernels.serving import serving_backend

State = tuple[Tensor, Tensor, Tensor]


@without_autocast
def mlstm(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    *,
    eps: float = 1e-6,
    initial_state: State | None = None,
    reverse: bool = False,
    cu_seqlens: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, State]:
    """The mLSTM cell, a matrix memory C with normaliser n and stabiliser m for each head.

        m_t = max(logsig f_t + m_{t-1}, i_t),  F_t = exp(logsig f_t + m_{t-1} - m_t),  I_t = exp(i_t - m_t)
        C_t = F_t C_{t-1} + I_t k_t v_t^T / sqrt(K),  n_t = F_t n_{t-1} + I_t k_t / sqrt(K)
        o_t = q_t^T C_t / (max(|q_t . n_t|, e^-m_t) + eps)

    Args:
        q: queries [B, T, H, K].
        k: keys [B, T, H, K]; scaled by 1/sqrt(K) here.
        v: values [B, T, H, V].
        i: input gates before the exponential, [B, T, H].
        f: forget gates before the sigmoid, [B, T, H]; i = -inf with f = inf leaves the state as it is.
        eps: added to the denominator.
        initial_state: (C [N, H, K, V], n [N, H, K], m [N, H]), (0, 0, -inf) if not given; N is B, or the number of
            packed segments. The xLSTM code starts from m = 0, which changes o only through eps.
        reverse: run from the last token to the first, within each segment.
        cu_seqlens: offsets [N+1] of sequences packed in a batch of 1.
        backend: "auto", "reference", "cpu" or "triton" (for K up to 1024).

    Returns:
        o [B, T, H, V] in the dtype of q, and the final state (C, n, m) in float32 (float64 where q is). C and n are
        relative to m: C e^m does not depend on where m started.

    Raises:
        KernelArgumentError: an argument has a wrong shape, dtype or value.
        KernelError: the backend cannot run the call.

    Source: Beck et al., "xLSTM: Extended Long Short-Term Memory", arXiv 2405.04517.
    """
    segments = _check(q, k, v, i, f, initial_state, cu_seqlens)
    chosen = serving_backend("mlstm", q, backend)
    if chosen == "reference":
        return _reference(q, k, v, i, f, eps, initial_state, reverse, cu_seqlens, segments)
    initial_c, initial_n, initial_m = [None] * 3 if initial_state is None else [s.float() for s in initial_state]
    o, final_c, final_n, final_m = operator(
        q.flatten(0, 1),
        k.flatten(0, 1),
        v.flatten(0, 1),
        i.flatten(0, 1),
        f.flatten(0, 1),
        initial_c,
        initial_n,
        initial_m,
        row_offsets(q, cu_seqlens),
        reverse,
        eps,
        chosen,
    )
    return o.view(v.shape), (final_c, final_n, final_m)


@without_autocast
def mlstm_step(
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, state: State, *, eps: float = 1e-6
) -> tuple[Tensor, State]:
    """One token of `mlstm`: q, k [B, H, K], v [B, H, V], i, f [B, H], state (C, n, m) -> (o [B, H, V], state)."""
    dtype = q.dtype
    q, k, v, i, f = (tensor.to(state[0].dtype) for tensor in (q, k, v, i, f))
    o, state = reference.step(q, k, v, i, f, state, eps)
    return o.to(dtype), state


def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    initial_state: Sequence[Tensor] | None,
    cu_seqlens: Tensor | None,
) -> int:
    """Check the arguments; the number of segments."""
    if initial_state is not None and len(initial_state) != 3:
        raise KernelArgumentError(f"initial_state: expected (C, n, m), got {len(initial_state)} tensors")
    names = [f"initial_state[{index}]" for index in range(3)]
    states = {} if initial_state is None else dict(zip(names, initial_state, strict=True))
    check_tensors(q=q, k=k, v=v, i=i, f=f, **states)
    check_rank("q", q, "B,T,H,K")
    check_rank("v", v, "B,T,H,V")
    check_shape("k", k, q.shape)
    check_shape("v", v, (*q.shape[:3], v.shape[3]))
    check_shape("i", i, q.shape[:3])
    check_shape("f", f, q.shape[:3])
    check_cu_seqlens(q, cu_seqlens)
    segments, (heads, keys), values = count_segments(q.shape[0], cu_seqlens), q.shape[2:], v.shape[3]
    shapes = ((segments, heads, keys, values), (segments, heads, keys), (segments, heads))
    for (name, state), shape in zip(states.items(), shapes, strict=False):
        check_shape(name, state, shape)
    return segments


def _reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    eps: float,
    initial_state: State | None,
    reverse: bool,
    cu_seqlens: Tensor | None,
    segments: int,
) -> tuple[Tensor, State]:
    dtype = state_dtype(q)
    if initial_state is None:
        heads, keys, values = *q.shape[2:], v.shape[3]
        state = (
            q.new_zeros((segments, heads, keys, values), dtype=dtype),
            q.new_zeros((segments, heads, keys), dtype=dtype),
            q.new_full((segments, heads), -torch.inf, dtype=dtype),
        )
    else:
        c, n, m = (tensor.to(dtype) for tensor in initial_state)
        state = (c, n, m)
    loop = partial(reference.mlstm, eps=eps)
    o, final_state = run_segments(loop, [tensor.to(dtype) for tensor in (q, k, v, i, f)], state, reverse, cu_seqlens)
    return o.to(q.dtype), final_state
