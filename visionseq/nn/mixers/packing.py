"""Sequences packed in one row: where each token stands in its own, and flips and means within each.

Shapes: B sequences, T tokens, N packed sequences with offsets `cu_seqlens` [N+1]. Everything is tensor arithmetic:
no value is read, so that torch.compile sees one graph.
"""

import torch
from torch import Tensor


def segment_of_token(cu_seqlens: Tensor, length: int) -> Tensor:
    """Number [T] of the sequence that each token belongs to; sequences may be empty."""
    tokens = torch.arange(length, device=cu_seqlens.device)
    return torch.searchsorted(cu_seqlens.to(torch.int64), tokens, right=True) - 1


def token_positions(length: int, cu_seqlens: Tensor | None, reverse: bool, device: torch.device) -> Tensor:
    """Position [T] of each token in the order in which its sequence is read."""
    tokens = torch.arange(length, device=device)
    if cu_seqlens is None:
        return tokens.flip(0) if reverse else tokens
    offsets = cu_seqlens.to(device=device, dtype=torch.int64)
    segment = segment_of_token(offsets, length)
    return offsets[segment + 1] - 1 - tokens if reverse else tokens - offsets[segment]


def flip_tokens(x: Tensor, cu_seqlens: Tensor | None) -> Tensor:
    """[B, T, ...] with the tokens of each sequence in reversed order."""
    if cu_seqlens is None:
        return x.flip(1)
    offsets = cu_seqlens.to(device=x.device, dtype=torch.int64)
    segment = segment_of_token(offsets, x.shape[1])
    mirrored = offsets[segment] + offsets[segment + 1] - 1 - torch.arange(x.shape[1], device=x.device)
    return x.index_select(1, mirrored)
