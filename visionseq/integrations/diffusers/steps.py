"""What happens in the denoising steps of a guided pipeline: a hook on its transformer replaces the predictions.

The pipeline goes on to compute u + s (c - u) of what it got. Where c = u = v that is v, whatever its scale s is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from visionseq.flow.guidance import RatioAware, suggested_alpha
from visionseq.integrations.diffusers.layouts import Layout


@dataclass
class GuidedSteps:
    """The guidance of a pipeline, inside the context.

    Attributes:
        rule: the rule with its constants.
        ratios, weights: rho and w of each guided step of the last call, [B] (or scalars), on the pipeline's device.
    """

    rule: RatioAware
    layout: Layout
    start: float
    stop: float
    in_place: bool
    ratios: list[Tensor] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    _scale: float = 1.0
    _steps: int = 0
    _normalised: bool = False
    _step: int = -1
    _state: Any = None
    _conditional: Tensor | None = None

    def suggested_alpha(self) -> float:
        """An alpha for the model by the ratios of the last call, 1 / rho in the middle; waits for the device."""
        return suggested_alpha(self.ratios)

    def begin(self, scale: float, steps: int, arguments: Mapping[str, Any]) -> None:
        """Prepare for a call of the pipeline with this scale, so many steps and these arguments."""
        self._scale, self._steps, self._normalised = scale, steps, self.layout.is_normalised(arguments)
        self.ratios, self.weights = [], []
        self._step, self._state, self._conditional = -1, None, None

    def end(self) -> None:
        """Let go of the tensors of the call."""
        self._state = self._conditional = None

    def hook(self, module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
        """Replace the predictions in a transformer's output, a tuple that begins with them."""
        if self._scale <= 1:
            return output
        prediction = output[0]
        # Both calls of a step get the same tensor; comparing times would wait for the device.
        new_step = kwargs["hidden_states"] is not self._state
        self._step += new_step
        self._state = kwargs["hidden_states"]
        if self.layout.doubled:
            return self._both_halves(prediction), *output[1:]
        if new_step:
            self._conditional = prediction
            return output
        return self._second_call(prediction), *output[1:]

    def _both_halves(self, prediction: Tensor) -> Tensor:
        first, second = prediction.chunk(2)
        cond, uncond = (second, first) if self.layout.doubled == "uncond first" else (first, second)
        guided = self._guided(cond, uncond)
        return torch.cat([guided, guided])

    def _second_call(self, uncond: Tensor) -> Tensor:
        cond = self._conditional
        assert cond is not None
        guided = self._guided(cond, uncond)
        if self.in_place:
            if self._normalised:
                guided = _with_norms_of(cond, guided)
            cond.copy_(guided)
            return guided
        return (guided - self._scale * cond) / (1 - self._scale)

    def _guided(self, cond: Tensor, uncond: Tensor) -> Tensor:
        if not int(self.start * self._steps) <= self._step < int(self.stop * self._steps):
            return cond
        guided = self.rule(cond, uncond, 0.0)
        assert self.rule.last_ratio is not None
        assert self.rule.last_weight is not None
        self.ratios.append(self.rule.last_ratio)
        self.weights.append(self.rule.last_weight)
        return guided


def _with_norms_of(reference: Tensor, x: Tensor) -> Tensor:
    """x with the norms of the reference along the last axis; computed in float32."""
    norm, wanted = (torch.linalg.vector_norm(y.float(), dim=-1, keepdim=True) for y in (x, reference))
    return (x.float() * (wanted / norm)).to(x.dtype)
