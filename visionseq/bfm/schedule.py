"""Segments of time and the steps inside them (arXiv 2510.21167).

Time falls from 1 (noise) to 0 (data) through K equal segments; segment 0 is the noisiest and segment k covers
(sigma_{k+1}, sigma_k], with boundaries sigma_k = 1 - k/K in float32. A network never computes its segment from t: the
sampler walks the segments, and a training batch is cut into one part for each.
"""

from itertools import pairwise

import torch
from torch import Tensor

from visionseq.errors import ConfigError

SDE_END = 0.04  # of the last segment of the SDE, whose score does not exist at t = 0


def boundaries(segments: int) -> Tensor:
    """sigma_0 = 1 to sigma_K = 0, float32 [K + 1]; raises `ConfigError` for less than one segment."""
    if segments < 1:
        raise ConfigError(f"segments {segments}, expected at least 1")
    return torch.linspace(1, 0, segments + 1)


def segment_of(t: Tensor, segments: int) -> Tensor:
    """The segment int64 [B] of times [B]; a boundary belongs to the segment that begins there. Not for samplers."""
    return ((1 - t) * segments).floor().long().clamp(0, segments - 1)


def split_sizes(batch: int, segments: int) -> list[int]:
    """Rows of a batch for each segment: equally many, and one more for the first of them where that leaves a rest."""
    base, rest = divmod(batch, segments)
    return [base + (segment < rest) for segment in range(segments)]


def segments_by_position(rows: int, segments: int) -> Tensor:
    """The segment int64 [rows] of each row of a batch that is cut by `split_sizes`."""
    return torch.repeat_interleave(torch.arange(segments), torch.tensor(split_sizes(rows, segments)))


def times_within(segment_B: Tensor, u_B: Tensor, segments: int) -> Tensor:
    """Times float32 [B] in [sigma_{k+1}, sigma_k) from uniforms u [B] in [0, 1)."""
    sigma = boundaries(segments)
    start, end = sigma[segment_B], sigma[segment_B + 1]
    return end + (start - end) * u_B


def ode_times(segments: int, steps: int) -> Tensor:
    """Falling step times float32 [K, n + 1], a row for each segment of n `steps`; ends are the next row's start."""
    _check_steps(steps)
    return torch.stack(
        [torch.linspace(start, end, steps + 1) for start, end in pairwise(boundaries(segments).tolist())]
    )


def sde_times(segments: int, steps: int) -> Tensor:
    """`ode_times`, but the last segment goes in n - 1 steps to 0.04, and in one from there to 0."""
    times = ode_times(segments, steps)
    start = boundaries(segments)[-2].item()
    times[-1] = torch.cat([torch.linspace(start, SDE_END, steps), torch.zeros(1)])
    return times


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise ConfigError(f"{steps} steps in a segment, expected at least 1")
