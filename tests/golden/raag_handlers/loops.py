"""Ratio-aware guidance by an explicit loop over a pipeline's transformer and scheduler, without the pipeline's call."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers.models.embeddings import get_2d_rotary_pos_embed_lumina
from diffusers.pipelines.qwenimage.pipeline_qwenimage import calculate_shift
from torch import Tensor

from visionseq.flow.guidance import RatioAware

Predict = Callable[[Any, Mapping[str, Any], str, Tensor, Tensor], Tensor]


class Loop(NamedTuple):
    """What a kind of pipeline does: set its times, predict for one side of the prompt, finish the guided prediction."""

    set_times: Callable[[Any, Mapping[str, Any]], None]
    predict: Predict
    finish: Callable[[Tensor, Tensor], Tensor]
    channels: int | None = None


@torch.no_grad()
def run_loop(loop: Loop, pipe: Any, arguments: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Tensor]:
    """Final latents, and of every step both predictions, ratio, weight and the guided prediction."""
    rule, latents = RatioAware(**options, channels=loop.channels), arguments["latents"].clone()
    loop.set_times(pipe.scheduler, arguments)
    steps: dict[str, list[Tensor]] = {"cond": [], "uncond": [], "ratio": [], "w": [], "guided": []}
    for t in pipe.scheduler.timesteps:
        cond, uncond = (loop.predict(pipe, arguments, side, latents, t) for side in ("", "negative_"))
        guided = rule(cond, uncond, 0.0)
        values = (cond, uncond, rule.last_ratio, rule.last_weight, guided)
        for values_of, value in zip(steps.values(), values, strict=True):
            values_of.append(value)
        latents = pipe.scheduler.step(loop.finish(guided, cond), t, latents, return_dict=False)[0]
    return {"raag_latents": latents, **{name: torch.stack(values) for name, values in steps.items()}}


def _plain_times(scheduler: Any, arguments: Mapping[str, Any]) -> None:
    scheduler.set_timesteps(arguments["num_inference_steps"])


def _times_of_sigmas(scheduler: Any, arguments: Mapping[str, Any]) -> None:
    """Even sigmas; with dynamic shifting they move with the number of tokens."""
    steps, config = arguments["num_inference_steps"], scheduler.config
    shift = calculate_shift(
        arguments["latents"].shape[1],
        *(config.base_image_seq_len, config.max_image_seq_len, config.base_shift, config.max_shift),
    )
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=shift)


def _sd3(pipe: Any, arguments: Mapping[str, Any], side: str, latents: Tensor, t: Tensor) -> Tensor:
    return pipe.transformer(
        hidden_states=latents,
        timestep=t.expand(len(latents)),
        encoder_hidden_states=arguments[f"{side}prompt_embeds"],
        pooled_projections=arguments[f"{side}pooled_prompt_embeds"],
        return_dict=False,
    )[0]


def _wan(pipe: Any, arguments: Mapping[str, Any], side: str, latents: Tensor, t: Tensor) -> Tensor:
    return pipe.transformer(
        hidden_states=latents,
        timestep=t.expand(len(latents)),
        encoder_hidden_states=arguments[f"{side}prompt_embeds"],
        return_dict=False,
    )[0]


def _qwen(pipe: Any, arguments: Mapping[str, Any], side: str, latents: Tensor, t: Tensor) -> Tensor:
    return pipe.transformer(
        hidden_states=latents,
        timestep=t.expand(len(latents)) / 1000,
        encoder_hidden_states=arguments[f"{side}prompt_embeds"],
        encoder_hidden_states_mask=arguments[f"{side}prompt_embeds_mask"],
        img_shapes=[[(1, arguments["height"] // 16, arguments["width"] // 16)]] * len(latents),
        return_dict=False,
    )[0]


def _lumina2(pipe: Any, arguments: Mapping[str, Any], side: str, latents: Tensor, t: Tensor) -> Tensor:
    return pipe.transformer(
        hidden_states=latents,
        timestep=(1 - t / pipe.scheduler.config.num_train_timesteps).expand(len(latents)),
        encoder_hidden_states=arguments[f"{side}prompt_embeds"],
        encoder_attention_mask=arguments[f"{side}prompt_attention_mask"],
        return_dict=False,
    )[0]


def _lumina_next(pipe: Any, arguments: Mapping[str, Any], side: str, latents: Tensor, t: Tensor) -> Tensor:
    time = 1 - t / pipe.scheduler.config.num_train_timesteps
    factor = math.sqrt(arguments["width"] * arguments["height"] / pipe.default_image_size**2)
    linear, ntk = (factor, 1.0) if time < arguments["scaling_watershed"] else (1.0, factor)
    rotary = get_2d_rotary_pos_embed_lumina(pipe.transformer.head_dim, 384, 384, linear_factor=linear, ntk_factor=ntk)
    prediction = pipe.transformer(
        hidden_states=latents,
        timestep=time.expand(len(latents)),
        encoder_hidden_states=arguments[f"{side}prompt_embeds"],
        encoder_mask=arguments[f"{side}prompt_attention_mask"],
        image_rotary_emb=rotary,
        cross_attention_kwargs={},
        return_dict=False,
    )[0]
    return prediction.chunk(2, 1)[0]


def _unchanged(guided: Tensor, cond: Tensor) -> Tensor:
    return guided


def _with_norms(guided: Tensor, cond: Tensor) -> Tensor:
    return guided * (cond.norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True))


LOOPS = {
    "sd3": Loop(_plain_times, _sd3, _unchanged),
    "wan": Loop(_plain_times, _wan, _unchanged),
    "qwen": Loop(_times_of_sigmas, _qwen, _with_norms),
    "lumina2": Loop(_times_of_sigmas, _lumina2, lambda guided, cond: -_with_norms(guided, cond)),
    "lumina_next": Loop(_plain_times, _lumina_next, lambda guided, cond: -guided, channels=3),
}
