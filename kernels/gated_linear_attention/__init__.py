"""Linear attention with decaying states: gated linear attention, RetNet, Mamba-2, RWKV6."""

from functools import partial

from torch import Tensor

from visionseq.errors import KernelArgumentError
from visionseq.kernels.autocast import without_autocast
from visionseq.kernels.checks import check_choice, check_rank, check_shape, check_tensors, state_dtype
from visionseq.kernels.gated_linear_attention import reference
from visionseq.kernels.gated_linear_attention.registration import operator
from visionseq.kernels.segments import check_cu_seqlens, count_segments, row_offsets, run_segments
from visionseq.kernels.serving import serving_backend


@without_autocast
def gated_linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None = None,
    *,
    scale: float | None = None,
    bonus: Tensor | None = None,
    chunk_size: int = 64,
    within: str = "causal",
    direction: str = "one",
    initial_state: Tensor | None = None,
    reverse: bool = False,
    cu_seqlens: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor | None]:
    """S_t = exp(g_t) S_{t-1} + k_t v_t^T, o_t = scale q_t^T S_t: linear attention whose state [K, V] decays along K.

    Without a bonus, exp(g_t) damps what came before token t, and a token reads its own value undamped. With a bonus u,
    o_t = scale q_t^T (S_{t-1} + (u * k_t) v_t^T): the read is before the update, so that a token reads its own value
    with the weight u, and exp(g_t) first damps what token t+1 reads (the convention of RWKV6).

    Args:
        q, k: queries and keys [B, T, H, K].
        v: values [B, T, H, V].
        g: log decays <= 0 (-inf empties the state): [B, T, H] per head, [B, T, H, K] per key channel, [H] constant
            (RetNet: log1p(-2^(-5-h))), or None for no decay.
        scale: of the outputs, K^-0.5 if not given.
        bonus: u [H, K].
        chunk_size: tokens of a chunk of within="bidirectional"; without influence on any other result.
        within: "bidirectional" lets a token see all tokens of its chunk, each at exp(|i-j| g), and earlier chunks as
            usual; g is then [H] or None. Chunks are counted from where the scan begins in each segment.
        direction: "both" adds the same recurrence from the right, each token's own value only by the bonus (zero if not
            given); pairs of tokens decay by the gates strictly between them. There is no state then, and None is
            returned for it.
        initial_state: S_{-1} [N, H, K, V], zero if not given; N is B, or the number of packed segments.
        reverse: run from the last token to the first, within each segment.
        cu_seqlens: offsets [N+1] of sequences packed in a batch of 1.
        backend: "auto", "reference", "cpu" or "triton" (for K and V up to 1024).

    Returns:
        o [B, T, H, V] in the dtype of v, and the final state [N, H, K, V] in float32 (float64 where v is).

    Raises:
        KernelArgumentError: an argument has a wrong shape, dtype or value.
        KernelError: the backend cannot run the call.

    Sources: gated linear attention arXiv:2312.06635, RetNet arXiv:2307.08621, Mamba-2 arXiv:2405.21060, RWKV6
        arXiv:2404.05892; both directions and the bidirectional chunks: LION arXiv:2407.18232.
    """
    # the arguments
    _check_arguments(q, k, v, g, bonus, initial_state, cu_seqlens)
    _check_mode(g, bonus, initial_state, chunk_size, within, direction)
    batch, length, heads, keys = q.shape
    segments, values = count_segments(batch, cu_seqlens), v.shape[-1]
    if initial_state is not None:
        check_shape("initial_state", initial_state, (segments, heads, keys, values))
    scale = keys**-0.5 if scale is None else float(scale)
    chunk, both = chunk_size if within == "bidirectional" else 0, direction == "both"

    # the definition
    chosen = serving_backend("gated_linear_attention", v, backend, length if cu_seqlens is None else None)
    if chosen == "reference":
        return _reference(q, k, v, g, bonus, initial_state, scale, chunk, both, reverse, cu_seqlens)

    # the kernels, on the rows of all sequences
    rows = batch * length
    o, final_state = operator(
        q.reshape(rows, heads, keys),
        k.reshape(rows, heads, keys),
        v.reshape(rows, heads, values),
        None if g is None else _spread_gates(g, 1, 1).flatten(0, 1),
        bonus,
        None if initial_state is None else initial_state.float(),
        row_offsets(v, cu_seqlens),
        reverse,
        scale,
        chunk,
        both,
        g is not None and g.requires_grad,
        chosen,
    )
    return o.view(v.shape), None if both else final_state


@without_autocast
def gated_linear_attention_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: Tensor,
    g: Tensor | None = None,
    *,
    scale: float | None = None,
    bonus: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One token of `gated_linear_attention`: q, k [B, H, K], v [B, H, V], state [B, H, K, V] -> (o [B, H, V], state).

    g is [B, H], [B, H, K], [H] or None.
    """
    g = q.new_zeros(q.shape[1]) if g is None else g
    g_B1HK = _spread_gates(g if g.dim() == 1 else g.unsqueeze(1), len(q), 1)
    q_B1HK, k_B1HK, v_B1HV = (x.unsqueeze(1).to(state.dtype) for x in (q, k, v))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    bonus = None if bonus is None else bonus.to(state.dtype)
    o, state = reference.gated_linear_attention(q_B1HK, k_B1HK, v_B1HV, g_B1HK.to(state.dtype), state, scale, bonus)
    return o.squeeze(1).to(v.dtype), state


def _reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    bonus: Tensor | None,
    initial_state: Tensor | None,
    scale: float,
    chunk: int,
    both: bool,
    reverse: bool,
    cu_seqlens: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    # the state, and tokens that look both ways inside chunks
    dtype = state_dtype(v)
    shape = (count_segments(len(q), cu_seqlens), *q.shape[2:], v.shape[-1])
    state = v.new_zeros(shape, dtype=dtype) if initial_state is None else initial_state.to(dtype)
    tokens = [x.to(dtype) for x in (q, k, v)]
    if chunk:
        decay_H = q.new_ones(q.shape[2], dtype=dtype) if g is None else g.to(dtype).exp()
        loop = partial(reference.bidirectional_in_chunks, scale=scale, decay_H=decay_H, chunk_size=chunk)
        o, final_state = run_segments(loop, tokens, state, reverse, cu_seqlens)
        return o.to(v.dtype), final_state

    # one scan
    tokens.append(_spread_gates(q.new_zeros(q.shape[2]) if g is None else g, *q.shape[:2]).to(dtype))
    no_bonus_HK = q.new_zeros(q.shape[2:], dtype=dtype)
    bonus = no_bonus_HK if both and bonus is None else bonus
    bonus = None if bonus is None else bonus.to(dtype)
    loop = partial(reference.gated_linear_attention, scale=scale, bonus_HK=bonus)
    o, final_state = run_segments(loop, tokens, state, reverse and not both, cu_seqlens)

    # the scan from the other end, without each token's value
    if both:
        loop = partial(reference.gated_linear_attention, scale=scale, bonus_HK=no_bonus_HK)
        return (o + run_segments(loop, tokens, state, True, cu_seqlens)[0]).to(v.dtype), None
    return o.to(v.dtype), final_state


def _spread_gates(g: Tensor, batch: int, length: int) -> Tensor:
    """Log decays [B, T, H, K], [B, T, H] or [H] -> [B, T, H, K or 1]; constant ones with the given B and T."""
    if g.dim() == 1:
        return g.view(1, 1, -1, 1).expand(batch, length, -1, 1)
    return g if g.dim() == 4 else g.unsqueeze(-1)


def _check_arguments(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    bonus: Tensor | None,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
) -> None:
    check_tensors(v=v, q=q, k=k, g=g, bonus=bonus, initial_state=initial_state)
    check_rank("q", q, "B,T,H,K")
    check_shape("k", k, q.shape)
    check_rank("v", v, "B,T,H,V")
    check_shape("v", v, (*q.shape[:3], v.shape[-1]))
    check_cu_seqlens(q, cu_seqlens)
    if g is not None and list(g.shape) not in (list(q.shape), list(q.shape[:3]), [q.shape[2]]):
        expected = f"{list(q.shape)}, {list(q.shape[:3])} or {[q.shape[2]]}"
        raise KernelArgumentError(f"g: expected {expected}, got {list(g.shape)}")
    if bonus is not None:
        check_shape("bonus", bonus, q.shape[2:])


def _check_mode(
    g: Tensor | None, bonus: Tensor | None, initial_state: Tensor | None, chunk_size: int, within: str, direction: str
) -> None:
    check_choice("within", within, ("causal", "bidirectional"))
    check_choice("direction", direction, ("one", "both"))
    if chunk_size < 1:
        raise KernelArgumentError(f"chunk_size: expected at least 1, got {chunk_size}")
    if direction == "both" and initial_state is not None:
        raise KernelArgumentError("initial_state: direction='both' takes no state")
    if within == "bidirectional":
        if direction == "both":
            raise KernelArgumentError("direction: expected 'one' with within='bidirectional', got 'both'")
        if bonus is not None:
            raise KernelArgumentError("bonus: within='bidirectional' has none")
        if g is not None and g.dim() != 1:
            raise KernelArgumentError(f"g: expected [H] with within='bidirectional', got {list(g.shape)}")
