"""Latents, the encoder's input and averaged weights against vectors of the official implementation."""

import torch
from golden_vector import GoldenVector
from torch import nn

from visionseq.bfm.encoder import preprocess
from visionseq.data.moments import latents_of
from visionseq.training.ema import Average


def check_latent_sample(vector: GoldenVector) -> None:
    vector.close("out/z", latents_of(_with_log_variance(vector["in/moments"]), vector["in/eps"]), 1e-6)


def _with_log_variance(moments):
    """Moments whose second half is the standard deviation, as those that `latents_of` takes."""
    mean, deviation = moments.chunk(2, dim=-3)
    return torch.cat([mean, 2 * deviation.log()], -3)


def check_encoder_preprocess(vector: GoldenVector) -> None:
    seen = preprocess(vector["in/image_uint8"].float() / 255)
    vector.equal("out/full_shape", list(seen.shape))
    vector.close("out/every_16th", seen[..., ::16, ::16], 1e-5)


def check_ema(vector: GoldenVector) -> None:
    module = nn.Linear(3, 2)
    average = Average(module, vector.config["decay"], start_update=1, rampup=None)
    average.shadow = {"weight": vector["in/ema_w0"].clone(), "bias": vector["in/ema_b0"].clone()}
    for step in range(3):
        with torch.no_grad():
            module.weight.copy_(vector[f"in/w{step}"])
            module.bias.copy_(vector[f"in/b{step}"])
        average.update(step + 1)
        vector.close(f"out/ema_w{step}", average.shadow["weight"], 1e-7)
        vector.close(f"out/ema_b{step}", average.shadow["bias"], 1e-7)


HANDLERS = {
    "latent_sample": check_latent_sample,
    "encoder_preprocess": check_encoder_preprocess,
    "ema": check_ema,
}
