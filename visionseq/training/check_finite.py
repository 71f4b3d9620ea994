"""A training whose loss is not finite stops: its weights are lost, and every further update would be wasted."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from visionseq.errors import TrainingError
from visionseq.saving.weights import check_finite
from visionseq.training.checkpoint import way_on
from visionseq.training.loss_scale import LossScale

# A loss scale drops the updates that overflow; so many failures in a row are more than a search for the right scale.
SCALED_PATIENCE = 20


class CheckFinite(Callback):
    """Raises `TrainingError`, naming the update, where the loss is NaN or infinite.

    Resuming from weights that are not finite raises `CheckpointError`. A single process on a CPU reads every loss after
    its step. Reading from a GPU makes the processor wait, so the losses of a GPU are collected and read together.

    Args:
        every_n_steps: updates between two readings of the collected losses.
    """

    def __init__(self, every_n_steps: int = 50):
        self.every_n_steps = every_n_steps
        self._losses: list[tuple[int, Tensor]] = []  # of the updates since the last reading, with their numbers
        self._failures = 0  # in a row
        self._update = 0

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        check_finite(pl_module, checkpoint["state_dict"], trainer.ckpt_path or "the checkpoint")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._update = trainer.global_step + 1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if loss is None:
            return
        self._losses.append((self._update, loss.detach().reshape(())))
        is_cheap = loss.is_cpu and trainer.world_size == 1
        if is_cheap or self._update % self.every_n_steps == 0 or self._update == trainer.max_steps:
            self._read(trainer)

    def _read(self, trainer: Trainer) -> None:
        """Look at the collected losses, of all processes."""
        updates, losses = zip(*self._losses, strict=True)
        self._losses = []
        finite = torch.stack(losses).isfinite().float()
        if trainer.world_size > 1:
            finite = trainer.strategy.reduce(finite, reduce_op="sum") == trainer.world_size

        patience = SCALED_PATIENCE if _has_loss_scale(trainer) else 1
        for update, is_finite in zip(updates, finite.tolist(), strict=True):
            self._failures = 0 if is_finite else self._failures + 1
            if self._failures == patience:
                raise TrainingError(f"the loss of update {update} is not finite; {way_on(trainer)}")


def _has_loss_scale(trainer: Trainer) -> bool:
    plugin = trainer.precision_plugin
    if isinstance(plugin, LossScale):
        return plugin.loss_scale.enabled
    return getattr(plugin, "scaler", None) is not None
