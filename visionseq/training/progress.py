"""Progress of a run on standard output: Lightning's events on a meter."""

import sys
from collections.abc import Sequence, Sized
from math import isinf
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar

from visionseq.data.batch import Batch
from visionseq.progress import Meter, progress


class TrainingProgress(ProgressBar):
    """Step, loss, learning rate, samples per second and remaining time; the batches of an evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._meter: Meter | None = None
        self._samples = 0

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._samples = 0
        self._open("step", trainer.max_steps if trainer.max_steps >= 0 else None, trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._samples += (len(batch) if isinstance(batch, Sized) else 1) * trainer.world_size
        if self._meter is None:
            return
        self._meter.done = trainer.global_step
        if self._meter.is_due() or trainer.global_step == trainer.max_steps:
            loss = _loss(outputs) * trainer.accumulate_grad_batches
            learning_rate = trainer.optimizers[0].param_groups[0]["lr"]
            speed = self._meter.speed(self._samples, getattr(batch, "unit", Batch.unit))
            self._meter.show(f"loss {loss:.5g}  lr {learning_rate:.3g}  {speed}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()

    on_sanity_check_end = on_test_end = on_predict_end = on_train_end

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit":
            self._close()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._evaluation_starts(trainer, _validation_batches(trainer))

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._evaluation_starts(trainer, trainer.num_test_batches)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._evaluation_starts(trainer, trainer.num_predict_batches)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, _: Any, __: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._evaluated(trainer, _validation_batches(trainer), dataloader_idx, batch_idx)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: Any, _: Any, __: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._evaluated(trainer, trainer.num_test_batches, dataloader_idx, batch_idx)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: Any, _: Any, __: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._evaluated(trainer, trainer.num_predict_batches, dataloader_idx, batch_idx)

    def _evaluation_starts(self, trainer: Trainer, batches: Sequence[float]) -> None:
        """Open a display, unless the evaluation belongs to a training, which has one."""
        if self._meter is None:
            total = sum(batches)
            self._open(_stage(trainer), None if isinf(total) else int(total), 0, "batches")

    def _evaluated(self, trainer: Trainer, batches: Sequence[float], loader: int, batch_idx: int) -> None:
        """Count a batch; the display of a training names the stage and its batches instead."""
        if self._meter is None:
            return
        stage, done = _stage(trainer), int(sum(batches[:loader])) + batch_idx + 1
        if self._meter.label == stage:
            self._meter.reach(done)
        elif self._meter.is_due():
            self._meter.show(f"{stage} batch {done}/{sum(batches)}")

    def _open(self, label: str, total: int | None, done: int, unit: str = "") -> None:
        self._close()
        if self._enabled:
            self._meter = progress(label, total, unit, done=done, stream=sys.stdout, stays=True)

    def _close(self) -> None:
        if self._meter is not None:
            self._meter.close()
            self._meter = None


def _stage(trainer: Trainer) -> str:
    return trainer.state.stage.value if trainer.state.stage else ""


def _validation_batches(trainer: Trainer) -> Sequence[float]:
    return trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches


def _loss(outputs: Any) -> float:
    loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
    return float("nan") if loss is None else float(loss)
