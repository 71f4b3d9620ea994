"""Time distributions and training losses against vectors of the official implementation."""

import re

import torch
import torch.nn.functional as F
from golden_vector import GoldenVector, close
from torch import Tensor

from rectified_flow_handlers.models import one_hot, velocity_of
from visionseq.flow import time
from visionseq.rectified_flow.losses import pseudo_huber, to_unit, velocity_loss
from visionseq.rectified_flow.model import EDMVelocity
from visionseq.rectified_flow.perceptual import IMAGENET_MEAN, IMAGENET_STD, PerceptualDistance
from visionseq.rectified_flow.sampling import predicted_image


def check_tdist(vector: GoldenVector) -> None:
    for name in {key.split("/")[0] for key in vector.names("in/")}:
        a = float(name.removeprefix("a"))
        u, q = vector[f"in/{name}/u"], vector[f"in/{name}/q"]
        values = {
            "mix_ppf": time.u_shape_icdf(q, a),
            "exp_pdf": time.exponential_pdf(u, a),
            "exp_cdf": time.exponential_cdf(u, a),
            "exp_ppf": time.exponential_icdf(q, a),
            "mix_pdf": time.u_shape_pdf(u, a),
            "mix_cdf": time.u_shape_cdf(u, a),
            "t": time.antithetic_t(vector[f"in/{name}/uniform"], vector[f"in/{name}/perm"], a),
        }
        vector.close_all(f"out/{name}/", values, 1e-6)
        close("quantiles", time.u_shape_cdf(time.u_shape_icdf(q, a), a), q, 1e-12)


def tiny_distance(vector: GoldenVector, resize: int | None) -> PerceptualDistance:
    """LPIPS on the small network `in/feat.*`, a sequence of convolutions, ReLUs and 2x2 average poolings.

    A convolution is followed by its ReLU; where the numbering leaves a place before the next one, that is a pooling.
    """
    layers = sorted({int(key.split(".")[0]) for key in vector.names("in/feat.")})
    named = re.search(r"layers ([\d, ]*\d)", vector.meta.get("what", ""))
    taps = [int(tap) for tap in named[1].split(",")] if named else [layer + 1 for layer in layers]

    def feature_maps(x: Tensor) -> list[Tensor]:
        maps = {}
        for layer in range(layers[-1] + 2):
            if layer in layers:
                weight = vector[f"in/feat.{layer}.weight"]
                x = F.conv2d(x, weight, vector[f"in/feat.{layer}.bias"], padding=weight.shape[-1] // 2)
            else:
                x = F.relu(x) if layer - 1 in layers else F.avg_pool2d(x, 2)
            maps[layer] = x
        return [maps[tap] for tap in taps]

    weights = [vector[f"in/lpips_w{k}"] for k in range(len(taps))]
    return PerceptualDistance(feature_maps, weights, resize, IMAGENET_MEAN, IMAGENET_STD)


def check_loss(vector: GoldenVector) -> None:
    model = velocity_of(vector.config, vector.state).train()
    x, z, t = (vector[f"in/{key}"] for key in ("x", "z", "t"))
    distance = tiny_distance(vector, vector.config.get("upsample"))
    x_t = (1 - t.view(-1, 1, 1, 1)) * x + t.view(-1, 1, 1, 1) * z
    _check_parts(vector, model(x_t, t, one_hot(vector)).detach(), x, z, x_t, t, distance)
    for variant in {key.split("/")[0] for key in vector.names("out/") if key.endswith("/loss")}:
        name, divt = variant.removesuffix("_divt"), variant.endswith("_divt")
        model.zero_grad()
        v = model(x_t, t, one_hot(vector))
        loss = velocity_loss(name, v, x, z, x_t, t, divt=divt, perceptual=distance).mean()
        loss.backward()
        _compare(vector, variant, loss, model, 5e-4 if "lpips" in name else 1e-4)


def _check_parts(vector: GoldenVector, v: Tensor, x: Tensor, z: Tensor, x_t: Tensor, t: Tensor, distance) -> None:
    image = predicted_image(x_t, v, t)
    parts = {
        "pred_x": image,
        "huber_per_sample": pseudo_huber((v - (z - x)).flatten(1)),
        "lpips_per_sample": distance(to_unit(image), to_unit(x)),
    }
    for name, value in parts.items():
        vector.close(f"out/{name}", value, 1e-5)
    if "out/v" in vector:
        for row, expected, time_ in zip(v, vector.expected("out/v"), t.tolist(), strict=True):
            close("v", row, expected, 2e-5 / time_)


def _compare(vector: GoldenVector, variant: str, loss: Tensor, model: EDMVelocity, tolerance: float) -> None:
    expected = vector.expected(f"out/{variant}/loss").double()
    torch.testing.assert_close(loss.detach().double(), expected, rtol=1e-5, atol=1e-8)
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    norm = torch.stack([gradient.square().sum() for gradient in gradients.values()]).sum().sqrt()
    if f"out/{variant}/grad_norm" in vector:
        expected = vector.expected(f"out/{variant}/grad_norm")
        torch.testing.assert_close(norm, expected.to(norm.dtype), rtol=tolerance, atol=0)
    for name in vector.names(f"grad/{variant}/"):
        expected = vector.expected(f"grad/{variant}/{name}")
        error = (gradients[name] - expected).abs().max()
        assert error <= tolerance * expected.abs().max(), f"{variant} {name}: {error:.2e} of {expected.abs().max():.2e}"


HANDLERS = {"tdist": check_tdist, "loss": check_loss}
