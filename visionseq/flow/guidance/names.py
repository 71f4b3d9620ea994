"""Guidance rules by name, as the command line and configuration files have them."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from visionseq.errors import ConfigError
from visionseq.flow.guidance.classifier_free import ClassifierFree, PlusPlus, Scheduled
from visionseq.flow.guidance.projected import AdaptiveProjected, Tangential
from visionseq.flow.guidance.ratio_aware import RatioAware
from visionseq.flow.guidance.rule import Guidance, GuidanceRule
from visionseq.flow.guidance.zero_star import ZeroStar

RULES: dict[str, type[Guidance]] = {
    "cfg": ClassifierFree,
    "scheduled": Scheduled,
    "cfg-zero-star": ZeroStar,
    "apg": AdaptiveProjected,
    "tcfg": Tangential,
    "cfg++": PlusPlus,
    "raag": RatioAware,
}


def guidance_rule(name: str, options: Mapping[str, Any] | None = None) -> Guidance:
    """The rule of a name with its options; `ConfigError` for an unknown name or an option that the rule lacks."""
    if name not in RULES:
        raise ConfigError(f"guidance {name!r}, expected one of {', '.join(RULES)}")
    options, rule = dict(options or {}), RULES[name]
    names = [field.name for field in fields(rule) if field.init]
    unknown = [option for option in options if option not in names]
    if unknown:
        raise ConfigError(f"guidance {name!r} has no {', '.join(unknown)}; its options: {', '.join(names)}")
    return rule(**options)


def chosen_rule(guidance: GuidanceRule | None, guidance_scale: float) -> GuidanceRule | None:
    """The rule of a sampler that takes a rule, or the scale of classifier-free guidance, where 1 is none.

    Raises `ConfigError` where both are given.
    """
    if guidance is not None and guidance_scale != 1.0:
        raise ConfigError(f"guidance_scale {guidance_scale} and a guidance rule: expected one of them")
    return guidance if guidance is not None or guidance_scale == 1.0 else ClassifierFree(guidance_scale)
