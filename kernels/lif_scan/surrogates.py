"""Surrogate gradients of the spike 1[v > th]: what stands for its derivative, as a function of d = v - th.

Each has a width, or slope, w:

    arctan            1 / (1 + w d^2)                 w = 10, event_flow
    superspike        1 / (1 + w |d|)^2               w = 10
    fast_sigmoid      1 / (1 + w |d|)^2               w = 25, snntorch
    triangle          max(0, 1 - w |d|)               w = 1
    multigauss        1.15 N(d; 0, w) - 0.15 N(d; w, 6 w) - 0.15 N(d; -w, 6 w), N by mean and deviation, w = 0.5
    atan              w / 2 / (1 + (pi / 2 w d)^2)    w = 2, spikingjelly
    adaptiveflownet   1 / (1 + (w d)^2)               w = 10
"""

from math import pi, sqrt

import torch
from torch import Tensor

WIDTHS = {
    "arctan": 10.0,
    "superspike": 10.0,
    "fast_sigmoid": 25.0,
    "triangle": 1.0,
    "multigauss": 0.5,
    "atan": 2.0,
    "adaptiveflownet": 10.0,
}

QUADRATIC, LINEAR, TRIANGLE, GAUSSIANS = range(4)  # families of formulas


def slope(d: Tensor, surrogate: str, width: float) -> Tensor:
    """The surrogate derivative at d = v - th."""
    if surrogate == "multigauss":
        side = _normal(d, width, 6 * width) + _normal(d, -width, 6 * width)
        return 1.15 * _normal(d, 0.0, width) - 0.15 * side
    if surrogate == "triangle":
        return torch.clamp(1 - width * d.abs(), min=0)
    if surrogate in ("superspike", "fast_sigmoid"):
        return 1 / (1 + width * d.abs()) ** 2
    _, square, height = family_of(surrogate, width)
    return height / (1 + square * d**2)


def family_of(surrogate: str, width: float) -> tuple[int, float, float]:
    """For the kernels: the family, its width, and the height of the quadratic ones, height / (1 + width d^2)."""
    if surrogate == "triangle":
        return TRIANGLE, width, 1.0
    if surrogate == "multigauss":
        return GAUSSIANS, width, 1.0
    if surrogate in ("superspike", "fast_sigmoid"):
        return LINEAR, width, 1.0
    if surrogate == "atan":
        return QUADRATIC, (pi / 2 * width) ** 2, width / 2
    return QUADRATIC, width if surrogate == "arctan" else width**2, 1.0


def _normal(d: Tensor, mean: float, deviation: float) -> Tensor:
    return torch.exp(-(((d - mean) / deviation) ** 2) / 2) / (deviation * sqrt(2 * pi))


class Spike(torch.autograd.Function):
    """1[d > 0], with a surrogate for its derivative, also in forward mode and under the transforms of torch.func."""

    generate_vmap_rule = True

    @staticmethod
    def forward(d: Tensor, surrogate: str, width: float) -> Tensor:
        return (d > 0).to(d.dtype)

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor, str, float], output: Tensor) -> None:
        d, ctx.surrogate, ctx.width = inputs
        ctx.save_for_backward(d)
        ctx.save_for_forward(d)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient * slope(ctx.saved_tensors[0], ctx.surrogate, ctx.width), None, None

    @staticmethod
    def jvp(ctx, tangent: Tensor, *options: None) -> Tensor:
        return tangent * slope(ctx.saved_tensors[0], ctx.surrogate, ctx.width)
