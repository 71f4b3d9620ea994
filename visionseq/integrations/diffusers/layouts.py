"""How diffusers' pipelines evaluate their transformer with and without the prompt.

A pipeline makes either one call with a doubled batch, or two calls with the same `hidden_states`, the conditional one
first. Afterwards it computes uncond + scale (cond - uncond) with a scale that lives in a local variable, so that a
callback cannot change it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from visionseq.errors import ConfigError


@dataclass(frozen=True)
class Layout:
    """The facts of a pipeline.

    Attributes:
        scale: its argument for the scale; guidance runs where it is larger than 1.
        doubled: order of the halves of a doubled batch; None: two calls.
        channels: guided channels, the first ones of axis 1; None: all.
        normalised: whether the pipeline gives every row of the result the norm of the conditional one: always, never,
            or as an argument of the call says, which is true by default.
        ignored: arguments of further scales, which have no meaning here.
        refused: arguments that work on the difference of the two predictions, which guidance has replaced.
        needs_negative: guidance runs only where a negative prompt is given.
    """

    scale: str = "guidance_scale"
    doubled: Literal["uncond first", "cond first"] | None = None
    channels: int | None = None
    normalised: bool | str = False
    ignored: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    needs_negative: bool = False

    def is_normalised(self, arguments: Mapping[str, Any]) -> bool:
        """Whether the pipeline normalises in a call with these arguments."""
        if isinstance(self.normalised, str):
            return bool(arguments.get(self.normalised, True))
        return self.normalised


LAYOUTS = {
    "StableDiffusion3Pipeline": Layout(doubled="uncond first", refused=("skip_guidance_layers",)),
    "WanPipeline": Layout(ignored=("guidance_scale_2",)),
    "QwenImagePipeline": Layout(scale="true_cfg_scale", normalised=True, needs_negative=True),
    "Lumina2Pipeline": Layout(normalised="cfg_normalization"),
    "LuminaPipeline": Layout(doubled="cond first", channels=3),
}


def layout_of(pipe: object) -> Layout:
    """The layout of a pipeline, or of one that derives from it; `ConfigError` for another pipeline."""
    names = [cls.__name__ for cls in type(pipe).__mro__]
    for name in names:
        if name in LAYOUTS:
            return LAYOUTS[name]
    raise ConfigError(f"{names[0]} has no ratio-aware guidance here, expected one of {', '.join(LAYOUTS)}")
