"""Latents from the moments of an autoencoder: mean and log variance of each value, as its encoder gives them."""

import torch
from torch import Tensor

SD_VAE_SCALE = 0.18215  # makes the latents of Stable Diffusion's autoencoder about unit size (arXiv 2112.10752)
LOG_VARIANCES = (-30.0, 20.0)


def latents_of(moments: Tensor, noise: Tensor, scale: float = SD_VAE_SCALE) -> Tensor:
    """(mean + exp(log variance / 2) noise) scale.

    Args:
        moments: [..., 2 C, h, w], the means before the log variances, which are clamped to -30 to 20.
        noise: unit noise [..., C, h, w].
        scale: of the latents.
    """
    mean, log_variance = moments.chunk(2, dim=-3)
    return (mean + torch.exp(log_variance.clamp(*LOG_VARIANCES) / 2) * noise) * scale
