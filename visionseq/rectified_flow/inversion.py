"""Inversion of a rectified flow and what it is good for: reconstruction, translation, interpolation (arXiv 2405.20320).

Data is carried to noise by the plain ODE on the grid [1e-3, 1/N, ..., (N-1)/N, 1], starting from
(1 - 1e-3) image + 1e-3 eps. Decoding starts from z (1 - 1e-5) like every sample. Few evaluations suffice on a flow that
is straight: the paper inverts with 4 and decodes with 2.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from visionseq.errors import ConfigError
from visionseq.rectified_flow.sampling import Velocity, guide, sample, time_grid
from visionseq.rectified_flow.teacher import check_solver
from visionseq.rectified_flow.trajectory import Trajectory

T_DATA = 1e-3


@torch.no_grad()
def invert(
    velocity: Velocity,
    image: Tensor,
    steps: int = 4,
    solver: Literal["euler", "heun"] = "euler",
    class_labels: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Trajectory:
    """Noise of images [B, C, H, W] in [-1, 1]; `x` is the noise, `predictions` are zhat = x_t + (1 - t) v.

    Args:
        steps: evaluations of the network; odd for Heun.
        generator: draws the eps that moves the image off the end of the path.
    """
    eps = torch.randn(image.shape, generator=generator).to(image)
    return integrate_to_noise(velocity, (1 - T_DATA) * image + T_DATA * eps, steps, solver, class_labels)


@torch.no_grad()
def integrate_to_noise(
    velocity: Velocity,
    start: Tensor,
    steps: int = 4,
    solver: Literal["euler", "heun"] = "euler",
    class_labels: Tensor | None = None,
) -> Trajectory:
    """The ODE from a state at t = 1e-3 to t = 1 in the rising grid; the last step is Euler."""
    check_solver(solver)
    intervals = len(time_grid(steps, solver)) - 1
    grid = [T_DATA, *(i / intervals for i in range(1, intervals)), 1.0]
    field = guide(velocity, 1.0, class_labels)
    x, states, predictions, nfe = start, [start], [], 0
    for step, (t, following) in enumerate(zip(grid[:-1], grid[1:], strict=True)):
        v, nfe = field(x, t), nfe + 1
        prediction, moved = x + (1 - t) * v, x + (following - t) * v
        if solver == "heun" and step < intervals - 1:
            v_there, nfe = field(moved, following), nfe + 1
            prediction = moved + (1 - following) * v_there
            moved = x + (following - t) * (v + v_there) / 2
        x = moved
        states.append(x)
        predictions.append(prediction)
    return Trajectory(torch.stack(states), torch.stack(predictions), nfe)


def reconstruct(
    velocity: Velocity,
    image: Tensor,
    invert_steps: int = 4,
    decode_steps: int = 2,
    class_labels: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Invert and decode with the same classes: images [B, C, H, W]."""
    return translate(velocity, image, class_labels, class_labels, invert_steps, decode_steps, generator)


def translate(
    velocity: Velocity,
    image: Tensor,
    source_labels: Tensor | None,
    target_labels: Tensor | None,
    invert_steps: int = 4,
    decode_steps: int = 2,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Invert under the source classes and decode under the target classes: images [B, C, H, W]."""
    noise = invert(velocity, image, invert_steps, class_labels=source_labels, generator=generator).x
    return sample(velocity, noise, decode_steps, class_labels=target_labels).x


def interpolate(
    velocity: Velocity,
    first: Tensor,
    second: Tensor,
    weights: Tensor,
    invert_steps: int = 4,
    decode_steps: int = 2,
    class_labels: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Decode the spherical path between the noises of two images [C, H, W]: one image per weight, [W, C, H, W]."""
    labels = None if class_labels is None else class_labels[:2]
    noise = invert(velocity, torch.stack([first, second]), invert_steps, class_labels=labels, generator=generator).x
    path = slerp(noise[:1].flatten(1), noise[1:].flatten(1), weights.to(noise)).view(-1, *first.shape)
    decode_labels = None if class_labels is None else class_labels[:1].expand(len(path), *class_labels.shape[1:])
    return sample(velocity, path, decode_steps, class_labels=decode_labels).x


def slerp(a: Tensor, b: Tensor, w: Tensor) -> Tensor:
    """Spherical interpolation of flattened noises a, b [1, D] at weights w [W]: [W, D].

    (sin((1 - w) omega) a + sin(w omega) b) / sin(omega), omega = acos(<a/|a|, b/|b|>) + 1e-8.
    """
    if a.shape != b.shape or a.ndim != 2 or len(a) != 1:
        raise ConfigError(f"slerp of {tuple(a.shape)} and {tuple(b.shape)}, expected two of shape [1, D]")
    cosine = (a / a.norm(dim=1, keepdim=True) * (b / b.norm(dim=1, keepdim=True))).sum(1)
    # Rounding may carry the cosine of parallel noises past 1, where acos is not defined.
    omega = cosine.clamp(-1, 1).acos() + 1e-8
    w = w[:, None]
    return (torch.sin((1 - w) * omega) * a + torch.sin(w * omega) * b) / torch.sin(omega)


@dataclass(frozen=True)
class InversionScore:
    """How good an inversion is.

    Attributes:
        mse: mean squared error between images and reconstructions [B].
        squared_norm: |z|^2 of the noises [B]; chi-square with `degrees` degrees of freedom if they are Gaussian.
        degrees: C H W.
    """

    mse: Tensor
    squared_norm: Tensor
    degrees: int


def inversion_score(image: Tensor, reconstruction: Tensor, noise: Tensor) -> InversionScore:
    """Errors of reconstructions and squared norms of noises, all [B, C, H, W]."""
    mse = (image - reconstruction).square().flatten(1).mean(1)
    return InversionScore(mse, noise.square().flatten(1).sum(1), noise[0].numel())
