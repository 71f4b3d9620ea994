"""Linear recurrence with a state of any shape."""

from functools import partial
from math import prod

from torch import Tensor

from visionseq.errors import KernelArgumentError
from visionseq.kernels.autocast import without_autocast
from visionseq.kernels.checks import check_shape, check_tensors, state_dtype
from visionseq.kernels.linear_scan import reference
from visionseq.kernels.linear_scan.registration import operator
from visionseq.kernels.segments import check_cu_seqlens, count_segments, row_offsets, run_segments
from visionseq.kernels.serving import serving_backend


@without_autocast
def linear_scan(
    a: Tensor,
    b: Tensor,
    initial_state: Tensor | None = None,
    *,
    exclusive: bool = False,
    reverse: bool = False,
    cu_seqlens: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """h_t = a_t * h_{t-1} + b_t along the second axis, for any real a.

    Args:
        a: gates [B, T, *S'], where S' is S with trailing axes missing or 1, over which the gate is broadcast.
        b: inputs [B, T, *S].
        initial_state: h_{-1} [N, *S], zero if not given; N is B, or the number of packed segments.
        exclusive: return h_{t-1} in place of h_t.
        reverse: run from the last token to the first, within each segment.
        cu_seqlens: offsets [N+1] of sequences packed in a batch of 1.
        backend: "auto", "reference", "cpu" or "triton".

    Returns:
        h [B, T, *S] in the dtype of b, and the final state [N, *S] in float32 (float64 where b is).

    Raises:
        KernelArgumentError: an argument has a wrong shape, dtype or value.
        KernelError: the backend cannot run the call.

    Source: Blelloch, "Prefix sums and their applications" (1990), section 1.4; the recurrence of HGRN and minimal RNNs.
    """
    check_tensors(b=b, a=a, initial_state=initial_state)
    check_cu_seqlens(b, cu_seqlens)
    gate_axes = _count_gate_axes(a, b)
    batch, length, *axes = b.shape
    segments = count_segments(batch, cu_seqlens)
    if initial_state is not None:
        check_shape("initial_state", initial_state, (segments, *axes))
    chosen = serving_backend("linear_scan", b, backend, length if cu_seqlens is None else None)
    if chosen == "reference":
        return _reference(a, b, initial_state, exclusive, reverse, cu_seqlens, (segments, *axes))
    rows, gates, shared = batch * length, prod(axes[:gate_axes]), prod(axes[gate_axes:])
    h, final_state = operator(
        a.reshape(rows, gates),
        b.reshape(rows, gates, shared),
        None if initial_state is None else initial_state.float().reshape(segments, gates, shared),
        row_offsets(b, cu_seqlens),
        reverse,
        exclusive,
        chosen,
    )
    return h.view(b.shape), final_state.view(segments, *axes)


@without_autocast
def linear_scan_step(a: Tensor, b: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One token of `linear_scan`: a [B, *S'], b [B, *S], state [B, *S] -> (h [B, *S], state)."""
    state = a.reshape(*a.shape, *[1] * (b.dim() - a.dim())).to(state.dtype) * state + b.to(state.dtype)
    return state.to(b.dtype), state


def _reference(
    a: Tensor,
    b: Tensor,
    initial_state: Tensor | None,
    exclusive: bool,
    reverse: bool,
    cu_seqlens: Tensor | None,
    state_shape: tuple[int, ...],
) -> tuple[Tensor, Tensor]:
    dtype = state_dtype(b)
    state = b.new_zeros(state_shape, dtype=dtype) if initial_state is None else initial_state.to(dtype)
    gates = a.reshape(*a.shape, *[1] * (b.dim() - a.dim())).to(dtype)
    loop = partial(reference.linear_scan, exclusive=exclusive)
    h, final_state = run_segments(loop, (gates, b.to(dtype)), state, reverse, cu_seqlens)
    return h.to(b.dtype), final_state


def _count_gate_axes(a: Tensor, b: Tensor) -> int:
    """How many axes of the state have a gate at each place; the gate is shared over the others."""
    gated = list(a.shape[2:])
    while gated and gated[-1] == 1:
        gated.pop()
    if a.dim() < 2 or list(a.shape[:2]) != list(b.shape[:2]) or gated != list(b.shape[2 : 2 + len(gated)]):
        expected = f"{list(b.shape)} with trailing axes missing or 1"
        raise KernelArgumentError(f"a: expected {expected}, got {list(a.shape)}")
    return len(gated)
