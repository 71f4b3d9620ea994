"""The selective scan of Mamba (S6)."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from visionseq.errors import KernelArgumentError
from visionseq.kernels.autocast import without_autocast
from visionseq.kernels.checks import check_rank, check_shape, check_tensors, state_dtype
from visionseq.kernels.segments import check_cu_seqlens, count_segments, row_offsets, run_segments
from visionseq.kernels.selective_scan import reference
from visionseq.kernels.selective_scan.registration import operator
from visionseq.kernels.serving import serving_backend


@without_autocast
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    *,
    delta_softplus: bool = False,
    initial_state: Tensor | None = None,
    reverse: bool = False,
    cu_seqlens: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """A recurrence whose decay, input and output weights depend on the token: the state space layer of Mamba.

    dt_t = softplus(delta_t + delta_bias),  h_t = exp(dt_t A) h_{t-1} + dt_t u_t B_t,
    y_t = (sum_n h_t C_t + D u_t) silu(z_t).

    Args:
        u: inputs [B, T, E].
        delta: time steps [B, T, E] before bias and softplus.
        A: rates [E, N], negative for a decaying state.
        B: input weights [B, T, G, N], or [B, T, N] for one group; channel e belongs to group e // (E / G).
        C: output weights, shaped as B.
        D: weights [E] of the skip connection.
        z: gates [B, T, E].
        delta_bias: bias [E] of the time steps.
        delta_softplus: map delta + bias to positive time steps by softplus.
        initial_state: h_{-1} [N', E, N], zero if not given; N' is B, or the number of packed segments.
        reverse: run from the last token to the first, within each segment.
        cu_seqlens: offsets [N'+1] of sequences packed in a batch of 1.
        backend: "auto", "reference", "cpu" or "triton".

    Returns:
        y [B, T, E] in the dtype of u, and the final state [N', E, N] in float32 (float64 where u is).

    Raises:
        KernelArgumentError: an argument has a wrong shape, dtype or value.
        KernelError: the backend cannot run the call.

    Source: Gu and Dao, "Mamba: linear-time sequence modeling with selective state spaces", arXiv 2312.00752.
    """
    # the arguments
    check_tensors(u=u, delta=delta, A=A, B=B, C=C, D=D, z=z, delta_bias=delta_bias, initial_state=initial_state)
    check_rank("u", u, "B,T,E")
    check_cu_seqlens(u, cu_seqlens)
    B, C = (_with_groups(name, weights) for name, weights in (("B", B), ("C", C)))
    _check_shapes(u, delta, A, B, C, D, z, delta_bias)
    batch, length, channels = u.shape
    segments = count_segments(batch, cu_seqlens)
    if initial_state is not None:
        check_shape("initial_state", initial_state, (segments, *A.shape))

    # the definition
    chosen = serving_backend("selective_scan", u, backend)
    if chosen == "reference":
        dtype = state_dtype(u)
        state = u.new_zeros((segments, *A.shape), dtype=dtype) if initial_state is None else initial_state.to(dtype)
        loop = _loop(dtype, A, D, delta_bias, delta_softplus)
        timed = [None if x is None else x.to(dtype) for x in (u, delta, B, C, z)]
        y, final_state = run_segments(loop, timed, state, reverse, cu_seqlens)
        return y.to(u.dtype), final_state

    # the kernels, on the rows of all sequences
    rows = batch * length
    y, final_state, _ = operator(
        u.reshape(rows, channels),
        delta.reshape(rows, channels),
        A,
        B.reshape(rows, *B.shape[2:]),
        C.reshape(rows, *C.shape[2:]),
        D,
        None if z is None else z.reshape(rows, channels),
        delta_bias,
        None if initial_state is None else initial_state.float(),
        row_offsets(u, cu_seqlens),
        reverse,
        delta_softplus,
        chosen,
    )
    return y.view(u.shape), final_state


@without_autocast
def selective_scan_step(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    state: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    *,
    delta_softplus: bool = False,
) -> tuple[Tensor, Tensor]:
    """One token of `selective_scan`: u, delta, z [B, E], B, C [B, G, N] or [B, N], state [B, E, N] -> (y, state)."""
    loop = _loop(state.dtype, A, D, delta_bias, delta_softplus)
    B, C = (weights.unsqueeze(1) if weights.dim() == 2 else weights for weights in (B, C))
    timed = [None if x is None else x.to(state.dtype).unsqueeze(1) for x in (u, delta, B, C, z)]
    y, state = loop(*timed, state)
    return y.squeeze(1).to(u.dtype), state


def _loop(
    dtype: torch.dtype, A: Tensor, D: Tensor | None, delta_bias: Tensor | None, delta_softplus: bool
) -> Callable[..., tuple[Tensor, Tensor]]:
    """The reference as a function of the tensors with time and the state."""
    D, delta_bias = (None if x is None else x.to(dtype) for x in (D, delta_bias))
    return partial(reference.selective_scan, A_EN=A.to(dtype), D_E=D, bias_E=delta_bias, softplus=delta_softplus)


def _with_groups(name: str, weights: Tensor) -> Tensor:
    """[B, T, G, N] of [B, T, N] or [B, T, G, N]."""
    if weights.dim() == 3:
        return weights.unsqueeze(2)
    check_rank(name, weights, "B,T,G,N")
    return weights


def _check_shapes(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
) -> None:
    batch, length, channels = u.shape
    check_shape("delta", delta, u.shape)
    check_rank("A", A, "E,N")
    check_shape("A", A, (channels, A.shape[1]))
    groups = B.shape[2]
    check_shape("B", B, (batch, length, groups, A.shape[1]))
    if groups == 0 or channels % groups:
        raise KernelArgumentError(f"B: expected groups that divide the {channels} channels, got {groups}")
    check_shape("C", C, B.shape)
    for name, tensor, shape in (("D", D, (channels,)), ("z", z, u.shape), ("delta_bias", delta_bias, (channels,))):
        if tensor is not None:
            check_shape(name, tensor, shape)
