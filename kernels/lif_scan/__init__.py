"""Leaky integrate-and-fire neurons with reset, fixed, given or adaptive thresholds, and surrogate gradients."""

from collections.abc import Callable
from functools import partial
from math import prod

from torch import Tensor

from visionseq.errors import KernelArgumentError
from visionseq.kernels.autocast import without_autocast
from visionseq.kernels.checks import check_choice, check_shape, check_tensors, state_dtype
from visionseq.kernels.lif_scan import reference
from visionseq.kernels.lif_scan.registration import STATES, operator, threshold_kind
from visionseq.kernels.lif_scan.surrogates import WIDTHS
from visionseq.kernels.segments import check_cu_seqlens, count_segments, row_offsets, run_segments
from visionseq.kernels.serving import serving_backend

Pair = tuple[Tensor, Tensor]


@without_autocast
def lif_scan(
    x: Tensor,
    leak: Tensor,
    threshold: Tensor,
    *,
    reset: str = "hard",
    input_scale: str = "one",
    surrogate: str = "arctan",
    width: float | None = None,
    detach_reset: bool = True,
    adaptive: Pair | None = None,
    initial_state: Tensor | None = None,
    reverse: bool = False,
    cu_seqlens: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """Spiking neurons; the reset is delayed: it acts through the previous spike, and v is the membrane before it.

        hard reset   v_t = leak v_{t-1} (1 - z_{t-1}) + w x_t
        soft reset   v_t = leak v_{t-1} + w x_t - th_{t-1} z_{t-1}
        spike        z_t = 1[v_t > th_t], compared in float32, with a surrogate derivative
        adaptive     a_t = leak_a a_{t-1} + (1 - leak_a) z_{t-1};  th_t = threshold + scale_a a_t

    Args:
        x: currents [B, T, C, *P].
        leak: [C], the share of the membrane that is kept, as it is used (after a sigmoid, say).
        threshold: [C], or [B, T, C, *P] for thresholds that the caller computes, as from a pre-synaptic trace.
        reset: "hard" or "soft".
        input_scale: "one", or "one_minus_leak" for w = 1 - leak.
        surrogate: "arctan", "superspike", "fast_sigmoid", "triangle", "multigauss", "atan" or "adaptiveflownet".
        width: of the surrogate; the formulas and the defaults are in `lif_scan.surrogates`.
        detach_reset: no gradient reaches z_{t-1} through the reset. The threshold of the soft reset keeps its own.
        adaptive: (leak_a [C], scale_a [C]) of thresholds that rise with the neuron's own spikes.
        initial_state: [S, N, C, *P]: (v, z), with given thresholds (v, z, th), adaptive (v, z, a). Zero if not given;
            N is B, or the number of packed segments.
        reverse: run from the last token to the first, within each segment.
        cu_seqlens: offsets [N+1] of sequences packed in a batch of 1.
        backend: "auto", "reference", "cpu" or "triton".

    Returns:
        spikes z and membranes v [B, T, C, *P] in the dtype of x, and the last state [S, N, C, *P] in float32 (float64
        where x is).

    Raises:
        KernelArgumentError: an argument has a wrong shape, dtype or value.
        KernelError: the backend cannot run the call.

    Source: event_flow, arXiv 2106.01862, and the surrogates named in `lif_scan.surrogates`.
    """
    # the arguments
    trace_leak, trace_scale = adaptive or (None, None)
    threshold_C, threshold_BTCP = (threshold, None) if threshold.dim() == 1 else (None, threshold)
    width = _check(x, leak, threshold, adaptive, initial_state, cu_seqlens, reset, input_scale, surrogate, width)

    # the definition
    chosen = serving_backend("lif_scan", x, backend, x.shape[1] if cu_seqlens is None else None)
    if chosen == "reference":
        loop = _loop(x, leak, threshold_C, adaptive, reset, input_scale, surrogate, width, detach_reset)
        dtype, shape = state_dtype(x), _state_shape(x, threshold, adaptive, cu_seqlens)
        state = x.new_zeros(shape, dtype=dtype) if initial_state is None else initial_state.to(dtype)
        timed = (x.to(dtype), None if threshold_BTCP is None else threshold_BTCP.to(dtype))
        (z, v), final_state = run_segments(loop, timed, state, reverse, cu_seqlens, state_axis=1)
        return z.to(x.dtype), v.to(x.dtype), final_state

    # the kernels, on the rows of all sequences
    rows = (x.shape[0] * x.shape[1], x.shape[2], prod(x.shape[3:]))
    z, v, final_state = operator(
        x.reshape(rows),
        leak,
        threshold_C,
        None if threshold_BTCP is None else threshold_BTCP.reshape(rows),
        trace_leak,
        trace_scale,
        None if initial_state is None else initial_state.float().reshape(*initial_state.shape[:2], *rows[1:]),
        row_offsets(x, cu_seqlens),
        reverse,
        reset == "hard",
        input_scale == "one_minus_leak",
        surrogate,
        width,
        detach_reset,
        chosen,
    )
    return z.view(x.shape), v.view(x.shape), final_state.view(*final_state.shape[:2], *x.shape[2:])


@without_autocast
def lif_scan_step(
    x: Tensor,
    leak: Tensor,
    threshold: Tensor,
    state: Tensor,
    *,
    reset: str = "hard",
    input_scale: str = "one",
    surrogate: str = "arctan",
    width: float | None = None,
    detach_reset: bool = True,
    adaptive: Pair | None = None,
) -> tuple[Pair, Tensor]:
    """One token of `lif_scan`: x [B, C, *P], state [S, B, C, *P] -> ((z, v) [B, C, *P], state)."""
    width = WIDTHS[surrogate] if width is None else width
    per_channel = threshold.dim() == 1
    threshold_B1CP = None if per_channel else threshold.to(state.dtype).unsqueeze(1)
    x_B1CP = x.unsqueeze(1)
    threshold_C = threshold if per_channel else None
    loop = _loop(x_B1CP, leak, threshold_C, adaptive, reset, input_scale, surrogate, width, detach_reset)
    (z, v), state = loop(x_B1CP.to(state.dtype), threshold_B1CP, state)
    return (z.squeeze(1).to(x.dtype), v.squeeze(1).to(x.dtype)), state


def _loop(
    x: Tensor,
    leak: Tensor,
    threshold: Tensor | None,
    adaptive: Pair | None,
    reset: str,
    input_scale: str,
    surrogate: str,
    width: float,
    detach_reset: bool,
) -> Callable[..., tuple[Pair, Tensor]]:
    """The reference as a function of x, the thresholds of the tokens and the state."""

    def spread(channels: Tensor) -> Tensor:
        axes = [1] * (x.dim() - 3)
        return channels.to(state_dtype(x)).reshape(-1, *axes)

    return partial(
        reference.lif_scan,
        leak_CP=spread(leak),
        threshold_CP=None if threshold is None else spread(threshold),
        adaptive_CP=None if adaptive is None else (spread(adaptive[0]), spread(adaptive[1])),
        reset=reset,
        input_scale=input_scale,
        surrogate=surrogate,
        width=width,
        detach_reset=detach_reset,
    )


def _state_shape(x: Tensor, threshold: Tensor, adaptive: Pair | None, cu_seqlens: Tensor | None) -> tuple[int, ...]:
    kind = threshold_kind(None if threshold.dim() == 1 else threshold, None if adaptive is None else adaptive[0])
    return STATES[kind], count_segments(x.shape[0], cu_seqlens), *x.shape[2:]


def _check(
    x: Tensor,
    leak: Tensor,
    threshold: Tensor,
    adaptive: Pair | None,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
    reset: str,
    input_scale: str,
    surrogate: str,
    width: float | None,
) -> float:
    """Check all arguments; the width, or the surrogate's own where it is None."""
    check_choice("reset", reset, ("hard", "soft"))
    check_choice("input_scale", input_scale, ("one", "one_minus_leak"))
    check_choice("surrogate", surrogate, list(WIDTHS))
    trace_leak, trace_scale = adaptive or (None, None)
    check_tensors(
        x=x,
        leak=leak,
        threshold=threshold,
        trace_leak=trace_leak,
        trace_scale=trace_scale,
        initial_state=initial_state,
    )
    if x.dim() < 3:
        raise KernelArgumentError(f"x: expected [B,T,C,*P], got {list(x.shape)}")
    channels = x.shape[2:3]
    check_shape("leak", leak, channels)
    check_shape("threshold", threshold, channels if threshold.dim() == 1 or adaptive is not None else x.shape)
    if adaptive is not None:
        check_shape("adaptive[0]", adaptive[0], channels)
        check_shape("adaptive[1]", adaptive[1], channels)
    check_cu_seqlens(x, cu_seqlens)
    if initial_state is not None:
        check_shape("initial_state", initial_state, _state_shape(x, threshold, adaptive, cu_seqlens))
    return WIDTHS[surrogate] if width is None else width


__all__ = ["lif_scan", "lif_scan_step"]
