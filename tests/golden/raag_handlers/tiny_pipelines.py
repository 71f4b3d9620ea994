"""diffusers' pipelines around tiny transformers, without text encoders."""

from collections.abc import Mapping
from typing import Any

import diffusers
import torch
from torch import Tensor

TRANSFORMERS = {
    "sd3": "SD3Transformer2DModel",
    "wan": "WanTransformer3DModel",
    "qwen": "QwenImageTransformer2DModel",
    "lumina2": "Lumina2Transformer2DModel",
    "lumina_next": "LuminaNextDiT2DModel",
}
TINY_VAE = {"base_dim": 8, "z_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}


def transformer_of(kind: str, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> torch.nn.Module:
    model = getattr(diffusers, TRANSFORMERS[kind])(**config["transformer"])
    missing, unexpected = model.load_state_dict(dict(state), strict=False)
    persistent = set(model.state_dict())
    assert not unexpected
    assert not set(missing) & persistent, f"the file lacks {missing}"
    return model.eval()


def scheduler_of(config: Mapping[str, Any]) -> Any:
    return getattr(diffusers, config["scheduler_class"])(**config["scheduler"])


def _sd3(config: Mapping[str, Any], transformer: torch.nn.Module) -> Any:
    nothing = dict.fromkeys(f"{part}{end}" for part in ("text_encoder", "tokenizer") for end in ("", "_2", "_3"))
    return diffusers.StableDiffusion3Pipeline(transformer, scheduler_of(config), None, **nothing)


def _wan(config: Mapping[str, Any], transformer: torch.nn.Module) -> Any:
    return diffusers.WanPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=diffusers.AutoencoderKLWan(**TINY_VAE),
        scheduler=scheduler_of(config),
        transformer=transformer,
    )


def _qwen(config: Mapping[str, Any], transformer: torch.nn.Module) -> Any:
    vae = diffusers.AutoencoderKLQwenImage(**TINY_VAE, latents_mean=[0.0] * 4, latents_std=[1.0] * 4)
    return diffusers.QwenImagePipeline(scheduler_of(config), vae, None, None, transformer)


def _lumina2(config: Mapping[str, Any], transformer: torch.nn.Module) -> Any:
    return diffusers.Lumina2Pipeline(transformer, scheduler_of(config), None, None, None)


def _lumina_next(config: Mapping[str, Any], transformer: torch.nn.Module) -> Any:
    return diffusers.LuminaPipeline(transformer, scheduler_of(config), None, None, None)


PIPELINES = {"sd3": _sd3, "wan": _wan, "qwen": _qwen, "lumina2": _lumina2, "lumina_next": _lumina_next}


def call_arguments(kind: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the pipeline is called with, but its scale."""
    renamed = {"pooled": "pooled_prompt_embeds", "negative_pooled": "negative_pooled_prompt_embeds"}
    arguments = {renamed.get(name, name): tensor.clone() for name, tensor in tensors.items()}
    for side in ("prompt", "negative_prompt"):
        embeds = arguments[f"{side}_embeds"]
        if kind == "qwen":
            arguments.setdefault(f"{side}_embeds_mask", torch.ones(embeds.shape[:2], dtype=torch.bool))
        if kind == "lumina2":
            arguments.setdefault(f"{side}_attention_mask", torch.ones(embeds.shape[:2], dtype=torch.bool))
    extra = {"negative_prompt": None, "prompt": None} if kind == "lumina_next" else {}
    return {**extra, **arguments, **config["call"]}
