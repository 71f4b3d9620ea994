"""Which scans one call is made of: from the left, and from the right as well where tokens look both ways."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class Part:
    """One scan. `before`: tokens read the state before its update; `accumulate`: its results are added to the others'.

    The later tokens of a chunk decay once more than their scan lets them: its `scale_H` holds that factor.
    """

    offsets: Tensor
    reverse: bool
    before: bool
    accumulate: bool
    scale_H: Tensor
    bonus_HK: Tensor | None = None
    has_state: bool = False
    decays_once_more: bool = False


def parts(
    decay_MHK: Tensor, bonus_HK: Tensor | None, offsets: Tensor, reverse: bool, scale: float, chunk: int, both: bool
) -> list[Part]:
    """The scans in the order in which they have to run; decay = exp(g) [M or 1, H, K or 1].

    With `both`, and in the chunks of within="bidirectional", later tokens are seen by a scan from the right that reads
    before its update. There token j decays by d^|i-j|, once more than this scan does it.
    """
    scale_H = decay_MHK.new_full((decay_MHK.shape[1],), scale)
    two = both or chunk > 0
    left = Part(offsets, reverse, both or bonus_HK is not None, two, scale_H, bonus_HK, has_state=not both)
    if both:
        return [Part(offsets, not reverse, True, False, scale_H), left]
    if chunk:
        borders = chunk_borders(offsets, chunk, reverse)
        return [Part(borders, not reverse, True, False, scale_H * decay_MHK[0, :, 0], decays_once_more=True), left]
    return [left]


def chunk_borders(offsets: Tensor, chunk: int, reverse: bool) -> Tensor:
    """The offsets of all chunks, counted from where the scan begins in each segment."""
    borders = [0]
    for start, stop in pairwise(offsets.tolist()):
        borders += sorted(range(stop, start, -chunk)) if reverse else [*range(start + chunk, stop, chunk), stop]
    return torch.tensor(borders, device=offsets.device)
