"""Distributions of the time t of a training example.

The U-shaped density of improved rectified flows (arXiv 2405.20320) puts weight on both ends of [0, 1], where the error
of a reflowed model is large:

    p(u) = a cosh(a (u - 1/2)) / (2 sinh(a / 2)),   F(u) = 1/2 + sinh(a (u - 1/2)) / (2 sinh(a / 2)).

It is the equal mixture of a e^{au} / (e^a - 1) and its mirror image. All draws end in [T_MIN, 1 - T_MIN].
"""

import math

import torch
from torch import Tensor

T_MIN = 1e-5  # a velocity is (x_t - D) / t, and sigma = t / (1 - t): neither end can be evaluated


def sample_t(
    n: int,
    a: float = 4.0,
    generator: torch.Generator | None = None,
    antithetic: bool = True,
    device: torch.device | str | None = None,
) -> Tensor:
    """U-shaped times [n] in float32.

    Args:
        n: batch size.
        a: sharpness; 4 in every official command.
        generator: source of randomness; its device must be `device`.
        antithetic: take n of the 2n values {u, 1 - u} in random order, as the official code does, which makes the
            draws of a batch weakly dependent; otherwise n independent draws from the inverse CDF.
    """
    q = torch.rand(n, generator=generator, dtype=torch.float64, device=device)
    if not antithetic:
        return into_range(u_shape_icdf(q, a).float())
    return antithetic_t(q, torch.randperm(2 * n, generator=generator, device=device), a)


def antithetic_t(q: Tensor, permutation: Tensor, a: float) -> Tensor:
    """The antithetic draw from given uniforms q [n] (float64) and a permutation of 2n: float32 [n]."""
    u = exponential_icdf(q, a).float()
    return into_range(torch.cat([u, 1 - u])[permutation[: len(q)]])


def uniform_t(n: int, generator: torch.Generator | None = None, device: torch.device | str | None = None) -> Tensor:
    """Uniform times [n] in float32."""
    return into_range(torch.rand(n, generator=generator, device=device))


def logit_normal_t(
    n: int, generator: torch.Generator | None = None, device: torch.device | str | None = None
) -> Tensor:
    """Times [n] whose logit is standard normal: the middle of [0, 1] is favoured (arXiv 2403.03206)."""
    return into_range(torch.randn(n, generator=generator, device=device).sigmoid())


def into_range(u: Tensor) -> Tensor:
    """Map [0, 1] onto [T_MIN, 1 - T_MIN]."""
    return u * (1 - 2 * T_MIN) + T_MIN


def u_shape_pdf(u: Tensor, a: float = 4.0) -> Tensor:
    """Density of the U-shaped distribution at u in [0, 1]."""
    return a * torch.cosh(a * (u - 0.5)) / (2 * math.sinh(a / 2))


def u_shape_cdf(u: Tensor, a: float = 4.0) -> Tensor:
    """Cumulative distribution of the U-shaped density."""
    return 0.5 + torch.sinh(a * (u - 0.5)) / (2 * math.sinh(a / 2))


def u_shape_icdf(q: Tensor, a: float = 4.0) -> Tensor:
    """Inverse of `u_shape_cdf`."""
    return 0.5 + torch.asinh((2 * q - 1) * math.sinh(a / 2)) / a


def exponential_pdf(u: Tensor, a: float = 4.0) -> Tensor:
    """Density a e^{au} / (e^a - 1), the rising half of the mixture."""
    return a * torch.exp(a * u) / math.expm1(a)


def exponential_cdf(u: Tensor, a: float = 4.0) -> Tensor:
    """Cumulative distribution of `exponential_pdf`."""
    return torch.expm1(a * u) / math.expm1(a)


def exponential_icdf(q: Tensor, a: float = 4.0) -> Tensor:
    """Inverse of `exponential_cdf`."""
    return torch.log1p(q * math.expm1(a)) / a
