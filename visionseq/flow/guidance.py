"""Guidance: how the predictions with and without a class become one, and the field that is made of a model.

A rule is called as rule(conditional, unconditional, t). It may be active in a part of the time only, and may keep a
memory, which is cleared before every trajectory. Rules are the same for velocities, denoised images and noises, as long
as both predictions are of one kind.

    field = guided(model, labels, null, ClassifierFree(1.5, interval=(0.2, 0.9)))
    trajectory = integrate(heun, field, noise, grid)

Legend: B batch; C channels; ... further axes of one prediction.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol

import torch
from torch import Tensor

from visionseq.errors import ConfigError

Model = Callable[[Tensor, Tensor, Any], Tensor]


class GuidanceRule(Protocol):
    """The methods of a rule; see `Guidance` for a base."""

    def reset(self) -> None:
        """Forget the trajectory before."""

    def active(self, t: float) -> bool:
        """Whether guidance acts at time t; elsewhere the conditional prediction stands alone."""

    def __call__(self, conditional: Tensor, unconditional: Tensor, t: float) -> Tensor:
        """The guided prediction [B, ...] of two predictions at time t."""


@dataclass
class Guidance:
    """Base of the rules: an interval of times, and nothing to forget.

    Args:
        interval: first and last time of guidance, in the clock of the sampler; both ends belong to it.
    """

    interval: tuple[float, float] = (-inf, inf)

    def __post_init__(self) -> None:
        low, high = self.interval
        if not low <= high:
            raise ConfigError(f"guidance interval {self.interval}, expected the lower time first")

    def reset(self) -> None:
        """Forget the trajectory before."""

    def active(self, t: float) -> bool:
        """Whether t lies in the interval."""
        low, high = self.interval
        return low <= t <= high


@dataclass
class ClassifierFree(Guidance):
    """unconditional + scale (conditional - unconditional) (arXiv 2207.12598).

    Args:
        interval: first and last time of guidance (arXiv 2404.07724).
        scale: 1 is no guidance, and costs no second evaluation.
        channels: guide the first so many channels (axis 1), and keep the conditional prediction in the others, as the
            published samples of DiT and SiT do with 3 of 4; None: all.
    """

    scale: float = 1.0
    channels: int | None = None

    def active(self, t: float) -> bool:
        return self.scale != 1.0 and super().active(t)

    def __call__(self, conditional: Tensor, unconditional: Tensor, t: float) -> Tensor:
        if self.channels is None:
            return classifier_free(unconditional, conditional, self.scale)
        guided_part = classifier_free(unconditional[:, : self.channels], conditional[:, : self.channels], self.scale)
        return torch.cat([guided_part, conditional[:, self.channels :]], 1)


def classifier_free(unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
    """unconditional + scale (conditional - unconditional), any shape."""
    return unconditional + scale * (conditional - unconditional)


def guided(
    model: Model,
    labels: Any = None,
    null: Any = None,
    rule: GuidanceRule | None = None,
    *,
    joint: bool = False,
    unconditional_at: Callable[[float], bool] | None = None,
) -> "GuidedField":
    """The field (x, t) -> prediction of a model, with its classes and its guidance; clears the memory of the rule.

    Args:
        model: f(x [B, ...], t [B] in float32, labels) -> prediction [B, ...].
        labels: classes of the samples, whatever the model takes; None for a model without classes.
        null: the model's value for "no class"; None: the result of its method `no_class(labels)`, where it has one.
        rule: None: no guidance.
        joint: evaluate both predictions in one call, rows [conditional; unconditional]; labels and null must be tensors
            [B, ...]. Otherwise the model is called twice, with the classes first.
        unconditional_at: when the unconditional prediction is made; default: where the rule is active. A model that
            carries a state for it may need it at other times as well.

    Raises `ConfigError` for guidance without classes, or labels that cannot be joined.
    """
    if rule is not None and labels is None:
        raise ConfigError(f"{type(rule).__name__} needs class labels, which are missing")
    if null is None and hasattr(model, "no_class"):
        null = model.no_class(labels)
    if joint and rule is not None and not (isinstance(labels, Tensor) and isinstance(null, Tensor)):
        raise ConfigError("joint evaluation needs tensors for the classes and for no class")
    if rule is not None:
        rule.reset()
    return GuidedField(model, labels, null, rule, joint, unconditional_at)


@dataclass
class GuidedField:
    """The field of `guided`. `nfe` counts network evaluations per sample: two with the unconditional prediction."""

    model: Model
    labels: Any
    null: Any
    rule: GuidanceRule | None
    joint: bool
    unconditional_at: Callable[[float], bool] | None
    nfe: int = 0

    def __call__(self, x: Tensor, t: float) -> Tensor:
        # float32, because sigma = t / (1 - t) of rectified flows depends on how t is rounded near its end.
        t_B = torch.full((len(x),), t, dtype=torch.float32, device=x.device)
        rule = self.rule
        active = rule is not None and rule.active(t)
        both = active if self.unconditional_at is None else rule is not None and self.unconditional_at(t)
        if rule is None or not (active or both):
            self.nfe += 1
            return self.model(x, t_B, self.labels)
        conditional, unconditional = self._both(x, t_B)
        return rule(conditional, unconditional, t) if active else conditional

    def _both(self, x: Tensor, t_B: Tensor) -> tuple[Tensor, Tensor]:
        self.nfe += 2
        if self.joint:
            rows = torch.cat([x, x]), torch.cat([t_B, t_B]), torch.cat([self.labels, self.null])
            conditional, unconditional = self.model(*rows).chunk(2)
            return conditional, unconditional
        return self.model(x, t_B, self.labels), self.model(x, t_B, self.null)


@dataclass
class Slope:
    """The field dx/dt of a field of other predictions: to_slope(state, prediction, time)."""

    predict: GuidedField
    to_slope: Callable[[Tensor, Tensor, float], Tensor]

    @property
    def nfe(self) -> int:
        return self.predict.nfe

    def __call__(self, x: Tensor, t: float) -> Tensor:
        return self.to_slope(x, self.predict(x, t), t)
