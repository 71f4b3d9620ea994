"""Layers, whole networks and the EDM wrappers against vectors of the official implementation."""

import torch
from golden_vector import GoldenVector, close, first_number
from torch import nn

from visionseq.nn.embeddings import FourierEmbedding, SinusoidalEmbedding
from visionseq.rectified_flow.model import EDMDenoiser, EDMVelocity, build_network
from visionseq.rectified_flow.unet_block import UNetBlock, attention
from visionseq.rectified_flow.unet_layers import Conv2d, GroupNorm

IGNORED = ("num_params", "unet_type", "use_fp16", "wrapper")


def network_of(config: dict) -> nn.Module:
    """Network of a configuration; where it names no type, only a SongUNet has embedding or encoder types."""
    name = {"songunet": "SongUNet", "adm": "DhariwalUNet"}.get(config.get("unet_type"))
    name = name or ("SongUNet" if "embedding_type" in config or "encoder_type" in config else "DhariwalUNet")
    arguments = {key: value for key, value in config.items() if key not in IGNORED}
    return build_network({"type": name, **arguments})


def check_layers(vector: GoldenVector) -> None:
    tolerance, x = first_number(vector.tolerance, 1e-5), vector["in/x"]
    for layout in (torch.contiguous_format, torch.channels_last):
        _check_layers(vector, x.contiguous(memory_format=layout), layout, tolerance)
    _check_embeddings(vector, tolerance)
    _check_attention(vector, tolerance)


def _check_layers(vector: GoldenVector, x: torch.Tensor, layout: torch.memory_format, tolerance: float) -> None:
    for name, config in vector.config.items():
        key = f"out/{name}"
        state = _below(vector.state, name)
        if name.startswith("gn"):
            layer, source = GroupNorm(vector[f"in/{name}_x"].shape[1], **config), vector[f"in/{name}_x"]
            vector.close(key, _loaded(layer, state)(source), tolerance)
        elif name.startswith("block"):
            emb = vector["in/emb"]
            block = UNetBlock(**{"emb_channels": emb.shape[1], **config})
            vector.close(key, _loaded(block, state)(x, emb), tolerance)
        else:
            sizes = {"in_channels": x.shape[1], "out_channels": vector[key].shape[1], "bias": "bias" in state}
            layer = Conv2d(**{**sizes, **config})
            vector.close(key, _loaded(layer, state)(x), tolerance)


def _check_embeddings(vector: GoldenVector, tolerance: float) -> None:
    for name in vector.names("out/"):
        key = f"out/{name}"
        if name.startswith("pos"):
            layer = SinusoidalEmbedding(vector[key].shape[1], endpoint="endpoint" in name)
            vector.close(key, layer(vector["in/noise_labels"]), tolerance)
        if name.startswith("fourier"):
            layer = _loaded(FourierEmbedding(vector[key].shape[1]), _below(vector.state, name))
            vector.close(key, layer(vector["in/noise_labels"]), tolerance)


def _check_attention(vector: GoldenVector, tolerance: float) -> None:
    if "out/attn_w" not in vector:
        return
    q, k = vector["in/q"], vector["in/k"]
    values = torch.eye(k.shape[2]).expand(len(k), -1, -1)  # unit vectors as values read the weights out
    vector.close("out/attn_w", attention(q, k, values).transpose(1, 2), tolerance)


def check_network(vector: GoldenVector) -> None:
    tolerance = first_number(vector.tolerance, 1e-5)
    network = _loaded(network_of(vector.config), vector.state)
    x = vector["in/x"].requires_grad_()
    noise, labels = vector["in/noise_labels"], vector.tensors("in/").get("class_labels")
    augment = vector.tensors("in/").get("augment_labels")
    y = network(x, noise, labels, augment)
    vector.close("out/y", y, tolerance)
    if "out/y_zero_aug" in vector:
        zeros = None if augment is None else torch.zeros_like(augment)
        vector.close("out/y_zero_aug", network(x, noise, labels, zeros), tolerance)
        vector.close("out/y_zero_aug", network(x, noise, labels, None), tolerance)
    if "out/y_zero_label" in vector:
        vector.close("out/y_zero_label", network(x, noise, None, augment), tolerance)
    if "in/cotangent" in vector:
        _check_gradients(vector, network, x, y, tolerance)


def _check_gradients(vector: GoldenVector, network: nn.Module, x, y, tolerance: float) -> None:
    named = {"x": x, **dict(network.named_parameters())}
    names = vector.names("grad/")
    gradients = torch.autograd.grad(y, [named[name] for name in names], vector["in/cotangent"])
    vector.close_all("grad/", dict(zip(names, gradients, strict=True)), tolerance)


def check_precond_vel(vector: GoldenVector) -> None:
    config = vector.config
    network = network_of(config)
    options = {"use_fp16": config.get("use_fp16", False)}
    denoiser, velocity = EDMDenoiser(network, **options), EDMVelocity(network, **options)
    _loaded(denoiser, vector.state), velocity.eval()
    t, x_t = vector["in/t"], _state_at_t(vector)
    labels = vector.tensors("in/").get("class_labels")
    t_B111 = t.reshape(-1, 1, 1, 1)
    sigma = t_B111 / (1 - t_B111)
    if "out/sigma" in vector:
        vector.close("out/sigma", sigma.reshape(vector["out/sigma"].shape), 1e-6)
    augment = vector.tensors("in/").get("augment_labels")
    D = denoiser(x_t / (1 - t_B111), sigma, labels, augment)
    assert D.dtype == torch.float32
    vector.close("out/D", D, 2e-5)
    vector.close("out/D_no_aug", denoiser(x_t / (1 - t_B111), sigma, labels), 2e-5)
    v = velocity(x_t, t, labels)
    for i, t_i in enumerate(t.tolist()):
        close(f"v at t = {t_i}", v[i], vector.expected("out/v")[i], 2e-5 / t_i)


def _state_at_t(vector: GoldenVector) -> torch.Tensor:
    """x_t of the file, which is (1 - t) x + t z."""
    if "in/x" in vector:
        x, z, t_B111 = vector["in/x"], vector["in/z"], vector["in/t"].reshape(-1, 1, 1, 1)
        close("x_t", (1 - t_B111) * x + t_B111 * z, vector["in/x_t"], 1e-6)
    return vector["in/x_t"]


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
