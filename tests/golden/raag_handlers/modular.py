"""Ratio-aware guidance as the guider of diffusers' modular pipelines."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.modular_pipelines.modular_pipeline import PipelineState
from diffusers.modular_pipelines.qwenimage.denoise import QwenImageDenoiseStep
from diffusers.modular_pipelines.stable_diffusion_3.denoise import StableDiffusion3DenoiseStep
from diffusers.modular_pipelines.wan.denoise import WanDenoiseStep
from torch import Tensor

from raag_handlers.loops import LOOPS
from visionseq.integrations.diffusers import RAAGGuidance

MODULAR = {"sd3": StableDiffusion3DenoiseStep, "wan": WanDenoiseStep, "qwen": QwenImageDenoiseStep}


def run_modular(kind: str, pipe: Any, arguments: Mapping[str, Any], options: Mapping[str, Any]) -> Tensor:
    """The final latents of the modular pipeline's denoising steps, with the parts of an ordinary pipeline."""
    modular = MODULAR[kind]().init_pipeline()
    parts = {"transformer": pipe.transformer, "scheduler": pipe.scheduler}
    modular.update_components(**parts, guider=RAAGGuidance(**options))
    LOOPS[kind].set_times(pipe.scheduler, arguments)
    state = PipelineState()
    for name, value in arguments.items():
        state.set(name, value, "denoiser_input_fields" if "prompt_embeds" in name else None)
    shapes = [[(1, arguments["height"] // 16, arguments["width"] // 16)]] * len(arguments["latents"])
    for name, value in {"timesteps": pipe.scheduler.timesteps, "dtype": torch.float32}.items():
        state.set(name, value)
    state.set("img_shapes", shapes, "denoiser_input_fields")
    return modular(state).get("latents")
