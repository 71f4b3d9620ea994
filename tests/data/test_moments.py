"""Latents from the moments of an autoencoder."""

import torch

from visionseq.data.moments import latents_of


def test_the_mean_and_the_spread_are_those_of_the_moments():
    mean, log_variance = torch.full((4, 8, 8), 2.0), torch.full((4, 8, 8), 1.0)
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    latents = latents_of(torch.cat([mean, log_variance]).expand(2, 8, 8, 8), noise, scale=0.5)
    torch.testing.assert_close(latents, 0.5 * (2 + torch.e**0.5 * noise))


def test_log_variances_are_bounded():
    moments = torch.tensor([0.0, 1e4]).view(2, 1, 1)
    assert latents_of(moments, torch.ones(1, 1, 1), scale=1).item() == torch.tensor(10.0).exp()
