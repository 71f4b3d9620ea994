"""Inversion of a rectified flow and its uses: reconstruction, translation, interpolation (arXiv 2405.20320).

Data is carried to noise by the plain ODE on the grid [1e-3, 1/N, ..., (N-1)/N, 1], starting from
(1 - 1e-3) image + 1e-3 eps; the last step of Heun is Euler. Decoding starts from z (1 - 1e-5) like every sample. Few
evaluations suffice on a flow that is straight: the paper inverts with 4 and decodes with 2.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from visionseq.errors import ConfigError
from visionseq.flow.guidance import guided
from visionseq.flow.solvers import Callback, Trajectory, integrate
from visionseq.rectified_flow.sampling import PATH, Rule, Solver, Velocity, intervals, sample, solver_step

T_DATA = 1e-3


@torch.no_grad()
def invert(
    velocity: Velocity,
    image: Tensor,
    steps: int = 4,
    solver: Solver = "euler",
    class_labels: Tensor | None = None,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> Trajectory:
    """Noise of images [B, C, H, W] in [-1, 1]: `x` of the trajectory; its `predictions` are zhat = x_t + (1 - t) v.

    Args:
        velocity: v(x_t [B, C, H, W], t [B], class_labels).
        image: what to invert.
        steps: evaluations of the velocity; odd for Heun.
        solver: `euler` or `heun`.
        class_labels: classes of the images.
        generator: draws the eps that moves the images off the end of the path.
        callback: called after each step with (step, t reached, state).
    """
    device = None if generator is None else generator.device
    eps = torch.randn(image.shape, generator=generator, device=device).to(image)
    return invert_from(PATH.at(image, eps, T_DATA), velocity, steps, solver, class_labels, callback)


@torch.no_grad()
def invert_from(
    start: Tensor,
    velocity: Velocity,
    steps: int = 4,
    solver: Solver = "euler",
    class_labels: Tensor | None = None,
    callback: Callback | None = None,
) -> Trajectory:
    """`invert` from a given state at t = 1e-3."""
    count = intervals(steps, solver)
    grid = [T_DATA, *(i / count for i in range(1, count)), 1.0]
    step = solver_step(solver, end=grid[-1])
    return integrate(step, guided(velocity, class_labels), start, grid, callback, predict=_noise)


@dataclass(frozen=True)
class Decoding:
    """The way from inverted noise back to images: `steps` evaluations of `sample`, optionally with guidance."""

    steps: int = 2
    solver: Solver = "euler"
    rule: Rule = "new"
    guidance_scale: float = 1.0

    def __call__(self, velocity: Velocity, noise: Tensor, class_labels: Tensor | None = None) -> Tensor:
        guidance = 1.0 if class_labels is None else self.guidance_scale
        return sample(velocity, noise, self.steps, self.solver, self.rule, None, class_labels, guidance, record=False).x


def reconstruct(
    velocity: Velocity,
    image: Tensor,
    steps: int = 4,
    solver: Solver = "euler",
    class_labels: Tensor | None = None,
    decoding: Decoding = Decoding(),
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Invert with `steps` evaluations and decode with the same classes: (reconstruction, noise), [B, C, H, W] each."""
    noise = invert(velocity, image, steps, solver, class_labels, generator).x
    return decoding(velocity, noise, class_labels), noise


def translate(
    velocity: Velocity,
    image: Tensor,
    source_labels: Tensor,
    target_labels: Tensor,
    steps: int = 4,
    solver: Solver = "euler",
    decoding: Decoding = Decoding(),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Invert under the source classes and decode under the target classes: images [B, C, H, W]."""
    noise = invert(velocity, image, steps, solver, source_labels, generator).x
    return decoding(velocity, noise, target_labels)


def interpolate(
    velocity: Velocity,
    first: Tensor,
    second: Tensor,
    weights: Tensor,
    steps: int = 4,
    solver: Solver = "euler",
    class_labels: Tensor | None = None,
    decoding: Decoding = Decoding(),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Decode the spherical paths between the noises of images [B, C, H, W]: [W, B, C, H, W] for weights [W].

    Row 0 of weight 0 reconstructs `first`, weight 1 `second`; `class_labels` are those of both images of a pair.
    """
    both = None if class_labels is None else torch.cat([class_labels, class_labels])
    noise = invert(velocity, torch.cat([first, second]), steps, solver, both, generator).x
    a, b = noise.flatten(1).chunk(2)
    paths = slerp(a, b, weights.to(noise)[:, None])
    labels = None if class_labels is None else class_labels.repeat(len(weights), *[1] * (class_labels.ndim - 1))
    return decoding(velocity, paths.reshape(-1, *first.shape[1:]), labels).view(len(weights), *first.shape)


def slerp(a: Tensor, b: Tensor, w: Tensor | float) -> Tensor:
    """Spherical interpolation of vectors a, b [..., D] at weights w, which broadcast against [...].

    (sin((1 - w) omega) a + sin(w omega) b) / sin(omega), omega = acos(<a/|a|, b/|b|>) + 1e-8; a at w = 0, b at w = 1.
    """
    if a.shape[-1:] != b.shape[-1:]:
        raise ConfigError(f"slerp of shapes {tuple(a.shape)} and {tuple(b.shape)}, expected vectors of one length")
    u, v = (vector.double() / vector.double().norm(dim=-1, keepdim=True) for vector in (a, b))
    # Rounding may carry the cosine of parallel vectors past 1, where acos does not exist.
    omega = (u * v).sum(-1).clamp(-1, 1).acos() + 1e-8
    w = torch.as_tensor(w, device=a.device).double()
    weight_a = torch.sin((1 - w) * omega) / torch.sin(omega)
    weight_b = torch.sin(w * omega) / torch.sin(omega)
    return (weight_a[..., None] * a + weight_b[..., None] * b).to(a.dtype)


@dataclass(frozen=True)
class InversionMetrics:
    """The errors of an inversion, and how Gaussian its noises are.

    Attributes:
        mse: mean squared error between images and reconstructions, [B].
        squared_norm: |z|^2 of the noises, [B]; chi-square with `degrees` degrees of freedom for Gaussian noise.
        degrees: C H W.
    """

    mse: Tensor
    squared_norm: Tensor
    degrees: int

    def histogram(self, bins: int = 50) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(edges [bins + 1], density of |z|^2 [bins], mean chi-square density [bins]) over the range of both."""
        law, values = stats.chi2(self.degrees), self.squared_norm.double().cpu().numpy()
        low, high = min(values.min(), law.ppf(1e-4)), max(values.max(), law.ppf(1 - 1e-4))
        density, edges = np.histogram(values, bins=bins, range=(low, high), density=True)
        return edges, density, np.diff(law.cdf(edges)) / np.diff(edges)

    def gaussianity(self) -> float:
        """Kolmogorov-Smirnov distance between |z|^2 and chi-square: 0 for Gaussian noise, 1 at worst."""
        return float(stats.kstest(self.squared_norm.double().cpu().numpy(), stats.chi2(self.degrees).cdf).statistic)


def inversion_metrics(image: Tensor, reconstruction: Tensor, noise: Tensor) -> InversionMetrics:
    """Errors of reconstructions and squared norms of noises, all [B, C, H, W]."""
    mse = (image - reconstruction).square().flatten(1).mean(1)
    return InversionMetrics(mse, noise.square().flatten(1).sum(1), noise[0].numel())


def _noise(x: Tensor, v: Tensor, t: float) -> Tensor:
    return PATH.convert(x, v, t, "velocity", "noise")
