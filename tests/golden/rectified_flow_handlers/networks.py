"""Layers, whole networks and the EDM wrappers against vectors of the official implementation."""

import re

import torch
from golden_vector import GoldenVector, close
from torch import nn

from visionseq.nn.embeddings import FourierEmbedding, SinusoidalEmbedding
from visionseq.rectified_flow.model import EDMDenoiser, EDMVelocity, build_network
from visionseq.rectified_flow.unet_block import UNetBlock, attention
from visionseq.rectified_flow.unet_layers import Conv2d, GroupNorm

IGNORED = ("num_params", "unet_type", "use_fp16", "wrapper")


def network_of(config: dict) -> nn.Module:
    """Network from a vector's configuration; the arguments tell the two U-Nets apart where no type is named."""
    name = {"songunet": "SongUNet", "adm": "DhariwalUNet"}.get(config.get("unet_type"))
    name = name or ("SongUNet" if "embedding_type" in config or "encoder_type" in config else "DhariwalUNet")
    arguments = {key: value for key, value in config.items() if key not in IGNORED}
    return build_network({"type": name, **arguments})


def check_layers(vector: GoldenVector) -> None:
    tolerance, x = _tolerance(vector, 1e-5), vector["in/x"]
    for layout in (torch.contiguous_format, torch.channels_last):
        _check_layers(vector, x.contiguous(memory_format=layout), layout, tolerance)
    _check_embeddings(vector, tolerance)
    _check_attention(vector, tolerance)


def _check_layers(vector: GoldenVector, x: torch.Tensor, layout: torch.memory_format, tolerance: float) -> None:
    for name, config in vector.config.items():
        expected = vector[f"out/{name}"]
        state = _below(vector.state, name)
        if name.startswith("gn"):
            close(
                _loaded(GroupNorm(vector[f"in/{name}_x"].shape[1], **config), state)(vector[f"in/{name}_x"]),
                expected,
                tolerance,
            )
        elif name.startswith("block"):
            emb = vector["in/emb"]
            block = UNetBlock(**{"emb_channels": emb.shape[1], **config})
            close(_loaded(block, state)(x, emb), expected, tolerance)
        else:
            sizes = {"in_channels": x.shape[1], "out_channels": expected.shape[1], "bias": "bias" in state}
            layer = Conv2d(**{**sizes, **config})
            close(_loaded(layer, state)(x), expected, tolerance)


def _check_embeddings(vector: GoldenVector, tolerance: float) -> None:
    for name, expected in vector.tensors("out/").items():
        if name.startswith("pos"):
            close(
                SinusoidalEmbedding(expected.shape[1], endpoint="endpoint" in name)(vector["in/noise_labels"]),
                expected,
                tolerance,
            )
        if name.startswith("fourier"):
            layer = _loaded(FourierEmbedding(expected.shape[1]), _below(vector.state, name))
            close(layer(vector["in/noise_labels"]), expected, tolerance)


def _check_attention(vector: GoldenVector, tolerance: float) -> None:
    if "out/attn_w" not in vector:
        return
    q, k = vector["in/q"], vector["in/k"]
    values = torch.eye(k.shape[2]).expand(len(k), -1, -1)  # unit vectors as values read the weights out
    close(attention(q, k, values).transpose(1, 2), vector["out/attn_w"], tolerance)


def check_network(vector: GoldenVector) -> None:
    tolerance = _tolerance(vector, 1e-5)
    network = _loaded(network_of(vector.config), vector.state)
    x = vector["in/x"].requires_grad_()
    noise, labels = vector["in/noise_labels"], vector.tensors("in/").get("class_labels")
    augment = vector.tensors("in/").get("augment_labels")
    y = network(x, noise, labels, augment)
    close(y, vector["out/y"], tolerance)
    if "out/y_zero_aug" in vector:
        zeros = None if augment is None else torch.zeros_like(augment)
        close(network(x, noise, labels, zeros), vector["out/y_zero_aug"], tolerance)
        close(network(x, noise, labels, None), vector["out/y_zero_aug"], tolerance)
    if "out/y_zero_label" in vector:
        close(network(x, noise, None, augment), vector["out/y_zero_label"], tolerance)
    if "in/cotangent" in vector:
        _check_gradients(vector, network, x, y, tolerance)


def _check_gradients(vector: GoldenVector, network: nn.Module, x, y, tolerance: float) -> None:
    named = {"x": x, **dict(network.named_parameters())}
    expected = vector.tensors("grad/")
    gradients = torch.autograd.grad(y, [named[name] for name in expected], vector["in/cotangent"])
    for gradient, value in zip(gradients, expected.values(), strict=True):
        close(gradient, value, tolerance)


def check_precond_vel(vector: GoldenVector) -> None:
    config = vector.config
    network = network_of(config)
    options = {"use_fp16": config.get("use_fp16", False)}
    denoiser, velocity = EDMDenoiser(network, **options), EDMVelocity(network, **options)
    _loaded(denoiser, vector.state), velocity.eval()
    t, x_t = vector["in/t"], vector["in/x_t"]
    labels = vector.tensors("in/").get("class_labels")
    t_B111 = t.reshape(-1, 1, 1, 1)
    sigma = t_B111 / (1 - t_B111)
    if "out/sigma" in vector:
        close(sigma.flatten(), vector["out/sigma"].flatten(), 1e-6)
    augment = vector.tensors("in/").get("augment_labels")
    D = denoiser(x_t / (1 - t_B111), sigma, labels, augment)
    assert D.dtype == torch.float32
    close(D, vector["out/D"], 2e-5)
    if "out/D_no_aug" in vector:
        close(denoiser(x_t / (1 - t_B111), sigma, labels), vector["out/D_no_aug"], 2e-5)
    v = velocity(x_t, t, labels)
    for i, t_i in enumerate(t.tolist()):
        close(v[i], vector["out/v"][i], 2e-5 / t_i)


def _tolerance(vector: GoldenVector, default: float) -> float:
    """First number of the file's tolerance text."""
    found = re.search(r"\d+(?:\.\d+)?e-?\d+", vector.tolerance)
    return float(found.group()) if found else default


def _below(state: dict, name: str) -> dict:
    return {key[len(name) + 1 :]: value for key, value in state.items() if key.startswith(f"{name}.")}


def _loaded(module: nn.Module, state: dict) -> nn.Module:
    module.load_state_dict(state, strict=True)
    return module.eval()


HANDLERS = {
    "layers": check_layers,
    "songunet": check_network,
    "dhariwal": check_network,
    "precond_vel": check_precond_vel,
}
