"""Distributions of the time t of a training example.

The U-shaped density of improved rectified flows (arXiv 2405.20320) puts weight on both ends of [0, 1], where the error
of a reflowed model is large:

    p(u) = a cosh(a (u - 1/2)) / (2 sinh(a / 2)),   F(u) = 1/2 + sinh(a (u - 1/2)) / (2 sinh(a / 2)).

It is the equal mixture of a e^{au} / (e^a - 1) and its mirror image; the text of the paper has e^{au} + e^{-au}, which
is not U-shaped on [0, 1]. All densities here are symmetric, so they suit clocks with the noise at either end. Draws are
float32 and lie in [T_MIN, 1 - T_MIN].
"""

import math

import torch
from torch import Tensor

from visionseq.errors import ConfigError

T_MIN = 1e-5  # a velocity is (x_t - D) / t and sigma = t / (1 - t): neither end can be evaluated


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
        a: sharpness, 0 < a <= 700; 4 in every official command.
        generator: source of randomness; the same one gives the same times whatever `device` is.
        antithetic: take n of the 2n values {u, 1 - u} in random order, as the official code does, which makes the
            draws of a batch weakly dependent; otherwise n independent draws from the inverse CDF.
        device: of the times.

    Raises `ConfigError` for an `a` outside its range.
    """
    if not 0 < a <= 700:
        raise ConfigError(f"a: {a}, expected 0 < a <= 700")
    q = _uniform(n, generator, torch.float64)
    if antithetic:
        permutation = torch.randperm(2 * n, generator=generator, device=q.device)
        return antithetic_t(q, permutation, a).to(device)
    return _into_range(u_shape_icdf(q, a).float()).to(device)


def antithetic_t(q: Tensor, permutation: Tensor, a: float) -> Tensor:
    """The antithetic draw from given uniforms q [n] (float64) and a permutation of 2n indices: float32 [n]."""
    u = exponential_icdf(q, a).float()
    return _into_range(torch.cat([u, 1 - u])[permutation[: len(q)]])


def uniform_t(n: int, generator: torch.Generator | None = None, device: torch.device | str | None = None) -> Tensor:
    """Uniform times [n] in float32."""
    return _into_range(_uniform(n, generator, torch.float32)).to(device)


def logit_normal_t(
    n: int,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    mean: float = 0.0,
    std: float = 1.0,
) -> Tensor:
    """Times [n] in float32 whose logit is N(mean, std^2): the middle of [0, 1] is favoured (arXiv 2403.03206)."""
    normal = torch.randn(n, generator=generator, device=None if generator is None else generator.device)
    return _into_range((normal * std + mean).sigmoid()).to(device)


def u_shape_pdf(u: Tensor, a: float = 4.0) -> Tensor:
    """Density of the U-shaped distribution at u in [0, 1], a > 0."""
    return a * torch.cosh(a * (u - 0.5)) / (2 * math.sinh(a / 2))


def u_shape_cdf(u: Tensor, a: float = 4.0) -> Tensor:
    """Cumulative distribution of the U-shaped density at u in [0, 1], a > 0."""
    return 0.5 + torch.sinh(a * (u - 0.5)) / (2 * math.sinh(a / 2))


def u_shape_icdf(q: Tensor, a: float = 4.0) -> Tensor:
    """Inverse of `u_shape_cdf` at q in [0, 1]."""
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


def _into_range(u: Tensor) -> Tensor:
    """Map [0, 1] onto [T_MIN, 1 - T_MIN]."""
    return u * (1 - 2 * T_MIN) + T_MIN


def _uniform(n: int, generator: torch.Generator | None, dtype: torch.dtype) -> Tensor:
    return torch.rand(n, generator=generator, dtype=dtype, device=None if generator is None else generator.device)
