"""The recurrence on the edges of a grid, as it is defined.

Shapes: B grids of X by Y nodes, H heads, keys of K and values of V channels. Every node has an edge to its right
neighbour (x+1, y) and one down to (x, y+1), each with a K x V state.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

DIRECTIONS: tuple[tuple[int, ...], ...] = ((), (1,), (2,), (1, 2))  # the flipped axes of [B, X, Y, ...]


def grid_scan(
    q_BXYHK: Tensor,
    k_BXYHK: Tensor,
    v_BXYHV: Tensor,
    gates_BXYH: Sequence[Tensor],
    left_BYHKV: Tensor,
    top_BXHKV: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """(y [B, X, Y, H, V] without scale and direct term, right [B, Y, H, K, V], bottom [B, X, H, K, V]).

    `gates` in the order of `node`; the border states `left` enter at x = 0, `top` at y = 0.
    """
    nodes = zip(*(tensor.flatten(1, 2).unbind(1) for tensor in (q_BXYHK, k_BXYHK, v_BXYHV, *gates_BXYH)), strict=True)
    rights, bottoms, outputs = list(left_BYHKV.unbind(1)), [], []
    for down in top_BXHKV.unbind(1):
        for y in range(len(rights)):
            output, rights[y], down = node(*next(nodes), left=rights[y], up=down)
            outputs.append(output)
        bottoms.append(down)
    y_BXYHV = torch.stack(outputs, 1).view(v_BXYHV.shape) if outputs else v_BXYHV
    right = torch.stack(rights, 1) if rights else left_BYHKV
    return y_BXYHV, right, torch.stack(bottoms, 1) if bottoms else top_BXHKV


def node(
    q_BHK: Tensor,
    k_BHK: Tensor,
    v_BHV: Tensor,
    source_r: Tensor,
    source_d: Tensor,
    t_rl: Tensor,
    t_ru: Tensor,
    t_dl: Tensor,
    t_du: Tensor,
    mark_l: Tensor,
    mark_u: Tensor,
    *,
    left: Tensor,
    up: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """One node with gates [B, H], and the states [B, H, K, V] of its edges from the left and from above.

    y = q (mark_l left + mark_u up)
    right = t_rl left + t_ru up + source_r k v^T
    down  = t_dl left + t_du up + source_d k v^T
    """
    gates = (source_r, source_d, t_rl, t_ru, t_dl, t_du, mark_l, mark_u)
    source_r, source_d, t_rl, t_ru, t_dl, t_du, mark_l, mark_u = (gate[..., None, None] for gate in gates)
    write_BHKV = k_BHK[..., :, None] * v_BHV[..., None, :]
    y_BHV = (q_BHK[..., None, :] @ (mark_l * left + mark_u * up)).squeeze(-2)
    return y_BHV, t_rl * left + t_ru * up + source_r * write_BHKV, t_dl * left + t_du * up + source_d * write_BHKV


def four_directions(q: Tensor, k: Tensor, v: Tensor, gates_BXYHR: Sequence[Tensor]) -> Tensor:
    """The sum of the scans from the four corners, each on the flipped grid with its own gates [..., R = 4].

    The direction flips no axis, x, y, or both; its output is flipped back.
    """
    total = torch.zeros_like(v)
    for r, axes in enumerate(DIRECTIONS):
        q_r, k_r, v_r, *gates_r = (x.flip(axes) for x in (q, k, v, *(gate[..., r] for gate in gates_BXYHR)))
        left, top = (v.new_zeros(*q.shape[:1], n, *q.shape[3:], v.shape[-1]) for n in (q.shape[2], q.shape[1]))
        total = total + grid_scan(q_r, k_r, v_r, gates_r, left, top)[0].flip(axes)
    return total


def direct_term(q: Tensor, k: Tensor, v: Tensor, direct_BXYH: Tensor) -> Tensor:
    """direct (q . k) v: what a node reads of itself."""
    return (direct_BXYH * (q * k).sum(-1)).unsqueeze(-1) * v
