"""Softmax attention inside chunks, linear attention with a gated memory across them."""

from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from visionseq.errors import KernelArgumentError
from visionseq.kernels.autocast import without_autocast
from visionseq.kernels.checks import check_rank, check_shape, check_tensors, state_dtype
from visionseq.kernels.chunk_gated_attention import reference
from visionseq.kernels.chunk_gated_attention.registration import operator
from visionseq.kernels.segments import check_cu_seqlens, count_segments, row_offsets, run_segments
from visionseq.kernels.serving import serving_backend


@without_autocast
def chunk_gated_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    *,
    chunk_size: int,
    initial_state: Tensor | None = None,
    reverse: bool = False,
    cu_seqlens: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Full attention among the tokens of a chunk (an image), plus a read of a memory M of the chunks before it.

        o_i = sum_j softmax_j(q_i . k_j / sqrt(K)) v_j + exp(sum_{j<=i} g_j) q_i^T M        i, j in one chunk
        M <- exp(mean_j g_j) M + sum_j k_j v_j^T / sqrt(K)                                  after the chunk

    Three reductions of the same gates: the mean decays the memory, the running sum damps a token's read, and what is
    written is not gated.

    Args:
        q: queries [B, T, H, K]; T is a multiple of `chunk_size`.
        k: keys [B, T, H, K]; scaled by 1/sqrt(K) here, for both terms.
        v: values [B, T, H, V].
        g: log gates [B, T, H], at most 0.
        chunk_size: tokens in a chunk.
        initial_state: M before the first chunk, [N, H, K, V], zero if not given; N is B, or the number of packed
            segments.
        reverse: run from the last token to the first, within each segment.
        cu_seqlens: offsets [N+1], multiples of `chunk_size`, of sequences packed in a batch of 1.
        backend: "auto", "reference", "cpu" or "triton".

    Returns:
        o [B, T, H, V] in the dtype of q, and the final memory [N, H, K, V] in float32 (float64 where q is).

    Raises:
        KernelArgumentError: an argument has a wrong shape, dtype or value.
        KernelError: the backend cannot run the call.

    Source: Hui et al., "ARFlow: Autoregressive Flow with Hybrid Linear Attention", arXiv 2501.16085.
    """
    segments = _check(q, k, v, g, chunk_size, initial_state, cu_seqlens)
    chosen = serving_backend("chunk_gated_attention", q, backend)
    if chosen == "reference":
        return _reference(q, k, v, g, chunk_size, initial_state, reverse, cu_seqlens, segments)
    q_MHK, k_MHK, v_MHV, g_MH = (tensor.flatten(0, 1) for tensor in (q, k, v, g))
    o_MHV, final_state, _ = operator(
        q_MHK,
        k_MHK,
        v_MHV,
        g_MH,
        None if initial_state is None else initial_state.float(),
        row_offsets(q, cu_seqlens),
        reverse,
        chunk_size,
        chosen,
    )
    if chosen == "triton":
        o_MHV = o_MHV + _attend(q_MHK, k_MHK, v_MHV, chunk_size)
    return o_MHV.to(q.dtype).view(v.shape), final_state


@without_autocast
def chunk_gated_attention_step(q: Tensor, k: Tensor, v: Tensor, g: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One chunk: q, k [B, N, H, K], v [B, N, H, V], g [B, N, H], M [B, H, K, V] -> (o [B, N, H, V], M)."""
    dtype = q.dtype
    q, k, v, g = (tensor.to(state.dtype) for tensor in (q, k, v, g))
    o, state = reference.step(q, k, v, g, state)
    return o.to(dtype), state


def _attend(q_MHK: Tensor, k_MHK: Tensor, v_MHV: Tensor, chunk_size: int) -> Tensor:
    """Softmax attention inside each chunk [M, H, V], in the widest dtype of the three."""
    chunks = (q_MHK.shape[0] // chunk_size, chunk_size)
    dtype = torch.promote_types(torch.promote_types(q_MHK.dtype, k_MHK.dtype), v_MHV.dtype)
    split = (x.unflatten(0, chunks).transpose(1, 2).to(dtype) for x in (q_MHK, k_MHK, v_MHV))
    return scaled_dot_product_attention(*split).transpose(1, 2).flatten(0, 1)


def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    chunk_size: int,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
) -> int:
    """Check the arguments; the number of segments."""
    check_tensors(q=q, k=k, v=v, g=g, initial_state=initial_state)
    check_rank("q", q, "B,T,H,K")
    check_rank("v", v, "B,T,H,V")
    check_shape("k", k, q.shape)
    check_shape("v", v, (*q.shape[:3], v.shape[3]))
    check_shape("g", g, q.shape[:3])
    if chunk_size < 1 or q.shape[1] % chunk_size:
        raise KernelArgumentError(f"chunk_size: expected a divisor of the {q.shape[1]} tokens, got {chunk_size}")
    check_cu_seqlens(q, cu_seqlens)
    if cu_seqlens is not None and not torch.compiler.is_compiling():
        for index, offset in enumerate(cu_seqlens.tolist()):
            if offset % chunk_size:
                raise KernelArgumentError(f"cu_seqlens[{index}]: expected a multiple of {chunk_size}, got {offset}")
    segments = count_segments(q.shape[0], cu_seqlens)
    if initial_state is not None:
        check_shape("initial_state", initial_state, (segments, *q.shape[2:], v.shape[3]))
    return segments


def _reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    chunk_size: int,
    initial_state: Tensor | None,
    reverse: bool,
    cu_seqlens: Tensor | None,
    segments: int,
) -> tuple[Tensor, Tensor]:
    dtype = state_dtype(q)
    shape = (segments, *q.shape[2:], v.shape[3])
    state = q.new_zeros(shape, dtype=dtype) if initial_state is None else initial_state.to(dtype)
    loop = partial(reference.chunk_gated_attention, chunk_size=chunk_size)
    o, final_state = run_segments(loop, [tensor.to(dtype) for tensor in (q, k, v, g)], state, reverse, cu_seqlens)
    return o.to(q.dtype), final_state
