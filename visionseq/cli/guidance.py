"""Options of guidance on the command line: which rule, its constants, and the probe of its ratio."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from visionseq.cli.option_types import option
from visionseq.errors import ConfigError

if TYPE_CHECKING:
    from visionseq.flow.guidance import GuidanceRule
    from visionseq.flow.pipeline import SamplingPipeline

RuleName = Literal["cfg", "scheduled", "cfg-zero-star", "apg", "tcfg", "cfg++", "raag"]
ReductionName = Literal["sample", "global", "batch_mean"]
FIELDS = {"guidance_scale": "scale", "guidance_interval": "interval", "guidance_rescale": "rescale"}


def chosen_guidance(name: RuleName | None, options: Mapping[str, Any]) -> "dict[str, float | GuidanceRule]":
    """What a sampler gets: the rule of a name with the options that have a value, or a scale alone, or nothing.

    A scale alone is left to the sampler, whose model may guide only some of its channels.

    Raises `ConfigError` for options of another rule, and for a rule that would do nothing.
    """
    constants = {key: value for key, value in options.items() if value is not None}
    if name is None:
        others = [key for key in constants if key != "guidance_scale"]
        if others:
            raise ConfigError(f"{', '.join(map(option, others))}: expected together with --guidance")
        return {} if constants.get("guidance_scale", 1.0) == 1.0 else constants

    from visionseq.flow.guidance import guidance_rule

    rule = guidance_rule(name, {FIELDS.get(key, key): value for key, value in constants.items()})
    if getattr(rule, "scale", None) == 1.0:
        raise ConfigError(f"--guidance {name} does nothing at scale 1: expected --guidance-scale")
    return {"guidance": rule}


def probe_ratio(pipe: "SamplingPipeline", count: int, seed: int, options: Mapping[str, Any]) -> list[str]:
    """Draw `count` images without guidance; lines with the ratio of every evaluation, and the alpha that suits it."""
    from visionseq.data.seeding import generator_for
    from visionseq.flow.guidance import RatioProbe, suggested_alpha

    record, generators = RatioProbe(), [generator_for(seed, number) for number in range(count)]
    pipe(count, generator=generators, output_type="latent", **{**options, "guidance": record})
    rows = zip(record.times, record.ratios, strict=True)
    lines = [f"t {t:<10.5g} rho {r.mean():.4f}  ({r.min():.4f} to {r.max():.4f})" for t, r in rows]
    return [*lines, f"suggested: --guidance raag --alpha {suggested_alpha(record.ratios):.3g}, 1 / rho in the middle"]
