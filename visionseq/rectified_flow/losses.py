"""Losses of the room: the velocity losses of improved rectified flows and the denoising loss of EDM.

With e = v - (z - x), d = C H W and the predicted image x0hat = x_t - t v (arXiv 2405.20320, section 4):

    l2-squared   mean(e^2)                 l2   sqrt(mean(e^2))
    huber        (sqrt(sum(e^2) + c^2) - c) / d,   c = 0.00054 d
    lpips        P(x0hat, x)               lpips-huber   (1 - t) huber + P(x0hat, x)

where P is a perceptual distance, divided by t with `divt` (configuration F). Everything is float32, whatever autocast
says: weights reach 1e5 at the smallest t. Clock: t = 0 is data, t = 1 is noise.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from visionseq.errors import ConfigError
from visionseq.nn.precision import at_least_float32
from visionseq.rectified_flow.model import EDMDenoiser
from visionseq.rectified_flow.sampling import PATH, predicted_image

LOSSES = ("l2-squared", "l2", "huber", "lpips", "lpips-huber")
HUBER_C = 0.00054  # times d, as the official code has it (improved consistency training: times sqrt(d))
P_MEAN, P_STD = -1.2, 1.2  # ln sigma of EDM training, arXiv 2206.00364 table 1


def velocity_loss(
    name: str,
    v: Tensor,
    x: Tensor,
    z: Tensor,
    x_t: Tensor,
    t: Tensor,
    *,
    divt: bool = False,
    perceptual: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Per-sample loss [B] in float32 (float64 for a float64 v).

    Args:
        name: one of `LOSSES`.
        v: predicted velocity at (x_t, t), [B, C, H, W].
        x, z: image in [-1, 1] and noise of the pair.
        x_t: (1 - t) x + t z.
        t: times [B].
        divt: divide the perceptual term by t; the losses without one do not change.
        perceptual: distance [B] of two images in [0, 1]; needed by the lpips losses.

    Raises `ConfigError` for an unknown name, or where a perceptual distance is needed and none is given.
    """
    if name not in LOSSES:
        raise ConfigError(f"loss {name!r}, expected one of {', '.join(LOSSES)}")
    if name.startswith("lpips") and perceptual is None:
        raise ConfigError(f"loss {name!r} needs a perceptual distance")

    # Losses of the velocity, then those of the predicted image.
    with torch.autocast(v.device.type, enabled=False):
        v = at_least_float32(v)
        x, z, x_t, t = (tensor.to(v.dtype) for tensor in (x, z, x_t, t))
        error_BD = (v - PATH.velocity(x, z)).flatten(1)
        if name == "l2-squared":
            return error_BD.square().mean(1)
        if name == "l2":  # a norm, because the square root of a sum has no gradient at 0
            return torch.linalg.vector_norm(error_BD, dim=1) / error_BD.shape[1] ** 0.5
        if name == "huber":
            return pseudo_huber(error_BD)
        assert perceptual is not None  # the check of the name has made sure of it
        distance = perceptual(to_unit(predicted_image(x_t, v, t)), to_unit(x)) / (t if divt else 1)
        return distance if name == "lpips" else (1 - t) * pseudo_huber(error_BD) + distance


def pseudo_huber(error_BD: Tensor) -> Tensor:
    """(sqrt(|e|^2 + c^2) - c) / d with c = 0.00054 d: [B, d] -> [B]."""
    d = error_BD.shape[1]
    c, squared = HUBER_C * d, error_BD.square().sum(1)
    return squared / ((squared + c**2).sqrt() + c) / d  # the same number without the cancellation at small errors


def to_unit(image: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1]."""
    return 0.5 * image + 0.5


def sample_sigma(n: int, generator: torch.Generator | None = None, device: torch.device | str | None = None) -> Tensor:
    """Noise levels [n] of EDM training in float32: ln sigma ~ N(-1.2, 1.2^2)."""
    normal = torch.randn(n, generator=generator, device=None if generator is None else generator.device)
    return (normal * P_STD + P_MEAN).exp().to(device)


def edm_loss(
    denoiser: EDMDenoiser,
    x: Tensor,
    sigma: Tensor,
    noise: Tensor,
    class_labels: Tensor | None = None,
    augment_labels: Tensor | None = None,
) -> Tensor:
    """Per-sample loss [B] of a denoiser, in float32: (sigma^2 + sd^2) / (sigma sd)^2 mean((D(x + sigma n) - x)^2).

    Args:
        denoiser: D, whose `sigma_data` is sd.
        x: images [B, C, H, W] in [-1, 1].
        sigma: noise levels [B].
        noise: standard normal n, shaped like x.
        class_labels, augment_labels: handed to D.

    The mean over pixels keeps the figure independent of the image size (EDM's code sums; Adam does not notice).
    """
    denoised = denoiser(x + sigma.view(-1, 1, 1, 1) * noise, sigma, class_labels, augment_labels)
    with torch.autocast(x.device.type, enabled=False):
        weight = (sigma**2 + denoiser.sigma_data**2) / (sigma * denoiser.sigma_data) ** 2
        return weight * (denoised - x).square().flatten(1).mean(1)
