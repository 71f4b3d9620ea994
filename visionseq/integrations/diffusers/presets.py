"""Constants of ratio-aware guidance for models that people run in diffusers."""

from dataclasses import dataclass

from visionseq.errors import ConfigError


@dataclass(frozen=True)
class Preset:
    """w_max and alpha for a model.

    Attributes:
        max_guidance_scale, alpha: the constants.
        rescale: share of the guided prediction that gets the conditional one's standard deviation.
        tuned: whether the authors of the method published the values for the model; others are the defaults of
            diffusers, which suit it by chance.
    """

    max_guidance_scale: float
    alpha: float
    rescale: float = 0.0
    tuned: bool = True


PRESETS = {
    "sd3.5": Preset(18.0, 12.0),
    "qwen-image": Preset(10.0, 8.0, rescale=1.0),
    "wan": Preset(10.0, 8.0, tuned=False),
    "lumina": Preset(10.0, 8.0, tuned=False),
}


def preset_of(name: str) -> Preset:
    """The preset of a name; `ConfigError` for an unknown one."""
    if name not in PRESETS:
        raise ConfigError(f"preset {name!r}, expected one of {', '.join(PRESETS)}")
    return PRESETS[name]
