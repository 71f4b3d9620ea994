"""Exponential moving average of the weights, exact across resumes.

    ema <- decay * ema + (1 - decay) * w       after every optimiser update

It starts as a copy of the weights after update `start_update`, the third in the official code of arXiv 2405.20320; 0 is
before the first, as in that of DiT. A large decay would keep these first weights for thousands of updates. Therefore
the half-life of the average is at most a share `rampup` of the updates so far, as in EDM (arXiv 2206.00364): the decay
of update n is

    min(decay, 0.5 ** (1 / (rampup * n)))

Parameters are averaged, buffers are those of the raw model. (Lightning's WeightAveraging averages the whole task, puts
the average where a resumed run looks for its weights, and averages in the dtype of the weights.)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from visionseq.errors import CheckpointError, ConfigError
from visionseq.nn.precision import at_least_float32
from visionseq.training import sharding
from visionseq.training.trainer_parts import model_of

RAMPUP = 0.05  # of EDM


class Average:
    """The average of a module's parameters, and the means to show it in the module.

    Args:
        module: whose parameters are averaged.
        decay: in [0, 1); 0 keeps the weights themselves.
        start_update: number of the update after which the average is the weights themselves; 0: before the first.
        rampup: longest half-life of the average as a share of the updates so far; None: the decay is constant.
    """

    def __init__(self, module: nn.Module, decay: float, start_update: int = 3, rampup: float | None = RAMPUP):
        if not 0 <= decay < 1 or start_update < 0:
            raise ConfigError(f"EMA decay {decay}, start_update {start_update}; expected decay in [0, 1), start >= 0")
        if rampup is not None and rampup <= 0:
            raise ConfigError(f"EMA rampup {rampup}; expected a positive share of the updates, or null")
        self.decay, self.start_update, self.rampup = decay, start_update, rampup
        self.parameters = dict(module.named_parameters())
        self.shadow: dict[str, Tensor] = {}
        self.raw: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, number: int) -> None:
        """Take in the weights after update `number`; 0: before the first."""
        if number < self.start_update:
            return
        # In half precision an average would stand still: 0.0001 w is below its resolution.
        weights = [at_least_float32(parameter.detach()) for parameter in self.parameters.values()]
        if self.shadow:
            # Scaled, then added to, as the official codes round it: their averages agree to the bit.
            decay, averages = self.decay_of(number), list(self.shadow.values())
            torch._foreach_mul_(averages, decay)
            torch._foreach_add_(averages, weights, alpha=1 - decay)
        else:
            self.shadow = {name: weight.clone() for name, weight in zip(self.parameters, weights, strict=True)}

    def decay_of(self, number: int) -> float:
        """The decay of update `number` (from 1)."""
        if self.rampup is None:
            return self.decay
        return min(self.decay, 0.5 ** (1 / (self.rampup * number)))

    @torch.no_grad()
    def show(self, average: bool) -> None:
        """Put the average, or the weights that the optimiser works on, into the module."""
        if average and self.shadow and not self.raw:
            self.raw = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
            self._copy(self.shadow)
        elif not average and self.raw:
            self._copy(self.raw)
            self.raw = {}

    @contextmanager
    def shown(self, average: bool = True) -> Iterator[None]:
        """`show` for the time of a context."""
        before = bool(self.raw)
        self.show(average)
        try:
            yield
        finally:
            self.show(before)

    def _copy(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(values[name])


class EMA(Callback):
    """Averages `pl_module.model`; validation, test, prediction and pictures see the average.

    The average travels in the checkpoint under `ema`, with the parameter names of the model; training resumes from the
    raw weights.

    Args:
        decay: 0.9999 in the official recipes; 0 keeps the weights themselves.
        start_update: number of the update after which the average begins as a copy of the weights; 0: before the first.
        rampup: longest half-life of the average as a share of the updates so far; None: the decay is constant, as in
            the official code of arXiv 2405.20320.
    """

    def __init__(self, decay: float = 0.9999, start_update: int = 3, rampup: float | None = RAMPUP):
        self.decay, self.start_update, self.rampup = decay, start_update, rampup
        self._average: Average | None = None
        self._restored: dict[str, Tensor] = {}
        self._updates = 0

    @property
    def average(self) -> Average:
        """The average of the model that is trained, from the trainer's `setup` on."""
        assert self._average is not None, "the trainer has not set this callback up yet"
        return self._average

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._average = Average(model_of(pl_module), self.decay, self.start_update, self.rampup)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._restored = checkpoint.get("ema") or {}
        differing = set(self._restored) ^ set(self.average.parameters)
        if self._restored and differing:
            raise CheckpointError(f"the checkpoint's average is of another model: {', '.join(sorted(differing)[:5])}")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore(trainer)
        self._updates = trainer.global_step
        if self._updates == 0 and not self.average.shadow:
            self.average.update(0)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step > self._updates:
            self._updates = trainer.global_step
            self.average.update(self._updates)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if not self.average.shadow:
            return
        if sharding.is_sharded(trainer):
            with self.average.shown():
                checkpoint["ema"] = sharding.gather(trainer, self.average.parameters)
            return
        checkpoint["ema"] = dict(self.average.shadow)
        # Saved within a validation, the state holds the average: put back the weights that training resumes from.
        checkpoint["state_dict"].update({f"model.{name}": weight for name, weight in self.average.raw.items()})

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore(trainer)
        self.average.show(True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.average.show(False)

    on_test_start = on_predict_start = on_validation_start
    on_test_end = on_predict_end = on_validation_end

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self._average is not None:
            self._average.show(False)

    def finish(self, trainer: Trainer) -> dict[str, Tensor]:
        """Leave the average in the model, at the end of a training; returns the raw parameters that it replaces."""
        self._restore(trainer)
        self.average.show(True)
        raw, self.average.raw = self.average.raw, {}
        return raw

    def _restore(self, trainer: Trainer) -> None:
        """Take over the average of a checkpoint, once the strategy has placed or sharded the parameters."""
        if not self._restored:
            return
        restored, self._restored = self._restored, {}
        if sharding.is_sharded(trainer):
            restored = sharding.scatter(trainer, self.average.parameters, restored)
        self.average.shadow = {
            name: at_least_float32(restored[name]).to(parameter.device, copy=True)
            for name, parameter in self.average.parameters.items()
        }
