"""The field of a model: its classes, its guidance and the count of its evaluations.

    field = guided(model, labels, null, ClassifierFree(1.5, interval=(0.2, 0.9)))
    trajectory = integrate(heun, field, noise, grid)

Legend: B batch; ... further axes of one prediction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from visionseq.errors import ConfigError
from visionseq.flow.guidance.rule import GuidanceRule

Model = Callable[[Tensor, Tensor, Any], Tensor]


def guided(
    model: Model,
    labels: Any = None,
    null: Any = None,
    rule: GuidanceRule | None = None,
    *,
    weak: Model | None = None,
    joint: bool = False,
    unconditional_at: Callable[[float], bool] | None = None,
    grid: Sequence[float] | None = None,
) -> "GuidedField":
    """The field (x, t) -> prediction of a model, with its classes and its guidance; clears the memory of the rule.

    Args:
        model: f(x [B, ...], t [B] in float32, labels) -> prediction [B, ...].
        labels: classes of the samples, whatever the model takes; None for a model without classes.
        null: the model's value for "no class"; None: the result of its method `no_class(labels)`, where it has one.
        rule: None: no guidance.
        weak: a weaker model, whose prediction with the same labels takes the place of the unconditional one
            (AutoGuidance, arXiv 2406.02507).
        joint: evaluate both predictions in one call, rows [conditional; unconditional]; labels and null must be tensors
            [B, ...]. Otherwise the model is called twice, with the classes first.
        unconditional_at: when the unconditional prediction is made; default: where the rule is active. A model that
            carries a state for it may need it at other times as well.
        grid: times of the trajectory, which some rules need.

    Raises `ConfigError` for guidance without classes, or labels that cannot be joined.
    """
    if weak is not None:
        if joint:
            raise ConfigError("a weak model cannot be evaluated in one call with the model")
    elif rule is not None and labels is None:
        raise ConfigError(f"{type(rule).__name__} needs class labels, which are missing")
    if null is None and hasattr(model, "no_class"):
        null = model.no_class(labels)
    if joint and rule is not None and not (isinstance(labels, Tensor) and isinstance(null, Tensor)):
        raise ConfigError("joint evaluation needs tensors for the classes and for no class")
    if rule is not None:
        rule.reset(grid)
    return GuidedField(model, labels, null, rule, weak, joint, unconditional_at)


@dataclass
class GuidedField:
    """The field of `guided`. `nfe` counts network evaluations per sample: two with the unconditional prediction."""

    model: Model
    labels: Any
    null: Any
    rule: GuidanceRule | None
    weak: Model | None
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
        conditional = self.model(x, t_B, self.labels)
        if self.weak is not None:
            return conditional, self.weak(x, t_B, self.labels)
        return conditional, self.model(x, t_B, self.null)


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
