"""Gated linear attention in Triton: one scan, or two where tokens look both ways, each a few sweeps of a state.

Shapes: M rows, N segments, H heads, K key channels, V value channels.
"""

import torch
import triton
from torch import Tensor

from visionseq.kernels.checks import check_width
from visionseq.kernels.gated_linear_attention.gpu_sweep import sweep
from visionseq.kernels.gated_linear_attention.parts import Part, parts

WIDEST = 1024  # K and V: up to here the kernels compile without a spill
STATE = 2048  # numbers of the state in one program: all its rows, and COLUMNS where there is room for them
COLUMNS = 16
MARK_EVERY = 16  # tokens; the states between two marks are recomputed, each from its mark


def forward(
    q_MHK: Tensor,
    k_MHK: Tensor,
    v_MHV: Tensor,
    g_MHK: Tensor | None,
    bonus_HK: Tensor | None,
    initial_NHKV: Tensor | None,
    offsets: Tensor,
    reverse: bool,
    scale: float,
    chunk: int,
    both: bool,
    gate_gradient: bool,
) -> tuple[Tensor, Tensor]:
    """o [M, H, V] in the dtype of v and the final state [N, H, K, V], of no segments with `both`."""
    # the widths
    check_width("q", q_MHK.shape[2], WIDEST)
    check_width("v", v_MHV.shape[2], WIDEST)

    # one scan, or two where tokens look both ways
    decay = _decay(g_MHK, q_MHK)
    q, k, v = (x.contiguous() for x in (q_MHK, k_MHK, v_MHV))
    initial = None if initial_NHKV is None else initial_NHKV.contiguous()
    shape = (0 if both else len(offsets) - 1, *q.shape[1:], v.shape[-1])
    final, o = v.new_empty(shape, dtype=torch.float32), torch.empty_like(v, dtype=torch.float32)
    for part in parts(decay, bonus_HK, offsets, reverse, scale, chunk, both):
        start, end = (initial, final) if part.has_state else (None, None)
        _sweep(part, k, v, q, decay, o, by_row=True, initial=start, final=end)
        if part.bonus_HK is not None:
            o += part.scale_H.unsqueeze(-1) * (part.bonus_HK * q.float() * k).sum(-1, keepdim=True) * v
    return o.to(v.dtype), final


def backward(
    d_o: Tensor | None,
    d_final: Tensor | None,
    o_MHV: Tensor,
    final_NHKV: Tensor,
    q_MHK: Tensor,
    k_MHK: Tensor,
    v_MHV: Tensor,
    g_MHK: Tensor | None,
    bonus_HK: Tensor | None,
    initial_NHKV: Tensor | None,
    offsets: Tensor,
    reverse: bool,
    scale: float,
    chunk: int,
    both: bool,
    gate_gradient: bool,
) -> tuple[Tensor | None, ...]:
    """Gradients of q, k, v, g, the bonus and the initial state, by sweeps of S^T, L^T and L, L the gradient of S.

    dq_t = S_t do_t, dk_t = L_t v_t, dv_t = L_t^T k_t, dg_t = exp(g_t) sum_V L_t * S_{t-1}.
    """
    # what the sweeps read and fill
    decay = _decay(g_MHK, q_MHK)
    q, k, v = (x.contiguous() for x in (q_MHK, k_MHK, v_MHV))
    do = torch.zeros_like(v) if d_o is None else d_o.contiguous()
    initial = None if initial_NHKV is None else initial_NHKV.contiguous()
    d_final = None if d_final is None else d_final.contiguous()
    d_q, d_k, d_v, d_g = (torch.empty_like(x, dtype=torch.float32) for x in (q, k, v, q))
    d_initial = torch.empty_like(final_NHKV)
    d_bonus: Tensor | None = None
    of_distance: Tensor | int = 0

    # one scan, or two where tokens look both ways
    for part in parts(decay, bonus_HK, offsets, reverse, scale, chunk, both):
        # S^T for dq, then L^T for dk, which meets the marks of the first, and L for dv
        S_start, L_start, L_end = (initial, d_final, d_initial) if part.has_state else (None, None, None)
        marks = _new_marks(part, q, v) if gate_gradient else None
        meet = None if marks is None else (marks, v, k, d_g)
        _sweep(part, v, k, do, decay, d_q, by_row=False, marks=marks, initial=S_start)
        _sweep(part, do, q, v, decay, d_k, by_row=False, backward=True, meet=meet, initial=L_start)
        _sweep(part, q, do, k, decay, d_v, by_row=True, backward=True, initial=L_start, final=L_end)

        # the bonus: what a token reads of itself
        if part.bonus_HK is not None:
            by_weight = part.scale_H.unsqueeze(-1) * (v.float() * do).sum(-1, keepdim=True)
            d_q += by_weight * part.bonus_HK * k
            d_k += by_weight * part.bonus_HK * q
            d_v += part.scale_H.unsqueeze(-1) * (part.bonus_HK * q.float() * k).sum(-1, keepdim=True) * do
            d_bonus = (by_weight * q * k).sum(0).to(part.bonus_HK.dtype)
        if part.decays_once_more:
            of_distance = (q * d_q).sum((0, 2)).view(1, -1, 1)

    # gates that are the same for all tokens collect over them
    d_gate = None
    if g_MHK is not None:
        constant = len(g_MHK) != len(q)
        d_gate = d_g.sum_to_size(g_MHK.shape) + (of_distance if constant else 0) if gate_gradient else decay * 0
        d_gate = d_gate.to(g_MHK.dtype)
    d_tokens = [gradient.to(x.dtype) for gradient, x in zip((d_q, d_k, d_v), (q, k, v), strict=True)]
    return *d_tokens, d_gate, d_bonus, None if initial is None else d_initial


def _sweep(
    part: Part,
    x_MHX: Tensor,
    y_MHY: Tensor,
    z_MHX: Tensor,
    decay: Tensor,
    out_MHY: Tensor,
    *,
    by_row: bool,
    backward: bool = False,
    initial: Tensor | None = None,
    final: Tensor | None = None,
    marks: Tensor | None = None,
    meet: tuple[Tensor, Tensor, Tensor, Tensor] | None = None,
) -> None:
    """State [X, Y] and its decay along X `by_row`, otherwise the transposed one."""
    # one program for each segment, head and block of columns
    (_, heads, rows), columns = x_MHX.shape, y_MHY.shape[-1]
    items = (len(part.offsets) - 1) * heads
    if not items * columns:
        return
    token, head, key = decay.stride()
    kept, v, k, meeting = meet or (marks, None, None, None)
    block = triton.next_power_of_2(rows)
    width = min(COLUMNS, STATE // block)

    # tensors, sizes and strides of the state and of the decay, then what the sweep does
    sweep[(items, triton.cdiv(columns, width))](
        x_MHX,
        y_MHY,
        z_MHX,
        decay,
        part.offsets,
        part.scale_H,
        initial,
        final,
        out_MHY,
        kept,
        v,
        k,
        meeting,
        heads,
        rows,
        columns,
        *((columns, 1) if by_row else (1, rows)),
        token if decay.shape[0] > 1 else 0,
        head,
        key if decay.shape[2] > 1 else 0,
        REVERSE=part.reverse,
        BACKWARD=backward,
        BEFORE=part.before,
        BY_ROW=by_row,
        HAS_INITIAL=initial is not None,
        HAS_FINAL=final is not None,
        ACCUMULATE=part.accumulate,
        MARK=marks is not None,
        MEET=meet is not None,
        MARK_EVERY=MARK_EVERY,
        ROWS=block,
        COLUMNS=width,
    )


def _new_marks(part: Part, q_MHK: Tensor, v_MHV: Tensor) -> Tensor:
    """Room for the marks of segment n from offsets[n] // MARK_EVERY + n on."""
    count = len(q_MHK) // MARK_EVERY + len(part.offsets)
    return v_MHV.new_empty((count, v_MHV.shape[1], v_MHV.shape[2], q_MHK.shape[2]), dtype=torch.float32)


def _decay(g_MHK: Tensor | None, q_MHK: Tensor) -> Tensor:
    """exp(g) [M or 1, H, K or 1]."""
    if g_MHK is None:
        return torch.ones(1, q_MHK.shape[1], 1, device=q_MHK.device)
    return g_MHK.detach().float().exp().contiguous()
