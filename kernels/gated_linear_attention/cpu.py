"""Gated linear attention on the CPU: one scan, or two where tokens look both ways.

Shapes: M rows, N segments, H heads, K key channels, V value channels.
"""

import numpy as np
import torch
from torch import Tensor

from visionseq.kernels.gated_linear_attention.cpu_gradients import scan_gradients
from visionseq.kernels.gated_linear_attention.cpu_scan import scan
from visionseq.kernels.gated_linear_attention.parts import Part, parts
from visionseq.kernels.hand_over import array, optional_array
from visionseq.kernels.threads import spread


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
    heads, keys = q_MHK.shape[1:]
    o_MHV = torch.empty(v_MHV.shape)
    shape = (0 if both else len(offsets) - 1, heads, keys, v_MHV.shape[-1])
    final_NHKV = torch.zeros(shape) if initial_NHKV is None else initial_NHKV.clone()
    decay = _decay(g_MHK, heads)
    tokens = [array(x) for x in (q_MHK, k_MHK, v_MHV, decay)]
    for part in parts(decay, bonus_HK, offsets, reverse, scale, chunk, both):
        final = optional_array(final_NHKV if part.has_state else None, 4)
        spread(scan, (len(part.offsets) - 1) * heads, *tokens, *_arguments(part), o_MHV.numpy(), final)
    return o_MHV.to(v_MHV.dtype), final_NHKV


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
    """Gradients of q, k, v, g, the bonus and the initial state."""
    # what the scans read
    rows, heads, keys = q_MHK.shape
    decay = _decay(g_MHK, heads)
    tokens = [array(x) for x in (q_MHK, k_MHK, v_MHV, decay)]

    # what they fill
    d_q, d_k, d_v = (torch.empty(x.shape) for x in (q_MHK, k_MHK, v_MHV))
    d_g = torch.empty((rows, *decay.shape[1:]) if gate_gradient else (0, 0, 0))
    d_bonus = torch.zeros(len(offsets) - 1, heads, keys)
    adjoint = torch.zeros(final_NHKV.shape)
    if d_final is not None:
        adjoint.copy_(d_final)
    cotangent = array(torch.zeros(v_MHV.shape) if d_o is None else d_o)
    gradients = [x.numpy() for x in (d_q, d_k, d_v, d_g, d_bonus)]
    of_distance = torch.zeros(1, heads, 1)

    # one scan, or two where tokens look both ways
    for part in parts(decay, bonus_HK, offsets, reverse, scale, chunk, both):
        states = [optional_array(x if part.has_state else None, 4) for x in (initial_NHKV, adjoint)]
        items = (len(part.offsets) - 1) * heads
        spread(scan_gradients, items, *tokens, *_arguments(part), cotangent, *states, *gradients)
        if part.decays_once_more and gate_gradient:
            of_distance = (q_MHK.float() * d_q).sum((0, 2)).view(1, heads, 1)

    # gates that are the same for all tokens collect over them
    if g_MHK is None or not gate_gradient:
        d_gate = None if g_MHK is None else torch.zeros(g_MHK.shape, dtype=g_MHK.dtype)
    else:
        d_gate = (d_g if len(g_MHK) == rows else d_g.sum(0, keepdim=True) + of_distance).to(g_MHK.dtype)
    return (
        d_q.to(q_MHK.dtype),
        d_k.to(k_MHK.dtype),
        d_v.to(v_MHV.dtype),
        d_gate,
        None if bonus_HK is None else d_bonus.sum(0).to(bonus_HK.dtype),
        None if initial_NHKV is None else adjoint,
    )


def _arguments(part: Part) -> tuple[np.ndarray | bool, ...]:
    """What both kernels take next to the tokens and the decay."""
    bonus = optional_array(part.bonus_HK, 2)
    return bonus, part.offsets.numpy(), part.reverse, part.before, part.accumulate, part.scale_H.numpy()


def _decay(g_MHK: Tensor | None, heads: int) -> Tensor:
    """exp(g) [M or 1, H, K or 1]."""
    return torch.ones(1, heads, 1) if g_MHK is None else g_MHK.detach().float().exp().contiguous()
