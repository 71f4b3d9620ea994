"""Losses of SiT for velocities, scores and noises (arXiv 2401.08740, appendix).

    velocity   mean((v - u)^2),               u = alpha' x + sigma' n
    noise      w mean((n_hat - n)^2)          score   w mean((s sigma + n)^2)

with data x, noise n and the drift variance g = (alpha'/alpha) sigma^2 - sigma sigma'. The weight w of a sample is 1,
(g / sigma)^2 ("velocity": the error of the velocity that the prediction stands for) or g / sigma^2 ("likelihood").
Clock: t = 0 is noise, t = 1 is data.

Legend: B batch; ... the axes of one sample.
"""

from typing import Literal

import torch
from torch import Tensor

from visionseq.errors import ConfigError
from visionseq.flow.paths import Path
from visionseq.nn.precision import at_least_float32
from visionseq.sit.transport import Prediction, training_interval

Weight = Literal["none", "velocity", "likelihood"]
WEIGHTS = ("none", "velocity", "likelihood")


def prediction_loss(
    output: Tensor,
    data: Tensor,
    noise: Tensor,
    t_B: Tensor,
    path: Path,
    prediction: Prediction = "velocity",
    weight: Weight = "none",
) -> Tensor:
    """Loss of each sample [B], in float32 also under autocast (float64 for a float64 output).

    Args:
        output: the model's prediction [B, ...] at the state `path.at(data, noise, t_B)`.
        data, noise: the ends of the path [B, ...].
        t_B: times.
        path, prediction: what the model was asked for.
        weight: of scores and noises; velocities have none.

    Raises `ConfigError` for an unknown weight.
    """
    if weight not in WEIGHTS:
        raise ConfigError(f"loss_weight {weight!r}, expected one of {', '.join(WEIGHTS)}")
    with torch.autocast(output.device.type, enabled=False):
        output = at_least_float32(output)
        data, noise, t_B = data.to(output.dtype), noise.to(output.dtype), t_B.to(output.dtype)
        if prediction == "velocity":
            return _mean_square(output - path.velocity(data, noise, t_B))
        sigma = path.coefficients(t_B, data).sigma
        error = output - noise if prediction == "noise" else output * sigma + noise
        return _weight(path, t_B, weight) * _mean_square(error)


def training_times(u_B: Tensor, path: Path, prediction: Prediction) -> Tensor:
    """Times of training examples [B] from uniform numbers in [0, 1]."""
    first, last = training_interval(path, prediction)
    return first + u_B * (last - first)


def _weight(path: Path, t_B: Tensor, weight: Weight) -> Tensor | float:
    if weight == "none":
        return 1.0
    sigma_B, variance_B = path.coefficients(t_B, t_B).sigma, path.drift_variance(t_B, t_B)
    return (variance_B / sigma_B) ** 2 if weight == "velocity" else variance_B / sigma_B**2


def _mean_square(error: Tensor) -> Tensor:
    return error.square().flatten(1).mean(1)
