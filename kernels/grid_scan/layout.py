"""From the operator's tensors [B, X, Y, H, ...] to those of the fast paths and back, and the choice of a path.

Shapes: n = B * H heads with N = X * Y nodes, R directions; the eight gates of a node side by side, [n, R, N, 8].
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import overload

import torch
from torch import Tensor

NODES_PER_CHANNEL = 16  # with up to so many nodes for a channel of v, weights between nodes are cheaper than states


def by_weights(v: Tensor, source_r: Tensor) -> bool:
    """Whether one weight between every two nodes is cheaper than states; only four directions share these weights."""
    return source_r.shape[-1] == 4 and v.shape[1] * v.shape[2] <= NODES_PER_CHANNEL * v.shape[-1]


def grid_size(v: Tensor) -> tuple[int, int]:
    """(X, Y)."""
    return v.shape[1], v.shape[2]


@overload
def by_head(tensor: Tensor, axes: int = 2) -> Tensor: ...


@overload
def by_head(tensor: None, axes: int = 2) -> None: ...


def by_head(tensor: Tensor | None, axes: int = 2) -> Tensor | None:
    """[B, places, H, ...] -> [B * H, places, ...] in float32, the places along so many axes."""
    if tensor is None:
        return None
    return tensor.float().movedim(1 + axes, 1).flatten(0, 1).flatten(1, axes).contiguous()


def by_node(tensor: Tensor, v: Tensor, places: Sequence[int]) -> Tensor:
    """[B * H, places, ...] -> [B, places, H, ...], always a copy, since no two results may share memory."""
    batch, heads = v.shape[0], v.shape[3]
    split = tensor.reshape(batch, heads, *places, *tensor.shape[2:])
    return split.movedim(1, 1 + len(places)).clone(memory_format=torch.contiguous_format)


def pack(gates: Sequence[Tensor | None]) -> Tensor:
    """Gates [B, X, Y, H, R], absent ones zero -> [B * H, R, X * Y, 8]."""
    packed = torch.stack([gate.float().permute(0, 3, 4, 1, 2) for gate in with_zeros(gates)], -1)
    return packed.flatten(0, 1).flatten(2, 3)


def with_zeros(gates: Sequence[Tensor | None]) -> list[Tensor]:
    """The gates, with zeros for the turns that are absent."""
    like = next(gate for gate in gates if gate is not None)
    return [torch.zeros_like(like) if gate is None else gate for gate in gates]


def unpack(
    arguments: Sequence[Tensor | None],
    v: Tensor,
    d_gates: Tensor,
    d_nodes: Sequence[Tensor],
    d_borders: Sequence[Tensor],
) -> tuple[Tensor | None, ...]:
    """The gradients of the arguments q, k, v, eight gates, direct and the borders, each in its shape and dtype.

    `d_nodes` are those of q, k, v and direct; without `d_borders` there are no borders.
    """
    d_q, d_k, d_v, d_direct = d_nodes
    gradients = [by_node(d, v, grid_size(v)) for d in (d_q, d_k, d_v, *d_gates.movedim(1, 2).unbind(-1), d_direct)]
    gradients += [by_node(d, v, d.shape[1:2]) for d in d_borders]
    pairs = zip_longest(arguments, gradients)
    return tuple(None if x is None else d.to(x.dtype) for x, d in pairs)


def heads_together(heads: int, nodes: int, *, elements: int) -> list[slice]:
    """Groups of heads whose N x N matrices have together no more than so many elements, one head at least."""
    step = max(1, elements // max(nodes * nodes, 1))
    return [slice(first, min(first + step, heads)) for first in range(0, heads, step)]
