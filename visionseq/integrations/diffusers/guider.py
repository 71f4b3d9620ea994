"""RAAG as a guider of diffusers' modular pipelines: `pipe.update_components(guider=RAAGGuidance())`.

diffusers has a class of its own for the rule, `MagnitudeAwareGuidance`. In diffusers 0.42 that one fails on predictions
of four and five axes (SD3, Wan), and gives NaN where both predictions are zero.
"""

from typing import Any

from diffusers.configuration_utils import register_to_config
from diffusers.guiders.guider_utils import BaseGuidance, GuiderOutput
from torch import Tensor

from visionseq.flow.guidance import RatioAware
from visionseq.flow.guidance.ratio_aware import Reduction
from visionseq.integrations.diffusers.versions import warn_of_untested_version


class RAAGGuidance(BaseGuidance):
    """Ratio-aware guidance; the pipeline's own scale is not used.

    Args:
        max_guidance_scale, alpha, reduction, eps: as of `visionseq.flow.guidance.RatioAware`.
        guidance_rescale: share of the guided prediction that gets the standard deviation of the conditional one.
        start, stop: shares of the steps between which guidance acts.
        enabled: False: conditional predictions alone.

    Raises `ConfigError` for a scale below 1 or a negative alpha.
    """

    _input_predictions = ["pred_cond", "pred_uncond"]  # type: ignore[assignment]  # noqa: RUF012 (asked for as a list)

    @register_to_config
    def __init__(
        self,
        max_guidance_scale: float = 18.0,
        alpha: float = 12.0,
        reduction: Reduction = "sample",
        eps: float = 1e-8,
        guidance_rescale: float = 0.0,
        start: float = 0.0,
        stop: float = 1.0,
        enabled: bool = True,
    ):
        super().__init__(start, stop, enabled)
        warn_of_untested_version()
        self.rule = RatioAware(max_guidance_scale, alpha, reduction, eps, rescale=guidance_rescale)

    @property
    def last_ratio(self) -> Tensor | None:
        """rho of the last guided step."""
        return self.rule.last_ratio

    @property
    def last_weight(self) -> Tensor | None:
        """w of the last guided step."""
        return self.rule.last_weight

    @property
    def is_conditional(self) -> bool:
        return self._count_prepared == 1

    @property
    def num_conditions(self) -> int:
        return 2 if self._is_guided() else 1

    def prepare_inputs(self, data: Any) -> list:
        """A batch for each condition, the conditional one first; SD3 and Qwen-Image ask so."""
        return [self._prepare_batch(data, i, name) for i, name in self._conditions()]

    def prepare_inputs_from_block_state(self, data: Any, input_fields: Any) -> list:
        """The same from a block's state; Wan asks so."""
        return [self._prepare_batch_from_block_state(input_fields, data, i, name) for i, name in self._conditions()]

    def forward(self, pred_cond: Tensor, pred_uncond: Tensor | None = None) -> GuiderOutput:
        """The guided prediction; the conditional one where guidance does not act."""
        guided = pred_cond if pred_uncond is None else self.rule(pred_cond, pred_uncond, 0.0)
        return GuiderOutput(pred=guided, pred_cond=pred_cond, pred_uncond=pred_uncond)

    def _conditions(self) -> list[tuple[int, str]]:
        return list(enumerate(self._input_predictions))[: self.num_conditions]

    def _is_guided(self) -> bool:
        if not self._enabled or not self.rule.active(0.0):
            return False
        if self._num_inference_steps is None:
            return True
        first, last = (int(share * self._num_inference_steps) for share in (self._start, self._stop))
        return first <= self._step < last
