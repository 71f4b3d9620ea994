"""Exponential moving average of the weights, exact across resumes.

    ema <- decay * ema + (1 - decay) * w       after every optimiser update

It starts as a copy of the weights after update `start_update`. The official code of arXiv 2405.20320 starts at the
third update; parameters are averaged, buffers are those of the raw model.
"""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from visionseq.errors import CheckpointError, ConfigError


class Average:
    """The average of a module's parameters and its counter of updates.

    Args:
        module: whose parameters are averaged.
        decay: in [0, 1).
        start_update: number (from 1) of the update after which the average is the weights themselves.
    """

    def __init__(self, module: nn.Module, decay: float, start_update: int = 3):
        if not 0 <= decay < 1 or start_update < 1:
            raise ConfigError(f"EMA decay {decay}, start_update {start_update}; expected decay in [0, 1), start >= 1")
        self.decay, self.start_update = decay, start_update
        self.parameters = dict(module.named_parameters())
        self.shadow: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, number: int) -> None:
        """Take in the weights after update `number` (from 1)."""
        if number < self.start_update:
            return
        if not self.shadow:
            self.shadow = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
            return
        weights = [parameter.detach() for parameter in self.parameters.values()]
        torch._foreach_lerp_(list(self.shadow.values()), weights, 1 - self.decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange average and weights; a second call undoes the first."""
        for name, average in self.shadow.items():
            weights = self.parameters[name].detach().clone()
            self.parameters[name].copy_(average)
            average.copy_(weights)


class EMA(Callback):
    """Averages `pl_module.model`; validation, test, prediction and pictures see the average.

    The average travels in the checkpoint under `ema`, with the parameter names of the model; training resumes from the
    raw weights.

    Args:
        decay: 0.9999 in the official recipes.
        start_update: see `Average`.
    """

    def __init__(self, decay: float = 0.9999, start_update: int = 3):
        self.decay, self.start_update = decay, start_update
        self.average: Average | None = None
        self._updates = 0
        self._restored: dict[str, Tensor] = {}
        self._swapped = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.average = Average(pl_module.model, self.decay, self.start_update)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._restored = checkpoint.get("ema") or {}
        unknown = set(self._restored) ^ {name for name, _ in pl_module.model.named_parameters()}
        if self._restored and unknown:
            raise CheckpointError(f"the checkpoint's average does not fit the model: {', '.join(sorted(unknown)[:5])}")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore()
        self._updates = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step > self._updates:
            self._updates = trainer.global_step
            self.average.update(self._updates)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self.average.shadow:
            # Inside a validation the shadow holds the raw weights, and the module the average.
            with self.raw_weights():
                checkpoint["ema"] = {name: average.clone() for name, average in self.average.shadow.items()}

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore()
        self._show_average(True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show_average(False)

    on_test_start = on_predict_start = on_validation_start
    on_test_end = on_predict_end = on_validation_end

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._show_average(False)

    def averaged(self) -> "_Shown":
        """Context in which the model has the averaged weights."""
        return _Shown(self, True)

    def raw_weights(self) -> "_Shown":
        """Context in which the model has the weights that the optimiser works on."""
        return _Shown(self, False)

    def _restore(self) -> None:
        if self._restored:
            device = next(iter(self.average.parameters.values())).device
            self.average.shadow = {
                name: self._restored[name].to(device, copy=True) for name in self.average.parameters
            }
            self._restored = {}

    def _show_average(self, show: bool) -> None:
        if show != self._swapped and self.average is not None and self.average.shadow:
            self.average.swap()
            self._swapped = show


class _Shown:
    """Shows the average or the raw weights for a while, and what was there before afterwards."""

    def __init__(self, ema: EMA, average: bool):
        self.ema, self.average, self.before = ema, average, ema._swapped

    def __enter__(self) -> None:
        self.before = self.ema._swapped
        self.ema._show_average(self.average)

    def __exit__(self, *_: object) -> None:
        self.ema._show_average(self.before)
