"""Gated linear attention on the CPU: one scan, or two where tokens look both ways.

Shapes: M rows, N segments, H heads, K key channels, V value channels.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from visionseq.kernels.gated_linear_attention.cpu_gradients import scan_gradients
from visionseq.kernels.gated_linear_attention.cpu_scan import scan
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
    tokens, decay = [array(x) for x in (q_MHK, k_MHK, v_MHV)], _decay(g_MHK, heads)
    for part in _parts(decay, optional_array(bonus_HK, 2), offsets.numpy(), reverse, scale, chunk, both):
        final = optional_array(final_NHKV if part.has_state else None, 4)
        spread(scan, part.items, *tokens, decay, *part.arguments, o_MHV.numpy(), final)
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
    rows, heads, keys = q_MHK.shape
    tokens, decay = [array(x) for x in (q_MHK, k_MHK, v_MHV)], _decay(g_MHK, heads)
    d_q, d_k, d_v = (torch.empty(x.shape) for x in (q_MHK, k_MHK, v_MHV))
    d_g = torch.empty((rows, *decay.shape[1:]) if gate_gradient else (0, 0, 0))
    d_bonus = torch.zeros(len(offsets) - 1, heads, keys)
    adjoint = torch.zeros(final_NHKV.shape) if d_final is None else d_final.float().clone()
    cotangent = array(torch.zeros(v_MHV.shape) if d_o is None else d_o)
    gradients = [x.numpy() for x in (d_q, d_k, d_v, d_g, d_bonus)]
    of_distance = torch.zeros(1, heads, 1)
    for part in _parts(decay, optional_array(bonus_HK, 2), offsets.numpy(), reverse, scale, chunk, both):
        states = [optional_array(x if part.has_state else None, 4) for x in (initial_NHKV, adjoint)]
        spread(scan_gradients, part.items, *tokens, decay, *part.arguments, cotangent, *states, *gradients)
        if part.decays_once_more and gate_gradient:
            of_distance = (q_MHK.float() * d_q).sum((0, 2)).view(1, heads, 1)
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


@dataclass(frozen=True)
class _Part:
    """One scan: its segments and direction; `before`, `accumulate` and `scale_H` as the kernels take them."""

    bonus_HK: np.ndarray
    offsets: np.ndarray
    reverse: bool
    before: bool
    accumulate: bool
    scale_H: np.ndarray
    has_state: bool
    decays_once_more: bool = False

    @property
    def items(self) -> int:
        return (len(self.offsets) - 1) * len(self.scale_H)

    @property
    def arguments(self) -> tuple[np.ndarray | bool, ...]:
        return self.bonus_HK, self.offsets, self.reverse, self.before, self.accumulate, self.scale_H


def _parts(
    decay: np.ndarray, bonus: np.ndarray, offsets: np.ndarray, reverse: bool, scale: float, chunk: int, both: bool
) -> list[_Part]:
    """The scan from the left, after one from the right, over segments or over chunks, where tokens look both ways.

    Later tokens of a chunk are read before the update, like those of the whole segment with `both`, but decayed once
    more: token j by d^|i-j|.
    """
    scale_H, no_bonus = np.full(decay.shape[1], scale, np.float32), np.empty((0, 0), np.float32)
    two = both or chunk > 0
    left = _Part(bonus, offsets, reverse, both or bonus.size > 0, two, scale_H, not both)
    if chunk:
        borders, scale_H = _chunk_borders(offsets, chunk, reverse), scale_H * decay[0, :, 0]
        return [_Part(no_bonus, borders, not reverse, True, False, scale_H, False, decays_once_more=True), left]
    return [_Part(no_bonus, offsets, not reverse, True, False, scale_H, False), left] if both else [left]


def _chunk_borders(offsets: np.ndarray, chunk: int, reverse: bool) -> np.ndarray:
    """The offsets of all chunks, counted from where the scan begins in each segment."""
    borders = [np.zeros(1, np.int64)]
    for start, stop in pairwise(offsets):
        inner = np.arange(stop, start, -chunk)[::-1] if reverse else np.arange(start + chunk, stop + chunk, chunk)
        borders.append(np.minimum(inner, stop))
    return np.concatenate(borders)


def _decay(g_MHK: Tensor | None, heads: int) -> np.ndarray:
    """exp(g) [M or 1, H, K or 1]."""
    return array(torch.ones(1, heads, 1) if g_MHK is None else g_MHK.detach().float().exp())
