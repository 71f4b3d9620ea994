"""Guidance in diffusers' pipelines, with tiny transformers: plain, by the drop-in, by a guider, by an explicit loop."""

from typing import Any

import torch
from golden_vector import GoldenVector, first_number
from torch import Tensor

from raag_handlers.loops import LOOPS, run_loop
from raag_handlers.modular import MODULAR, run_modular
from raag_handlers.tiny_pipelines import PIPELINES, call_arguments, transformer_of
from visionseq.integrations.diffusers import ratio_aware_guidance

PREFIX = "pipeline_"


def check_pipeline(vector: GoldenVector) -> None:
    config, kind = vector.config, _kind(vector)
    tolerance = first_number(vector.tolerance, 5e-5)
    options = {"max_guidance_scale": config["w_max"], "alpha": config["alpha"], "reduction": config["reduction"]}

    def build() -> Any:
        return PIPELINES[kind](config, transformer_of(kind, config, vector.state))

    arguments = call_arguments(kind, config, vector.tensors("in/"))

    # plain guidance, and the drop-in on the same pipeline
    pipe = build()
    vector.close("out/cfg_latents", _latents(pipe(**arguments, **config["scale"])), tolerance)
    with ratio_aware_guidance(pipe, **options) as guidance:
        latents = _latents(pipe(**arguments))
    vector.close("out/raag_latents", latents, tolerance)
    vector.close("out/ratio", torch.stack(guidance.ratios), tolerance)
    vector.close("out/w", torch.stack(guidance.weights), tolerance * config["w_max"])

    # the explicit loop and the guider of a modular pipeline
    loop = run_loop(LOOPS[kind], build(), arguments, options)
    for name, value in loop.items():
        vector.close(f"out/{name}", value, tolerance)
    torch.testing.assert_close(loop["raag_latents"], latents, rtol=0, atol=tolerance)
    if kind in MODULAR:
        guided = run_modular(kind, build(), arguments, options)
        vector.close("out/raag_latents", guided, tolerance)


def _kind(vector: GoldenVector) -> str:
    """The longest known kind that the file's name goes on with."""
    rest = vector.path.stem.removeprefix(PREFIX)
    kinds = [kind for kind in PIPELINES if rest.startswith(kind)]
    assert kinds, f"{vector.path.stem}: none of {sorted(PIPELINES)}"
    return max(kinds, key=len)


def _latents(output: Any) -> Tensor:
    return output.frames if hasattr(output, "frames") else output.images


HANDLERS = {PREFIX: check_pipeline}
