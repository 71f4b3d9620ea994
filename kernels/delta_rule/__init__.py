"""The delta rule: a matrix state that forgets along one direction and writes along another, once a token."""

from functools import partial

from torch import Tensor

from visionseq.errors import KernelArgumentError
from visionseq.kernels.autocast import without_autocast
from visionseq.kernels.checks import check_rank, check_shape, check_tensors, state_dtype
from visionseq.kernels.delta_rule import reference
from visionseq.kernels.delta_rule.registration import operator
from visionseq.kernels.segments import check_cu_seqlens, count_segments, row_offsets, run_segments
from visionseq.kernels.serving import serving_backend


@without_autocast
def delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    g: Tensor | None = None,
    *,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    reverse: bool = False,
    cu_seqlens: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """S_t = diag(exp(g_t)) S_{t-1} + b_t (a_t^T S_{t-1}) + k_t v_t^T,  o_t = scale * q_t^T S_t.

    a reads the state before it decays. RWKV-7 is a = -k^, b = k^ * gate (k^ the normalised key), g its log decays and
    scale = 1; `delta_net` is a = exp(g) k, b = -beta k. With eigenvalues of diag(exp(g)) + b a^T outside the unit
    circle the state grows without bound; that is not checked.

    Args:
        q, k: queries and keys [B, T, H, K].
        v: values [B, T, H, V].
        a, b: directions read and overwritten [B, T, H, K].
        g: log decays, [B, T, H] for a head or [B, T, H, K] for each key channel; no decay if not given.
        scale: factor of the outputs, K ** -0.5 if not given.
        initial_state: S_{-1} [N, H, K, V], zero if not given; N is B, or the number of packed segments.
        reverse: run from the last token to the first, within each segment.
        cu_seqlens: offsets [N+1] of sequences packed in a batch of 1.
        backend: "auto", "reference", "cpu" or "triton" (for K up to 1024).

    Returns:
        o [B, T, H, V] in the dtype of v, and the final state [N, H, K, V] in float32 (float64 where v is).

    Raises:
        KernelArgumentError: an argument has a wrong shape, dtype or value.
        KernelError: the backend cannot run the call.

    Source: the generalised delta rule of RWKV-7 (arXiv 2503.14456).
    """
    # the arguments
    check_tensors(v=v, q=q, k=k, a=a, b=b, g=g, initial_state=initial_state)
    check_rank("v", v, "B,T,H,V")
    check_rank("q", q, "B,T,H,K")
    batch, length, heads, keys = q.shape
    check_shape("v", v, (batch, length, heads, v.shape[3]))
    for name, tensor in (("k", k), ("a", a), ("b", b)):
        check_shape(name, tensor, q.shape)
    check_cu_seqlens(v, cu_seqlens)
    segments = count_segments(batch, cu_seqlens)
    state_shape = (segments, heads, keys, v.shape[3])
    if initial_state is not None:
        check_shape("initial_state", initial_state, state_shape)
    g = _with_channels(g, q)
    scale = keys**-0.5 if scale is None else float(scale)

    # the definition
    chosen = serving_backend("delta_rule", v, backend, length if cu_seqlens is None else None)
    if chosen == "reference":
        return _reference(q, k, v, a, b, g, initial_state, state_shape, scale, reverse, cu_seqlens)

    # the kernels, on the rows of all sequences
    rows = batch * length
    o, final_state, *_ = operator(
        *(tensor.reshape(rows, heads, tensor.shape[3]) for tensor in (v, q, k, a, b)),
        None if g is None else g.reshape(rows, heads, g.shape[3]),
        None if initial_state is None else initial_state.float(),
        row_offsets(v, cu_seqlens),
        reverse,
        scale,
        chosen,
    )
    return o.view(v.shape), final_state


@without_autocast
def delta_net(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    g: Tensor | None = None,
    *,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    reverse: bool = False,
    cu_seqlens: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """S' = exp(g_t) S_{t-1},  S_t = S' + beta_t k_t (v_t - k_t^T S')^T,  o_t = scale * q_t^T S_t.

    DeltaNet, and gated DeltaNet with g. The state stays bounded for keys of length one and 0 <= beta <= 2.

    Args:
        q, k: queries and keys [B, T, H, K].
        v: values [B, T, H, V].
        beta: writing strengths [B, T, H].
        g: log decays, [B, T, H] for a head or [B, T, H, K] for each key channel; no decay if not given.
        scale, initial_state, reverse, cu_seqlens, backend: as in `delta_rule`.

    Returns:
        o [B, T, H, V] in the dtype of v, and the final state [N, H, K, V] in float32 (float64 where v is).

    Source: DeltaNet (arXiv 2406.06484); gated DeltaNet (arXiv 2412.06464).
    """
    check_tensors(v=v, q=q, k=k, beta=beta, g=g)
    check_rank("q", q, "B,T,H,K")
    check_rank("v", v, "B,T,H,V")
    check_shape("v", v, (*q.shape[:3], v.shape[3]))
    check_shape("k", k, q.shape)
    check_shape("beta", beta, q.shape[:3])
    o, final_state = delta_rule(
        *(q, *_as_general(k, v, beta, _with_channels(g, q)), g),
        scale=scale,
        initial_state=initial_state,
        reverse=reverse,
        cu_seqlens=cu_seqlens,
        backend=backend,
    )
    return o.to(v.dtype), final_state


@without_autocast
def delta_rule_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    g: Tensor | None,
    state: Tensor,
    *,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """One token of `delta_rule`: q, k, a, b [B, H, K], v [B, H, V], g None, [B, H] or [B, H, K], state [B, H, K, V].

    Returns (o [B, H, V], state).
    """
    g = g.unsqueeze(-1) if g is not None and g.dim() == 2 else g
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    q, k, value, a, b = (tensor.to(state.dtype) for tensor in (q, k, v, a, b))
    o, state = reference.token(q, k, value, a, b, None if g is None else g.to(state.dtype), state, scale)
    return o.to(v.dtype), state


@without_autocast
def delta_net_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    g: Tensor | None,
    state: Tensor,
    *,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """One token of `delta_net`: q, k [B, H, K], v [B, H, V], beta [B, H], g None, [B, H] or [B, H, K].

    Returns (o [B, H, V], state [B, H, K, V]).
    """
    channels = g.unsqueeze(-1) if g is not None and g.dim() == 2 else g
    o, state = delta_rule_step(q, *_as_general(k, v, beta, channels), g, state, scale=scale)
    return o.to(v.dtype), state


def _as_general(k: Tensor, v: Tensor, beta: Tensor, g: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """k, v, a, b of the general form: beta v is written along k, and exp(g) k read out and erased by -beta k."""
    key, value, beta = (tensor.to(state_dtype(v)) for tensor in (k, v, beta.unsqueeze(-1)))
    return k, beta * value, key if g is None else g.to(key.dtype).exp() * key, -beta * key


def _with_channels(g: Tensor | None, q: Tensor) -> Tensor | None:
    """Log decays [B, T, H, K], or [B, T, H, 1] where a head has one."""
    if g is None or g.shape == q.shape:
        return g
    if g.shape != q.shape[:3]:
        raise KernelArgumentError(f"g: expected {list(q.shape[:3])} or {list(q.shape)}, got {list(g.shape)}")
    return g.unsqueeze(-1)


def _reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    g: Tensor | None,
    initial_state: Tensor | None,
    state_shape: tuple[int, ...],
    scale: float,
    reverse: bool,
    cu_seqlens: Tensor | None,
) -> tuple[Tensor, Tensor]:
    dtype = state_dtype(v)
    state = v.new_zeros(state_shape, dtype=dtype) if initial_state is None else initial_state.to(dtype)
    timed = [None if tensor is None else tensor.to(dtype) for tensor in (q, k, v, a, b, g)]
    o, final_state = run_segments(partial(reference.delta_rule, scale=scale), timed, state, reverse, cu_seqlens)
    return o.to(v.dtype), final_state
