"""Paths from noise to data, and the predictions of models on them (arXiv 2209.03003, 2303.08797, 2401.08740).

    x_t = alpha(t) x + sigma(t) n,     velocity = alpha'(t) x + sigma'(t) n,     score = -n / sigma(t)

with data x, noise n ~ N(0, I). With d the share of the way to the data and u = 1 - d:

    Linear   alpha = d                                          sigma = u
    GVP      alpha = sin(pi d / 2)                              sigma = cos(pi d / 2)
    VP       ln alpha = -(b1 - b0) u^2 / 4 - b0 u / 2           sigma = sqrt(1 - alpha^2)

The clock is an argument: `data_at` is the time of the data, 1 (d = t) or 0 (u = t). Derivatives are by t. A velocity, a
data, a noise or a score prediction can each be turned into the others at a given x_t and t; a conditional expectation
takes the place of x and n, since all four are affine in them.

Times are numbers, or tensors [B], one for each row of x [B, ...]. Numbers are used in float64.
"""

import math
from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from visionseq.errors import ConfigError

Kind = Literal["velocity", "data", "noise", "score"]
KINDS = ("velocity", "data", "noise", "score")


class Coefficients(NamedTuple):
    """alpha, sigma and their derivatives by t, shaped to multiply x [B, ...]."""

    alpha: Tensor
    sigma: Tensor
    alpha_dot: Tensor
    sigma_dot: Tensor


class Path(ABC):
    """Base of the paths.

    Args:
        data_at: time of the data, 1 or 0; the noise is at the other end.

    Raises `ConfigError` for another number.
    """

    def __init__(self, data_at: Literal[0, 1] = 1):
        if data_at not in (0, 1):
            raise ConfigError(f"data_at {data_at}, expected 0 or 1")
        self.data_at = data_at

    @property
    def direction(self) -> int:
        """1 where time runs from noise to data, -1 where it runs from data to noise."""
        return 1 if self.data_at == 1 else -1

    def coefficients(self, t: float | Tensor, x: Tensor) -> Coefficients:
        """alpha, sigma and their derivatives at t, for states like x [B, ...]."""
        if not isinstance(t, Tensor):
            t = torch.tensor(t, dtype=torch.float64)
        elif t.ndim:
            t = t.view(-1, *[1] * (x.ndim - 1))
        # Neither share is formed as 1 - (1 - t): near an end that would round away what matters.
        d, u = (t, 1 - t) if self.data_at == 1 else (1 - t, t)
        alpha, sigma, alpha_dot, sigma_dot = self._at_share(d, u)
        return Coefficients(alpha, sigma, self.direction * alpha_dot, self.direction * sigma_dot)

    def at(self, data: Tensor, noise: Tensor, t: float | Tensor) -> Tensor:
        """x_t = alpha data + sigma noise."""
        c = self.coefficients(t, data)
        return c.alpha * data + c.sigma * noise

    def velocity(self, data: Tensor, noise: Tensor, t: float | Tensor) -> Tensor:
        """dx_t/dt = alpha' data + sigma' noise: the target of a velocity model."""
        c = self.coefficients(t, data)
        return c.alpha_dot * data + c.sigma_dot * noise

    def data_and_noise(
        self, x_t: Tensor, prediction: Tensor, t: float | Tensor, kind: Kind = "velocity"
    ) -> tuple[Tensor, Tensor]:
        """The data and the noise that a prediction stands for.

        A noise or score prediction says nothing of the data where alpha = 0, nor a data prediction of the noise where
        sigma = 0: there the result is not finite. Raises `ConfigError` for an unknown kind.
        """
        c = self.coefficients(t, x_t)
        if kind == "velocity":
            return self._from_velocity(x_t, prediction, c)
        if kind == "data":
            return prediction, (x_t - c.alpha * prediction) / c.sigma
        if kind in ("noise", "score"):
            noise = prediction if kind == "noise" else -c.sigma * prediction
            return (x_t - c.sigma * noise) / c.alpha, noise
        raise ConfigError(f"prediction {kind!r}, expected one of {', '.join(KINDS)}")

    def convert(self, x_t: Tensor, prediction: Tensor, t: float | Tensor, source: Kind, target: Kind) -> Tensor:
        """A prediction of one kind as one of another kind; the same tensor where both are equal.

        A score does not exist where sigma = 0. Raises `ConfigError` for an unknown kind.
        """
        if source == target and source in KINDS:
            return prediction
        data, noise = self.data_and_noise(x_t, prediction, t, source)
        if target == "velocity":
            return self.velocity(data, noise, t)
        if target == "score":
            return -noise / self.coefficients(t, x_t).sigma
        if target not in KINDS:
            raise ConfigError(f"prediction {target!r}, expected one of {', '.join(KINDS)}")
        return data if target == "data" else noise

    def drift_variance(self, t: float | Tensor, x: Tensor) -> Tensor:
        """g = (alpha'/alpha) sigma^2 - sigma sigma', derivatives by d: velocity = (alpha'/alpha) x_t + g score."""
        c = self.coefficients(t, x)
        return self.direction * (c.alpha_dot / c.alpha * c.sigma**2 - c.sigma * c.sigma_dot)

    @abstractmethod
    def _at_share(self, d: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """alpha, sigma and their derivatives by d."""

    def _from_velocity(self, x_t: Tensor, v: Tensor, c: Coefficients) -> tuple[Tensor, Tensor]:
        """Data and noise from x_t and the velocity: two linear equations."""
        determinant = c.alpha * c.sigma_dot - c.sigma * c.alpha_dot
        return (c.sigma_dot * x_t - c.sigma * v) / determinant, (c.alpha * v - c.alpha_dot * x_t) / determinant


class Linear(Path):
    """x_t = d data + u noise, the straight line of rectified flows (arXiv 2209.03003)."""

    def velocity(self, data: Tensor, noise: Tensor, t: float | Tensor = 0.0) -> Tensor:
        """data - noise, or noise - data in the other clock, at all times."""
        return data - noise if self.data_at == 1 else noise - data

    def _at_share(self, d: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return d, u, torch.ones_like(d), -torch.ones_like(d)

    def _from_velocity(self, x_t: Tensor, v: Tensor, c: Coefficients) -> tuple[Tensor, Tensor]:
        if self.data_at == 1:
            return x_t + c.sigma * v, x_t - c.alpha * v
        return x_t - c.sigma * v, x_t + c.alpha * v


class GVP(Path):
    """The trigonometric path of constant variance (generalised variance-preserving, arXiv 2209.15571)."""

    def _at_share(self, d: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        # Each function is taken of the share that vanishes with it, which keeps it exact there.
        alpha, sigma = torch.sin(d * (math.pi / 2)), torch.sin(u * (math.pi / 2))
        return alpha, sigma, math.pi / 2 * sigma, -math.pi / 2 * alpha


class VP(Path):
    """The variance-preserving diffusion with a linear rate (arXiv 2011.13456).

    Args:
        data_at: time of the data.
        beta_min, beta_max: rates b0 at the data and b1 at the noise.
    """

    def __init__(self, data_at: Literal[0, 1] = 1, beta_min: float = 0.1, beta_max: float = 20.0):
        super().__init__(data_at)
        self.beta_min, self.beta_max = beta_min, beta_max

    def _at_share(self, d: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rise = self.beta_max - self.beta_min
        log_alpha = -rise * u**2 / 4 - self.beta_min * u / 2
        alpha, sigma = log_alpha.exp(), (-torch.expm1(2 * log_alpha)).sqrt()
        alpha_dot = alpha * (rise * u + self.beta_min) / 2
        return alpha, sigma, alpha_dot, -alpha * alpha_dot / sigma

    def _from_velocity(self, x_t: Tensor, v: Tensor, c: Coefficients) -> tuple[Tensor, Tensor]:
        # The general solution with sigma' = -alpha alpha' / sigma put in, which also holds where sigma = 0.
        scaled = c.sigma * v / c.alpha_dot
        return c.alpha * x_t + c.sigma * scaled, c.sigma * x_t - c.alpha * scaled
