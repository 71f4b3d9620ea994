"""TTT-Linear: the state is a linear map that is trained on the sequence while it is read."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from visionseq.errors import KernelArgumentError
from visionseq.kernels.autocast import without_autocast
from visionseq.kernels.checks import check_rank, check_shape, check_tensors, state_dtype
from visionseq.kernels.segments import check_cu_seqlens, count_segments, row_offsets, run_segments
from visionseq.kernels.serving import serving_backend
from visionseq.kernels.ttt_linear import reference
from visionseq.kernels.ttt_linear.registration import operator

State = tuple[Tensor, Tensor]


@without_autocast
def ttt_linear(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    eta_row: Tensor,
    eta_col: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    *,
    mini_batch_size: int = 16,
    eps: float = 1e-6,
    initial_state: State | None = None,
    reverse: bool = False,
    cu_seqlens: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, State]:
    """Gradient descent on 1/2 |LN(k W + b) - (v - k)|^2 over the tokens, in mini-batches, read out by q.

    In a mini-batch that begins with the weights W, b, with g_s the gradient by k_s W + b of token s's loss at W, b:

        W_t = W - sum_{s<=t} eta_ts k_s g_s^T,   b_t = b - sum_{s<=t} eta_ts g_s,   o_t = q_t W_t + b_t,

    where eta_ts = eta_row_t eta_col_s is the learning rate. The next mini-batch begins with the weights of its last
    token. Mini-batches count from the start of a segment (from its end with `reverse`); a shorter last one is legal.
    No norm or residual is applied to o.

    Args:
        q, k, v: queries, keys and values [B, T, H, K].
        eta_row, eta_col: factors of the learning rate [B, T, H], of the token that reads and of the one that teaches.
        norm_weight, norm_bias: of the layer norm LN over K inside the loss [H, K].
        mini_batch_size: tokens whose gradients are taken at the same weights.
        eps: of the layer norm, added to the variance.
        initial_state: W [N, H, K, K] and b [N, H, K], zero if not given; N is B, or the number of packed segments.
        reverse: run from the last token to the first, within each segment.
        cu_seqlens: offsets [N+1] of sequences packed in a batch of 1.
        backend: "auto", "reference", "cpu" or "triton" (for K up to 64).

    Returns:
        o [B, T, H, K] in the dtype of v, and the final (W, b) in float32 (float64 where v is).

    Raises:
        KernelArgumentError: an argument has a wrong shape, dtype or value.
        KernelError: the backend cannot run the call.

    Source: Sun et al., "Learning to (Learn at Test Time): RNNs with Expressive Hidden States" (arXiv 2407.04620).
    """
    # the arguments
    W, b = (None, None) if initial_state is None else initial_state
    timed = {"q": q, "k": k, "eta_row": eta_row, "eta_col": eta_col}
    parts = {"initial_state[0]": W, "initial_state[1]": b}
    check_tensors(v=v, **timed, norm_weight=norm_weight, norm_bias=norm_bias, **parts)
    check_rank("v", v, "B,T,H,K")
    batch, length, heads, channels = v.shape
    for name, tensor in timed.items():
        check_shape(name, tensor, v.shape[: 3 if name.startswith("eta") else 4])
    check_shape("norm_weight", norm_weight, (heads, channels))
    check_shape("norm_bias", norm_bias, (heads, channels))
    if mini_batch_size < 1:
        raise KernelArgumentError(f"mini_batch_size: expected at least 1, got {mini_batch_size}")
    check_cu_seqlens(v, cu_seqlens)
    segments = count_segments(batch, cu_seqlens)
    if initial_state is not None:
        check_shape("initial_state[0]", initial_state[0], (segments, heads, channels, channels))
        check_shape("initial_state[1]", initial_state[1], (segments, heads, channels))

    # the definition
    chosen = serving_backend("ttt_linear", v, backend)
    if chosen == "reference":
        loop = partial(_reference_loop, v.dtype, norm_weight, norm_bias, mini_batch_size, eps)
        state = (
            _zeros(v, segments) if initial_state is None else tuple(part.to(state_dtype(v)) for part in initial_state)
        )
        return run_segments(loop, (q, k, v, eta_row, eta_col), state, reverse, cu_seqlens)

    # the kernels, on the rows of all sequences
    rows = batch * length
    o, final_W, final_b, *_ = operator(
        *(tensor.reshape(rows, heads, channels) for tensor in (v, q, k)),
        *(eta.reshape(rows, heads) for eta in (eta_row, eta_col)),
        norm_weight,
        norm_bias,
        *(None if part is None else part.float() for part in (W, b)),
        row_offsets(v, cu_seqlens),
        reverse,
        mini_batch_size,
        eps,
        chosen,
    )
    return o.view(v.shape), (final_W, final_b)


class StepState(NamedTuple):
    """Between two tokens of `ttt_linear_step`.

    W, b are what `ttt_linear` would return here. A running mini-batch also needs the weights it began with and its sums
    of gradients, col_s k_s g_s^T and col_s g_s, and how many tokens it has [N].
    """

    W: Tensor
    b: Tensor
    start: State
    sums: State
    position: Tensor


@without_autocast
def ttt_linear_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    eta_row: Tensor,
    eta_col: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    state: StepState | State,
    *,
    mini_batch_size: int = 16,
    eps: float = 1e-6,
) -> tuple[Tensor, StepState]:
    """One token of `ttt_linear`: q, k, v [B, H, K], eta_row, eta_col [B, H] -> (o [B, H, K], state).

    The state is that of the last step; a plain (W, b), given at first or returned by `ttt_linear`, begins a new
    mini-batch. Sequences of a batch may stand at different places of their mini-batches.
    """
    dtype = state_dtype(v)
    running = state if isinstance(state, StepState) else _begin(*(part.to(dtype) for part in state))
    begins = running.position % mini_batch_size == 0
    start_W, start_b = (
        torch.where(_like(begins, now), now, old) for now, old in zip(running[:2], running.start, strict=True)
    )
    sum_W, sum_b = (part.masked_fill(_like(begins, part), 0) for part in running.sums)
    q, k, value, row, col = (tensor.to(dtype) for tensor in (q, k, v, eta_row, eta_col))
    norm = (norm_weight.to(dtype), norm_bias.to(dtype))
    start, sums = (start_W, start_b), (sum_W, sum_b)
    o, weights, sums = reference.token(q, k, value, row, col, start, sums, *norm, eps)
    return o.to(v.dtype), StepState(*weights, start, sums, running.position % mini_batch_size + 1)


def _begin(W: Tensor, b: Tensor) -> StepState:
    """The state between two mini-batches."""
    nothing = (torch.zeros_like(W), torch.zeros_like(b))
    return StepState(W, b, (W, b), nothing, torch.zeros(len(W), dtype=torch.int64, device=W.device))


def _like(flag_N: Tensor, part: Tensor) -> Tensor:
    return flag_N.view(-1, *[1] * (part.dim() - 1))


def _zeros(v: Tensor, segments: int) -> State:
    heads, channels = v.shape[2:]
    W = v.new_zeros(segments, heads, channels, channels, dtype=state_dtype(v))
    return W, W[..., 0]


def _reference_loop(
    dtype: torch.dtype,
    norm_weight: Tensor,
    norm_bias: Tensor,
    mini_batch_size: int,
    eps: float,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    eta_row: Tensor,
    eta_col: Tensor,
    state: State,
) -> tuple[Tensor, State]:
    computed = state[0].dtype
    q, k, v, eta_row, eta_col = (tensor.to(computed) for tensor in (q, k, v, eta_row, eta_col))
    norm = (norm_weight.to(computed), norm_bias.to(computed))
    o, state = reference.ttt_linear(q, k, v, eta_row, eta_col, state, *norm, mini_batch_size, eps)
    return o.to(dtype), state
