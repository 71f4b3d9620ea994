"""Training losses of both stages (arXiv 2510.21167), a value for each row of the batch.

    first stage    L = mean (v - u)^2 - lambda mean_n cos(proj(f)_n, z_n),     u = alpha' x + sigma' eps = eps - x
    second stage   L = mean (A + w R - f(x_t))^2,     A = f(x_s), x_s at the start of the segment of x_t

x_t and x_s have the same data x and noise eps; z are the tokens of another network that sees x. Every random number
comes in as an argument.

Legend: B batch, C channels, S side, N tokens, Z channels of a token, K segments.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from visionseq.bfm.model import BFM
from visionseq.bfm.schedule import boundaries
from visionseq.nn.precision import at_least_float32


@dataclass(frozen=True)
class Rows:
    """A batch of images, in the order of their segments, with all its random numbers.

    Attributes:
        x: images or latents [B, C, S, S].
        noise: unit noise like x.
        t: times [B].
        segment: int64 [B] on the CPU, which does not fall.
        class_labels: int64 [B].
        drop: bool [B], true where the label is replaced by no class; None: nowhere.
    """

    x: Tensor
    noise: Tensor
    t: Tensor
    segment: Tensor
    class_labels: Tensor
    drop: Tensor | None = None

    def split_sizes(self, segments: int) -> list[int]:
        """Rows of each segment."""
        return torch.bincount(self.segment, minlength=segments).tolist()


def flow_and_projection(model: BFM, rows: Rows) -> tuple[Tensor, Tensor]:
    """The squared error [B] of the velocity, and the projected features [B, N, Z]."""
    x_t = model.path.at(rows.x, rows.noise, rows.t)
    sizes = rows.split_sizes(model.segments)
    velocity, projected = model.forward_train(x_t, rows.t, rows.class_labels, sizes, rows.drop)
    return flow_loss(velocity, model.path.velocity(rows.x, rows.noise, rows.t)), projected


def flow_loss(velocity: Tensor, target: Tensor) -> Tensor:
    """Mean squared error [B] over channels and pixels."""
    return (at_least_float32(velocity) - target).square().flatten(1).mean(1)


def alignment_loss(projected_BNZ: Tensor, tokens_BNZ: Tensor) -> Tensor:
    """Minus the mean cosine [B] over the tokens, from -1 (aligned) to 1."""
    ours, theirs = (F.normalize(at_least_float32(tokens), dim=-1) for tokens in (projected_BNZ, tokens_BNZ))
    return -(ours * theirs).sum(-1).mean(1)


def residual_loss(model: BFM, rows: Rows) -> Tensor:
    """Mean squared error [B] of approximated features."""
    sigma = boundaries(model.segments)
    t_start, t_end = (sigma[rows.segment + shift].to(rows.t) for shift in (0, 1))
    x_t, x_start = (model.path.at(rows.x, rows.noise, t) for t in (rows.t, t_start))
    weight = (t_start - rows.t) / (t_start - t_end)
    approximated, target = model.forward_residual(x_t, rows.t, x_start, t_start, weight, rows.class_labels, rows.drop)
    return (at_least_float32(approximated) - at_least_float32(target)).square().flatten(1).mean(1)
