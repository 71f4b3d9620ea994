"""Ratio-aware guidance inside diffusers' ordinary pipelines, for as long as a context lasts.

with ratio_aware_guidance(pipe, preset="sd3.5") as guidance:
    image = pipe("a red fox in the snow", num_inference_steps=10).images[0]
"""

import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from typing import Any

import torch
from torch import nn

from visionseq.errors import ConfigError
from visionseq.flow.guidance import RatioAware
from visionseq.flow.guidance.ratio_aware import Reduction
from visionseq.integrations.diffusers.layouts import Layout, layout_of
from visionseq.integrations.diffusers.presets import preset_of
from visionseq.integrations.diffusers.steps import GuidedSteps
from visionseq.integrations.diffusers.versions import warn_of_untested_version

log = logging.getLogger("visionseq.integrations.diffusers")


@contextmanager
def ratio_aware_guidance(
    pipe: Any,
    *,
    preset: str | None = None,
    max_guidance_scale: float | None = None,
    alpha: float | None = None,
    reduction: Reduction = "sample",
    rescale: float | None = None,
    start: float = 0.0,
    stop: float = 1.0,
    in_place: bool = True,
) -> Iterator[GuidedSteps]:
    """Let a pipeline of diffusers guide by RAAG (arXiv 2508.03442); leaves it as it was, also after an exception.

    Args:
        pipe: a StableDiffusion3, Wan (with one or two transformers), QwenImage, Lumina2 or Lumina pipeline. It is
            called as always; its own scale is replaced.
        preset: constants of a model: `sd3.5`, `qwen-image`; `wan`, `lumina` (untuned).
        max_guidance_scale, alpha, rescale: constants in place of the preset's; without a preset 18, 12 and 0. At scale
            1 the prompt is used alone, without a second evaluation.
        reduction: over which the ratio is taken, see `RatioAware`.
        start, stop: shares of the steps between which guidance acts; outside the prompt is used alone.
        in_place: pipelines with two calls a step: write the guided prediction over the conditional one, which gives
            exactly the rule's result. False: leave that tensor alone, with rounding errors, in float32 only.

    Yields:
        the rule, and the ratio and weight of every step of the last call.

    Raises `ConfigError` for a pipeline, a model or an argument of a call with which the rule cannot work.
    """
    layout = layout_of(pipe)
    transformers = _transformers(pipe, in_place or layout.doubled is not None)
    rule = _rule(preset, max_guidance_scale, alpha, rescale, reduction)
    if not 0 <= start <= stop <= 1:
        raise ConfigError(f"start {start}, stop {stop}: expected shares of the steps, the smaller one first")
    warn_of_untested_version()

    steps = GuidedSteps(replace(rule, channels=layout.channels), layout, start, stop, in_place)
    original = type(pipe)
    handles = [transformer.register_forward_hook(steps.hook, with_kwargs=True) for transformer in transformers]
    # A call looks up __call__ in the class, so the pipeline gets a class of its own for the time being.
    pipe.__class__ = type(original.__name__, (original,), {"__call__": _guided_call(original.__call__, steps)})
    try:
        yield steps
    finally:
        pipe.__class__ = original
        for handle in handles:
            handle.remove()
        steps.end()


def _rule(
    preset: str | None, scale: float | None, alpha: float | None, rescale: float | None, reduction: Reduction
) -> RatioAware:
    values = preset_of(preset or "sd3.5")
    if not values.tuned:
        log.warning("preset %s is not tuned: its values are the defaults of diffusers", preset)
    return RatioAware(
        values.max_guidance_scale if scale is None else scale,
        values.alpha if alpha is None else alpha,
        reduction,
        rescale=values.rescale if rescale is None else rescale,
    )


def _transformers(pipe: Any, works_in_half: bool) -> list[nn.Module]:
    """The pipeline's transformers; `ConfigError` for models without guidance or a dtype that cannot be served."""
    parts = [getattr(pipe, name, None) for name in ("transformer", "transformer_2")]
    transformers = [part for part in parts if part is not None]
    for transformer in transformers:
        if getattr(transformer.config, "guidance_embeds", False):
            raise ConfigError(
                f"{type(transformer).__name__} is distilled: one evaluation a step holds the guidance already, "
                "so there is no prediction without the prompt to guide from"
            )
        dtype = next(transformer.parameters()).dtype
        if not works_in_half and dtype != torch.float32:
            raise ConfigError(f"in_place=False needs float32, the model is {dtype}: rounding would be visible")
    return transformers


def _guided_call(call: Callable[..., Any], steps: GuidedSteps) -> Callable[..., Any]:
    """The pipeline's `__call__` with the arguments that guidance needs."""
    signature = inspect.signature(call)

    @wraps(call)
    def guided(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        _prepare(bound.arguments, steps.layout, steps.rule.max_guidance_scale)
        count = bound.arguments.get("num_inference_steps", signature.parameters["num_inference_steps"].default)
        steps.begin(bound.arguments[steps.layout.scale], count, bound.arguments)
        try:
            return call(*bound.args, **bound.kwargs)
        finally:
            steps.end()

    return guided


def _prepare(arguments: dict[str, Any], layout: Layout, scale: float) -> None:
    """Set the scale, and a negative prompt where guidance needs one; `ConfigError` for what cannot be combined."""
    for name in layout.refused:
        if arguments.get(name) is not None:
            raise ConfigError(f"{name} works on predictions that ratio-aware guidance has replaced: leave it out")
    for name in (layout.scale, *layout.ignored):
        if arguments.pop(name, None) is not None:
            log.warning("%s has no effect: ratio-aware guidance sets the scale of every step", name)
    arguments[layout.scale] = scale
    given = any(arguments.get(name) is not None for name in ("negative_prompt", "negative_prompt_embeds"))
    if layout.needs_negative and scale > 1 and not given:
        if arguments.get("prompt") is None:
            raise ConfigError("negative_prompt_embeds are missing, which guidance needs beside prompt_embeds")
        arguments["negative_prompt"] = " "
