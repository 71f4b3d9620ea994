"""Schedule, embeddings, norms, blocks and heads against vectors of the official implementation."""

import re
from functools import partial

import torch
from golden_vector import GoldenVector, first_number
from torch import Tensor, nn

from visionseq.bfm.blocks import (
    BlockSettings,
    Modulation,
    RMSNorm,
    SwiGLU,
    feature_block,
    frn_block,
    velocity_block,
    weighted_norm,
)
from visionseq.bfm.model import TokenEmbedding, projection_head
from visionseq.bfm.schedule import boundaries, ode_times, sde_times, split_sizes
from visionseq.flow.paths import GVP, Linear
from visionseq.nn.adaptive import AdaptiveOutput, Attention, FeedForward, plain_norm
from visionseq.nn.embeddings import (
    LabelEmbedding,
    TimeEmbedding,
    patchify,
    rotary_angles,
    rotate_pairs,
    unpatchify,
)


def check_schedule(vector: GoldenVector) -> None:
    for name in vector.names("out/"):
        first, *more = map(int, re.findall(r"[A-Za-z](\d+)", name))
        if name.startswith("sigmas"):
            value = boundaries(first)
        elif name.startswith("split"):
            value = torch.tensor(split_sizes(first, *more))
        else:
            value = {"ode": ode_times, "sde": sde_times}[name[:3]](first, *more)
        vector.close(f"out/{name}", value, 1e-7)


def check_patchify(vector: GoldenVector) -> None:
    config, x = vector.config, vector["in/x"]
    tokens = patchify(x, config["patch_size"])
    vector.equal("out/tokens", tokens)
    vector.equal("out/unpatchify", unpatchify(tokens, config["patch_size"], tuple(x.shape[-2:])))


def check_rope(vector: GoldenVector) -> None:
    grid, channels, tokens = vector.config["grid"], vector.config["head_dim"], vector.config["tokens"]
    tolerance = first_number(vector.tolerance, 1e-6)
    angles = rotary_angles((grid, grid), channels)
    index = torch.arange(grid * grid)
    vector["in/grid_xy"].equal(torch.stack([index % grid, index // grid]))
    repeated = angles[tokens].repeat_interleave(2, -1).unsqueeze(0)
    vector.close("out/cos", repeated.cos(), tolerance)
    vector.close("out/sin", repeated.sin(), tolerance)
    vector.equal("out/freqs_h", angles[grid, : channels // 4])  # of the token in row 1 and column 0
    turned = rotate_pairs(vector["in/q"].transpose(1, 2), angles[tokens]).transpose(1, 2)
    vector.close("out/q_rot", turned, 5e-6)
    quarter = rotate_pairs(torch.arange(8.0).view(1, 1, 8), torch.full((1, 4), torch.pi / 2))
    vector.close("out/rotate_half_of_arange8", quarter[0], 1e-6)


def check_norms(vector: GoldenVector) -> None:
    x, dim = vector["in/x"], vector.config["dim"]
    rms = _loaded(RMSNorm(dim), {"weight": vector.state["rms_weight"]})
    vector.close("out/rms", rms(x), 1e-6)
    of_half = rms(vector["in/x_bf16"])
    assert of_half.dtype == torch.float32
    error = (of_half - vector.expected("out/rms_of_bf16_input")).abs() / of_half.abs().clamp(min=1e-6)
    assert error.max() <= 2**-7  # a unit in the last place of bfloat16
    vector.close("out/layernorm_no_affine", plain_norm(dim)(x), 1e-6)
    weighted = _loaded(weighted_norm(dim), {"weight": vector.state["w_layernorm_weight"]})
    vector.close("out/w_layernorm", weighted(x), 1e-6)


def check_timestep_embedder(vector: GoldenVector) -> None:
    embedder = _loaded(TimeEmbedding(vector.config["hidden_size"]), vector.state)
    vector.close("out/sinusoid", embedder.features(vector["in/t"]), 2e-5)
    vector.close("out/emb", embedder(vector["in/t"]), 2e-5)


def check_label_embedder(vector: GoldenVector) -> None:
    config = vector.config
    embedder = _loaded(LabelEmbedding(config["num_classes"], config["hidden_size"]), vector.state)
    y = vector["in/y"]
    vector.equal("out/keep", embedder(y))
    vector.equal("out/dropped", embedder(y, vector["in/force_drop_ids"].bool()))
    vector.equal("out/null", embedder(torch.tensor([embedder.null_label])))


def check_patch_embedder(vector: GoldenVector) -> None:
    x = vector["in/x"]
    embedder = _loaded(TokenEmbedding(x.shape[-1], vector["out/y"].shape[-1]), vector.state)
    vector.close("out/y", embedder(x), 2e-5)


def check_attention(vector: GoldenVector) -> None:
    dim, heads, x = vector.config["dim"], vector.config["heads"], vector["in/x"].requires_grad_()
    norms = (RMSNorm(dim // heads), RMSNorm(dim // heads))
    attention = _loaded(Attention(dim, heads, q_norm=norms[0], k_norm=norms[1]), vector.state)
    _compare(vector, attention, attention(x, _angles(x, dim // heads)), {"x": x})


def check_mlp(vector: GoldenVector) -> None:
    dim, x = vector.config["dim"], vector["in/x"]
    hidden = int(dim * vector.config["mlp_ratio"])
    mlps = {
        "gelu": FeedForward(dim, hidden),
        "swiglu": SwiGLU(dim, hidden * 2 // 3),
        "swiglu_large": SwiGLU(dim, hidden),
    }
    for name in vector.names("out/"):
        state = {key.removeprefix(f"{name}."): v for key, v in vector.state.items() if key.startswith(f"{name}.")}
        vector.close(f"out/{name}", _loaded(mlps[name], state)(x), 2e-5)


def check_block(vector: GoldenVector, kind: str) -> None:
    config, x, c = vector.config, vector["in/x"].requires_grad_(), vector["in/c"].requires_grad_()
    made = {"feature": feature_block, "velocity": velocity_block}
    settings = BlockSettings(
        config["dim"], config["heads"], 4.0, "RMSNorm", "RMSNorm", False, True, True, True, "layernorm", False, False
    )
    block = frn_block(settings) if kind == "frn" else made[kind](settings, config["adaln_lora_dim"])
    block, inputs = _loaded(block, vector.state), {"x": x, "c": c}
    if "in/global_adaln" in vector:
        inputs["global_adaln"] = vector["in/global_adaln"].requires_grad_()
    attend = partial(block.attn, angles=_angles(x, config["dim"] // config["heads"]))
    _compare(vector, block, block(x, c, inputs.get("global_adaln"), attend), inputs)


def check_final_layer(vector: GoldenVector) -> None:
    dim, x, c = vector.config["dim"], vector["in/x"].requires_grad_(), vector["in/c"].requires_grad_()
    modulation = Modulation(nn.SiLU(), nn.Linear(2 * dim, 2 * dim))
    layer = _loaded(AdaptiveOutput(dim, vector["out/y"].shape[-1], modulation=modulation), vector.state)
    _compare(vector, layer, layer(x, c), {"x": x, "c": c})


def check_projector(vector: GoldenVector) -> None:
    config = vector.config
    head = projection_head(config["in_dim"], config["hidden"], config["out"]).double()
    with torch.no_grad():
        for k, layer in enumerate(head[::2]):
            rows = torch.arange(1, layer.out_features + 1, dtype=torch.float64)
            a, b = rows.view(-1, 1), torch.arange(1, layer.in_features + 1, dtype=torch.float64)
            layer.weight.copy_(torch.cos(0.7 * k + (a * b) % 7 + 0.01 * a - 0.003 * b) / layer.in_features**0.5)
            layer.bias.copy_(0.05 * rows.sin())
        vector.close("out/y", head(vector["in/x"].double()), 1e-9)


def check_score(vector: GoldenVector) -> None:
    x, v, t = (vector[f"in/{name}"] for name in "xvt")
    for name, path in (("linear", Linear(data_at=0)), ("cosine", GVP(data_at=0))):
        vector.close(f"out/score_{name}", path.convert(x, v, t, "velocity", "score"), 1e-10)


def _angles(x_BND: Tensor, channels: int) -> Tensor:
    side = round(x_BND.shape[1] ** 0.5)
    return rotary_angles((side, side), channels)


def _compare(vector: GoldenVector, module: nn.Module, y: Tensor, inputs: dict[str, Tensor]) -> None:
    """Compare the result and its gradients: 2e-5, and 1e-4 relative to each value."""
    vector.close("out/y", y, 2e-5)
    (y * vector["in/cotangent"]).sum().backward()
    named = {**inputs, **dict(module.named_parameters())}
    for name in vector.names("grad/"):
        gradient = named[name].grad
        assert gradient is not None, name
        torch.testing.assert_close(gradient, vector.expected(f"grad/{name}"), atol=2e-5, rtol=1e-4, msg=name)


def _loaded(module: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    module.load_state_dict(state, strict=True)
    return module.eval()


HANDLERS = {
    "schedule": check_schedule,
    "patchify": check_patchify,
    "rope": check_rope,
    "norms": check_norms,
    "timestep_embedder": check_timestep_embedder,
    "label_embedder": check_label_embedder,
    "patch_embedder": check_patch_embedder,
    "attention": check_attention,
    "mlp": check_mlp,
    "block_feature": partial(check_block, kind="feature"),
    "block_velocity": partial(check_block, kind="velocity"),
    "block_frn": partial(check_block, kind="frn"),
    "final_layer": check_final_layer,
    "projector": check_projector,
    "score_from_velocity": check_score,
}
